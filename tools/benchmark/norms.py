"""IBN and InstanceNorm against the layers they stand for: milliseconds, as a Markdown table.

All take turns in one run; medians. The floor is the least that must pass through memory, each map
counted once a read and once a write: forward reads x twice (statistics, multiply-add) and writes
y; backward reads x and the gradient of y twice and writes that of x. Its time is that of copying
so many bytes, measured in the same run.

The peer is IN and BN on the halves of the channels, concatenated: "split" on slices, "copied" on
contiguous copies of them, as the original release does, which loses channels_last. The ratio is
that of the faster of the two.
"""

import argparse
import sys
import time

from timing import alternate, machine

SHAPES = ((8, 64, 64, 64), (8, 128, 32, 32), (4, 64, 128, 128), (2, 256, 128, 256))
LAYOUTS = ('contiguous', 'channels_last')
#: Maps read and written in a pass.
FLOOR = {'forward and backward': 3 + 5, 'eval': 3}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog='norms', description=__doc__)
    p.add_argument('--repeats', type=int, default=15)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--processor-time', action='store_true', help='for one thread on a busy machine')
    p.add_argument('--device', help='default: a GPU if there is one')
    p.add_argument('--dtype', default='float32', choices=['float32', 'bfloat16', 'float16'])
    p.add_argument('--compile', action='store_true', help='torch.compile of IBN and split, too')
    p.add_argument('--shapes', type=int, nargs='+', default=range(4), help='rows 0 to 3 only')
    return p


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
        'BatchNorm2d': nn.BatchNorm2d(channels),
        'InstanceNorm': InstanceNorm(channels),
        'InstanceNorm2d': nn.InstanceNorm2d(channels, affine=True),
    }


def row(shape: tuple, layout: str, train: bool, args: argparse.Namespace) -> dict[str, float]:
    """Return column -> milliseconds."""
    import torch

    form = torch.channels_last if layout == 'channels_last' else torch.contiguous_format
    like = dict(device=args.device, dtype=getattr(torch, args.dtype))
    x = torch.randn(shape, **like).contiguous(memory_format=form).requires_grad_(train)
    gradient = torch.randn(shape, **like).contiguous(memory_format=form)
    copy = torch.empty_like(gradient)
    nets = {name: layer.to(args.device).train(train) for name, layer in layers(shape[1]).items()}
    if args.compile:
        for name in ('IBN', 'split'):
            # Each shape is compiled for itself, as in a network.
            nets[f'{name}, compiled'] = torch.compile(nets[name], dynamic=False)

    def step(net):
        def run():
            x.grad = None
            with torch.set_grad_enabled(train):
                y = net(x)
            if train:
                y.backward(gradient)

        return run

    found = alternate(
        {'copy': lambda: copy.copy_(gradient)} | {name: step(net) for name, net in nets.items()},
        args.repeats,
        clock=args.clock,
        settle=1,
    )
    if args.compile:
        torch._dynamo.reset()
    return found


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    import torch

    torch.set_num_threads(args.threads)
    args.clock = time.process_time if args.processor_time else time.perf_counter
    unit = ' of processor time' if args.processor_time else ''
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    columns = ['IBN', 'split', 'copied', 'ratio', 'BatchNorm2d']
    columns += ['InstanceNorm', 'InstanceNorm2d', 'ratio']
    columns += ['IBN, compiled', 'split, compiled'] if args.compile else []
    print(f'{machine(args.device)}, {args.dtype}, medians of {args.repeats}, milliseconds{unit}.\n')
    print('| pass | shape | layout | floor, MB | floor |', ' | '.join(columns), '|')
    print('| :-- | :-- | :-- |' + ' --: |' * (2 + len(columns)))
    for mode, maps in FLOOR.items():
        for shape in [SHAPES[i] for i in args.shapes]:
            for layout in LAYOUTS:
                found = row(shape, layout, mode != 'eval', args)
                bytes_ = maps * torch.Size(shape).numel() * getattr(torch, args.dtype).itemsize
                peers = min(found['split'], found['copied']), found['InstanceNorm2d']
                ours = found['IBN'], found['InstanceNorm']
                ratios = iter(f'{a / b:.1f}' for a, b in zip(peers, ours, strict=True))
                cells = [next(ratios) if c == 'ratio' else f'{found[c]:.2f}' for c in columns]
                # A copy reads one map and writes one.
                floor = f'{bytes_ / 1e6:.0f}', f'{found["copy"] / 2 * maps:.2f}'
                print('|', ' | '.join([mode, str(shape), layout, *floor, *cells]), '|', flush=True)
    return 0


if __name__ == '__main__':
    sys.exit(main())
