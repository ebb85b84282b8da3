"""Put records side by side: mIoU, gap, change against a baseline, IoU of each class.

    python tools/report.py work_dirs/ --out work_dirs/report

Prints the table and writes report.md, report.csv, report.json and report.html. If per-image
matrices lie beside the records (*.images.npz), it adds confidence intervals, paired comparisons
and the worst images, and writes statistics.csv and images.csv.
"""

import argparse
import sys


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'records', nargs='+', help='record files, or folders with *.record.json below them'
    )
    parser.add_argument('--out', required=True, metavar='DIR', help='folder for the report')
    parser.add_argument(
        '--baseline', metavar='NAME', help='model to compare with; by default the plain one'
    )
    parser.add_argument(
        '--mixed',
        action='store_true',
        help='show numbers of different protocols in one column, marked',
    )
    parser.add_argument(
        '--classes',
        choices=['19', '16', '13', 'present'],
        help="classes that count instead of the protocol's; 16 and 13 as usual for SYNTHIA, "
        'present: those in the ground truth',
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Print and write the report; 0, or 2 after one line on what was wrong."""
    args = parse(argv)
    from rich.console import Console

    from ibnseg import records, report

    try:
        files = records.find(args.records)
        found = [records.read(file) for file in files]
        table = report.tabulate(found, args.baseline, args.mixed, files, args.classes)
        statistics = report.gather(table)
        written = report.write(
            found, args.out, args.baseline, args.mixed, files, statistics, args.classes
        )
    except (ValueError, OSError, RecursionError) as error:
        print(f'error: {report.clean(str(error))}', file=sys.stderr)
        return 2
    console = Console(highlight=False)
    console.print(report.terminal(table))
    if statistics:
        console.print(report.statistics.terminal(statistics))
    for path in written:
        print(report.clean(str(path)))
    return 0


if __name__ == '__main__':
    sys.exit(main())
