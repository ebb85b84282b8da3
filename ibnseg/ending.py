"""How a command ends: signals, a reader that has left, and what is said of an exception."""

import atexit
import contextlib
import ctypes
import gc
import io
import logging
import multiprocessing
import os
import re
import signal
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from . import machine
from ._stack import StackError

#: Raised on purpose, with a message for a person.
INPUT_ERRORS = (ValueError, OSError, SyntaxError, RecursionError, StackError)
_HERE = str(Path(__file__).parent)
_PR_SET_PDEATHSIG = 1  # of Linux' prctl


#: Exit code of a training that was asked to end and has saved all of its work (EX_TEMPFAIL).
CONTINUE = 75
#: What schedulers send before they end a job; SIGUSR1 is the usual choice of Slurm's --signal.
_ASKING = tuple(getattr(signal, name) for name in ('SIGTERM', 'SIGUSR1') if hasattr(signal, name))
#: All that end a command.
_ENDING = signal.SIGINT, *_ASKING


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGUSR1, its argument: ends a command as Ctrl-C does."""


class Saved(Terminated):
    """The same, after all work was saved: exit code 75."""


def code_of(interrupt: KeyboardInterrupt) -> int:
    """Return the exit code of an interrupted command: 128 and the signal's number, or 75."""
    if isinstance(interrupt, Saved):
        return CONTINUE
    if isinstance(interrupt, Terminated):
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGTERM)
    return 128 + signal.SIGINT


def interrupt_behind(error: BaseException) -> KeyboardInterrupt | None:
    """Return the interrupt that a library's bare `except` made this error of, None of others.

    MMEngine's formatting of a config does so, for one.
    """
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, KeyboardInterrupt):
        seen = seen.__cause__ or seen.__context__
    return seen


@contextlib.contextmanager
def on_signals() -> Iterator[None]:
    """Have Ctrl-C, SIGTERM and SIGUSR1 raise KeyboardInterrupt or Terminated once.

    The second one ends this process and those that it has started at once, without a trace.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may
        return
    # What a script starts in the background ignores Ctrl-C, and goes on doing so.
    usual = {signal.SIGINT: signal.default_int_handler} | dict.fromkeys(_ASKING, signal.SIG_DFL)
    now = {number: signal.getsignal(number) for number in usual}
    mine = [n for n in usual if now[n] is usual[n] or getattr(now[n], 'early', False)]
    for number in mine:
        signal.signal(number, _first)
    hook, again = sys.unraisablehook, []
    sys.unraisablehook = lambda lost: _unraisable(lost, hook, again)
    try:
        yield
    finally:
        for timer in again:
            timer.cancel()
        sys.unraisablehook = hook
        for number in mine:
            if signal.getsignal(number) is _first:
                signal.signal(number, usual[number])
        atexit.unregister(_leave)
        atexit.register(_leave)  # before all that was registered so far


def _unraisable(lost: Any, hook: Callable[[Any], object], again: list[threading.Timer]) -> None:
    """Have a signal come again that came in a `__del__`: Python passes over what that raises."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        hook(lost)
        return
    number = lost.exc_value.args[0] if lost.exc_value.args else signal.SIGINT
    for each in _ENDING:
        if signal.getsignal(each) is _second:
            signal.signal(each, _first)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), number))
    timer.daemon = True
    again.append(timer)
    timer.start()


def leave_ranks(code: int) -> None:
    """End this process at once where it is a rank among others, of which one may have stopped.

    Python's own end of it waits for the others in gloo's threads, and may abort there: the exit
    code would be another one.
    """
    dist = sys.modules.get('torch.distributed')
    if 'RANK' in os.environ and dist and dist.is_available() and dist.is_initialized():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # closed, or its reader has left
                stream.flush()
        logging.shutdown()
        os._exit(code)


def _leave() -> None:
    """Have Python end this process soon, and as it would without a signal: its work is done.

    The second signal ends it at once, as ever.
    """
    for number in _ENDING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _late)
    gc.freeze()  # the collections of its end look at a million objects of torch and MM packages


def _first(number: int, frame: FrameType | None) -> None:
    for each in _ENDING:
        if signal.getsignal(each) is _first:
            signal.signal(each, _second)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


