"""Train a segmentation model on one dataset and evaluate it on others it has never seen.

Importing adds ibnseg's types to MMSegmentation's registries and loads nothing else: neither torch
nor the MM packages. A registry imports `ibnseg.registered` when it first looks a type up.
"""

import importlib
import pkgutil
from typing import Any

from . import _stack

__version__ = '0.1.0'

_stack.register('ibnseg.registered')


def load(run: Any, checkpoint: Any = None, **options: Any) -> Any:
    """Open a trained network for photos: `ibnseg.load('work_dirs/ibn_b')('photo.jpg').labels`.

    Arguments, results and errors are those of `ibnseg.inference.model.load`.
    """
    _stack.require()
    from .inference import model

    return model.load(run, checkpoint, **options)


def __getattr__(name: str) -> Any:
    """Import a submodule when it is first used: `import ibnseg; ibnseg.backbones.IBNResNet`."""
    if any(module.name == name for module in pkgutil.iter_modules(__path__)):
        return importlib.import_module(f'.{name}', __name__)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
