"""No file that a run reads runs code: MMEngine's own readers give way to ours."""

import contextlib
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.runner import CheckpointLoader

from .. import weights
from .plainfiles import no_pickles, plain_files, shared


@shared
@contextlib.contextmanager
def read_safely() -> Iterator[None]:
    """Have all that torch, MMEngine and what they build read within be data.

    `init_cfg` of any module, `load_from`, teachers and hooks come to MMEngine's CheckpointLoader;
    files and addresses go on to `weights.read` from there. What reaches `torch.load` by another way
    is read with `weights_only=True`, whatever its caller says.
    """
    switches = dict(
        TORCH_FORCE_WEIGHTS_ONLY_LOAD='1',
        TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=None,  # torch refuses to have both
    )
    before = {name: os.environ.get(name) for name in switches}
    schemes = dict(CheckpointLoader._schemes)
    _set(switches)
    CheckpointLoader.register_scheme(('', 'http://', 'https://', 'ibn://'), _load, force=True)
    try:
        with plain_files(), no_pickles():
            yield
    finally:
        _set(before)
        CheckpointLoader._schemes = OrderedDict(schemes)


def _set(switches: Mapping[str, str | None]) -> None:
    for name, value in switches.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _load(filename: str, map_location: Any = None) -> dict[str, Any]:
    return weights.read(filename)
