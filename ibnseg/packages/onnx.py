"""The ONNX file of a package: a photo in, logits out; whether it gives the network's classes."""

from pathlib import Path

import numpy as np

from ..export import certificate, engines, write
from ..inference.model import Model, load

FILE = 'model.onnx'
_SIZE = 128, 256


def add(model: Model, folder: Path, data_root: str | None) -> None:
    """Export a network into the folder of a package; its input is a photo, uint8 RGB (N, H, W, 3).

    Raises as `write.export` and `write.evaluation_photos`: the certificate needs photos.
    """
    files = write.evaluation_photos(model, data_root)
    photos = {Path(file).name: model.scaled(file) for file in files}
    write.export(model, 'onnx', photos, folder / FILE, inside=True)


def compare(folder: str | Path) -> list[certificate.Case]:
    """Run the network and the ONNX file of a package on pictures drawn here.

    Raises PackageError, and ValueError without ONNX Runtime.
    """
    folder = Path(folder)
    engine = engines.open_file(folder / FILE)
    return certificate.certify(load(folder, device='cpu'), engine, _pictures())


def _pictures() -> dict[str, np.ndarray]:
    """Return smooth random pictures: of noise, every pixel would be near a border of classes."""
    import cv2

    draw = np.random.default_rng(0)
    small = draw.integers(0, 256, (2, 4, 8, 3), dtype=np.uint8)
    size = _SIZE[::-1]
    return {f'drawn {i}': cv2.resize(one, size, interpolation=cv2.INTER_CUBIC)
            for i, one in enumerate(small)}  # fmt: skip
