"""Write small synthetic datasets: street scenes in the layouts of the real ones.

    python tools/miniature.py data/mini --train 200 --val 40

Takes some seconds. Use such a folder wherever the folder of the real dataset can stand.
"""

import argparse
import contextlib
import sys


def size(text: str) -> tuple[int, int]:
    """'256x512' -> (256, 512)."""
    try:
        height, width = (int(part) for part in text.lower().split('x'))
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is not HxW; for example 256x512') from None
    return height, width


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', help='folder to write to, one folder for each dataset')
    parser.add_argument('--train', type=int, default=200, help='training pairs per dataset (200)')
    parser.add_argument('--val', type=int, default=40, help='validation pairs per dataset (40)')
    parser.add_argument('--size', type=size, default=(256, 512), metavar='HxW', help='(256x512)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the scenes (0)')
    parser.add_argument(
        '--worlds', nargs='+', metavar='WORLD',
        help="datasets to draw, or 'all' (gta5 cityscapes)",
    )  # fmt: skip
    parser.add_argument('--workers', type=int, help='processes; default one per core')
    return parser.parse_args(argv)


@contextlib.contextmanager
def bar():
    """Yield a progress callback, or None where nobody is watching."""
    if not sys.stdout.isatty():
        yield None
        return
    from rich.progress import Progress

    with Progress(transient=True) as view:
        task = view.add_task('drawing', total=None)
        yield lambda done, total: view.update(task, completed=done, total=total)


def main(argv: list[str] | None = None) -> int:
    """Write the sets and say where; 0, or 2 after one line on what was wrong."""
    args = parse(argv)
    from ibnseg import miniature

    worlds = tuple(args.worlds or miniature.DEFAULT)
    if worlds == ('all',):
        worlds = tuple(miniature.LAYOUTS)
    try:
        with bar() as progress:
            roots = miniature.write(
                args.out, worlds, args.train, args.val, args.size, args.seed, args.workers, progress
            )
    except (ValueError, OSError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    height, width = args.size
    for world, root in roots.items():
        counts = miniature.counts(world, args.train, args.val)
        pairs = ' + '.join(f'{count} {split}' for split, count in counts.items())
        print(f'{world}: {pairs} pairs of {height}x{width} in {root}')
    print(f'use them with --data-root {args.out}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
