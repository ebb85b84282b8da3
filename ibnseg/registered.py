"""Everything of ibnseg that MMSegmentation's registries hold; importing this registers it."""

import importlib
import pkgutil

from . import _stack

_stack.require()

from . import backbones, methods, pipeline  # noqa: E402, F401
from .measure import metric, outside  # noqa: E402, F401
from .train import amp, checkpoint, loops, progress, sampler  # noqa: E402, F401

for _module in pkgutil.iter_modules(methods.__path__):
    importlib.import_module(f'{methods.__name__}.{_module.name}')
