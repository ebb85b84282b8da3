"""How far a long job is: a bar on a terminal; elsewhere a few lines, or none for a short job."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_MANY = 1000  # steps; only a job of that many prints lines


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
        yield lambda done, total: _line(title, done, total)
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


def _line(title: str, done: int, total: int) -> None:
    if total >= _MANY and done * 10 // total > (done - 1) * 10 // total:
        print(f'{title} {done:,}/{total:,}', flush=True)
