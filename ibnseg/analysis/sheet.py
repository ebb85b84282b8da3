"""Pictures side by side on one sheet, with the colours of their classes below. Pillow alone."""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..text import clean

NOT_COUNTED = (0, 0, 0)
_GREY = (90, 90, 90)
_MOST_WIDTH = 2400  # pixels, of the whole sheet

#: Tiles, uint8 RGB (h, w, 3), and the words below each.
Row = tuple[Sequence[np.ndarray], Sequence[str]]


def sheet(
    heads: Sequence[str],
    rows: Sequence[Row],
    legend: Iterable[tuple[Sequence[int], str]],
    width: int = 400,
) -> Image.Image:
    """Return rows of tiles below their heads, all of one width, and a legend.

    Args:
        rows: of a row, all tiles are as high as the first. Those of class colours stand behind it.
        legend: (colour, text) each.
        width: of a tile in pixels; less where the whole would be wider than 2400.
    """
    width = min(width, _MOST_WIDTH // len(heads))
    size = max(11, width // 22)
    font, gap = ImageFont.load_default(size), max(4, size // 3)
    line = size + gap
    heights = [round(width * tiles[0].shape[0] / tiles[0].shape[1]) for tiles, _ in rows]
    whole = len(heads) * (width + gap) + gap
    entries = _placed(legend, font, whole - 2 * gap, size)
    lines = 1 + max((y for _, y, *_ in entries), default=-1)
    height = line + gap + sum(line + h + 2 * gap for h in heights) + lines * line + 2 * gap
    out = Image.new('RGB', (whole, height), 'white')
    draw = ImageDraw.Draw(out)

    def write(column: int, y: int, text: str, fill='black') -> int:
        x = gap + column * (width + gap)
        draw.text((x, y), _fitting(clean(text), font, width), fill=fill, font=font)
        return x

    for column, name in enumerate(heads):
        write(column, gap, name)
    y = line + gap
    for (tiles, words), tall in zip(rows, heights, strict=True):
        for column, (tile, text) in enumerate(zip(tiles, words, strict=True)):
            x = write(column, y + tall + gap // 2, text, _GREY)
            how = Image.Resampling.LANCZOS if column == 0 else Image.Resampling.NEAREST
            out.paste(Image.fromarray(tile).resize((width, tall), how), (x, y))
        y += tall + line + 2 * gap
    for x, number, colour, text in entries:
        top = y + gap + number * line
        draw.rectangle((gap + x, top, gap + x + size, top + size), colour, _GREY)
        draw.text((gap + x + size + gap, top - 1), text, fill='black', font=font)
    return out


def _fitting(text: str, font, most: int) -> str:
    while len(text) > 1 and font.getlength(text) > most:
        text = text[:-2] + '…'
    return text


def _placed(legend: Iterable[tuple[Sequence[int], str]], font, most: int, size: int) -> list[tuple]:
    """Return (x, line, colour, text) of each entry, in lines of at most `most` pixels."""
    entries, x, line = [], 0, 0
    for colour, text in legend:
        wide = round(font.getlength(text)) + 3 * size
        if x and x + wide > most:
            x, line = 0, line + 1
        entries.append((x, line, tuple(map(int, colour)), text))
        x += wide
    return entries
