"""Semantic segmentation that holds up on streets it was never trained on.

Importing registers ibnseg's types in MMSegmentation's registries and does nothing else.
"""

from . import _stack

_stack.require()

from . import backbones, domains, engine, evaluate, geometry, photos, transforms  # noqa: E402

__version__ = '0.1.0'
__all__ = ['__version__', 'backbones', 'domains', 'engine', 'evaluate', 'geometry', 'photos',
           'transforms']  # fmt: skip
