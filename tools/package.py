"""Write a trained network as a package: one folder of weights, config, record, card and hashes.

    ibnseg package work_dirs/ibn_b --out ibn_b_package --license other

Nothing in a package is code. `ibnseg verify`, `predict` and `ibnseg.load` take it.
"""

import argparse
import sys

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('package', __doc__)
    p.add_argument('run', help='work dir of ibnseg train; its reported checkpoint is taken')
    p.add_argument('--out', metavar='DIR', help='default <run>/package')
    p.add_argument('--license', default='other', help="of the weights, as on Hugging Face's hub")
    p.add_argument(
        '--onnx', action='store_true',
        help='also the network as ONNX, checked on photos of the datasets (docs/packages.md)',
    )  # fmt: skip
    command.add(p, '--data-root')
    p.add_argument('--note', default='', help='a sentence for the card')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args))


def _job(args: argparse.Namespace) -> None:
    from pathlib import Path

    from ibnseg import _stack

    _stack.require()
    from ibnseg import packages

    out = Path(args.out or Path(args.run, 'package'))
    manifest = packages.pack(args.run, out, args.license, args.note, args.onnx, args.data_root)
    command.say(f'model       {manifest["model"]}, trained on {manifest["source"]}')
    command.say(f'name        ibnseg://{packages.digest_of(out)}@{out.resolve()}')
    command.say(f'package     {out} ({len(manifest["files"]) + 1} files)')


if __name__ == '__main__':
    sys.exit(main())
