"""Check a package: every file by its hash and, where the data is there, its numbers.

    ibnseg verify ibn_b_package
    ibnseg verify ibn_b_package --data-root data

With --data-root the network is measured again on every domain of the package's records. Exit code
0: all is as it was written, and the numbers too; 1: other numbers; 2: a file is not as it was
written.
"""

import argparse
import sys

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('verify', __doc__)
    p.add_argument('package', help='its folder, or its name ibnseg://DIGEST@ADDRESS')
    command.add(p, '--data-root', data_root=dict(help='measure again on the datasets in there'))
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> int:
    from ibnseg import packages

    if packages.is_name(args.package):
        args.package = packages.locate(args.package)
    manifest = packages.verify(args.package)
    command.say(f'files       {len(manifest["files"]) + 1}, each as it was written')
    if args.data_root is None:
        return 0
    from ibnseg import _stack

    _stack.require()
    from ibnseg.packages.rescore import rescore

    wrong = 0
    for line, is_equal in rescore(args.package, args.data_root):
        command.say(line)
        wrong += not is_equal
    return int(bool(wrong))


if __name__ == '__main__':
    sys.exit(main())
