"""Draw photos, their ground truth and the predictions of several models into one PNG.

    ibnseg picture work_dirs/resnet50 work_dirs/ibn_b --domain cityscapes

The photos are chosen by rule: that of median gain over the baseline, the one with the largest gain
and the one with the smallest (of one model: median, best and worst mIoU). --image takes another,
by its name in a report.
"""

import argparse
import sys

from ibnseg import command
from ibnseg.text import tell


def parser() -> argparse.ArgumentParser:
    p = command.parser('picture', __doc__)
    p.add_argument(
        'records',
        nargs='+',
        help='folders of runs, or record files; the configs beside their checkpoints are run as '
        'Python',
    )
    p.add_argument('--models', nargs='+', default=[], metavar='NAME', help='as reports name them')
    p.add_argument('--baseline', metavar='NAME', help='by default the plain model')
    p.add_argument('--domain', default='cityscapes', help='name or name:split')
    p.add_argument(
        '--image', metavar='NAME', help='one photo as reports name it, or its number from 0'
    )
    p.add_argument(
        '--predictions',
        nargs='+',
        default=[],
        metavar='DIR',
        help='folders of ibnseg test --save-predictions; their models run no network here',
    )
    p.add_argument('--out', default='picture.png')
    command.add(p, '--data-root', data_root=dict(default='data'))
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    from ibnseg import domains

    domains.find(args.domain, args.data_root)  # what is missing is said at once
    from ibnseg.analysis import pictures
    from ibnseg.analysis.scenes import Album

    album = Album(args.records, args.data_root, args.baseline, args.models, args.predictions)
    for text in pictures.panel(album, args.out, args.domain, args.image):
        tell(f'photo       {text}')
    tell(f'picture     {args.out}')


if __name__ == '__main__':
    sys.exit(main())
