"""3x3 convolutions in a fourth of the multiplications, F(4x4, 3x3), for inference on a CPU.

Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016, sec. 4: 6 x 6 inputs
give 4 x 4 outputs by 36 products a pair of channels, not 144. With dilation d a map is taken as
d x d maps of every d-th pixel. In float32 the outputs differ from a plain convolution's by some
1e-6 of their size.
"""

import numpy as np
import torch
from numba import carray
from torch import Tensor, nn

from .compiled import helper, kernel, pointer, share, thread
from .norms.fused import in_memory

_G = ((6, 0, 0), (-4, -4, -4), (-4, 4, -4), (1, 2, 4), (1, -2, 4), (0, 0, 24))  # times 24
_FAST = {'contract', 'reassoc', 'nsz'}
#: Numbers that a pass over some tiles works with: so many stay in the cache.
_SPACE = 8 << 20
#: Outputs of the tiles to those of the map: above, the plain convolution is faster.
_EXCESS = 1.5


# A loop that writes one row is vectorised; one that writes several would be checked for overlaps.
@helper(fastmath=_FAST)
def _three(out, a, x, b, y, c, z):
    for k in range(len(out)):
        out[k] = a * x[k] + b * y[k] + c * z[k]


@helper(fastmath=_FAST)
def _four(out, a, x, b, y, c, z, d, w, base):
    for k in range(len(out)):
        out[k] = (a * x[k] + b * y[k]) + (c * z[k] + d * w[k]) + base[k]


@helper(fastmath=_FAST)
def _first(out, x, a, b, c, d, base):
    for k in range(len(out)):
        out[k] = x[k] + (a[k] + b[k]) + (c[k] + d[k]) + base[k]


@helper(fastmath=_FAST)
def _last(out, a, b, c, d, x, base):
    for k in range(len(out)):
        out[k] = (a[k] - b[k]) + np.float32(8) * (c[k] - d[k]) + x[k] + base[k]


@helper
def _tile(piece, dilation, rows, columns):
    """Of a tile: the image, and its first output's row and column."""
    column, piece = piece % columns, piece // columns
    row, piece = piece % rows, piece // rows
    right, piece = piece % dilation, piece // dilation
    down, i = piece % dilation, piece // dilation
    return i, down + 4 * row * dilation, right + 4 * column * dilation


@helper
def _pixel(flat, none, i, row, column, height, width, channels):
    if 0 <= row < height and 0 <= column < width:
        at = ((i * height + row) * width + column) * channels
        return flat[at : at + channels]
    return none


@helper
def _factors(out, line, none):
    """B^T: six inputs -> six factors, each of all channels."""
    f = np.float32
    d0, d1, d2, d3, d4, d5 = line
    _three(out[0], f(4), d0, f(-5), d2, f(1), d4)
    _four(out[1], f(-4), d1, f(-4), d2, f(1), d3, f(1), d4, none)
    _four(out[2], f(4), d1, f(-4), d2, f(-1), d3, f(1), d4, none)
    _four(out[3], f(-2), d1, f(-1), d2, f(2), d3, f(1), d4, none)
    _four(out[4], f(2), d1, f(-1), d2, f(-2), d3, f(1), d4, none)
    _three(out[5], f(4), d1, f(-5), d3, f(1), d5)


@helper
def _outputs(o0, o1, o2, o3, line, base):
    """A^T: six products -> four outputs, each of all channels."""
    f = np.float32
    m0, m1, m2, m3, m4, m5 = line
    _first(o0, m0, m1, m2, m3, m4, base)
    _four(o1, f(1), m1, f(-1), m2, f(2), m3, f(-2), m4, base)
    _four(o2, f(1), m1, f(1), m2, f(4), m3, f(4), m4, base)
    _last(o3, m1, m2, m3, m4, m5, base)


@kernel
def _inputs():
    def work(data):
        (
            images, height, width, channels, dilation, rows, columns, begin, end, x, v, space,
        ) = carray(data, 12, np.int64)  # fmt: skip
        count, f = end - begin, np.float32
        x = carray(pointer(x), images * height * width * channels, f)
        v = carray(pointer(v), (6, 6, count, channels), f)
        space = carray(pointer(space), ((thread() + 1) * 37, channels), f)[thread() * 37 :]
        lines, none = space[:36].reshape(6, 6, channels), space[36]
        none[:] = 0
        for piece in range(*share(count)):
            i, row, column = _tile(begin + piece, dilation, rows, columns)
            for k in range(6):
                at = column + (k - 1) * dilation
                d0 = _pixel(x, none, i, row - dilation, at, height, width, channels)
                d1 = _pixel(x, none, i, row, at, height, width, channels)
                d2 = _pixel(x, none, i, row + dilation, at, height, width, channels)
                d3 = _pixel(x, none, i, row + 2 * dilation, at, height, width, channels)
                d4 = _pixel(x, none, i, row + 3 * dilation, at, height, width, channels)
                d5 = _pixel(x, none, i, row + 4 * dilation, at, height, width, channels)
                _factors(lines[k], (d0, d1, d2, d3, d4, d5), none)
            for k in range(6):
                given = (
                    lines[0, k],
                    lines[1, k],
                    lines[2, k],
                    lines[3, k],
                    lines[4, k],
                    lines[5, k],
                )
                _factors(v[k, :, piece], given, none)

    return work


