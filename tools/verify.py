"""Check a package: every file by its hash and, where the data is there, its numbers.

    ibnseg verify ibn_b_package
    ibnseg verify ibn_b_package --data-root data

Where ONNX Runtime is installed, the ONNX file of a package (`ibnseg package --onnx`) has to give
the network's classes. With --data-root the network is measured again on every domain of the
package's records. Exit code 0: all is as it was written, and the numbers too; 1: other numbers or
classes; 2: a file is not as it was written.
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
    wrong = int('model.onnx' in manifest['files'] and not _same_classes(args.package))
    if args.data_root is None:
        return wrong
    from ibnseg import _stack

    _stack.require()
    from ibnseg.packages.rescore import rescore

    for line, is_equal in rescore(args.package, args.data_root):
        command.say(line)
        wrong += not is_equal
    return int(bool(wrong))


def _same_classes(folder: str) -> bool:
    """Say whether ONNX gives the network's classes; True where that can't be tried here."""
    from importlib import util

    from ibnseg import _stack

    if missing := _stack.absent() or [m for m in ('onnxruntime', 'onnx') if not util.find_spec(m)]:
        command.say(f'onnx        not run: {", ".join(missing)} not installed')
        return True
    _stack.require()
    from ibnseg.packages import onnx

    cases = onnx.compare(folder)
    agreement = 100 * min(case.agreement for case in cases)
    command.say(f"onnx        the network's class in {agreement:.4f} % of the pixels")
    return all(case.passed for case in cases)


if __name__ == '__main__':
    sys.exit(main())
