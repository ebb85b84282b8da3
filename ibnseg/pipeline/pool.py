"""Photos beside the sources that a training reads without labels, and what records say of them."""

import functools
import hashlib
from typing import Any

import numpy as np

from .. import disk
from ..domains import DOMAINS
from . import appearance, photos


class Pool:
    """Photos by name.

    Args:
        photos: a folder, a list of files (*.txt), or a domain ('name:split').
        data_root: of a domain.

    Raises DataError: none there.
    """

    def __init__(self, photos: str, data_root: str = ''):
        self.photos, self.data_root = photos, str(data_root)
        self.files = appearance.image_files(photos, self.data_root)

    def draw(self) -> np.ndarray:
        """Return one of them by NumPy's generator, uint8 BGR (H, W, 3).

        Raises DataError where it cannot be read.
        """
        path = self.files[np.random.randint(len(self.files))]
        return photos.read(disk.read(path), path)

    @functools.cache  # noqa: B019  # of one step, for as long as the run
    def told(self, data_root: str) -> dict[str, Any]:
        """Return what a record says of the photos: {photos, files, digest, datasets}.

        `digest` is of the files' names; `datasets` are the names of those that they belong to.

        Args:
            data_root: of the datasets.
        """
        names = '\n'.join(path.name for path in self.files)
        found = {path.parent.resolve() for path in self.files}
        rows = {row.name: row.root(self.data_root or data_root) for row in DOMAINS.values()}
        return dict(
            photos=self.photos,
            files=len(self.files),
            digest=hashlib.sha256(names.encode()).hexdigest()[:8],
            datasets=[
                name
                for name, root in rows.items()
                if any(folder.is_relative_to(root.resolve()) for folder in found)
            ],
        )
