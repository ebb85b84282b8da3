"""Functions measured against one another: alternating in one run, medians."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def alternate(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median milliseconds of each function; two rounds before the first warm up."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for i in range(repeats + 2):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if i >= 2:
                times[name].append(time.perf_counter() - start)
    return {name: 1e3 * statistics.median(seconds) for name, seconds in times.items()}


def row(*cells: Any) -> str:
    """One line of a Markdown table."""
    return f'| {" | ".join(map(str, cells))} |'
