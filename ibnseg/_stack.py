"""The MM packages: which distribution is installed, a quiet import, and their registries."""

import contextlib
import importlib.abc
import io
import logging
import re
import sys
import traceback
import warnings
from collections.abc import Iterator
from importlib import metadata, util
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

_DISTRIBUTIONS = {'OneDL': 'onedl-mmsegmentation', 'OpenMMLab': 'mmsegmentation'}
_IN_CHECKOUT = (Path(__file__).parents[1] / 'setup.py').is_file()
#: What to type: `ibnseg[onedl]` would look for the extra's package by a name on an index.
_INSTALL = (
    'In the checkout of ibnseg:\n'
    '    pip install -c constraints.txt -e ".[onedl]"      # no compiler needed\n'
    '    pip install -c constraints.txt -e ".[openmmlab]"  # after mmcv 2.1 from OpenMMLab'
    if _IN_CHECKOUT
    else 'pip install "onedl-mmsegmentation>=1.4" onedl-mmengine onedl-mmcv ftfy regex'
)


def installed() -> dict[str, str]:
    """Return {'OneDL' or 'OpenMMLab': version} of each mmsegmentation distribution found."""
    found = {}
    for name, distribution in _DISTRIBUTIONS.items():
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(distribution)
    return found


def absent() -> list[str]:
    """Return which of the MM packages can't be imported."""
    return [name for name in ('mmcv', 'mmengine', 'mmseg') if util.find_spec(name) is None]


class StackError(ImportError):
    """The MM packages are missing, or installed twice. Says how to get them."""


def check() -> None:
    """Raise StackError unless one distribution of the MM packages is installed; import nothing."""
    found = installed()
    if len(found) == 2:
        raise StackError(
            f'both distributions of the MM packages are installed ({found}); they overwrite each '
            "other's files. Make a new environment and install one of them:\n" + _INSTALL
        )
    if missing := absent():
        raise StackError(
            f'ibnseg builds on MMSegmentation; not installed: {", ".join(missing)}. Get it with'
            + (' one of\n' if _IN_CHECKOUT else ': ')
            + _INSTALL
        )


def cause(error: Exception) -> Exception:
    """Return why a module could not be imported.

    StackError where it is one of the MM packages, or a torchvision that does not fit torch.
    """
    if text := unfit_torchvision(error):
        return StackError(text)
    name = str(getattr(error, 'name', '')).partition('.')[0]
    if isinstance(error, ModuleNotFoundError) and name in ('mmcv', 'mmengine', 'mmseg'):
        try:
            check()
        except StackError as better:
            return better
    return error


def unfit_torchvision(error: Exception) -> str:
    """Return what is wrong where an error came up while torchvision was imported, else ''.

    It says with which command to get the one that fits torch. timm imports it, and MMSegmentation
    timm where it is there; MMEngine does at the start of a run.
    """
    frames = [frame.f_globals.get('__name__', '') for frame, _ in traceback.walk_tb(
        error.__traceback__)]  # fmt: skip
    tops = [name.partition('.')[0] for name in frames if not name.startswith('importlib')]
    if 'torchvision' not in tops or isinstance(error, StackError):
        return ''
    torch = sys.modules['torch'].__version__
    number, _, build = torch.partition('+')
    major, minor = map(int, number.split('.')[:2])
    wanted = f'"torchvision==0.{minor + 15}.*"' if major == 2 else 'torchvision'
    if re.fullmatch(r'cpu|xpu|cu\d+|rocm[\d.]+', build):
        wanted += f' --index-url https://download.pytorch.org/whl/{build}'
    version = 'torchvision'
    with contextlib.suppress(metadata.PackageNotFoundError):
        version += f' {metadata.version("torchvision")}'
    what = ' '.join(str(error).split())
    return (
        f'{version} does not fit torch {torch} ({type(error).__name__}: {what:.200}), and '
        f'{tops[tops.index("torchvision") - 1]} imports it. Install the one that fits: pip install '
        f'--force-reinstall --no-deps {wanted}'
    )


def require() -> None:
    """Import the MM packages. Raises StackError as `check`, and where torchvision is unfit.

    Their chatter (a missing OneDL service, absent compiled ops) is kept from the user.
    """
    check()
    try:
        with quiet():
            import mmengine.runner  # noqa: F401
            import mmseg.datasets
            import mmseg.evaluation
            import mmseg.models  # noqa: F401
    except Exception as error:
        if text := unfit_torchvision(error):
            raise StackError(text) from error
        raise


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep from the user what other packages print, warn of and log below errors."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)


def name_distributions() -> None:
    """Have MMEngine find configs of MM packages (`mmseg::...`) where OneDL's are installed.

    It looks them up by the names of OpenMMLab's distributions.
    """
    from mmengine.config.utils import MODULE2PACKAGE

    for module, distribution in MODULE2PACKAGE.items():
        with contextlib.suppress(metadata.PackageNotFoundError):
            metadata.version(f'onedl-{distribution}')
            MODULE2PACKAGE[module] = f'onedl-{distribution}'


#: The registries of `mmseg.registry` that hold types of ours.
_REGISTRIES = ('MODELS', 'DATASETS', 'TRANSFORMS', 'DATA_SAMPLERS', 'METRICS', 'LOOPS', 'HOOKS',
               'OPTIM_WRAPPERS')  # fmt: skip


def register(module: str) -> None:
    """Have MMSegmentation's registries import `module` when they first look a type up.

    Where mmseg is not imported yet, this waits until it is. It never raises, with or without mmseg.
    """
    if 'mmseg.registry' in sys.modules:
        _add_location(sys.modules['mmseg.registry'], module)
    else:
        sys.meta_path.insert(0, _RegistryWatch(module))


def _add_location(registries: ModuleType, module: str) -> None:
    for name in _REGISTRIES:
        registry = getattr(registries, name)
        registry._locations = [*registry._locations, module]
        if registry._imported:  # it looks at its locations only once
            importlib.import_module(module)


class _RegistryWatch(importlib.abc.MetaPathFinder):
    """Adds a location to the registries right after `mmseg.registry` was imported."""

    def __init__(self, module: str):
        self.module = module

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != 'mmseg.registry':
            return None
        sys.meta_path.remove(self)
        spec = util.find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_add(registries: ModuleType) -> None:
                load(registries)
                _add_location(registries, self.module)

            spec.loader.exec_module = load_and_add
        return spec


def log(text: str) -> None:
    """Say something in the log of MMEngine's run, or of Python's `ibnseg` where there is none."""
    if 'mmengine' not in sys.modules:
        logging.getLogger('ibnseg').info(text)
        return
    from mmengine.logging import print_log

    print_log(text, logger='current', level=logging.INFO)
