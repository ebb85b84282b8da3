"""Training curves: loss and mIoU by iteration, from the logs beside a record.

MMEngine writes `<time>/vis_data/scalars.json` into a run's folder, a JSON object a line. A run that
was resumed has several such folders.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import disk
from ..measure import records
from .compare import tabulate

_MOST_BYTES, _MOST_LINE, _MOST_LOGS, _MOST_POINTS = 2**25, 2**16, 100, 2000
_KINDS = 'loss', 'mIoU'

Points = list[tuple[int, float]]


def read(
    record_paths: Sequence[str | Path], notes: list[str] | None = None
) -> dict[str, dict[str, Points]]:
    """Return each row's curves: name as in a report -> 'loss' and 'mIoU' -> (iteration, value).

    Of a row with several seeds, it is the first run that has a log. Values that are not finite are
    left out; of a long curve, about every n-th point is kept.

    Args:
        record_paths: record files.
        notes: what a reader should know, say of damaged lines, is added here.

    Raises what `records.read` and `tabulate` raise.
    """
    paths = list(map(Path, record_paths))
    table = tabulate([records.read(path) for path in paths], mixed=True, files=paths)
    return of_rows(table.rows, [] if notes is None else notes)


def of_rows(rows: Iterable[Any], notes: list[str]) -> dict[str, dict[str, Points]]:
    """As `read`, of the rows of a `Table`."""
    found: dict[str, dict[str, Points]] = {}
    for row in rows:
        files = (Path(origin['file']) for run in row.runs for origin in run.origins)
        # A record of `ibnseg test` lies in <run>/test.
        folders = dict.fromkeys(
            folder
            for file in files
            for folder in (file.parent, *[file.parent.parent] * (file.parent.name == 'test'))
        )
        for folder in folders if row.name not in found else ():
            if curves := of_run(folder, notes):
                found[row.name] = curves
                break
    return found


def of_run(folder: str | Path, notes: list[str]) -> dict[str, Points]:
    """Return the curves of a run's folder; without a log, {}.

    Of several logs the later ones hold from their first iteration on: the run was resumed there.
    """
    found: dict[str, dict[int, float]] = {kind: {} for kind in _KINDS}
    # Names are times, so that they sort by age.
    for log in sorted(Path(folder).glob('*/vis_data/scalars.json'))[-_MOST_LOGS:]:
        lines = list(_lines(log, notes))
        begin = min((iteration for iteration, _ in lines), default=None)
        for kind, points in found.items():
            if begin is not None:
                points = {i: value for i, value in points.items() if i < begin}
            found[kind] = points | {i: said[kind] for i, said in lines if kind in said}
    return {kind: _thinned(sorted(points.items())) for kind, points in found.items() if points}


def _lines(log: Path, notes: list[str]) -> Iterable[tuple[int, Mapping[str, float]]]:
    """Yield (iteration, finite values) of each line of a log; add a note on damaged ones."""
    damaged = 0
    try:
        with disk.opened(log) as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        notes.append(f'{log}: no training curve ({error.strerror}).')
        return
    if len(content) > _MOST_BYTES:
        notes.append(f'{log}: only the first {_MOST_BYTES // 2**20} MB of it are drawn.')
        content = content[:_MOST_BYTES].rpartition(b'\n')[0]
    for line in filter(None, map(bytes.strip, content.split(b'\n'))):
        said = _parsed(line)
        if said is None:
            damaged += 1
        else:
            yield said
    if damaged:
        notes.append(f'{log}: {damaged} damaged lines are passed over.')


def _parsed(line: bytes) -> tuple[int, dict[str, float]] | None:
    if len(line) > _MOST_LINE:
        return None
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = said.get('step') if isinstance(said, dict) else None
    if type(step) is not int or not 0 <= step < 2**53:
        return None
    numbers = {kind: said[kind] for kind in _KINDS if type(said.get(kind)) in (int, float)}
    return step, {kind: float(n) for kind, n in numbers.items() if abs(n) < 1e300}


def _thinned(points: Points) -> Points:
    step = -(-len(points) // _MOST_POINTS)
    return [*points[:-1:step], points[-1]]
