"""Runs as jobs, through submitit: several at a time on this machine, or on a cluster by Slurm.

A job trains one run in a process of its own, as a sweep without jobs does. Asked to end (SIGUSR2,
which submitit has Slurm send before a limit of time or a preemption), it saves all work and is
queued again. What a job has to do is found in the run's folder when it starts, so a job that is
started twice does nothing twice. Only a run's record says that it is finished: the command reads no
pickle.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ... import _stack, disk
from ...ending import Terminated
from ...text import clean, tell
from . import states
from .places import Place

#: The folder of a run for what belongs to its jobs: logs, submitit's files, a claim.
JOB = 'job'
_SIGNAL = 'SIG' + os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')  # as submitit chooses it
_TIME_TO_SAVE = 120  # seconds between that signal and the end
_TIMES = 1000  # that a job may run out of time and be queued again
_NO_LIMIT = 10 * 365 * 24 * 60  # minutes
_ENDED = (
    *('COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL', 'OUT_OF_MEMORY', 'BOOT_FAIL'),
    *('DEADLINE', 'PREEMPTED', 'REVOKED'),
)


@dataclass(frozen=True)
class Job:
    """What a job does; submitit pickles it."""

    run: states.Planned
    script: str
    words: Sequence[str]
    processes: int
    devices: str | None  # CUDA_VISIBLE_DEVICES

    def __call__(self) -> None:
        if self.devices is None:
            os.environ.pop('CUDA_VISIBLE_DEVICES', None)  # submitit hides all from a local job
        else:
            os.environ['CUDA_VISIBLE_DEVICES'] = self.devices
        number, asked = getattr(signal, _SIGNAL), []
        again = signal.getsignal(number)  # submitit's

        def end(*_) -> None:
            asked.append(True)
            signal.raise_signal(signal.SIGTERM)  # to what `states.begin` waits for

        signal.signal(number, end)
        try:
            with disk.claimed(self.run.folder / JOB):
                run = replace(self.run, state=states.how_far(self.run.record))
                if run.state == states.FINISHED:
                    return
                code = states.begin(run, self.script, self.words, self.processes)
        except Terminated:
            if asked:
                again(number, None)  # queues the job again, and ends this process
            code = 143
        except OSError as error:
            tell(f'error: {error}', file=sys.stderr)
            code = 2
        sys.exit(code)

    def checkpoint(self):
        """Return what submitit queues again."""
        return _submitit().helpers.DelayedSubmission(self)


@dataclass
class _Running:
    number: int
    run: states.Planned
    ident: str = ''  # of the job; '' of a run that another process of this machine has begun
    log: Path | None = None
    process: subprocess.Popen | None = None
    devices: str | None = None


class Local:
    """Jobs on this machine. They end with the command, their work saved; SIGKILL leaves them."""

    POLL = 0.5  # seconds

    def __init__(self, place: Place):
        self.place, self.free = place, devices(place)

    def submit(self, number: int, job: Job) -> _Running:
        executor = _submitit().LocalExecutor(job.run.folder / JOB)
        limit = self.place.minutes or _NO_LIMIT
        executor.update_parameters(timeout_min=limit, signal_delay_s=_TIME_TO_SAVE)
        own = self.free.pop(0)
        # A terminal's Ctrl-C is for the command, which asks its jobs to save and end.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            begun = executor.submit(replace(job, devices=own))
        finally:
            signal.signal(signal.SIGINT, before)
        return _Running(number, job.run, begun.job_id, begun.paths.stdout, begun._process, own)

    def found(self, number: int, run: states.Planned) -> _Running | None:
        """Return the run where another process trains it already."""
        return _Running(number, run) if holder(run) else None

    def ended(self, running: Sequence[_Running]) -> list[_Running]:
        """Return those that have ended."""
        over = [one for one in running if _is_over(one)]
        self.free += [one.devices for one in over if one.process]
        return over

    def leave(self, running: Sequence[_Running]) -> None:
        """End what this command has begun, and wait for it."""
        own = [one.process for one in running if one.process]
        for process in own:
            process.terminate()
        for process in own:
            process.wait()


class Slurm:
    """Jobs of Slurm. They go on when the command ends, and the next one waits for them."""

    POLL = 5.0

    def __init__(self, place: Place):
        self.place = place
        if missing := [name for name in ('sbatch', 'srun', 'squeue') if not shutil.which(name)]:
            raise ValueError(
                f'--on slurm: this machine has no {missing[0]}. Run the command where jobs are '
                'submitted from, or take --on local:N'
            )

    def submit(self, number: int, job: Job) -> _Running:
        submitit = _submitit()
        executor = submitit.SlurmExecutor(job.run.folder / JOB, max_num_timeout=_TIMES)
        gpus = 1 if self.place.gpus is None else self.place.gpus
        executor.update_parameters(
            job_name=f'ibnseg-{job.run.model}-{job.run.seed}',
            signal_delay_s=_TIME_TO_SAVE,
            additional_parameters={'requeue': True} | self.place.options,
            **dict(gpus_per_node=gpus) if gpus else {},
            **dict(time=self.place.minutes) if self.place.minutes else {},
        )
        try:
            begun = executor.submit(job)
        except submitit.core.utils.FailedJobError as error:
            raise ValueError(f'Slurm takes no job: {clean(_last(str(error)), 300)}') from None
        return _Running(number, job.run, begun.job_id, begun.paths.stdout)

    def found(self, number: int, run: states.Planned) -> _Running | None:
        """Return the run where a job of it waits or runs, or another process trains it."""
        suffix = '_submission.sh'  # of Slurm's jobs only
        begun = {path.name.removesuffix(suffix) for path in (run.folder / JOB).glob(f'*{suffix}')}
        if begun and (queue := _queue()) is None:
            raise ValueError('squeue does not answer, so which runs have a job is not known')
        for ident in begun:
            if queue.get(ident, 'COMPLETED') not in _ENDED:
                return _Running(number, run, ident)
        return _Running(number, run) if holder(run) else None

    def ended(self, running: Sequence[_Running]) -> list[_Running]:
        """Return those that have ended; none while Slurm does not answer."""
        queue = _queue()
        over = [
            one for one in running
            if (_is_over(one) if not one.ident else queue is not None
                and queue.get(one.ident, 'COMPLETED') in _ENDED)
        ]  # fmt: skip
        if over:
            time.sleep(self.POLL)  # a network's folder may show late what a job wrote
        return over

    def leave(self, running: Sequence[_Running]) -> None:
        """Say what goes on."""
        if own := ' '.join(one.ident for one in running if one.ident):
            tell(
                f'jobs that go on in Slurm: {own}. The same command waits for them; '
                f'scancel {own} ends them, and each saves its work',
                file=sys.stderr,
            )


def train(
    runs: Sequence[states.Planned],
    place: Place,
    script: str | Path,
    words: Sequence[str] = (),
) -> list[str]:
    """Train as jobs what is not finished, and wait for all of it.

    A run that another process trains, or that a job of Slurm holds, is waited for and not begun.

    Args:
        script: tools/train.py.
        words: further words of its command line.

    Returns:
        which runs have no finished record.

    Raises:
        ValueError: no submitit, no Slurm, too few GPUs, or Slurm refuses a job.
        KeyboardInterrupt: jobs of this machine have ended by then, those of Slurm go on.
    """
    _submitit()
    to = (Slurm if place.kind == 'slurm' else Local)(place)
    waiting = [*enumerate(runs, 1)]
    running: list[_Running] = []
    failed = []
    try:
        while waiting or running:
            while waiting and len(running) < (place.limit or len(runs)):
                if one := _begin(to, *waiting.pop(0), len(runs), script, words):
                    running.append(one)
            for one in to.ended(running):
                running.remove(one)
                failed += [str(one.run)] * (not _succeeded(one, len(runs)))
            if running:
                time.sleep(to.POLL)
    finally:
        to.leave(running)
    return failed


def _begin(
    to: Local | Slurm, number: int, run: states.Planned, of: int, script: str | Path,
    words: Sequence[str],
) -> _Running | None:  # fmt: skip
    say = partial(tell, flush=True)
    head = f'[{number}/{of}] {run}'
    if run.state == states.FINISHED:
        say(f'{head}: {states.DOING[run.state]}')
        return None
    if one := to.found(number, run):
        say(f'{head}: waited for, {f"job {one.ident}" if one.ident else holder(run)} has it')
        return one
    if run.state == states.NEW:
        disk.write_atomically(run.folder / run.note, run.text)
    processes = max(1, 1 if to.place.gpus is None else to.place.gpus)
    with _stack.quiet(), contextlib.redirect_stderr(io.StringIO()):  # sbatch's words are said below
        one = to.submit(number, Job(run, str(script), (*words,), processes, None))
    say(f'{head}: {states.DOING[run.state]} as job {one.ident}, log {one.log}')
    return one


def _succeeded(one: _Running, of: int) -> bool:
    head = f'[{one.number}/{of}] {one.run}'
    if states.how_far(one.run.record) == states.FINISHED:
        tell(f'{head}: finished', flush=True)
        return True
    errors = sorted((one.run.folder / JOB).glob('*_log.err'), key=lambda path: path.stat().st_mtime)
    said = _last(errors[-1].read_text(errors='replace')) if errors else ''
    tell(f'{head}: FAILED{f": {said}" if said else ""}', flush=True)
    return False


def _last(text: str) -> str:
    """Return the last line that tells an error, else the last."""
    lines = [line for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if 'error: ' in line), lines[-1] if lines else '')


def devices(place: Place) -> list[str | None]:
    """Return CUDA_VISIBLE_DEVICES of each job of this machine that runs at a time.

    None leaves it unset. Raises ValueError: fewer GPUs than they need.
    """
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    number = gpus_visible()
    if not number or place.gpus == 0:
        return [visible] * place.limit
    names = visible.split(',')[:number] if visible else [*map(str, range(number))]
    each = place.gpus or 1
    if place.limit * each > number:
        raise ValueError(
            f'--on local:{place.limit} with {each} GPUs a run needs {place.limit * each}; this '
            f'machine shows {number}. Take fewer jobs, or --gpus 0 to have them share'
        )
    return [','.join(names[n * each : (n + 1) * each]) for n in range(place.limit)]


def gpus_visible() -> int:
    """Return how many GPUs torch may use here."""
    import torch

    return torch.cuda.device_count()


def holder(run: states.Planned) -> str:
    """Return which other process of this machine, or by the file system another, trains a run."""
    return disk.holder(run.folder / JOB) or disk.holder(run.folder)


def _is_over(one: _Running) -> bool:
    return one.process.poll() is not None if one.process else not holder(one.run)


def _queue() -> dict[str, str] | None:
    """Return this user's jobs in Slurm, id -> state; None where it does not answer."""
    squeue = ['squeue', '--me', '--noheader', '--states=all', '--format=%i|%T']
    done = subprocess.run(squeue, capture_output=True, text=True)
    if done.returncode:
        return None
    return dict(line.split('|', 1) for line in done.stdout.split() if '|' in line)


def _submitit():
    try:
        import submitit
    except ImportError as error:
        raise ValueError(
            f'{error.name} is not installed, which --on needs: pip install submitit'
        ) from None
    return submitit
