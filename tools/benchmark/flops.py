"""Print parameters and multiply-adds of every network at every placement, as Markdown tables.

Nothing is computed: the networks run on torch's meta device, so it takes no memory and under two
minutes on one core. Counted are convolutions and linear layers (torch.utils.flop_counter, halved);
norms, ReLUs and pools are not.
"""

import argparse
import sys

#: Row -> type and arguments of the backbone.
NETWORKS = {
    **{f'ResNet-{d}': ('IBNResNet', dict(depth=d)) for d in (18, 34, 50, 101, 152)},
    **{f'ResNeXt-{d} 32x4d': ('IBNResNeXt', dict(depth=d)) for d in (50, 101, 152)},
    'ResNeXt-101 32x8d': ('IBNResNeXt', dict(depth=101, base_width=8)),
    **{f'SE-ResNet-{d}': ('IBNSEResNet', dict(depth=d)) for d in (18, 34, 50, 101, 152)},
    **{f'SE-ResNeXt-{d} 32x4d': ('IBNSEResNeXt', dict(depth=d)) for d in (50, 101, 152)},
    **{f'DenseNet-{d}': ('IBNDenseNet', dict(depth=d)) for d in (121, 161, 169, 201)},
}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog='flops', description=__doc__)
    p.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS), metavar='ROW')
    p.add_argument('--size', type=int, default=224, help='side of the image in pixels')
    return p


def cost(type_: str, arguments: dict, placement: str, size: int) -> tuple[float, float] | None:
    """Return millions of parameters and 10^9 multiply-adds; None where the pair is refused."""
    import torch
    from mmseg.registry import MODELS
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device('meta'), torch.no_grad():
        try:
            net = MODELS.build(dict(type=type_, placement=placement, **arguments)).eval()
        except ValueError:
            return None
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, 3, size, size))
    parameters = sum(p.numel() for p in net.parameters())
    return parameters / 1e6, counter.get_total_flops() / 2e9


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    import ibnseg  # noqa: F401
    from ibnseg.placement import PLACEMENTS

    costs = {
        row: [cost(*NETWORKS[row], name, args.size) for name in PLACEMENTS] for row in args.networks
    }
    titles = 'parameters, 10^6', f'multiply-adds, 10^9, {args.size} x {args.size}'
    for i, title in enumerate(titles):
        print('\n' * i + f'| {title} | {" | ".join(PLACEMENTS)} |')
        print('|---|' + '---:|' * len(PLACEMENTS))
        for row, found in costs.items():
            cells = ['-' if pair is None else f'{pair[i]:.2f}' for pair in found]
            print(f'| {row} | {" | ".join(cells)} |')
    return 0


if __name__ == '__main__':
    sys.exit(main())
