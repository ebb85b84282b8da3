"""No file that a run reads runs code: MMEngine's own readers give way to ours."""

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from mmengine.fileio import BaseFileHandler
from mmengine.fileio.handlers import file_handlers
from mmengine.fileio.handlers.yaml_handler import YamlHandler
from mmengine.runner import CheckpointLoader

from .. import weights


class _NoPickle(BaseFileHandler):
    """Refuses pickles: to read one is to run what it says."""

    str_like = False

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        name = getattr(file, 'name', 'a file that the config names')
        raise ValueError(
            f'{name}: a pickle, which runs code when it is read, and which ibnseg never reads. '
            'Write what it holds as .json or .npy where it was made'
        )

    def dump_to_fileobj(self, obj: Any, file: Any, **kwargs: Any) -> None:
        raise ValueError('ibnseg writes no pickles; name a .json file')

    dump_to_str = dump_to_fileobj


class _PlainYaml(YamlHandler):
    """Reads plain values; MMEngine's own would build any Python object that a file names."""

    def load_from_fileobj(self, file: Any, **kwargs: Any) -> Any:
        return yaml.safe_load(file)


@contextlib.contextmanager
def read_safely() -> Iterator[None]:
    """Have all that torch and MMEngine read within be data.

    `init_cfg` of any module, `load_from`, teachers and hooks come to MMEngine's CheckpointLoader;
    files and addresses go on to `weights.read` from there. What reaches `torch.load` by another way
    is read with `weights_only=True`, whatever its caller says.
    """
    switches = dict(
        TORCH_FORCE_WEIGHTS_ONLY_LOAD='1',
        TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=None,  # torch refuses to have both
    )
    before = {name: os.environ.get(name) for name in switches}
    schemes, handlers = dict(CheckpointLoader._schemes), dict(file_handlers)
    _set(switches)
    CheckpointLoader.register_scheme(('', 'http://', 'https://', 'ibn://'), _load, force=True)
    file_handlers.update(dict.fromkeys(('pkl', 'pickle'), _NoPickle()))
    file_handlers.update(dict.fromkeys(('yaml', 'yml'), _PlainYaml()))
    try:
        yield
    finally:
        _set(before)
        CheckpointLoader._schemes = OrderedDict(schemes)
        file_handlers.update(handlers)
        for added in file_handlers.keys() - handlers.keys():
            del file_handlers[added]


def _set(switches: Mapping[str, str | None]) -> None:
    for name, value in switches.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _load(filename: str, map_location: Any = None) -> dict[str, Any]:
    return weights.read(filename)