@kernel
def _products_to_outputs():
    def work(data):
        (
            images, height, width, channels, dilation, rows, columns, begin, end, y, m, space, bias,
        ) = carray(data, 13, np.int64)  # fmt: skip
        count, f = end - begin, np.float32
        y = carray(pointer(y), images * height * width * channels, f)
        m = carray(pointer(m), (6, 6, count, channels), f)
        space = carray(pointer(space), ((thread() + 1) * 26, channels), f)[thread() * 26 :]
        bias = carray(pointer(bias), channels, f)
        lines, none, beside = space[:24].reshape(4, 6, channels), space[24], space[25]
        none[:] = 0
        for piece in range(*share(count)):
            i, row, column = _tile(begin + piece, dilation, rows, columns)
            for k in range(6):
                given = (
                    m[0, k, piece], m[1, k, piece], m[2, k, piece],
                    m[3, k, piece], m[4, k, piece], m[5, k, piece],
                )  # fmt: skip
                _outputs(lines[0, k], lines[1, k], lines[2, k], lines[3, k], given, none)
            for k in range(4):
                given = (
                    lines[k, 0],
                    lines[k, 1],
                    lines[k, 2],
                    lines[k, 3],
                    lines[k, 4],
                    lines[k, 5],
                )
                at = row + k * dilation
                o0 = _pixel(y, beside, i, at, column, height, width, channels)
                o1 = _pixel(y, beside, i, at, column + dilation, height, width, channels)
                o2 = _pixel(y, beside, i, at, column + 2 * dilation, height, width, channels)
                o3 = _pixel(y, beside, i, at, column + 3 * dilation, height, width, channels)
                _outputs(o0, o1, o2, o3, given, bias)

    return work


def suits(conv: nn.Module) -> bool:
    """Whether it is a convolution that can be taken, of so many channels that it gains."""
    return (
        type(conv) is nn.Conv2d
        and conv.kernel_size == (3, 3)
        and conv.stride == (1, 1)
        and conv.groups == 1
        and conv.dilation[0] == conv.dilation[1]
        and conv.padding == conv.dilation
        and conv.padding_mode == 'zeros'
        and conv.weight.dtype == torch.float32
        and min(conv.in_channels, conv.out_channels) >= 256
        and not (conv._forward_hooks or conv._forward_pre_hooks)
    )


class WinogradConv2d(nn.Module):
    """What `conv` gives, for float32 maps (N, C, H, W) without gradients; others go to `conv`.

    So do maps that tiles of 4 x 4 dilated outputs would exceed by half. The weights are those at
    the time of construction, and kept a second time as factors, four times as large. The map
    returned is channels_last.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv
        g = torch.tensor(_G, dtype=torch.float64) / 24
        factors = torch.einsum('ia,jb,ocab->ijco', g, g, conv.weight.detach().double())
        self.factors = factors.float().flatten(0, 1).contiguous()
        bias = conv.bias.detach() if conv.bias is not None else torch.zeros(conv.out_channels)
        self.bias = bias.float().contiguous()

    def forward(self, x: Tensor) -> Tensor:
        if not self._takes(x):
            return self.conv(x)
        _, given, made = self.factors.shape
        n, _, h, w = x.shape
        dilation, rows, columns = self._tiles(h, w)
        x = x.contiguous(memory_format=torch.channels_last)
        y = x.new_empty((n, h, w, made)).permute(0, 3, 1, 2)
        tiles, some = n * dilation**2 * rows * columns, max(_SPACE // (36 * (given + made)), 1)
        scratch = x.new_empty(torch.get_num_threads() * 37 * max(given, made))
        v, m = x.new_empty(36 * some * given), x.new_empty(36 * some * made)
        for begin in range(0, tiles, some):
            end = min(begin + some, tiles)
            place = dilation, rows, columns, begin, end
            _inputs((), (n, h, w, given, *place, x, v, scratch))
            factors = v[: 36 * (end - begin) * given].view(36, -1, given)
            products = m[: 36 * (end - begin) * made].view(36, -1, made)
            torch.bmm(factors, self.factors, out=products)
            _products_to_outputs((), (n, h, w, made, *place, y, m, scratch, self.bias))
        return y

    def _tiles(self, height: int, width: int) -> tuple[int, int, int]:
        """Dilation, and the rows and columns of tiles in each of the dilation ** 2 maps."""
        dilation = self.conv.dilation[0]
        return dilation, -(-height // (4 * dilation)), -(-width // (4 * dilation))

    def _takes(self, x: Tensor) -> bool:
        if torch.is_grad_enabled() or torch.is_autocast_enabled('cpu') or not in_memory(x):
            return False
        if x.dim() != 4 or x.dtype != torch.float32 or x.shape[1] != self.factors.shape[1]:
            return False
        dilation, rows, columns = self._tiles(*x.shape[2:])
        outputs = (4 * dilation) ** 2 * rows * columns
        return outputs <= _EXCESS * x.shape[2] * x.shape[3]
