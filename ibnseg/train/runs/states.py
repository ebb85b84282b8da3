"""How far a run is, and running it in a process of its own."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FINISHED, BEGUN, NEW = 'finished', 'begun', 'new'
#: What a command says it does with a run in each state.
DOING = {FINISHED: 'finished before', BEGUN: 'continued', NEW: 'begun'}
_PATIENCE = 10  # seconds


def train(
    script: str | Path,
    config: str | Path,
    folder: Path,
    seed: int,
    state: str,
    words: Sequence[str] = (),
    processes: int = 1,
) -> int:
    """Run `ibnseg train` in a process of its own, as `launch` does: it leaves nothing to the next.

    Args:
        script: tools/train.py.
        folder: work dir of the run.
        words: further words of its command line.
        processes: GPUs of this machine to train on.
    """
    command = [sys.executable]
    if processes > 1:
        command += ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    command += [str(script), str(config), '--work-dir', str(folder), '--seed', str(seed)]
    command += ['--no-table', *words]
    command += ['--launcher', 'pytorch'] * (processes > 1) + ['--resume'] * (state == BEGUN)
    return launch(command)


def launch(command: Sequence[str]) -> int:
    """Run a command in a process of its own, and return its exit code.

    SIGTERM to this process ends it, too. Raises KeyboardInterrupt: it was interrupted; it has
    ended by then.
    """
    process = subprocess.Popen(command)
    ended = []

    def end(*_) -> None:
        # Not SIGINT: what a script starts in the background ignores that.
        process.terminate()
        ended.append(True)

    before = signal.signal(signal.SIGTERM, end)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        try:
            process.wait(_PATIENCE)  # a terminal's Ctrl-C has reached it, too
        except subprocess.TimeoutExpired:
            end()
            process.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if ended or code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    return code
