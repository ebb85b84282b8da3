"""How far a run of many is, and running it in a process of its own."""

import ast
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from ... import disk
from ...command import say
from ...ending import CONTINUE, Terminated, end_with_parent
from ...measure import records
from ...workers import TIMEOUT

FINISHED, BEGUN, NEW = 'finished', 'begun', 'new'
#: What a command says it does with a run in each state.
DOING = {FINISHED: 'finished before', BEGUN: 'continued', NEW: 'begun'}
_PATIENCE = 10  # seconds
_LOOK = 2  # seconds between two looks at a process that runs
_WAY_OUT = 'Name another folder with --work-dir, or delete that one'
# Where a run is kept and how it went on there; its seed is compared by itself.
_NOT_THE_RUN = ('work_dir', 'randomness', 'resume', 'load_from', 'launcher')


@dataclass(frozen=True)
class Planned:
    """One run of many; `note` in its folder has its config as it was begun, `text` is it now."""

    config: str
    model: str
    seed: int
    folder: Path
    record: Path
    state: str
    note: str
    text: str = ''
    method: str = ''

    def __str__(self) -> str:
        method = f', {self.method}' if self.method else ''
        return f'{self.config}{method}, seed {self.seed}'


def planned(path: str, config: Config, seed: int, folder: Path, note: str) -> Planned:
    """Return the run of a config in `folder`, and how far it is.

    Raises ValueError where the folder holds a run of another config or seed.
    """
    record, text = folder / f'{config.model_name}.record.json', config.pretty_text
    if record.is_file() and (found := records.read(record).provenance.get('seed')) != seed:
        raise ValueError(f'{record}: of seed {found!r:.20}, expected {seed}. {_WAY_OUT}')
    state = how_far(record)
    if state != NEW:
        if not (folder / note).is_file():
            raise ValueError(
                f'{folder} holds a {state} run that this command did not begin (no {note}). '
                f'{_WAY_OUT}'
            )
        before = _content(disk.read(folder / note), folder / note)
        now = _content(text, config.filename)
        if other := sorted(key for key in before | now if before.get(key) != now.get(key)):
            raise ValueError(
                f'{folder} holds a {state} run of another config; they differ in '
                f'{", ".join(other)}. {_WAY_OUT}'
            )
    return Planned(str(path), config.model_name, seed, folder, record, state, note, text)


def how_far(record: Path) -> str:
    """Return the state of the run that leaves this record. Raises as `records.read`."""
    if record.is_file():
        return BEGUN if records.read(record).provenance.get('unmeasured') else FINISHED
    return BEGUN if any(record.parent.glob('*iter_*.pth')) else NEW


def _content(text: str | bytes, origin: str | Path) -> dict[str, str]:
    """Return the config's values by name, without running it.

    Raises ValueError where it is anything but names and values: what can't be read can't be
    compared.
    """
    try:
        values = {line.targets[0].id: ast.unparse(line.value) for line in ast.parse(text).body}
    except (SyntaxError, ValueError, RecursionError, MemoryError, AttributeError):
        raise ValueError(
            f'{origin}: its values do not read as lines of name = value, so whether its folder '
            f'holds a run of this config is not known. {_WAY_OUT}'
        ) from None
    return {name: value for name, value in values.items() if name not in _NOT_THE_RUN}


def begin(run: Planned, script: str | Path, words: Sequence[str] = (), processes: int = 1) -> int:
    """Begin or continue a run as `ibnseg train` does, in a process of its own.

    SIGTERM to this process ends it, too. Raises KeyboardInterrupt: it was interrupted; it has
    ended by then.

    Args:
        script: tools/train.py.
        words: further words of its command line.
        processes: GPUs of this machine to train on.

    Returns:
        the exit code.
    """
    if run.state == NEW:
        disk.write_atomically(run.folder / run.note, run.text)
    command = [sys.executable]
    if processes > 1:
        command += ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    command += [str(script), run.config, '--work-dir', str(run.folder), '--seed', str(run.seed)]
    command += ['--no-table', *words, *(['--method', run.method] if run.method else [])]
    command += ['--launcher', 'pytorch'] * (processes > 1) + ['--resume'] * (run.state == BEGUN)
    return _launch(command)


def _end_with_parent() -> None:
    """Have the kernel send SIGTERM to this new process when the one that began it has ended.

    SIGUSR2, which a cluster may send to all processes of a job, is for that one alone (`cluster`).
    """
    if hasattr(signal, 'SIGUSR2'):
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    end_with_parent()


def _launch(command: Sequence[str]) -> int:
    process = subprocess.Popen(command, preexec_fn=_end_with_parent)
    ended = []

    def end(*_) -> None:
        _end(process)
        ended.append(True)

    before = signal.signal(signal.SIGTERM, end)
    try:
        code = _wait(process)
    except KeyboardInterrupt:
        try:
            process.wait(_PATIENCE)  # a terminal's Ctrl-C has reached it, too
        except subprocess.TimeoutExpired:
            end()
            process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if ended or code in (CONTINUE, 143, -signal.SIGTERM):
        raise Terminated
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    return code


def _end(process: subprocess.Popen) -> None:
    # Not SIGINT: what a script starts in the background ignores that.
    process.terminate()
    if _is_stopped(process):
        process.send_signal(signal.SIGCONT)  # else it would not see that it is to end


def _wait(process: subprocess.Popen) -> int:
    """Wait for a process; one that stays stopped is told to save and end, and counts as failed.

    Looks are counted, not seconds: where Ctrl-Z stops this process, too, no look comes.
    """
    looks, number = 0, process.pid
    while True:
        try:
            return process.wait(_LOOK)
        except subprocess.TimeoutExpired:
            looks = looks + 1 if _is_stopped(process) else 0
        if looks == 1:
            say(
                f'process {number} is stopped, as by kill -STOP. kill -CONT {number} has it go on; '
                f'after {TIMEOUT} seconds it is told to save its work and end'
            )
        if looks * _LOOK >= TIMEOUT:
            _end(process)
            code = process.wait()
            say(f'process {number} was stopped for {TIMEOUT} seconds, and has ended')
            return 1 if code == CONTINUE else code or 1


def _is_stopped(process: subprocess.Popen) -> bool:
    """Whether it is stopped; where the kernel does not say so, it is not."""
    try:
        status = Path(f'/proc/{process.pid}/stat').read_text()
    except OSError:
        return False
    return status.rpartition(')')[2].split()[0] in 'Tt'
