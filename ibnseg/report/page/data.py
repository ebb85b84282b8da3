"""What the page's script draws, as plain JSON. Strings are made harmless and cut; the script puts
them into the page as text alone."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ...text import clean
from .. import headline
from ..certainty import Certainty, Estimate, limits
from ..grid import percent
from ..table import Cell, Group, Row, Stat, Table, fractions
from .gallery import Gallery, GalleryError

Curves = Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
_MOST_CONFUSION = 64  # classes; a larger heat map cannot be read
_POINTS = 400  # of a curve; more are thinned out


def build(
    table: Table, found: Certainty | None, gallery: Gallery | None, curves: Curves | None
) -> dict[str, Any]:
    """Return the page's data. Models, domains and groups are numbers into their lists.

    Raises GalleryError: the gallery is of other classes than the records.
    """
    if gallery and gallery.classes != table.classes:
        raise GalleryError(
            f'the gallery has the classes {", ".join(gallery.classes):.80}, the records '
            f'{", ".join(table.classes):.80}. Make the gallery again, or delete its folder'
        )
    models = list(dict.fromkeys(row.name for row in table.rows))
    domains = list(dict.fromkeys(d for group in table.groups for d in group.domains))
    bases = {row.model: row.name for row in table.rows if row.model == table.baseline}
    baseline = models.index(bases[table.baseline])
    leaders = [headline.leader(group) for group in table.groups]
    best = next((models.index(row.name) for row in leaders if row), None)
    known = dict(models=models, domains=domains)
    pictures = _gallery(gallery, models, domains)  # it may name more of both
    content = dict(
        classes=table.classes,
        palette=[list(colour) for colour in gallery.palette] if gallery else [],
        baseline=baseline,
        best=baseline if best is None else best,
        groups=[_group(table, group, **known) for group in table.groups],
        alone=[_estimate(table, one, **known) for one in found.alone] if found else [],
        pairs=[_estimate(table, one, **known) for one in found.pairs] if found else [],
        gallery=pictures,
        curves=_curves(curves or {}, table.rows, models),
    )
    return _harmless(content | known)


def _group(table: Table, group: Group, models: list[str], domains: list[str]) -> dict[str, Any]:
    targets = headline.targets(group)
    order = [*targets, *(domain for domain in group.domains if domain not in targets)]
    return dict(
        title=group.title,
        home=domains.index(group.home) if group.home else None,
        columns=[
            dict(
                domain=domains.index(domain),
                protocol=str(table.protocols[domain][digest].get('name', 'unnamed')),
                digest=digest,
            )
            for domain in order
            for digest in [group.reference[domain]]
        ],
        rows=[
            dict(
                model=models.index(row.name),
                against=models.index(row.against.name) if row.against else None,
                n=len(row.runs),
                cells={domains.index(domain): _cell(row, domain) for domain in row.cells},
            )
            for row in group.rows
        ],
    )


def _cell(row: Row, domain: str) -> dict[str, Any]:
    cell = row.cells[domain]
    return dict(
        miou=_number(cell.miou, mixed=cell.mixed),
        delta=None if cell.delta is None else _number(cell.delta, '+', cell.delta_mixed),
        gap=None if cell.gap is None else _number(cell.gap, '+', cell.gap_mixed),
        best=cell.best,
        mixed=cell.mixed,
        counted=fractions(cell.scores),
        iou={index: _number(stat, mixed=cell.mixed) for index, stat in cell.iou.items()},
        confusion=_confusion(row, domain, cell),
    )


def _confusion(row: Row, domain: str, cell: Cell) -> list[list[float | None]] | None:
    """Return in percent of each class's ground truth what it was predicted as, over the runs."""
    total = sum(
        run.measured[domain].matrix.astype(float) for run in row.runs if domain in run.measured
    )
    if len(total) > _MOST_CONFUSION:
        return None
    with np.errstate(invalid='ignore', divide='ignore'):
        share = 100 * total / total.sum(1, keepdims=True)
    return [[_rounded(value) for value in line] for line in share.tolist()]


def _estimate(table: Table, one: Estimate, models: list[str], domains: list[str]) -> dict[str, Any]:
    groups = [
        group.source == one.source and group.reference.get(one.domain) == one.protocol
        for group in table.groups
    ]
    verdict = one.verdict
    return dict(
        group=groups.index(True),
        domain=domains.index(one.domain),
        model=models.index(one.model),
        against=None if one.against is None else models.index(one.against),
        images=one.images,
        seeds=one.seeds,
        value=_number(one.interval.value, '+' if verdict else ''),
        limits=[_rounded(one.interval.low), _rounded(one.interval.high)],
        range=limits(one),
        both=[_rounded(verdict.low), _rounded(verdict.high)] if verdict else None,
        kind=verdict and verdict.kind,
        word=verdict and verdict.word,
        sentence=verdict and verdict.sentence,
        by_seed=percent(one.by_seed, '+' if verdict else '') if one.by_seed.n > 1 else None,
    )


def _gallery(
    gallery: Gallery | None, models: list[str], domains: list[str]
) -> dict[str, Any] | None:
    """Return the photos without their files; adds models and domains that no record names."""
    if gallery is None:
        return None
    measured = len(models)
    photos = []
    for photo in gallery.photos:
        for name in photo.models:
            if name not in models:
                models.append(name)
        if photo.domain not in domains:
            domains.append(photo.domain)
        photos.append(
            dict(
                domain=domains.index(photo.domain),
                key=photo.key,
                why=photo.why,
                size=photo.size,
                models=[models.index(name) for name in photo.models],
                miou=[percent(photo.miou.get(name)) for name in photo.models],
            )
        )
    return dict(classes=gallery.classes, photos=photos, measured=measured)


def _curves(curves: Curves, rows: Iterable[Row], models: list[str]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for row in rows:
        mine = curves.get(row.name) or curves.get(row.model)
        if mine:
            found[models.index(row.name)] = {
                what: _thinned([(x, y) for x, y in points if math.isfinite(x + y)])
                for what, points in mine.items()
            }
    return found


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return every n-th point, and the last."""
    step = -(-len(points) // _POINTS) or 1
    return [*points[:-1:step], *points[-1:]]


def _number(value: Stat | float, sign: str = '', mixed: bool = False) -> list[Any]:
    """Return the number to sort by, and as all forms of a report write it."""
    mean = value.mean if isinstance(value, Stat) else value
    return [_rounded(mean, 4), percent(value, sign, mixed)]


def _rounded(value: float, digits: int = 2) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None


def _harmless(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value, 300)
    if isinstance(value, dict):
        return {key: _harmless(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_harmless(part) for part in value]
    return value
