"""`--compile`: the backbone by torch.compile."""

import torch
from mmengine.device import get_device
from mmengine.model import is_model_wrapper
from torch import nn


def compile_backbone(model: nn.Module) -> None:
    """Have torch.compile run the backbone of a segmentor; its keys and layers stay as they are.

    The first step of each mode and size of image takes minutes. Not with hooks on single layers.

    Raises:
        ValueError: torch.compile does not work on this machine.
    """
    try:
        torch.compile(torch.neg)(torch.ones(2, device=get_device()))
    except Exception as error:  # whatever a missing or broken compiler leads to
        reason = str(error).strip().split('\n')[0]
        raise ValueError(
            f'--compile: torch.compile does not work here: {reason}. It takes a C++ compiler '
            '(apt install g++), on a GPU Triton too. Install them or leave --compile away'
        ) from error
    segmentor = model.module if is_model_wrapper(model) else model
    segmentor.backbone.compile()
