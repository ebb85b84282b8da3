"""Training and testing on MMEngine: loops, safe checkpoints, a quiet console."""

from .amp import CPUAmpOptimWrapper
from .checkpoint import AtomicCheckpointHook
from .loops import CrossDomainLoop, PositionTrainLoop
from .progress import ProgressHook
from .runner import SegRunner
from .sampler import ClassUniformSampler, PositionSampler, RareClassSampler

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
