"""IBN and InstanceNorm against the layers they stand for: milliseconds, as a Markdown table.

All take turns in one run; medians. The peer of IBN is IN and BN on the halves of the channels,
concatenated: "split" on slices, "copied" on contiguous copies of them, as the original release
does, which loses channels_last. The ratio is that of the faster of the two.
"""

import argparse
from functools import partial

from timing import alternate, machine, row

SHAPES = ((8, 64, 64, 64), (8, 128, 32, 32), (4, 64, 128, 128), (2, 256, 128, 256))
LAYOUTS = ('contiguous', 'channels_last')


def layers(channels: int) -> dict:
    """Name -> layer."""
    import torch
    from torch import nn

    from ibnseg.norms import IBN, InstanceNorm

    class TwoBranches(nn.Module):
        def __init__(self, copy: bool):
            super().__init__()
            self.half, self.copy = channels // 2, copy
            self.IN = nn.InstanceNorm2d(self.half, affine=True)
            self.BN = nn.BatchNorm2d(channels - self.half)

        def forward(self, x):
            parts = x[:, : self.half], x[:, self.half :]
            if self.copy:
                parts = [part.contiguous() for part in parts]
            return torch.cat((self.IN(parts[0]), self.BN(parts[1])), 1)

    return {
        'IBN': IBN(channels),
        'split': TwoBranches(copy=False),
        'copied': TwoBranches(copy=True),
        'InstanceNorm': InstanceNorm(channels),
        'InstanceNorm2d': nn.InstanceNorm2d(channels, affine=True),
    }


def measure(shape: tuple, layout: str, train: bool, args: argparse.Namespace) -> list[float]:
    """Return the milliseconds of each of `layers`."""
    import torch

    form = torch.channels_last if layout == 'channels_last' else torch.contiguous_format
    like = dict(device=args.device, dtype=getattr(torch, args.dtype))
    x = torch.randn(shape, **like).contiguous(memory_format=form).requires_grad_(train)
    gradient = torch.randn(shape, **like).contiguous(memory_format=form)
    nets = {name: layer.to(args.device).train(train) for name, layer in layers(shape[1]).items()}

    def step(net):
        x.grad = None
        with torch.set_grad_enabled(train):
            y = net(x)
        if train:
            y.backward(gradient)

    steps = {name: partial(step, net) for name, net in nets.items()}
    return list(alternate(steps, args.repeats, settle=1).values())


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--repeats', type=int, default=15)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--device', help='default: a GPU if there is one')
    p.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16', 'float16'])
    args = p.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    columns = 'IBN', 'split', 'copied', 'ratio', 'InstanceNorm', 'InstanceNorm2d', 'ratio'
    print(f'{machine(args.device)}, {args.dtype}, medians of {args.repeats}, milliseconds.\n')
    print(row('pass', 'shape', 'layout', *columns))
    print(row(*[':--'] * 3, *['--:'] * len(columns)))
    for mode in ('forward and backward', 'eval'):
        for shape in SHAPES:
            for layout in LAYOUTS:
                ibn, split, copied, ours, theirs = measure(shape, layout, mode != 'eval', args)
                times = [f'{t:.2f}' for t in (ibn, split, copied, ours, theirs)]
                times.insert(3, f'{min(split, copied) / ibn:.1f}')
                print(row(mode, shape, layout, *times, f'{theirs / ours:.1f}'), flush=True)


if __name__ == '__main__':
    main()
