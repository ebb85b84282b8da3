"""IBN's passes over maps (N, C, H, W) on a CPU, forward and backward, each as one machine function.

A contiguous map is N * C rows of pixels. A row with statistics of its own is read, and at once
written, while it is in the cache; BatchNorm's wait until all are read. An image of a channels_last
map is one long row in which the channels recur: it is taken in tiles of several pixels, beside
which centres and scales are repeated as often.

Sums of at most 2,048 terms are in float32 (for float64 maps in float64), sums of those in float64,
and neither order depends on the number of threads.
"""

from collections import namedtuple
from collections.abc import Callable

import numpy as np
import torch
from numba import carray, types
from numba.extending import overload
from torch import Tensor

from ..compiled import barrier, helper, kernel, pointer, share

#: Type of a map -> what a kernel reads it as, and the type of scales, shifts and short sums.
TYPES = {
    torch.float32: (np.float32, torch.float32),
    torch.float64: (np.float64, torch.float64),
    torch.bfloat16: (np.uint16, torch.float32),
}
_NUMBER = {torch.float32: np.float32, torch.float64: np.float64}

# Sums may be taken in any order; infinities and NaNs stay what they are.
_SUMS = {'reassoc', 'contract', 'nsz'}
_ROW, _TILES = 2048, 128  # terms of a short sum: along a row, and over tiles
_TILE = 512  # numbers in a tile at least: fewer, and starting a loop takes longer than the loop


def _load(values, index):
    """values[index] as a number; uint16 are the bits of bfloat16."""


def _store(values, index, number):
    """values[index] = number, rounded to nearest even."""


@overload(_load, inline='always')
def _(values, index):
    if values.dtype == types.uint16:
        return lambda values, index: np.uint32(np.uint32(values[index]) << 16).view(np.float32)
    return lambda values, index: values[index]


@overload(_store, inline='always')
def _(values, index, number):
    def store(values, index, number):
        values[index] = number

    def store_bfloat16(values, index, number):
        bits = np.float32(number).view(np.uint32)
        rounded = np.uint32(bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1)))
        # Rounded up, a NaN could become another number.
        values[index] = np.uint16((rounded if number == number else bits | 0x400000) >> 16)

    return store_bfloat16 if values.dtype == types.uint16 else store


_INTEGERS = ('images', 'channels', 'pixels', 'first', 'end', 'width', 'blocks')
_INTEGERS += ('live', 'step', 'count')
_MAPS = ('x', 'g', 'out')
_NUMBERS = ('weight', 'bias', 'bn_weight', 'bn_bias', 'gradients', 'work')
_DOUBLES = ('statistics', 'sums', 'total', 'eps')
_WORDS = _INTEGERS + _MAPS + _NUMBERS + _DOUBLES
#: What a kernel is called with. `first` to `end` are InstanceNorm's channels, `width` the numbers
#: in a tile, `blocks` how many blocks of tiles an image is cut into. `live`: BatchNorm takes the
#: batch's statistics, of `count` pixels; `step`: below. Maps are flat. Of each row, `statistics`
#: (2, N, C) are centre and 1 / deviation, `sums` (2, N, C) those of g and of g * (x - centre). Of
#: BatchNorm's channels, `total` (2, channels) are forward mean and variance, backward the sums over
#: the batch. `gradients` (2, C) are those of scale and shift.
_Given = namedtuple('_Given', (*_WORDS, 'writes'))

#: All of a pass, or what comes before and after the ranks join their totals.
_ALL, _TO_TOTAL, _FROM_TOTAL = range(3)


@helper
def _given(data, stored, number):
    (
        images, channels, pixels, first, end, width, blocks, live, step, count, x, g, out,
        weight, bias, bn_weight, bn_bias, gradients, work, statistics, sums, total, eps,
    ) = carray(data, 23, np.int64)  # fmt: skip
    size, own = images * channels * pixels, end - first
    return _Given(
        images, channels, pixels, first, end, width, blocks, live, step, count,
        carray(pointer(x), size, stored),
        carray(pointer(g), size, stored),
        carray(pointer(out), size, stored),
        carray(pointer(weight), own, number),
        carray(pointer(bias), own, number),
        carray(pointer(bn_weight), channels - own, number),
        carray(pointer(bn_bias), channels - own, number),
        carray(pointer(gradients), (2, channels), number),
        pointer(work),
        carray(pointer(statistics), (2, images, channels), np.float64),
        carray(pointer(sums), (2, images, channels), np.float64),
        carray(pointer(total), (2, channels - own), np.float64),
        carray(pointer(eps), 2, np.float64),
        out != 0,
    )  # fmt: skip


