"""Files that MMEngine and others read are data: no pickles, plain YAML. Needs no torch."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import yaml
from mmengine.fileio import BaseFileHandler
from mmengine.fileio.handlers import file_handlers
from mmengine.fileio.handlers.yaml_handler import YamlHandler


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


_HANDLERS = dict(pkl=_NoPickle(), pickle=_NoPickle(), yaml=_PlainYaml(), yml=_PlainYaml())


def shared(make: Callable[[], Any]) -> Callable[[], Any]:
    """Return a context manager that enters `make()` first and leaves it last, over all threads."""
    lock, inside, entered = threading.Lock(), 0, None

    @contextlib.contextmanager
    def within() -> Iterator[None]:
        nonlocal inside, entered
        with lock:
            if not inside:
                entered = make()
                entered.__enter__()
            inside += 1
        try:
            yield
        finally:
            with lock:
                inside -= 1
                if not inside:
                    entered.__exit__(None, None, None)

    within.__doc__ = make.__doc__
    return within


@shared
@contextlib.contextmanager
def plain_files() -> Iterator[None]:
    """Have the files that MMEngine reads within be data: no pickles, plain YAML."""
    before = dict(file_handlers)
    file_handlers.update(_HANDLERS)
    try:
        yield
    finally:
        file_handlers.update(before)
        for added in file_handlers.keys() - before.keys():
            del file_handlers[added]


#: Modules that unpickle what this run's own processes have pickled, or files of installed code.
_OWN_PICKLES = ('multiprocessing', 'torch', 'mmengine.dist', 'mmengine.dataset', 'numba', 'triton',
                'mmdet.utils.dist_utils', 'mmdet.evaluation.metrics.base_video_metric')  # fmt: skip
_OF_FILES = 'torch.serialization'  # reads what it is given
_guarded = False


@shared
@contextlib.contextmanager
def no_pickles() -> Iterator[None]:
    """Let no library read a pickle that asks for a class or a function, but of `_OWN_PICKLES`.

    Raises ValueError where one does.
    """
    _guard(True)
    try:
        yield
    finally:
        _guard(False)


def guard_worker() -> None:
    """Keep `no_pickles` and `plain_files` in a data-loading process, however it was started."""
    _guard(True)
    file_handlers.update(_HANDLERS)


def _guard(on: bool) -> None:
    global _guarded
    _watch()
    _guarded = on


@cache
def _watch() -> None:
    sys.addaudithook(_refuse)  # for as long as the process lasts


def _refuse(event: str, asked: tuple) -> None:
    if event != 'pickle.find_class' or not _guarded:
        return
    reader = sys._getframe(1).f_globals.get('__name__', '')
    own = any(reader == name or reader.startswith(f'{name}.') for name in _OWN_PICKLES)
    if own and reader != _OF_FILES:
        return
    raise ValueError(
        f'{reader} reads a pickle that asks for {".".join(map(str, asked))}. A pickle runs code '
        'when it is read, and ibnseg reads none. Write what it holds as .json or .npy where it was '
        'made'
    )
