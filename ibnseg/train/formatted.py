"""The text of a config, which MMEngine formats anew at every start, checkpoint and end of a run."""

import contextlib
from collections.abc import Iterator
from typing import Any

from yapf.yapflib import yapf_api


@contextlib.contextmanager
def once() -> Iterator[None]:
    """Have each text be formatted once within; that takes a quarter of a second."""
    known: dict[tuple[str, str], Any] = {}
    format_code = yapf_api.FormatCode

    def remembered(text: str, *args: Any, **options: Any) -> Any:
        key = text, repr((args, options))
        if key not in known:
            known[key] = format_code(text, *args, **options)
        return known[key]

    yapf_api.FormatCode = remembered
    try:
        yield
    finally:
        yapf_api.FormatCode = format_code
