"""IBN and InstanceNorm against the layers they stand for, alternating in one run; medians."""

import argparse
import contextlib
import statistics
import time

SHAPES = ((8, 64, 64, 64), (8, 128, 32, 32), (4, 64, 128, 128), (2, 256, 128, 256))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--repeats', type=int, default=15)
    p.add_argument('--threads', type=int, default=2)
    return p


def measure(functions: dict, x, gradient, repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each function, forward and with `gradient` backward."""
    import torch

    times = {name: [] for name in functions}
    for i in range(repeats + 2):
        for name, function in functions.items():
            x.grad = None
            with contextlib.nullcontext() if gradient is not None else torch.no_grad():
                start = time.perf_counter()
                y = function(x)
                if gradient is not None:
                    y.backward(gradient)
            if i >= 2:  # the first two warm up
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(seconds) for name, seconds in times.items()}


def main() -> None:
    args = parser().parse_args()
    import torch
    from torch import nn

    from ibnseg.norms import IBN, InstanceNorm

    torch.set_num_threads(args.threads)
    print('| pass | shape | layout | IBN | two branches | ratio | BatchNorm2d | IN | torch IN |')
    print('| :-- | :-- | :-- | --: | --: | --: | --: | --: | --: |')
    for train in (True, False):
        for shape in SHAPES:
            for layout in ('contiguous', 'channels_last'):
                form = torch.channels_last if layout != 'contiguous' else torch.contiguous_format
                channels = shape[1]
                half = channels // 2
                parts = nn.InstanceNorm2d(half, affine=True), nn.BatchNorm2d(half)
                layers = {
                    'IBN': IBN(channels),
                    'BatchNorm2d': nn.BatchNorm2d(channels),
                    'IN': InstanceNorm(channels),
                    'torch IN': nn.InstanceNorm2d(channels, affine=True),
                }
                for layer in (*layers.values(), *parts):
                    layer.train(train)

                def two_branches(x, half=half, parts=parts):
                    return torch.cat((parts[0](x[:, :half]), parts[1](x[:, half:])), 1)

                x = torch.randn(shape).contiguous(memory_format=form).requires_grad_(train)
                gradient = torch.randn(shape).contiguous(memory_format=form) if train else None
                found = measure({**layers, 'two': two_branches}, x, gradient, args.repeats)
                ratio = found['two'] / found['IBN']
                cells = [f'{found["IBN"]:.2f}', f'{found["two"]:.2f}', f'{ratio:.1f}']
                cells += [f'{found[name]:.2f}' for name in ('BatchNorm2d', 'IN', 'torch IN')]
                mode = 'forward and backward' if train else 'eval'
                print('|', ' | '.join([mode, str(shape), layout, *cells]), '|', flush=True)


if __name__ == '__main__':
    main()
