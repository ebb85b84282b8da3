"""Backbones with sites for `ibnseg.placement`, registered in `mmseg.registry.MODELS`."""

from .. import _stack

_stack.require()

from .densenet import IBNDenseNet  # noqa: E402
from .foundation import FrozenViT  # noqa: E402
from .resnet import IBNResNet, IBNResNeXt, IBNSEResNet, IBNSEResNeXt  # noqa: E402

__all__ = ['FrozenViT', 'IBNDenseNet', 'IBNResNeXt', 'IBNResNet', 'IBNSEResNeXt', 'IBNSEResNet']
