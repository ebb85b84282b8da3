"""From files to what a network sees: loading, datasets, augmentation, test-time geometry."""

from .. import _stack

_stack.require()

from . import appearance, geometry, photos, restyle, transforms  # noqa: E402, F401
from .dataset import CrossDomainDataset, DomainDataset, LoadLabels  # noqa: E402

__all__ = ['CrossDomainDataset', 'DomainDataset', 'LoadLabels']