@helper
def _of_bn(m, channel):
    """Which of BatchNorm's channels a channel is; InstanceNorm's come first or last."""
    return channel if channel < m.first else channel - (m.end - m.first)


@helper
def _affine(m, i, channel):
    """Centre, scale and shift of a row."""
    centre, rstd = m.statistics[0, i, channel], m.statistics[1, i, channel]
    if m.first <= channel < m.end:
        k = channel - m.first
        return centre, m.weight[k] * rstd, m.bias[k]
    k = _of_bn(m, channel)
    return centre, m.bn_weight[k] * rstd, m.bn_bias[k]


@helper
def _total(m):
    """BatchNorm's mean and variance from those of the images: the law of total variance."""
    for k in range(*share(m.total.shape[1])):
        channel = k if k < m.first else k + m.end - m.first
        mean = variance = spread = 0.0
        for i in range(m.images):
            mean += m.statistics[0, i, channel] / m.images
            variance += m.statistics[1, i, channel] / m.images
        for i in range(m.images):
            spread += (m.statistics[0, i, channel] - mean) ** 2 / m.images
        m.total[0, k], m.total[1, k] = mean, variance + spread


@helper
def _settle(m, i, channel):
    """Put the statistics that a row is normalised by in place of the image's mean and variance."""
    if m.first <= channel < m.end:
        eps = m.eps[0]
    else:
        k, eps = _of_bn(m, channel), m.eps[1]
        m.statistics[0, i, channel], m.statistics[1, i, channel] = m.total[0, k], m.total[1, k]
    variance = m.statistics[1, i, channel] + eps
    # As torch: what does not vary becomes the shift even where eps is 0.
    m.statistics[1, i, channel] = 1 / np.sqrt(variance) if variance != 0 else 0.0


@helper
def _total_gradients(m):
    """Gradients of scale and shift, and BatchNorm's sums over the images, from those of rows."""
    for channel in range(*share(m.channels)):
        total = dots = scaled = 0.0
        for i in range(m.images):
            total += m.sums[0, i, channel]
            dots += m.sums[1, i, channel]
            scaled += m.sums[1, i, channel] * m.statistics[1, i, channel]
        m.gradients[0, channel], m.gradients[1, channel] = scaled, total
        if not m.first <= channel < m.end:
            k = _of_bn(m, channel)
            m.total[0, k], m.total[1, k] = total, dots


@helper
def _factors(m, i, channel, total, dots):
    """Centre, a, b, c of the gradient a * g + b * (x - centre) + c of a row."""
    centre, a, _ = _affine(m, i, channel)
    count = m.pixels
    if not m.first <= channel < m.end:
        k, count = _of_bn(m, channel), m.count
        total, dots = m.total[0, k], m.total[1, k]
        if not m.live:  # running statistics don't depend on x
            return centre, a, 0.0, 0.0
    return centre, a, -a * m.statistics[1, i, channel] ** 2 * dots / count, -a * total / count


