"""Exact k-means of numbers."""

import numpy as np


def lowest_bound(values: np.ndarray, k: int) -> float:
    """Return the largest member of the lowest of the k clusters that k-means finds in `values`.

    The clusters are those of the least sum of squared distances, over all partitions: found by
    dynamic programming, in O(k n log n) of the distinct values n. With k or fewer distinct values
    each is a cluster of its own.

    Args:
        values: any shape, finite.

    Raises ValueError for k below 1, for no values, and for values that are not finite.
    """
    if k < 1 or not values.size or not np.isfinite(values).all():
        raise ValueError(f'k is {k}, values are {values!r:.80}; expected k >= 1, finite values')
    points, counts = np.unique(values.astype(np.float64), return_counts=True)
    if len(points) <= k:
        return float(points[0])
    centred = points - np.median(points)  # sums of squares keep more digits
    sums = [np.concatenate(([0.0], np.cumsum(counts * centred**i))) for i in (0, 1, 2)]

    def spread(first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Sum of squared distances of points first..last from their mean."""
        n, s, q = (one[last + 1] - one[first] for one in sums)
        return np.maximum(q - s * s / n, 0)

    last = np.arange(len(points))
    best, starts = spread(np.zeros_like(last), last), []
    for _ in range(1, k):
        best, start = _one_cluster_more(best, spread)
        starts.append(start)
    at = len(points) - 1
    for start in reversed(starts):
        at = start[at] - 1
    return float(points[at])


def _one_cluster_more(best: np.ndarray, spread) -> tuple[np.ndarray, np.ndarray]:
    """Return the least cost of points 0..j in one cluster more, and where its last one starts.

    That start never falls with j, so the search for the middle j halves the range of the others;
    all j of one depth are looked for at once.
    """
    n = len(best)
    cost, start = np.full(n, np.inf), np.zeros(n, int)
    ranges = [(0, n - 1, 0, n - 1)]  # of j: first, last; of its start: first, last
    while ranges:
        js, lows, highs = (np.array(part) for part in zip(*(
            ((a + b) // 2, low, min(high, (a + b) // 2)) for a, b, low, high in ranges
        ), strict=True))  # fmt: skip
        widths = highs - lows + 1
        offsets = np.cumsum(widths) - widths
        tried = np.arange(widths.sum()) - np.repeat(offsets - lows, widths)
        before = np.where(tried > 0, best[tried - 1], np.inf)
        costs = before + spread(tried, np.repeat(js, widths))
        cost[js] = np.minimum.reduceat(costs, offsets)
        hit = costs == np.repeat(cost[js], widths)
        first = np.minimum.reduceat(np.where(hit, tried, n), offsets)
        start[js] = first
        halves = []
        for (a, b, low, high), j, at in zip(ranges, js, first, strict=True):
            halves += [(a, j - 1, low, at), (j + 1, b, at, high)]
        ranges = [one for one in halves if one[0] <= one[1]]
    return cost, start