@contextlib.contextmanager
def heeded() -> Iterator[list[int]]:
    """Have SIGTERM and SIGUSR1 end nothing: what runs here looks for them in the list, and ends.

    They may come twice: of a scheduler to each process, and of torchrun to those that it began.
    """
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked  # only the main thread may
        return
    before = {each: signal.signal(each, lambda number, _: asked.append(number)) for each in _ASKING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Have the kernel send a signal to this process when the one that began it has ended.

    Linux alone has that.
    """
    if sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def end_with_launcher(has_begun: bool) -> None:
    """Have a rank end with its torchrun, however that ends.

    Else it would look for torchrun's store, for as long as ranks may take to answer, and keep the
    folder of the run from the next command.

    Args:
        has_begun: the ranks know each other. Before, there is nothing to save, and nothing but
            SIGKILL ends the search for the store.
    """
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        end_with_parent(signal.SIGTERM if has_begun else signal.SIGKILL)
        if not has_begun and _is_orphan():  # it had ended while this process began
            os._exit(128 + signal.SIGKILL)


def _is_orphan() -> bool:
    """Whether the system's first process has this one; in a container that may be torchrun."""
    try:
        first = Path('/proc/1/cmdline').read_bytes()
    except OSError:
        return False
    return os.getppid() == 1 and b'python' not in first and b'torch' not in first


def outlive_signals() -> None:
    """Have a process that feeds another end with that one, not by a signal sent to all.

    Where the other one leaves it behind, it ends half a minute later.
    """
    for number in _ASKING:
        signal.signal(number, lambda *_: signal.alarm(30))


def end_workers(daemons: bool = False) -> None:
    """End the processes that feed this one, where it fails: a stopped one would keep it.

    Args:
        daemons: those alone that end with this one by themselves, such as a loader's.
    """
    children = [one for one in multiprocessing.active_children() if one.daemon or not daemons]
    if not children or threading.current_thread() is not threading.main_thread():
        return
    # torch's own handler raises of each that ends.
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL) if hasattr(signal, 'SIGCHLD') else None
    for process in children:
        process.kill()
    for process in children:
        process.join()
    if before is not None:
        signal.signal(signal.SIGCHLD, before)


@atexit.register
def _deaf() -> None:
    """After all other ends: Python goes back to the system's handlers before it ends itself."""
    for number in _ENDING:
        if signal.getsignal(number) is _late:
            signal.signal(number, signal.SIG_IGN)


def _late(number: int, frame: FrameType | None) -> None:
    for each in _ENDING:
        if signal.getsignal(each) is _late:
            signal.signal(each, _second)


def _second(number: int, frame: FrameType | None) -> None:
    for process in multiprocessing.active_children():
        process.kill()
    os._exit(128 + number)


class _Pipe(io.FileIO):
    """A pipe whose reader may leave, as `| head` does: what comes after is thrown away."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def go_on_unread() -> None:
    """Have a command finish what it does where the reader of its output leaves."""
    out = sys.stdout
    try:
        is_pipe = stat.S_ISFIFO(os.fstat(out.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):  # none, or a stand-in without a file
        return
    known = isinstance(getattr(out.buffer, 'raw', out.buffer), _Pipe)
    if not is_pipe or known or out is not sys.__stdout__:
        return
    out.flush()
    raw = _Pipe(out.fileno(), 'wb', closefd=False)
    buffer = raw if out.write_through else io.BufferedWriter(raw)
    sys.stdout = sys.__stdout__ = io.TextIOWrapper(
        buffer,
        encoding=out.encoding,
        errors=out.errors,
        line_buffering=out.line_buffering,
        write_through=out.write_through,
    )


def describe(error: Exception) -> str:
    """Return what to say of an exception: its own message where it is meant for a person.

    Of others one line: type, place, message, and where the trace is.
    """
    if text := machine.said(error):
        return text
    message = _cause(str(error.args[0]) if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, OSError) and isinstance(error.filename, str):
        return f'{error.filename}: {error.strerror}'
    is_sentence = not isinstance(error, KeyError) or ' ' in message
    if message and is_sentence and isinstance(error, (*INPUT_ERRORS, KeyError)):
        return message
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = last.filename.startswith(_HERE)
    if ours:
        advice = 'If config and files are as documented, this is a fault of ibnseg: report it with'
    else:
        advice = 'The config or a file may ask for what this code cannot do. For more see'
    place = re.split(r'[\\/](?:site|dist)-packages[\\/]', last.filename)[-1]
    if ours:
        place = last.filename.removeprefix(str(Path(_HERE).parent)).lstrip('/\\')
    message = ' '.join(message.split()) or last.line or 'no message'
    message = message if len(message) < 500 else f'{message[:500]}...'
    files = (one for one in log().handlers if isinstance(one, logging.FileHandler))
    file = next((f'in {one.baseFilename}' for one in files), 'shown with IBNSEG_TRACE=1')
    kind = type(error).__name__
    return f'{kind} in {place}, line {last.lineno}: {message}. {advice} the trace, {file}'


def log() -> logging.Logger:
    """Return the logger that writes into the run's log file, once there is one."""
    return logging.getLogger('py.warnings')


def _cause(text: object) -> str:
    """Return what an error in a process of a data loader was, without its printed trace."""
    found = re.match(
        r'Caught (\w+) in .*?^Original Traceback .*^(?:[\w.]+\.)?\1(?:: (.*))?\Z',
        str(text).strip(),
        re.DOTALL | re.MULTILINE,
    )
    return str(text).strip() if found is None else found[2] or found[1]
