"""What pages share: jinja2 that escapes foreign text, and the hash that a policy allows code by."""

import base64
import hashlib
from pathlib import Path
from typing import Any


def environment(folder: Path) -> Any:
    """Return jinja2's environment of the templates in a folder; it escapes what it puts in."""
    import jinja2  # here: only pages need it

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def hashed(text: str) -> str:
    """Return what a content security policy allows a script or style by."""
    return 'sha256-' + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
