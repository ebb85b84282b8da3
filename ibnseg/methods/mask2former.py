"""The Mask2Former head of a backbone that makes the queries itself, as Rein does."""

from collections.abc import Sequence
from typing import Any

from mmseg.models.decode_heads.mask2former_head import Mask2FormerHead
from mmseg.registry import MODELS
from torch import Tensor, nn


class _Given(nn.Module):
    """In the place of an embedding; its `weight` is there while the head runs."""

    weight: Tensor | None = None


@MODELS.register_module()
class QueryMask2FormerHead(Mask2FormerHead):
    """MMSegmentation's `Mask2FormerHead` whose queries come from the backbone.

    They are both, the queries' embeddings and their features at the start. The head has none of
    its own. It takes maps and, behind them, the queries (num_queries, feat_channels).

    Args:
        given: as of `Mask2FormerHead`.

    Raises:
        ImportError: MMDetection, which has the head, is not installed.
        ValueError: the backbone gives no queries, or some of another shape.

    Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR
    2022; the queries: Wei et al., "Stronger, Fewer, & Superior", CVPR 2024.
    """

    def __init__(self, **given: Any):
        super().__init__(**given)
        self.query_embed = self.query_feat = _Given()
        self._shape = given['num_queries'], given['feat_channels']

    def forward(self, x: Sequence[Tensor], batch_data_samples: Any) -> tuple[list, list]:
        *maps, queries = x
        if queries.shape != self._shape:
            raise ValueError(
                f'QueryMask2FormerHead got queries of shape {tuple(queries.shape)}; expected '
                f'{self._shape}, num_queries and feat_channels. Rein makes them: '
                f"model.backbone.adapter = dict(kind='rein', tokens={self._shape[0]}, "
                f'query_dims={self._shape[1]})'
            )
        self.query_feat.weight = queries
        try:
            return super().forward(maps, batch_data_samples)
        finally:
            self.query_feat.weight = None  # a copy of the head is one without a graph
