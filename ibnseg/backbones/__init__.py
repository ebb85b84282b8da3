"""Backbones with sites for `ibnseg.placement`, registered in `mmseg.registry.MODELS`."""

from .densenet import IBNDenseNet
from .resnet import IBNResNet, IBNResNeXt, IBNSEResNet, IBNSEResNeXt

__all__ = ['IBNDenseNet', 'IBNResNeXt', 'IBNResNet', 'IBNSEResNeXt', 'IBNSEResNet']
