"""Check a dataset on disk: files, pairs, ids, copies.

    ibnseg audit cityscapes data
    ibnseg audit gta5:train data --out audit.json --write-skip-list skip.txt

Decodes every file once and keeps the findings by its content. Exit code: 0 no error, 1 errors (with
--strict also warnings), 2 nothing to check.
"""

import argparse
import sys

from ibnseg import command
from ibnseg.text import tell


def parser() -> argparse.ArgumentParser:
    p = command.parser('audit', __doc__)
    p.add_argument('domain', help="e.g. cityscapes for all of its splits, or 'gta5:train'")
    p.add_argument('root', help="data root, or the dataset's own folder")
    p.add_argument('--out', metavar='FILE', help='write every finding, as JSON')
    p.add_argument(
        '--write-skip-list',
        metavar='FILE',
        help='write the pairs with errors, for --skip-list of train, test and score',
    )
    p.add_argument('--show', type=int, default=3, metavar='N', help='files shown per kind (3)')
    p.add_argument('--strict', action='store_true', help='exit with 1 for warnings, too')
    p.add_argument('--workers', type=int, help='processes; default one per core')
    command.add(p, '--domain-file')
    return p


def main(argv: list[str] | None = None) -> int:
    """Print what was found; 0, 1 where there are errors, or 2 after one line on what was wrong."""
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args), 'the same command continues where it was')


def _job(args: argparse.Namespace) -> int:
    from ibnseg import audit, domains, progress

    if not domains.known(args.domain) and domains.known(args.root):
        command.turn_round(args, args.root, args.domain)
    with progress.bar('audit') as bar:
        report = audit.audit(args.domain, args.root, workers=args.workers, progress=bar)
    for line in report.lines(args.show):
        tell(line)
    if args.out:
        report.write(args.out)
        tell(f'findings   {args.out}')
    if args.write_skip_list:
        report.write_skip_list(args.write_skip_list)
        tell(f'skip list  {args.write_skip_list}')
    return int(bool(report.findings if args.strict else report.errors))


if __name__ == '__main__':
    sys.exit(main())
