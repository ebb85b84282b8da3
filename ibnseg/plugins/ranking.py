"""Rank-k and mAP of retrieval across cameras, as re-identification measures them. Torch only."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: The identity of photos that are neither right nor wrong answers: bad boxes, cut people.
JUNK = -1


class Photos(NamedTuple):
    """Features (N, D), identities (N,) and cameras (N,) of N photos."""

    features: Tensor
    identities: Tensor
    cameras: Tensor


def measure(
    queries: Photos, gallery: Photos, ranks: Sequence[int] = (1, 5, 10), chunk: int = 256
) -> dict[str, float]:
    """Rank a gallery for each query by cosine distance; score the rankings.

    For each query, junk and photos of the same person by the same camera are taken out of the
    gallery. Photos of other people, distractors (identity 0 in Market-1501) among them, are wrong
    answers. Equal distances are ranked in the gallery's order.

    Args:
        ranks: the k of rank-k, the share of queries with a right answer among the first k.
        chunk: queries at a time; memory grows with `chunk` times the gallery.

    Returns:
        'mAP' and 'rank-k' in per cent, 'queries' that were counted, and 'without answer': those
        of which the gallery has no other camera's photo, left out of the former.

    Raises:
        ValueError: no photo on one side, features that are not finite, or no query with an answer.

    Source: Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015. Average
    precision is the mean of the precision at each right answer, as later work computes it; the
    benchmark's first code averaged neighbouring precisions.
    """
    for name, photos in (('queries', queries), ('gallery', gallery)):
        if not len(photos.features):
            raise ValueError(f'no {name} to measure')
        if not photos.features.isfinite().all():
            raise ValueError(f'features of the {name} are not finite: the network has diverged')
    found = F.normalize(gallery.features).T
    precisions, firsts = [], []
    for features, identities, cameras in zip(*(x.split(chunk) for x in queries), strict=True):
        same = identities[:, None] == gallery.identities
        ignored = same & (cameras[:, None] == gallery.cameras) | (gallery.identities == JUNK)
        precision, first = average_precision(1 - F.normalize(features) @ found, same, ignored)
        precisions.append(precision)
        firsts.append(first)
    precision, first = torch.cat(precisions), torch.cat(firsts)
    answered = first > 0
    if not answered.any():
        raise ValueError(
            f'none of the {len(first)} queries is of a person whom another camera of the gallery '
            'has seen: identities or cameras are wrong'
        )
    first = first[answered]
    return {
        'mAP': 100 * precision[answered].mean().item(),
        **{f'rank-{k}': 100 * (first <= k).double().mean().item() for k in ranks},
        'queries': len(first),
        'without answer': int((~answered).sum()),
    }


def average_precision(distances: Tensor, same: Tensor, ignored: Tensor) -> tuple[Tensor, Tensor]:
    """Score rankings of G photos for Q queries; the arguments are (Q, G).

    Args:
        distances: the smaller, the earlier.
        same: whether a photo shows the person of the query.
        ignored: photos that are taken out of a query's gallery.

    Returns:
        Average precision (Q,), and the rank of the first right answer (Q,) from 1. Both are 0 for
        a query without any.
    """
    order = distances.argsort(dim=1, stable=True)
    kept = (~ignored).gather(1, order)
    right = same.gather(1, order) & kept
    position = kept.cumsum(1)
    precision = right.cumsum(1).double() / position.clamp(min=1)
    answers = right.sum(1)
    average = (precision * right).sum(1) / answers.clamp(min=1)
    first = position.gather(1, right.int().argmax(1, keepdim=True))[:, 0]
    return average, first * (answers > 0)