@helper(fastmath=_SUMS)
def _row_moments(row, number):
    """Mean and biased variance, from deviations from the mean of some pixels."""
    some, taken = 0.0, 0
    for j in range(0, len(row), max(len(row) // 16, 1)):
        some += _load(row, j)
        taken += 1
    shift = number(some / taken)
    total, squares = 0.0, 0.0
    for begin in range(0, len(row), _ROW):
        few = row[begin : begin + _ROW]
        a, b = number(0), number(0)
        for j in range(len(few)):
            d = _load(few, j) - shift
            a += d
            b += d * d
        total += a
        squares += b
    total /= len(row)
    return shift + total, max(squares / len(row) - total * total, 0.0)


@helper(fastmath=_SUMS)
def _row_sums(g, x, centre, number):
    """Sums of g and of g * (x - centre)."""
    total, dots = 0.0, 0.0
    for begin in range(0, len(g), _ROW):
        few, beside = g[begin : begin + _ROW], x[begin : begin + _ROW]
        a, b = number(0), number(0)
        for j in range(len(few)):
            value = _load(few, j)
            a += value
            b += value * (_load(beside, j) - centre)
        total += a
        dots += b
    return total, dots


@helper(fastmath={'contract'})
def _row_affine(x, out, centre, scale, shift):
    for j in range(len(x)):
        _store(out, j, (_load(x, j) - centre) * scale + shift)


@helper(fastmath={'contract'})
def _row_gradient(g, x, out, centre, a, b, c):
    for j in range(len(x)):
        _store(out, j, _load(g, j) * a + ((_load(x, j) - centre) * b + c))


@helper
def _row(m, piece):
    """Of a piece of work: the image, the channel, its first pixel and last + 1."""
    return piece // m.channels, piece % m.channels, piece * m.pixels, (piece + 1) * m.pixels


@helper
def _write_row(m, i, channel, at, end, number):
    centre, scale, shift = _affine(m, i, channel)
    _row_affine(m.x[at:end], m.out[at:end], number(centre), number(scale), number(shift))


@kernel
def _rows_forward(stored, number):
    def work(data):
        m = _given(data, stored, number)
        if m.step != _FROM_TOTAL:
            for piece in range(*share(m.images * m.channels)):
                i, channel, at, end = _row(m, piece)
                own = m.first <= channel < m.end
                if own or m.live:
                    mean, variance = _row_moments(m.x[at:end], number)
                    m.statistics[0, i, channel], m.statistics[1, i, channel] = mean, variance
                if own or not m.live:
                    _settle(m, i, channel)
                    _write_row(m, i, channel, at, end, number)
            if m.live:
                barrier()
                _total(m)
                barrier()
        if m.live and m.step != _TO_TOTAL:
            for piece in range(*share(m.images * m.channels)):
                i, channel, at, end = _row(m, piece)
                if not m.first <= channel < m.end:
                    _settle(m, i, channel)
                    _write_row(m, i, channel, at, end, number)

    return work


@helper
def _write_row_gradient(m, i, channel, at, end, total, dots, number):
    centre, a, b, c = _factors(m, i, channel, total, dots)
    x, g, out = m.x[at:end], m.g[at:end], m.out[at:end]
    _row_gradient(g, x, out, number(centre), number(a), number(b), number(c))


@kernel
def _rows_backward(stored, number):
    def work(data):
        m = _given(data, stored, number)
        if m.step != _FROM_TOTAL:
            for piece in range(*share(m.images * m.channels)):
                i, channel, at, end = _row(m, piece)
                centre = number(m.statistics[0, i, channel])
                total, dots = _row_sums(m.g[at:end], m.x[at:end], centre, number)
                m.sums[0, i, channel], m.sums[1, i, channel] = total, dots
                own = m.first <= channel < m.end
                if m.writes and (own or not m.live):
                    _write_row_gradient(m, i, channel, at, end, total, dots, number)
            barrier()
            _total_gradients(m)
            barrier()
        if m.writes and m.live and m.step != _TO_TOTAL:
            for piece in range(*share(m.images * m.channels)):
                i, channel, at, end = _row(m, piece)
                if not m.first <= channel < m.end:
                    _write_row_gradient(m, i, channel, at, end, 0.0, 0.0, number)

    return work


@helper(fastmath=_SUMS)
def _tiles_moments(x, near, total, squares):
    width, at = len(near), 0
    while at + 4 * width <= len(x):
        p, q = x[at : at + width], x[at + width : at + 2 * width]
        at += 2 * width
        r, s = x[at : at + width], x[at + width : at + 2 * width]
        at += 2 * width
        for k in range(width):
            m = near[k]
            a, b, c, d = _load(p, k) - m, _load(q, k) - m, _load(r, k) - m, _load(s, k) - m
            total[k] += (a + b) + (c + d)
            squares[k] += (a * a + b * b) + (c * c + d * d)
    while at < len(x):
        p = x[at : at + width]
        at += width
        for k in range(len(p)):
            d = _load(p, k) - near[k]
            total[k] += d
            squares[k] += d * d


@helper(fastmath=_SUMS)
def _tiles_sums(g, x, centre, total, dots):
    width, at = len(centre), 0
    while at + 2 * width <= len(x):
        p, q = g[at : at + width], g[at + width : at + 2 * width]
        r, s = x[at : at + width], x[at + width : at + 2 * width]
        at += 2 * width
        for k in range(width):
            a, b, m = _load(p, k), _load(q, k), centre[k]
            total[k] += a + b
            dots[k] += a * (_load(r, k) - m) + b * (_load(s, k) - m)
    while at < len(x):
        p, r = g[at : at + width], x[at : at + width]
        at += width
        for k in range(len(p)):
            total[k] += _load(p, k)
            dots[k] += _load(p, k) * (_load(r, k) - centre[k])


@helper(fastmath={'contract'})
def _tiles_affine(x, out, centre, scale, shift):
    width = len(centre)
    for at in range(0, len(x), width):
        given, to = x[at : at + width], out[at : at + width]
        for k in range(len(given)):
            _store(to, k, (_load(given, k) - centre[k]) * scale[k] + shift[k])


@helper(fastmath={'contract'})
def _tiles_gradient(g, x, out, centre, a, b, c):
    width = len(centre)
    for at in range(0, len(x), width):
        given, beside, to = g[at : at + width], x[at : at + width], out[at : at + width]
        for k in range(len(given)):
            moved = (_load(beside, k) - centre[k]) * b[k] + c[k]
            _store(to, k, _load(given, k) * a[k] + moved)


@helper
def _block(m, piece):
    """Of a piece of work: the image, the block in it, its first number and last + 1."""
    size = m.channels * m.pixels
    i, block = piece // m.blocks, piece % m.blocks
    at = i * size + block * _TILES * m.width
    return i, block, at, min(at + _TILES * m.width, (i + 1) * size)


@helper
def _repeat(values, m, channel, number):
    for k in range(channel, len(values), m.channels):
        values[k] = number


@helper
def _space(m, number):
    """From the working memory: centres and factors (4, N, width), sums (2, N, blocks, width)."""
    size = 4 * m.images * m.width
    all_ = carray(m.work, size + 2 * m.images * m.blocks * m.width, number)
    by, found = all_[:size], all_[size:]
    return by.reshape(4, m.images, m.width), found.reshape(2, m.images, m.blocks, m.width)


@helper
def _sum_blocks(m, found):
    """Sums of the rows from those of the blocks: this thread's channels of all images."""
    begin, stop = share(m.channels)
    for half in range(2):
        for i in range(m.images):
            sums = m.sums[half, i]
            sums[begin:stop] = 0
            for block in range(m.blocks):
                for at in range(0, m.width, m.channels):
                    few = found[half, i, block, at : at + m.channels]
                    for channel in range(begin, stop):
                        sums[channel] += few[channel]
    return begin, stop


@helper
def _sample_mean(m, i, channel):
    """The mean of some pixels: near enough to the channel's that squares don't cancel."""
    total, taken = 0.0, 0
    for j in range(0, m.pixels, max(m.pixels // 16, 1)):
        total += _load(m.x, (i * m.pixels + j) * m.channels + channel)
        taken += 1
    return total / taken


@kernel
def _blocks_forward(stored, number):
    def work(data):
        m = _given(data, stored, number)
        by, found = _space(m, number)
        if m.step != _FROM_TOTAL:
            for piece in range(*share(m.images * m.channels)):
                i, channel = piece // m.channels, piece % m.channels
                _repeat(by[0, i], m, channel, number(_sample_mean(m, i, channel)))
            barrier()
            for piece in range(*share(m.images * m.blocks)):
                i, block, at, end = _block(m, piece)
                found[:, i, block] = 0
                _tiles_moments(m.x[at:end], by[0, i], found[0, i, block], found[1, i, block])
            barrier()
            begin, stop = _sum_blocks(m, found)
            for i in range(m.images):
                for channel in range(begin, stop):
                    mean = m.sums[0, i, channel] / m.pixels
                    square = m.sums[1, i, channel] / m.pixels
                    m.statistics[0, i, channel] = by[0, i, channel] + mean
                    m.statistics[1, i, channel] = max(square - mean * mean, 0.0)
            barrier()
            if m.live:
                _total(m)
                barrier()
        if m.step != _TO_TOTAL:
            for piece in range(*share(m.images * m.channels)):
                i, channel = piece // m.channels, piece % m.channels
                _settle(m, i, channel)
                centre, scale, shift = _affine(m, i, channel)
                _repeat(by[0, i], m, channel, number(centre))
                _repeat(by[1, i], m, channel, number(scale))
                _repeat(by[2, i], m, channel, number(shift))
            barrier()
            for piece in range(*share(m.images * m.blocks)):
                i, _, at, end = _block(m, piece)
                _tiles_affine(m.x[at:end], m.out[at:end], by[0, i], by[1, i], by[2, i])

    return work


@kernel
def _blocks_backward(stored, number):
    def work(data):
        m = _given(data, stored, number)
        by, found = _space(m, number)
        if m.step != _FROM_TOTAL:
            for piece in range(*share(m.images * m.channels)):
                i, channel = piece // m.channels, piece % m.channels
                _repeat(by[0, i], m, channel, number(m.statistics[0, i, channel]))
            barrier()
            for piece in range(*share(m.images * m.blocks)):
                i, block, at, end = _block(m, piece)
                found[:, i, block] = 0
                total, dots = found[0, i, block], found[1, i, block]
                _tiles_sums(m.g[at:end], m.x[at:end], by[0, i], total, dots)
            barrier()
            _sum_blocks(m, found)
            barrier()
            _total_gradients(m)
            barrier()
        if m.writes and m.step != _TO_TOTAL:
            for piece in range(*share(m.images * m.channels)):
                i, channel = piece // m.channels, piece % m.channels
                total, dots = m.sums[0, i, channel], m.sums[1, i, channel]
                centre, a, b, c = _factors(m, i, channel, total, dots)
                _repeat(by[0, i], m, channel, number(centre))
                _repeat(by[1, i], m, channel, number(a))
                _repeat(by[2, i], m, channel, number(b))
                _repeat(by[3, i], m, channel, number(c))
            barrier()
            for piece in range(*share(m.images * m.blocks)):
                i, _, at, end = _block(m, piece)
                x, g, out = m.x[at:end], m.g[at:end], m.out[at:end]
                _tiles_gradient(g, x, out, by[0, i], by[1, i], by[2, i], by[3, i])

    return work


def _pass(run: Callable, join: Callable | None, x: Tensor, part: slice, **given) -> None:
    """Run a kernel; where BatchNorm's totals come from several ranks, `join` them on the way."""
    n, c, h, w = x.shape
    first, end, _ = part.indices(c)
    given |= dict(images=n, channels=c, pixels=h * w, first=first, end=end, x=x)
    given['sums'] = x.new_empty((2, n, c), dtype=torch.float64)
    if not x.is_contiguous():
        width = c * max(_TILE // c, 1)
        blocks = -(-c * h * w // (_TILES * width))
        work = x.new_empty(n * width * (4 + 2 * blocks), dtype=TYPES[x.dtype][1])
        given |= dict(width=width, blocks=blocks, work=work)
    stored, number = TYPES[x.dtype][0], _NUMBER[TYPES[x.dtype][1]]
    for step in (_ALL,) if join is None else (_TO_TOTAL, _FROM_TOTAL):
        given['step'] = step
        run((stored, number), [given.get(word) for word in _WORDS])
        if step == _TO_TOTAL:
            join(given['total'])


def forward(
    x: Tensor,
    part: slice,
    eps: tuple[float, float],
    affine: dict[str, Tensor],
    total: Tensor,
    live: bool,
    join: Callable | None = None,
) -> tuple[Tensor, Tensor]:
    """Normalise a map x (N, C, H, W), contiguous or channels_last, of a type in `TYPES`.

    Args:
        part: InstanceNorm's channels, the first or the last; BatchNorm has the others.
        eps: InstanceNorm's and BatchNorm's, added to variances.
        affine: 'weight', 'bias', 'bn_weight', 'bn_bias' in the number type of `TYPES`.
        total: float64 (2, BatchNorm's channels), mean and variance: those of the batch are written
            into it if `live`, else it holds those to take.
        join: changes this rank's `total` into that of all.

    Returns:
        The map, in x's layout, and its statistics for `backward`.
    """
    out = torch.empty_like(x)
    statistics = x.new_empty((2, *x.shape[:2]), dtype=torch.float64)
    eps = x.new_tensor(eps, dtype=torch.float64)
    run = _rows_forward if x.is_contiguous() else _blocks_forward
    _pass(
        run, join, x, part,
        eps=eps, total=total, live=live, statistics=statistics, out=out, **affine,
    )  # fmt: skip
    return out, statistics


def backward(
    g: Tensor,
    x: Tensor,
    part: slice,
    affine: dict[str, Tensor],
    statistics: Tensor,
    live: bool,
    count: int,
    wanted: bool,
    join: Callable | None = None,
) -> tuple[Tensor | None, Tensor]:
    """Return the gradients of x, if `wanted`, and of scale and shift (2, C).

    Args:
        g: gradient of `forward`'s map, in x's layout and type.
        count: pixels that the statistics of the batch are from, on all ranks.
        join: changes this rank's sums of g and of g * (x - mean), float64 (2, BatchNorm's
            channels), into those of all.
    """
    out = torch.empty_like(x) if wanted else None
    own = len(range(x.shape[1])[part])
    total = x.new_empty((2, x.shape[1] - own), dtype=torch.float64)
    gradients = x.new_empty((2, x.shape[1]), dtype=TYPES[x.dtype][1])
    run = _rows_backward if x.is_contiguous() else _blocks_backward
    _pass(
        run, join, x, part,
        g=g, total=total, live=live, count=count, statistics=statistics, out=out,
        gradients=gradients, **affine,
    )  # fmt: skip
    return out, gradients
