"""Backbones with sites for `ibnseg.placement`, registered in `mmseg.registry.MODELS`."""

from .resnet import IBNResNet

__all__ = ['IBNResNet']
