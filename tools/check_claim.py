"""Check a comparison: of own records, or of a paper's table in a CSV file.

    ibnseg check-claim work_dirs/*/test
    ibnseg check-claim table.csv --baseline resnet50

Finds averages that do not follow from their columns, columns that mix protocols, checkpoints that
were selected on a target, and differences that the images and seeds cannot resolve, with the number
of runs that would. Exit code 0 without a finding, 1 with, 2 where the input cannot be used. The
format of the table: docs/claims.md.
"""

import argparse
import sys

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('check-claim', __doc__)
    p.add_argument(
        'paths', nargs='+', help='one CSV file; or record files, or folders with *.record.json'
    )
    p.add_argument(
        '--baseline',
        metavar='NAME',
        help='model to compare the others with; by default the plain one, of a CSV the first',
    )
    p.add_argument('--format', choices=['terminal', 'markdown', 'json'], default='terminal')
    command.add(p, '--domain-file')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> int:
    from ibnseg.report import claims, render

    found = claims.check(args.paths, args.baseline)
    if args.format == 'json':
        print(found.json(), end='')
    elif args.format == 'markdown':
        print(render.markdown(found.sections()), end='')
    else:
        render.show(found.sections())
    return int(bool(found.findings))


if __name__ == '__main__':
    sys.exit(main())
