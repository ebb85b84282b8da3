"""Measure what a network has learned beside its mIoU; one PNG, JSON and text an analysis.

ibnseg analyze divergence RUN ... --between gta5:val cityscapes:val
ibnseg analyze appearance RUN ... --domains cityscapes:val
"""

import argparse
import sys

from ibnseg import command


def _divergence_options(p: argparse.ArgumentParser) -> None:
    p.add_argument('networks', nargs='+', metavar='RUN', help='folder of a run')


def _divergence(args: argparse.Namespace) -> None:
    from ibnseg.analysis import divergence

    divergence.run(args)


def _appearance_options(p: argparse.ArgumentParser) -> None:
    p.add_argument('networks', nargs='+', metavar='RUN', help='folder of a run')


def _appearance(args: argparse.Namespace) -> None:
    from ibnseg.analysis import appearance

    appearance.run(args)


#: Name -> what it says, its options, its job. Another analysis is a row.
ANALYSES = {
    'divergence': (
        'feature divergence of two sets of images at the stem and after each block',
        _divergence_options,
        _divergence,
    ),
    'appearance': (
        'mIoU or accuracy when the colours, the contrast or the style of the images change',
        _appearance_options,
        _appearance,
    ),
}


def parser() -> argparse.ArgumentParser:
    p = command.parser('analyze', __doc__)
    jobs = p.add_subparsers(dest='analysis', required=True, metavar='|'.join(ANALYSES))
    for name, (text, options, _) in ANALYSES.items():
        options(jobs.add_parser(name, help=text, description=text))
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    args.prog += f' {args.analysis}'
    job = ANALYSES[args.analysis][-1]
    return command.run(lambda: job(args))


if __name__ == '__main__':
    sys.exit(main())
