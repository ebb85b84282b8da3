"""Show a dataset's photos with their labels over them, as one HTML page.

    ibnseg browse cityscapes:train --data-root data
    ibnseg browse mycity --domain-file mycity.yaml --number 60

Look here before you train: a class in the wrong place, or without a pixel, is a wrong map of ids.
"""

import argparse
import sys

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('browse', __doc__)
    p.add_argument('domain', help="e.g. mycity, or 'mycity:train'")
    command.add(p, '--data-root')
    p.add_argument('--number', type=int, default=24, help='pairs shown (24)')
    p.add_argument('--out', metavar='FILE', help='default <domain>.html')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    from ibnseg import disk, progress
    from ibnseg.audit.browse import page

    if args.number < 1:
        raise ValueError(f'--number {args.number}; expected 1 or more')
    out = args.out or f'{args.domain.replace(":", "_").replace("/", "_")}.html'
    with progress.bar('pairs') as bar:
        text = page(args.domain, args.data_root or 'data', args.number, bar)
    disk.write_atomically(out, text)
    command.say(f'page       {out}')


if __name__ == '__main__':
    sys.exit(main())
