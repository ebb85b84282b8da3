"""Choose photos by rule, predict them with each model, and put them into a report's gallery.

    ibnseg gallery work_dirs/sweep --out work_dirs/sweep/report
    ibnseg report work_dirs/sweep --out work_dirs/sweep/report

Of each domain: the worst, the median and the best photo by mIoU; against the baseline, the most
improved, that of median gain and the most worsened. Photos are chosen by the matrices beside the
records (*.images.npz). Predictions come from each run's checkpoint, or from files: those of a
scored folder (ibnseg score), and of --predictions. The next ibnseg report with this --out shows
the gallery.
"""

import argparse
import sys

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('gallery', __doc__)
    p.add_argument(
        'records',
        nargs='+',
        help='record files, or folders with *.record.json below them; the configs beside their '
        'checkpoints are run as Python',
    )
    p.add_argument('--out', required=True, metavar='DIR', help="the report's folder")
    p.add_argument('--baseline', metavar='NAME', help='by default the plain model')
    p.add_argument('--models', nargs='+', default=[], metavar='NAME', help='as reports name them')
    p.add_argument('--domains', nargs='+', default=[], metavar='NAME:SPLIT', help='default: all')
    p.add_argument('--each', type=int, default=2, metavar='N', help='photos of each extreme (2)')
    p.add_argument(
        '--predictions',
        nargs='+',
        default=[],
        metavar='DIR',
        help='folders of ibnseg test --save-predictions; their models run no network here',
    )
    command.add(p, '--data-root', data_root=dict(default='data'))
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    if args.each < 1:
        raise ValueError(f'--each {args.each}: expected at least 1')
    from ibnseg.analysis import gallery
    from ibnseg.analysis.scenes import Album

    album = Album(args.records, args.data_root, args.baseline, args.models, args.predictions)
    number = gallery.write(album, args.out, args.each, args.domains)
    command.say(f'gallery     {args.out}/gallery ({number} photos)')


if __name__ == '__main__':
    sys.exit(main())
