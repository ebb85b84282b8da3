"""The text of a config, which MMEngine formats anew at every start, checkpoint and end of a run."""

import contextlib
import importlib
from collections.abc import Iterator
from typing import Any

from yapf.yapflib import yapf_api

#: Where MMEngine finds yapf's function: OneDL's looks for it at each call, OpenMMLab's once.
PLACES = [
    module
    for module in (yapf_api, importlib.import_module('mmengine.config.config'))
    if hasattr(module, 'FormatCode')
]


@contextlib.contextmanager
def once() -> Iterator[None]:
    """Have each text be formatted once within; that takes a quarter of a second."""
    known: dict[tuple[str, str], Any] = {}
    format_code = PLACES[-1].FormatCode

    def remembered(text: str, *args: Any, **options: Any) -> Any:
        key = text, repr((args, options))
        if key not in known:
            known[key] = format_code(text, *args, **options)
        return known[key]

    for module in PLACES:
        module.FormatCode = remembered
    try:
        yield
    finally:
        for module in PLACES:
            module.FormatCode = format_code
