"""What the commands share: options, and how a job's bad input is said. No torch, no MM packages."""

import argparse
import logging
import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from . import _stack, ending, machine, named
from .text import meant, tell


class _Parser(argparse.ArgumentParser):
    """Names the nearest choice or option where a person mistyped one."""

    def error(self, message: str) -> NoReturn:
        names = [name for action in self._actions for name in action.option_strings]
        if wrong := re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message):
            names = re.findall(r"[^', ]+", wrong[2])
        else:
            wrong = re.search(r'unrecognized arguments: (\S+)', message)
        super().error(message + (meant(wrong[1], names) if wrong else ''))


def turn_round(args: argparse.Namespace, *words: str) -> None:
    """Raise ValueError: two arguments of a command are swapped; `words` are right."""
    raise ValueError(
        f'the arguments are the other way round; type: {args.prog} {shlex.join(words)}'
    )


def parser(name: str, doc: str) -> argparse.ArgumentParser:
    """Return the parser of a command; its `--help` begins with the script's docstring."""
    as_written = argparse.RawDescriptionHelpFormatter
    p = _Parser(f'ibnseg {name}', description=doc, formatter_class=as_written)
    p.set_defaults(prog=p.prog)
    return p


def config(text: str) -> str:
    """Return the file of a config that a command line names; the `type` of an argument."""
    try:
        return named.find(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class _DomainFile(argparse.Action):
    """Adds a dataset of the user's own while the command line is read."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        from .domains import own

        try:
            own.read_all(values)
        except ValueError as error:
            parser.error(str(error))
        os.environ[own.VARIABLE] = os.pathsep.join(str(Path(path).absolute()) for path in values)


#: Options that several commands have: name -> arguments of `add_argument`.
_SHARED: dict[str, dict[str, Any]] = {
    '--work-dir': dict(help='folder of the run; default work_dirs/<config>'),
    '--data-root': dict(help='folder that holds the datasets; default data'),
    '--amp': dict(action='store_true', help='train in mixed precision'),
    '--compile': dict(action='store_true', help='run the backbone by torch.compile (needs g++)'),
    '--name': dict(help="name of the model in records and tables; default the config's model_name"),
    '--skip-list': dict(
        nargs='+',
        default=[],
        metavar='FILE',
        dest='skip_lists',
        help='leave these pairs out (see audit)',
    ),
    '--track': dict(
        nargs='+',
        default=[],
        choices=['tensorboard', 'wandb', 'mlflow'],
        help='also write loss and mIoU there (docs/training.md)',
    ),
    '--domain-file': dict(
        nargs='+',
        action=_DomainFile,
        metavar='FILE',
        help='datasets of your own, one YAML file each (docs/datasets.md)',
    ),
    '--launcher': dict(choices=['none', 'pytorch', 'slurm', 'mpi'], default='none'),
    '--cfg-options': dict(
        nargs='+', default=[], metavar='KEY=VALUE', help="values in the place of the config file's"
    ),
}


def add(to: argparse.ArgumentParser, *names: str, **changed: dict[str, Any]) -> None:
    """Add shared options by name, say '--work-dir'; `changed` replaces some of their arguments.

    With '--data-root' comes `--domain-file`; with '--launcher' `--local_rank`, which torch's
    launchers pass.
    """
    for name in [*names, *['--domain-file'] * ('--data-root' in names)]:
        to.add_argument(name, **_SHARED[name] | changed.get(name[2:].replace('-', '_'), {}))
    if '--launcher' in names:
        to.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


def say(text: str) -> None:
    """Print a line before the heavy imports; of several ranks, one does."""
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) == 0:
        tell(text, flush=True)


@cache
def say_once(text: str) -> None:
    """Print lines, the first time that a process says them."""
    for line in text.splitlines():
        say(line)


def run(job: Callable[[], int | None], interrupted: str | Callable[[], str] = '') -> int:
    """Run a command's job and return its exit code, 0 unless the job returns another.

    An exception becomes one message and exit code 2, or the `exit_code` that it has, with the
    trace in the log. With IBNSEG_TRACE set in the environment, the trace is shown. Ctrl-C and
    SIGTERM give 130 and 143. A reader of the output that leaves does not stop the job.

    Args:
        interrupted: said after Ctrl-C or SIGTERM, and after an error of the machine: what is kept,
            and how to go on.
    """
    ending.end_with_launcher(has_begun=False)
    ending.go_on_unread()
    log = ending.log()
    log.addHandler(logging.NullHandler())
    log.propagate = False
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log on a full disk says nothing more
    with ending.on_signals():
        try:
            return job() or 0
        except KeyboardInterrupt as interrupt:
            return _end(interrupt, interrupted)
        except Exception as error:
            if interrupt := ending.interrupt_behind(error):
                return _end(interrupt, interrupted)
            if 'IBNSEG_TRACE' in os.environ:
                raise
            log.error(traceback.format_exc())
            ending.end_workers()
            text = ending.describe(_stack.cause(error))
            if machine.passing(error) and (way_on := _said(interrupted)):
                text += f'; {way_on}'
            _report(text, 'error', getattr(error, 'common', False))
            code = getattr(error, 'exit_code', 2)
            ending.leave_ranks(code)
            return code


def _end(interrupt: KeyboardInterrupt, interrupted: str | Callable[[], str]) -> int:
    what = 'terminated' if isinstance(interrupt, ending.Terminated) else 'interrupted'
    way_on = _said(interrupted)
    _report(f'{what}; {way_on}' if way_on else what, '')
    return ending.code_of(interrupt)


def _said(text: str | Callable[[], str]) -> str:
    return text if isinstance(text, str) else text()


def _report(text: str, kind: str, common: bool = False) -> None:
    """Print lines for a person on stderr; of several ranks that say the same, one does."""
    rank = int(os.environ.get('RANK', 0))  # of torchrun; MMEngine sets it for other launchers
    dist = sys.modules.get('mmengine.dist')
    # Before the ranks meet, all find the same; later, each is alone with what it read.
    shared = rank and (common or not (kind and dist and dist.is_distributed()))
    if shared and not (kind and _left_alone()):
        return
    head = kind and f'{kind} (rank {rank}): ' if rank else kind and f'{kind}: '
    tell(head + '\n'.join(text.splitlines()), file=sys.stderr)


def _left_alone(seconds: float = 10) -> bool:
    """Wait for the first rank to say what this one has found too; False once it has.

    A rank that ends has torchrun end the others, the first one too, with nothing said.
    """
    try:
        time.sleep(seconds)
    except KeyboardInterrupt:
        return False
    return True


def resuming(folder: str | Path | None, pattern: str = 'iter_*.pth') -> str:
    """Return what is kept of a training that is interrupted now, and how it goes on."""
    saved = sorted(
        (int(number[0]), path)
        for path in Path(folder).glob(pattern)
        if (number := re.findall(r'\d+', path.stem))
    ) if folder else []  # fmt: skip
    if not saved:
        return 'no checkpoint was saved yet: the same command begins anew'
    return f'{saved[-1][1]} is saved: continue from it with --resume'
