"""What the benchmarks share: functions in turns, medians."""

import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def alternate(
    functions: Mapping[str, Callable[[], object]],
    repeats: int,
    warmup: int = 2,
    settle: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Call the functions in turns; return the median milliseconds of each.

    `settle` calls go before each that is timed, so that no function pays for the memory that the
    one before it gave back to the system. `clock` gives seconds.
    """
    import torch

    finish = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    times = {name: [] for name in functions}
    for i in range(warmup + repeats):
        for name, function in functions.items():
            for _ in range(settle):
                function()
            finish()
            start = clock()
            function()
            finish()
            if i >= warmup:
                times[name].append(clock() - start)
    return {name: 1e3 * statistics.median(seconds) for name, seconds in times.items()}


def machine(device: str) -> str:
    """Where it was measured, for the heading of a table."""
    import torch

    if device.startswith('cuda'):
        return f'{torch.cuda.get_device_name(device)}, torch {torch.__version__}'
    cpus = Path('/proc/cpuinfo')
    found = re.search(r'model name\s*:\s*(.*)', cpus.read_text() if cpus.exists() else '')
    name = found[1] if found else platform.machine()
    return f'{name}, {torch.get_num_threads()} threads, torch {torch.__version__}'


def row(*cells: object) -> str:
    """One line of a Markdown table."""
    return f'| {" | ".join(map(str, cells))} |'
