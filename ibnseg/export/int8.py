"""An exported ONNX file with its convolutions in 8 bits (static quantisation of ONNX Runtime)."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._stack import quiet
from .formats import need

#: Photos of the source that give the range of each map.
PHOTOS = 32
#: What is quantised: InstanceNorm, resizes and the rest stay in float32.
OPERATIONS = ('Conv',)


class _Photos:
    """What ONNX Runtime takes as a CalibrationDataReader."""

    def __init__(self, name: str, images: Iterable[np.ndarray]):
        self._images: Iterator[np.ndarray] = iter(images)
        self._name = name

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {self._name: image}


def quantise(file: Path, out: Path, images: Iterable[np.ndarray]) -> dict[str, Any]:
    """Write `out`, the network of `file` with convolutions in int8, and return how it was made.

    Its `precision` is int8 with digits of the photos: those of others make another network.

    Weights have a scale for each output channel, maps one each, from the least to the largest value
    that they take for `images`. Weights use 7 bits, since processors without VNNI overflow at 8.

    Args:
        file: a float32 ONNX file of `formats.write`.
        images: batches as the file takes them.

    Raises:
        ValueError: no images, or ONNX Runtime is not installed.
    """
    onnx, _ = need('onnx', 'onnxruntime')
    from onnxruntime import quantization

    held = onnx.load(file)
    photos = list(images)
    if not photos:
        raise ValueError('int8 needs photos that give the range of its maps, and there are none')
    digest = hashlib.sha256(b''.join(np.ascontiguousarray(photo).data for photo in photos))
    with quiet():
        quantization.quantize_static(
            str(file),
            str(out),
            _Photos(held.graph.input[0].name, photos),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=[*OPERATIONS],
            per_channel=True,
            reduce_range=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    return dict(
        precision=f'int8-{digest.hexdigest()[:8]}',
        operations=[*OPERATIONS],
        ranges='least and largest value',
        photos=len(photos),
    )
