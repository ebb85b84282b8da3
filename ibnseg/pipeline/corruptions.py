"""The 16 corruptions of Cityscapes-C (Kamann & Rother, CVPR 2020), drawn while photos are read.

They are those of ImageNet-C (Hendrycks & Dietterich, ICLR 2019) in the implementation of
`imagecorruptions-imaug`, the version of Michaelis et al. for photos of any size, kept up to date
(`pip install ibnseg[corruptions]`).
"""

import hashlib
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS

from ..domains import parse

#: Kind -> the corruptions, by the names of the library.
KINDS = {
    'blur': ('motion_blur', 'defocus_blur', 'glass_blur', 'gaussian_blur'),
    'noise': ('gaussian_noise', 'impulse_noise', 'shot_noise', 'speckle_noise'),
    'digital': ('brightness', 'contrast', 'saturate', 'jpeg_compression'),
    'weather': ('snow', 'spatter', 'fog', 'frost'),
}
CORRUPTIONS = tuple(name for names in KINDS.values() for name in names)
SEVERITIES = (1, 2, 3, 4, 5)
LIBRARY = 'imagecorruptions-imaug'
_OWN_SEED = ('glass_blur', 'impulse_noise')  # the library draws these from another stream


@TRANSFORMS.register_module()
class Corrupt(BaseTransform):
    """Corrupt a photo. What is drawn follows from (seed, photo, corruption, severity) alone.

    So it is the same for any order, worker, rank and place of the data.

    Args:
        corruption: of `CORRUPTIONS`.
        severity: of `SEVERITIES`.
        seed: of the draws.
        library: name and version of what draws, for the protocol.
        where: the data root. A photo is known by its path below it.
        name: as `appearance.describe`.
    """

    def __init__(
        self,
        corruption: str,
        severity: int,
        seed: int,
        library: str,
        where: str = '',
        name: str = '',
    ):
        self.corruption, self.severity, self.seed = corruption, severity, seed
        self.where = where

    def transform(self, results: dict) -> dict:
        from imagecorruptions import corrupt

        what = f'{self.seed} {self._key(results)} {self.corruption} {self.severity}'
        words = np.frombuffer(hashlib.sha256(what.encode()).digest(), np.uint32)
        own = dict(seed=int(words[0])) if self.corruption in _OWN_SEED else {}
        before = np.random.get_state()  # the library draws from numpy's global stream
        np.random.seed(words)
        try:
            rgb = cv2.cvtColor(results['img'], cv2.COLOR_BGR2RGB)
            changed = corrupt(rgb, self.severity, self.corruption, **own)
        finally:
            np.random.set_state(before)
        results['img'] = cv2.cvtColor(changed, cv2.COLOR_RGB2BGR)
        return results

    def _key(self, results: dict) -> str:
        """Return a photo's name on any machine, as skip lists name it."""
        photo = Path(results['img_path'])
        if 'domain' not in results:
            return photo.name
        row, _ = parse(results['domain'])
        return f'{row.name}/{photo.relative_to(row.root(self.where)).as_posix()}'


def describe(name: str, data_root: str = '', seed: int = 0) -> dict[str, Any] | None:
    """Return the pipeline step of 'fog-3' and the like; None where a name is no corruption.

    Raises ValueError for a severity that there is not, and without the library.
    """
    corruption, _, severity = name.rpartition('-')
    if corruption not in CORRUPTIONS:
        return None
    if not re.fullmatch('[1-5]', severity):
        raise ValueError(f'change {name!r}: expected a severity of 1 to 5, like {corruption}-3')
    try:
        library = f'{LIBRARY} {metadata.version(LIBRARY)}'
    except metadata.PackageNotFoundError:
        raise ValueError(
            f'{name} needs the package {LIBRARY}, which is not installed; type: pip install '
            '"ibnseg[corruptions]"'
        ) from None
    step = dict(type='Corrupt', name=name, corruption=corruption, severity=int(severity))
    return step | dict(seed=seed, library=library, where=str(data_root))
