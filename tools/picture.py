"""Draw a photo, its ground truth and the predictions of several runs into one PNG."""

import argparse
import sys

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('picture', __doc__)
    p.add_argument('runs', nargs='+', help='folders of runs; their configs are run as Python')
    p.add_argument('--domain', default='cityscapes', help='name or name:split')
    p.add_argument('--image', type=int, default=0, help='number of the image, from 0')
    p.add_argument('--out', default='picture.png')
    command.add(p, '--data-root', data_root=dict(default='data'))
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    from ibnseg import domains

    domains.find(args.domain, args.data_root)  # what is missing is said at once
    command.say(f'predicting image {args.image} of {args.domain} with {len(args.runs)} runs')
    from ibnseg.analysis import pictures

    pictures.panel(args.runs, args.domain, args.data_root, args.image, args.out)
    print(f'picture     {args.out}')


if __name__ == '__main__':
    sys.exit(main())
