"""Training and testing on MMEngine: loops, safe checkpoints, a quiet console."""

from .. import _stack

_stack.require()

from .amp import CPUAmpOptimWrapper  # noqa: E402
from .checkpoint import AtomicCheckpointHook  # noqa: E402
from .loops import CrossDomainLoop, PositionTrainLoop  # noqa: E402
from .progress import ProgressHook  # noqa: E402
from .runner import SegRunner  # noqa: E402
from .sampler import ClassUniformSampler, PositionSampler, RareClassSampler  # noqa: E402

__all__ = [
    'AtomicCheckpointHook',
    'CPUAmpOptimWrapper',
    'ClassUniformSampler',
    'CrossDomainLoop',
    'PositionSampler',
    'PositionTrainLoop',
    'ProgressHook',
    'RareClassSampler',
    'SegRunner',
]
