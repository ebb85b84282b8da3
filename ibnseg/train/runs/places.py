"""Where the runs of a sweep or fine-tuning train: `--on` and what goes with it. No torch, no MM."""

import argparse
import math
import re
from typing import NamedTuple

_TIME = re.compile(
    r'(?:(?P<days>\d+)-(?P<hours>\d+)(?::(?P<minutes>\d+)(?::(?P<seconds>\d+))?)?'
    r'|(?P<h>\d+):(?P<m>\d+):(?P<s>\d+)|(?P<only>\d+)(?::(?P<rest>\d+))?)'
)
#: Of sbatch, but said by ibnseg or submitit: a run is one task of one node.
_OURS = (
    *('array', 'error', 'gpus', 'gpus-per-node', 'no-requeue', 'nodes', 'ntasks', 'open-mode'),
    *('ntasks-per-node', 'output', 'signal', 'time', 'wrap'),
)


class Place(NamedTuple):
    """Where runs train.

    kind: 'local' or 'slurm'. limit: jobs at a time, None for any number. gpus: of each run, None
    for one where there are some. minutes: of a job, None for no limit. options: of sbatch.
    """

    kind: str
    limit: int | None
    gpus: int | None
    minutes: int | None
    options: dict[str, str | bool]


def add_options(p: argparse.ArgumentParser) -> None:
    """Add `--on`, `--gpus` (also `--processes`), `--time` and `--slurm`."""
    p.add_argument(
        '--on', type=_on, metavar='local:N|slurm[:N]',
        help='train as jobs: N at a time on this machine, or by Slurm (docs/scale.md)',
    )  # fmt: skip
    p.add_argument(
        '--gpus', '--processes', type=_count, metavar='N',
        help='GPUs of each run (1; with --on local, 0 has all jobs share what there is)',
    )  # fmt: skip
    p.add_argument(
        '--time', type=minutes, metavar='TIME',
        help='limit of a job, after which it is queued again: minutes, HH:MM:SS or D-HH:MM:SS',
    )  # fmt: skip
    p.add_argument(
        '--slurm', nargs='+', default=[], action='extend', type=_option, metavar='KEY=VALUE',
        help='options of sbatch, without dashes: partition=gpu account=me mem=32G exclusive',
    )  # fmt: skip


def place(args: argparse.Namespace) -> Place | None:
    """Return what `--on` and the others say; None for one run after another.

    Raises ValueError: options that do not go together.
    """
    if args.on is None:
        if args.time or args.slurm:
            raise ValueError(f'--{"time" if args.time else "slurm"} goes with --on')
        return None
    kind, limit = args.on
    if args.slurm and kind != 'slurm':
        raise ValueError(f'--slurm goes with --on slurm, not with --on {kind}:{limit}')
    return Place(kind, limit, args.gpus, args.time, dict(args.slurm))


def minutes(text: str) -> int:
    """Return the minutes that a time in Slurm's notation has, rounded up."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f'{text!r}: expected minutes, HH:MM:SS, D-HH or D-HH:MM:SS'
        )
    part = {name: int(value or 0) for name, value in found.groupdict().items()}
    hours = part['days'] * 24 + part['hours'] + part['h']
    seconds = part['seconds'] + part['s'] + part['rest']
    total = hours * 60 + part['minutes'] + part['m'] + part['only'] + math.ceil(seconds / 60)
    if not total:
        raise argparse.ArgumentTypeError(f'{text!r}: expected more than nothing')
    return total


def _on(text: str) -> tuple[str, int | None]:
    found = re.fullmatch(r'local:([1-9]\d{0,5})|slurm(?::([1-9]\d{0,5}))?', text)
    if not found:
        raise argparse.ArgumentTypeError(
            f'{text!r}: expected local:N, of N jobs at a time on this machine, slurm, or slurm:N'
        )
    number = found[1] or found[2]
    return text.partition(':')[0], int(number) if number else None


def _count(text: str) -> int:
    if not re.fullmatch(r'\d{1,6}', text):
        raise argparse.ArgumentTypeError(f'{text!r}: expected a number of GPUs, 0 or more')
    return int(text)


def _option(text: str) -> tuple[str, str | bool]:
    key, equals, value = text.partition('=')
    name = key.replace('_', '-')
    if not re.fullmatch('[a-z][a-z0-9-]+', name) or not value.isprintable():
        raise argparse.ArgumentTypeError(f'{text!r}: expected a long option of sbatch, KEY=VALUE')
    if name in _OURS:
        raise argparse.ArgumentTypeError(
            f'{name}: ibnseg says this itself; a run is one task of one node. For GPUs and the '
            'limit of time use --gpus and --time'
        )
    return name, value if equals else True
