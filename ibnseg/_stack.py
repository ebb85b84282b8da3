"""Which distribution of the MM packages is installed, and silence at their import."""

import contextlib
import io
import logging
import sys
import warnings
from importlib import metadata, util

_DISTRIBUTIONS = {'OneDL': 'onedl-mmsegmentation', 'OpenMMLab': 'mmsegmentation'}
_INSTALL = (
    'In the checkout of ibnseg:\n'
    '    pip install -c constraints.txt -e ".[onedl]"      # no compiler needed\n'
    '    pip install -c constraints.txt -e ".[openmmlab]"  # after mmcv 2.1 from OpenMMLab'
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


def require() -> None:
    """Import the MM packages quietly, or raise ImportError with the way out."""
    found = installed()
    if len(found) == 2:
        raise ImportError(
            f'both distributions of the MM packages are installed ({found}); they overwrite each '
            "other's files. Make a new environment and install one of them:\n" + _INSTALL
        )
    if missing := absent():
        raise ImportError(
            f'ibnseg builds on MMSegmentation; not installed: {", ".join(missing)}. Get it with '
            'one of\n' + _INSTALL
        )
    with quiet():
        import mmengine.runner  # noqa: F401
        import mmseg.datasets
        import mmseg.evaluation
        import mmseg.models  # noqa: F401


def log(text: str) -> None:
    """Say something in the log of MMEngine's run, or of Python's `ibnseg` where there is none."""
    if 'mmengine' not in sys.modules:
        logging.getLogger('ibnseg').info(text)
        return
    from mmengine.logging import print_log

    print_log(text, logger='current', level=logging.INFO)


@contextlib.contextmanager
def quiet():
    """Keep import-time chatter (a missing OneDL service, absent compiled ops) from the user."""
    if 'mmseg.models' in sys.modules:
        yield
        return
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logging.disable(level)
