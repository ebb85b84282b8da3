"""Train plain, IBN-a and IBN-b ResNet-18 on small synthetic streets, and compare them in a report.

    ibnseg demo

Takes 6 to 11 minutes on two CPU cores. The same command continues one that was interrupted.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from ibnseg import command

MODELS = ('resnet18', 'ibn_a', 'ibn_b')


def parser() -> argparse.ArgumentParser:
    p = command.parser('demo', __doc__)
    p.add_argument('--out', default='work_dirs/demo', metavar='DIR', help='(work_dirs/demo)')
    p.add_argument('--seed', type=int, default=0, help='of the trainings (0)')
    small = p.add_argument_group('a smaller one, for a look at what happens')
    small.add_argument('--images', type=int, default=200, help='training pairs per dataset (200)')
    small.add_argument('--iterations', type=int, help="of each training; default the config's")
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args), 'the same command continues')


def _ibnseg(*words: object) -> None:
    """Run a command of ibnseg as a process; end with its exit code where it fails."""
    code = subprocess.run([sys.executable, '-m', 'ibnseg', *map(str, words)]).returncode
    if code:
        raise SystemExit(code)


def _job(args: argparse.Namespace) -> None:
    from ibnseg import _stack

    _stack.check()
    out = Path(args.out)
    worlds, here = out / 'data', out / f'seed{args.seed}'
    if not (worlds / '.ready').exists():
        val = min(40, args.images)
        _ibnseg('miniature', worlds, '--train', args.images, '--val', val)
        (worlds / '.ready').touch()
    runs = [here / model for model in MODELS]
    for run in runs:
        if any(run.glob('*.record.json')):
            continue
        words = ['--data-root', worlds, '--work-dir', run, '--seed', args.seed, '--no-table']
        words += ['--iterations', args.iterations] if args.iterations is not None else []
        words += ['--resume'] if any(run.glob('iter_*.pth')) else []
        _ibnseg('train', f'miniature/{run.name}', *words)
    report = here / 'report'
    _ibnseg(
        'picture', *runs, '--models', 'resnet18', 'ibn_b', '--data-root', worlds,
        '--out', report / 'picture.png',
    )  # fmt: skip
    _ibnseg('gallery', *runs, '--data-root', worlds, '--out', report)
    _ibnseg('report', *runs, '--out', report)


if __name__ == '__main__':
    sys.exit(main())
