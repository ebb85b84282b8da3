"""Photo files, decoded: PNG in less time than by Pillow where `imagecodecs` is installed.

`imagecodecs` brings the decoder libspng (`pip install ibnseg[fast]`).
"""

import struct
import zlib
from functools import cache
from types import ModuleType

import cv2
import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmengine import fileio
from mmseg.registry import TRANSFORMS
from PIL import Image


@TRANSFORMS.register_module()
class LoadPhoto(LoadImageFromFile):
    """MMCV's LoadImageFromFile(imdecode_backend='pillow'), the same pixels, faster.

    Args:
        backend_args: of MMEngine's file back end.
    """

    def __init__(self, backend_args: dict | None = None):
        super().__init__(imdecode_backend='pillow', backend_args=backend_args)

    def transform(self, results: dict) -> dict:
        photo = read(fileio.get(results['img_path'], backend_args=self.backend_args))
        results['img'] = photo
        results['img_shape'] = results['ori_shape'] = photo.shape[:2]
        return results


def read(data: bytes) -> np.ndarray:
    """Decode a photo: uint8 BGR (H, W, 3), as MMCV does by Pillow, turned as its EXIF says.

    Raises what Pillow raises of a file that it can't read.
    """
    photo = by_libspng(data)
    if photo is None:
        photo = mmcv.imfrombytes(data, channel_order='rgb', backend='pillow')
        photo = cv2.cvtColor(photo, cv2.COLOR_RGB2BGR)
    return photo


_HEAD = b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR'
#: Depth, colour type, compression, filter and interlace method -> what Pillow's RGB is as BGR.
_KINDS = {b'\x08\x02\0\0\0': cv2.COLOR_RGB2BGR, b'\x08\x06\0\0\0': cv2.COLOR_RGBA2BGR}
#: The chunks beside IDAT that never change a pixel, and their sizes. A text or eXIf may turn the
#: photo, and tRNS makes a colour transparent.
_CHUNKS = {b'IHDR': 13, b'gAMA': 4, b'cHRM': 32, b'sRGB': 1, b'pHYs': 9, b'tIME': 7, b'IEND': 0}


def by_libspng(data: bytes) -> np.ndarray | None:
    """Decode an undamaged PNG of 8-bit RGB or RGBA, not interlaced: uint8 BGR (H, W, 3).

    None for any other file, and without `imagecodecs`.
    """
    codecs = imagecodecs()
    if codecs is None or data[:16] != _HEAD or data[24:29] not in _KINDS or not _is_plain(data):
        return None
    width, height = struct.unpack_from('>II', data, 16)
    if width * height > (Image.MAX_IMAGE_PIXELS or 0):  # Pillow warns of a larger one
        return None
    try:
        return cv2.cvtColor(codecs.spng_decode(data), _KINDS[data[24:29]])
    except codecs.SpngError:
        return None


def _is_plain(data: bytes) -> bool:
    """Whether a PNG is whole, and its chunks but IDAT are undamaged ones of `_CHUNKS`."""
    at, kind = 8, b''
    while kind != b'IEND':
        if at + 12 > len(data):
            return False
        size, kind = struct.unpack_from('>I4s', data, at)
        end = at + 12 + size
        if kind != b'IDAT':
            checksum = int.from_bytes(data[end - 4 : end], 'big')
            if size != _CHUNKS.get(kind) or zlib.crc32(data[at + 4 : end - 4]) != checksum:
                return False
        at = end
    return at == len(data)


@cache
def imagecodecs() -> ModuleType | None:
    """Return the module, None where it is not installed."""
    try:
        import imagecodecs
    except ImportError:
        return None
    return imagecodecs
