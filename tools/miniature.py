"""Write small synthetic datasets: street scenes in the layouts of the real ones.

    ibnseg miniature data/mini --train 200 --val 40

Takes some seconds. Use such a folder wherever the folder of the real dataset can stand.
"""

import argparse
import sys

from ibnseg import command
from ibnseg.text import tell


def size(text: str) -> tuple[int, int]:
    """'256x512' -> (256, 512)."""
    try:
        height, width = (int(part) for part in text.lower().split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not HxW; for example 256x512') from None
    return height, width


def parser() -> argparse.ArgumentParser:
    p = command.parser('miniature', __doc__)
    p.add_argument('out', help='folder to write to, one folder for each dataset')
    p.add_argument('--train', type=int, default=200, help='training pairs per dataset (200)')
    p.add_argument('--val', type=int, default=40, help='validation pairs per dataset (40)')
    p.add_argument('--size', type=size, default=(256, 512), metavar='HxW', help='(256x512)')
    p.add_argument('--seed', type=int, default=0, help='seed of the scenes (0)')
    p.add_argument(
        '--worlds', nargs='+', metavar='WORLD',
        help="datasets to draw, or 'all' (gta5 cityscapes)",
    )  # fmt: skip
    p.add_argument('--workers', type=int, help='processes; default one per core')
    return p


def main(argv: list[str] | None = None) -> int:
    """Write the datasets and say where; 0, or 2 after one line on what was wrong."""
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    from ibnseg import miniature, progress

    worlds = tuple(args.worlds or miniature.DEFAULT)
    if worlds == ('all',):
        worlds = tuple(miniature.LAYOUTS)
    with progress.bar('drawing') as done:
        roots = miniature.write(
            args.out, worlds, args.train, args.val, args.size, args.seed, args.workers, done
        )
    height, width = args.size
    for world, root in roots.items():
        counts = miniature.counts(world, args.train, args.val)
        pairs = ' + '.join(f'{count} {split}' for split, count in counts.items())
        tell(f'{world}: {pairs} pairs of {height}x{width} in {root}')
    tell(f'use them with --data-root {args.out}')


if __name__ == '__main__':
    sys.exit(main())
