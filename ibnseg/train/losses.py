"""MMSegmentation's cross entropy with class weights, where pixels are ignored."""

from typing import Any

from mmseg.models.losses import cross_entropy_loss
from torch import Tensor, nn


def mend(model: nn.Module) -> None:
    """Have every cross entropy of a model that has class weights pass over ignored pixels.

    Its own function indexes the weights by the labels, ignored ones included, which fails (or,
    with other settings, counts them).
    """
    for module in model.modules():
        if (
            isinstance(module, cross_entropy_loss.CrossEntropyLoss)
            and module.class_weight is not None
            and module.cls_criterion is cross_entropy_loss.cross_entropy
        ):
            module.cls_criterion = _weighted


def _weighted(
    pred: Tensor,
    label: Tensor,
    weight: Tensor | None = None,
    class_weight: Tensor | None = None,
    reduction: str = 'mean',
    avg_factor: Any = None,
    ignore_index: int = -100,
    **kwargs: Any,
) -> Tensor:
    """As `torch.nn.functional.cross_entropy`: the mean is over the weights of the pixels counted.

    Args:
        pred: logits (N, C, H, W). label: (N, H, W). class_weight: (C,).
    """
    label = label.long()
    if avg_factor is None and reduction == 'mean':
        avg_factor = class_weight[label[label != ignore_index]].sum()
    kwargs['ignore_index'] = ignore_index
    return cross_entropy_loss.cross_entropy(
        pred, label, weight, class_weight, reduction, avg_factor, **kwargs
    )
