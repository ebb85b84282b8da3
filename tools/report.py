"""Put records side by side: mIoU, gap, change against a baseline, IoU of each class.

    ibnseg report work_dirs/ --out work_dirs/report

Prints the table and writes report.md, report.html, report.tex, report.csv and report.json. Where
per-image matrices lie beside the records (*.images.npz), also intervals, paired comparisons with a
verdict each, and the worst images, in statistics.csv and images.csv, too. report.html is one page
for a browser, offline; it shows the photos of DIR/gallery.
"""

import argparse
import sys

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('report', __doc__)
    p.add_argument(
        'records', nargs='+', help='record files, or folders with *.record.json below them'
    )
    p.add_argument('--out', required=True, metavar='DIR', help='folder for the report')
    p.add_argument(
        '--baseline', metavar='NAME', help='model to compare with; by default the plain one'
    )
    p.add_argument(
        '--mixed',
        action='store_true',
        help='show numbers of different protocols in one column, marked',
    )
    p.add_argument(
        '--classes',
        choices=['19', '16', '13', 'present'],
        help="classes that count instead of the protocol's; 16 and 13 as usual for SYNTHIA, "
        'present: those in the ground truth',
    )
    p.add_argument(
        '--figure',
        action='store_true',
        help='also tradeoff.png: the change on each target against the change at home',
    )
    command.add(p, '--domain-file')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    from ibnseg import report

    report.make(args.records, args.out, args.baseline, args.mixed, args.classes, args.figure)


if __name__ == '__main__':
    sys.exit(main())
