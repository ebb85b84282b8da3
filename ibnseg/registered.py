"""Everything of ibnseg that MMSegmentation's registries hold; importing this registers it."""

from . import _stack

_stack.require()

from . import backbones, pipeline  # noqa: E402, F401
from .measure import metric, outside  # noqa: E402, F401
from .methods import adversarial, passes, segmentor, shade, swad  # noqa: E402, F401
from .train import amp, checkpoint, loops, progress, sampler  # noqa: E402, F401
