"""A report as one HTML file that loads nothing from elsewhere: charts, photos, tables.

Tables, notes, protocols and provenance are in the page as such, and readable without its script.
The script (page.js) draws the rest from JSON. Foreign text is escaped by jinja2, or put in as text.
"""

from collections.abc import Iterable
from pathlib import Path

from ...text import clean
from ...web import environment, hashed
from .. import certainty, headline, sections
from ..certainty import Certainty
from ..grid import Grid, Marked, Section
from ..table import Table
from . import data
from .data import Curves
from .gallery import Gallery

_HERE = Path(__file__).parent
_CUT = 300  # characters of a cell or a title


def html(
    table: Table,
    found: Certainty | None = None,
    gallery: Gallery | None = None,
    curves: Curves | None = None,
) -> str:
    """Return the page. What is absent is named on it, with the command that makes it."""
    style, script = ((_HERE / f'page.{kind}').read_text('utf-8') for kind in ('css', 'js'))
    content = data.build(table, found, gallery, curves)
    known = content['models'][content['gallery']['measured'] :] if gallery else []
    notes = [*table.notes, *(found.notes if found else ())]
    if known:
        notes.append(f'The gallery shows models that no record here is of: {", ".join(known)}.')
    return (
        environment(_HERE)
        .get_template('page.html')
        .render(
            explained=sections.explained(table),
            headline=[
                [_unbroken(text) for text in said] for said in headline.sentences(table, found)
            ],
            notes=[clean(note) for note in notes],
            folded=[
                ('All numbers as tables', _shown(_tables(table, found))),
                ('Protocols', _shown([sections.protocols(table)])),
                ('Provenance', _shown([sections.provenance(table)])),
            ],
            data=content,
            images=[file for photo in (gallery.photos if gallery else ()) for file in photo.files],
            style=style,
            script=script,
            style_hash=hashed(style),
            script_hash=hashed(script),
        )
    )


def _tables(table: Table, found: Certainty | None) -> Iterable[Section]:
    yield from sections.tables(table)
    for section in certainty.sections(found, worst=10):
        if section.grid:  # the notes stand above
            yield section


def _shown(parts: Iterable[Section]) -> list[dict]:
    """Return sections with their text made harmless, not yet escaped."""

    def cells(grid: Grid) -> list[list[list[tuple[str, bool]]]]:
        blocks = [grid.header], grid.rows, grid.foot
        marked = [[[Marked.of(cell) for cell in line] for line in block] for block in blocks]
        return [
            [[(clean(c.text, _CUT) + clean(c.mark, _CUT), c.best) for c in line] for line in block]
            for block in marked
        ]

    return [
        dict(
            title=clean(part.title, _CUT),
            text=clean(part.text),
            blocks=cells(part.grid) if part.grid else None,
            left=part.grid.left if part.grid else 0,
            items=[clean(item) for item in part.items],
        )
        for part in parts
    ]


def _unbroken(text: str) -> str:
    """Return harmless text in which a number and its '%' stay on one line."""
    return clean(text).replace(' %', '\xa0%')
