"""How far a long job is: a bar on a terminal, elsewhere a line now and then."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from typing import Any

from .text import tell

_QUIET, _LONG = 3.0, 60.0  # seconds that pass before a line at least, and at most


def view(**options: Any):
    """Return a `rich.progress.Progress`: title, bar, number done, the field `note`, time left."""
    from rich import progress as rich

    return rich.Progress(
        rich.TextColumn('{task.description}'),
        rich.BarColumn(bar_width=24),
        rich.MofNCompleteColumn(),
        rich.TextColumn('{task.fields[note]}'),
        rich.TimeRemainingColumn(),
        **options,
    )


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield `progress(done, total)`, which shows how far a job is."""
    if not sys.stdout.isatty():
        yield Lines(title)
        return
    with view(transient=True) as shown:
        task = shown.add_task(title, total=None, note='')
        yield lambda done, total: shown.update(task, completed=done, total=total)


def track(items: Iterable, title: str, total: int) -> Iterator:
    """Yield the items, of which there are `total`, and show how far they are."""
    with bar(title) as progress:
        for done, item in enumerate(items, 1):
            progress(done, total)
            yield item


class Lines:
    """Prints how far a job is: first after three seconds, then at each tenth, or every minute.

    Args:
        say: prints a line.
    """

    def __init__(self, title: str, say: Callable[[str], None] | None = None):
        self.title, self._say = title, say or (lambda text: tell(text, flush=True))
        self._began = self._last = time.monotonic()
        self._tenth = 0

    def __call__(self, done: int, total: int) -> None:
        now, tenth = time.monotonic(), done * 10 // max(1, total)
        due = tenth > self._tenth and now - self._last >= _QUIET
        if due or (done < total and now - self._last >= _LONG):
            left = timedelta(seconds=round((now - self._began) / done * (total - done)))
            self._say(f'{self.title} {done:,}/{total:,}' + (f'  left {left}' if left else ''))
            self._last, self._tenth = now, tenth
