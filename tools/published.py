"""List published results, or rank own records among them.

    ibnseg published --source gta5 --backbone resnet101 --target cityscapes
    ibnseg published work_dirs/*/test

Each number is as its source prints it, with where it stands. None was measured here. Own records
are ranked with those that were measured by the same protocol; the others are listed with the
reason. See docs/published.md.
"""

import argparse
import sys

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('published', __doc__)
    p.add_argument(
        'records', nargs='*', help='own records to rank: files, or folders with *.record.json'
    )
    p.add_argument(
        '--source', nargs='+', default=[], metavar='NAME', help='trained on all of these'
    )
    p.add_argument('--backbone', nargs='+', default=[], metavar='NAME', help='one of these')
    p.add_argument('--target', nargs='+', default=[], metavar='NAME', help='tested on one of these')
    p.add_argument('--format', choices=['terminal', 'markdown', 'csv', 'json'], default='terminal')
    command.add(p, '--domain-file')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    from ibnseg import report
    from ibnseg.measure import records
    from ibnseg.report import published, render

    results = published.select(published.load(), args.source, args.backbone, args.target)
    if args.records and args.format in ('csv', 'json'):
        raise ValueError(f'--format {args.format} lists results; a ranking is terminal or markdown')
    if args.format == 'json':
        print(published.to_json(results), end='')
        return
    if args.format == 'csv':
        print(render.csv(published.long(results)), end='')
        return
    sections = published.listing(results)
    if args.records:
        files, _ = records.find(args.records)
        table = report.tabulate([records.read(file) for file in files], files=files)
        sections = list(published.among(table, results))
    if args.format == 'markdown':
        print(render.markdown(sections), end='')
    else:
        render.show(sections)


if __name__ == '__main__':
    sys.exit(main())
