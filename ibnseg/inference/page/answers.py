"""What the page shows: its HTML, and of each photo what `ibnseg predict` would write."""

import base64
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ... import ending
from ...errors import DataError
from ...text import clean
from ...web import environment, hashed
from .. import files
from ..model import Model, Prediction
from .server import MOST_BYTES

MOST_PIXELS = 25_000_000  # of a photo, for the memory of a network grows with them
_HERE = Path(__file__).parent


class Answers:
    """Predicts photos for the page.

    Args:
        models: one or more, of the same classes.

    Raises ValueError for networks of other classes each.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        files.check_classes(models)
        self.models, self.names = models, files.names_of(models)

    def html(self) -> tuple[str, str]:
        """Return the page, and its content security policy: its own script, and its own server."""
        style, script = ((_HERE / f'page.{kind}').read_text('utf-8') for kind in ('css', 'js'))
        text = environment(_HERE).get_template('page.html').render(
            names=self.names, style=style, script=script, most_bytes=MOST_BYTES
        )  # fmt: skip
        policy = (
            f"default-src 'none'; img-src data:; connect-src 'self'; style-src '{hashed(style)}'; "
            f"script-src '{hashed(script)}'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        return text, policy

    def __call__(self, data: bytes, confidence: bool) -> dict[str, Any]:
        """Return what is shown of a photo's file, or why there is nothing, in one line: 'error'."""
        with _as_file(data) as path:
            try:
                _check_size(path)
                return self._shown([model(path, confidence) for model in self.models])
            except Exception as error:
                if ending.interrupt_behind(error):
                    raise
                is_input = isinstance(error, ending.INPUT_ERRORS)
                if 'IBNSEG_TRACE' in os.environ and not is_input:
                    raise
                return dict(error=_said(error, path))

    def _shown(self, found: Sequence[Prediction]) -> dict[str, Any]:
        shares = [one.shares() for one in found]
        classes = [
            dict(name=clean(name), colour=colour.tolist(), shares=of)
            for name, colour in zip(found[0].classes, found[0].palette, strict=True)
            if any(of := [one.get(name, 0) for one in shares])
        ]
        return dict(
            photo=_address(files.jpeg(found[0].photo), 'jpeg'),
            networks=[
                dict(name=name, overlay=_address(files.jpeg(one.overlay()), 'jpeg'))
                | {part: _address(png, 'png') for part, png in files.maps(one).items()}
                | ({} if one.confidence is None else dict(mean=files.mean_confidence(one)))
                for name, one in zip(self.names, found, strict=True)
            ],
            classes=sorted(classes, key=lambda one: -max(one['shares'])),
            absent=[clean(one) for one in found[0].classes if not any(one in s for s in shares)],
        )


@contextlib.contextmanager
def _as_file(data: bytes) -> Iterator[Path]:
    """Give a file of these bytes, for a network reads files; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix='ibnseg-page-') as folder:
        path = Path(folder, 'photo')
        path.write_bytes(data)
        yield path


def _check_size(path: Path) -> None:
    """Raise DataError for a photo of too many pixels, before they are decoded."""
    with contextlib.suppress(Image.UnidentifiedImageError), Image.open(path) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise DataError(
                f'{width}x{height} pixels; this page takes {MOST_PIXELS // 1_000_000} million at '
                'most. Make it smaller, or use ibnseg predict'
            )


def _said(error: Exception, path: Path) -> str:
    """Return one line on why a photo is not predicted, without the name that it has only here."""
    text = ending.describe(error)
    if text.startswith('out of memory'):
        text = f'{text.partition(". ")[0]}. Take a smaller photo'
    text = text.removeprefix(f'{path}: ').replace(str(path), 'the photo')
    return clean(' '.join(text.split()), 500)


def _address(file: bytes, kind: str) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(file).decode()}'
