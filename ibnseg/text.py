"""Text for people: made harmless where it comes from strangers, and the name that was meant."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

#: Characters that a line may have: names of a stranger may have millions.
LINE = 10_000


def clean(text: str, limit: int | None = None) -> str:
    r"""Make control, bidirectional and line-breaking characters visible as `\x1b`; cut at `limit`.

    Terminals, spreadsheets and Markdown all act on some of them.
    """
    if not text.isprintable():  # hardly ever; then no character acts
        acting = {c for c in text if unicodedata.category(c) in ('Cc', 'Cf', 'Cs', 'Zl', 'Zp')}
        text = text.translate({ord(c): c.encode('unicode_escape').decode() for c in acting})
    return text if limit is None or len(text) <= limit else text[: limit - 1] + '…'


def tell(text: object, **options: Any) -> None:
    """Print lines, each made harmless and cut: all that a command prints but tables comes here.

    Args:
        options: of `print`, but `sep`.
    """
    print(*(clean(line, LINE) for line in str(text).split('\n')), sep='\n', **options)


def nearest(name: object, names: Iterable[object], ratio: float = 0.6) -> str | None:
    """Return which of `names` a person may have meant by `name`, None where none is near.

    Args:
        ratio: of what both share (`difflib`), from which on they are near; 1 where equal.
    """
    known = {str(known).lower(): str(known) for known in names}
    low = str(name).lower()
    near = difflib.get_close_matches(low, known, 1, ratio) or [
        k for k in known if len(low) > 2 and k.startswith(low)
    ]
    return known[near[0]] if near else None


def meant(name: object, names: Iterable[object]) -> str:
    """Return ' (did you mean X?)' with the nearest of `names`, '' where none is near."""
    near = nearest(name, names)
    return '' if near is None else f' (did you mean {near!r}?)'


def check_options(owner: str, options: Iterable[str], known: Sequence[str]) -> None:
    """Raise ValueError for the first of `options` that `owner` does not take."""
    for name in options:
        if name not in known:
            raise ValueError(
                f'{owner} has no option {name!r}{meant(name, known)}; choose from {[*known]}'
            )
