"""How far an audit is: a bar on a terminal, a few lines elsewhere."""

import contextlib
import sys
from collections.abc import Callable, Iterator

_FEW = 1000  # files, of which nobody wants a line


@contextlib.contextmanager
def bar() -> Iterator[Callable[[int, int], None]]:
    """Yield `progress(done, total)`, which shows files, files a second and the time left."""
    if not sys.stdout.isatty():
        yield _lines
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn('audit'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as view:
        task = view.add_task('audit', total=None)
        yield lambda done, total: view.update(task, completed=done, total=total)


def _lines(done: int, total: int) -> None:
    if total >= _FEW and done * 10 // total > (done - 1) * 10 // total:
        print(f'audit {done:,}/{total:,}', flush=True)
