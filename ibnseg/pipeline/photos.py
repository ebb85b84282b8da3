"""Photo files, decoded: PNG in half the time of OpenCV and Pillow where `imagecodecs` is installed.

libdeflate unpacks twice as fast as zlib but knows nothing of PNG; libspng undoes PNG's filters
fast but unpacks by zlib. So libspng gets what libdeflate unpacked, in stored blocks. Both come
with `imagecodecs` (`pip install ibnseg[fast]`).
"""

import struct
import threading
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
    """MMCV's LoadImageFromFile(imdecode_backend='pillow'), the same pixels, sooner.

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
    photo = plain_png(data)
    if photo is None:
        photo = mmcv.imfrombytes(data, channel_order='rgb', backend='pillow')
        photo = cv2.cvtColor(photo, cv2.COLOR_RGB2BGR)
    return photo


_SIGNATURE = b'\x89PNG\r\n\x1a\n'
# By PNG's colour type: channels, and what makes them BGR as Pillow's conversion to RGB would.
_COLOURS = {2: (3, cv2.COLOR_RGB2BGR), 6: (4, cv2.COLOR_RGBA2BGR)}
# Chunks beside the pixels that change none of them; a text or eXIf may turn the photo.
_HARMLESS = {b'gAMA', b'cHRM', b'sRGB', b'iCCP', b'sBIT', b'bKGD', b'pHYs', b'tIME'}
_BLOCK = 65535  # bytes that a stored block holds at most (RFC 1951, 3.2.4)


def plain_png(data: bytes) -> np.ndarray | None:
    """Decode an undamaged PNG of 8-bit RGB or RGBA, not interlaced: uint8 BGR (H, W, 3).

    None for any other file, and without `imagecodecs`.
    """
    codecs = imagecodecs()
    packed = _image_data(data) if codecs else None
    if packed is None:
        return None
    width, height, depth, colour, *others = struct.unpack_from('>IIBBBBB', data, 16)
    if depth != 8 or colour not in _COLOURS or any(others):
        return None
    if not 0 < width * height <= (Image.MAX_IMAGE_PIXELS or 0):  # of a larger one, Pillow warns
        return None
    channels, to_bgr = _COLOURS[colour]
    stored = _StoredPNG(data[:33], height * (1 + width * channels))
    try:
        if len(codecs.deflate_decode(packed, out=stored.rows)) != len(stored.rows):
            return None
        image = _memory('image', height * width * channels).reshape(height, width, channels)
        codecs.spng_decode(stored.finish(checksum=packed[-4:]), out=image)
    except (codecs.DeflateError, codecs.SpngError):
        return None
    photo = _memory('photo', height * width * 3).reshape(height, width, 3)
    return cv2.cvtColor(image, to_bgr, dst=photo)


@cache
def imagecodecs() -> ModuleType | None:
    """Return the module, None where it is not installed."""
    try:
        import imagecodecs
    except ImportError:
        return None
    return imagecodecs


def _image_data(data: bytes) -> np.ndarray | None:
    """Return the zlib stream of a PNG, None where a chunk is damaged, missing or not harmless."""
    view, at, kind, found = memoryview(data), len(_SIGNATURE), b'', []
    if data[:at] != _SIGNATURE or data[at : at + 8] != struct.pack('>I4s', 13, b'IHDR'):
        return None
    while kind != b'IEND':
        if at + 12 > len(data):
            return None
        size, kind = struct.unpack_from('>I4s', data, at)
        body, at = view[at + 4 : at + 8 + size], at + 12 + size
        if at > len(data) or zlib.crc32(body) != int.from_bytes(view[at - 4 : at], 'big'):
            return None
        if kind == b'IDAT':
            found.append(body[4:])
        elif kind not in _HARMLESS and kind != b'IEND' and body[:4] != b'IHDR':
            return None
    packed, at = _memory('packed', sum(map(len, found))), 0
    for part in found:
        at = _put(packed, at, part)
    return packed if len(packed) > 4 else None


class _StoredPNG:
    """A PNG file whose rows are stored as they are; a thread has one at a time.

    Args:
        head: signature and header chunk.
        size: of all filtered rows, in bytes.

    Attributes:
        rows: to be filled; they lie behind the place that they move to.
    """

    def __init__(self, head: bytes, size: int):
        blocks = -(-size // _BLOCK)
        stream = 2 + 5 * blocks + size + 4
        self._file = _memory('file', len(head) + 8 + stream + 4 + len(_END))
        self._at = len(head) + 4
        _put(self._file, 0, head + struct.pack('>I4sH', stream, b'IDAT', 0x7801))
        self._end = len(self._file) - len(_END) - 8
        self.rows = self._file[self._end - size : self._end]

    def finish(self, checksum: bytes) -> np.ndarray:
        """Return the file; `checksum` is the rows' Adler-32."""
        at, size = self._at + 6, len(self.rows)
        for start in range(0, size, _BLOCK):
            block = self.rows[start : start + _BLOCK]
            n = len(block)
            at = _put(self._file, at, struct.pack('<BHH', start + n == size, n, n ^ 0xFFFF))
            self._file[at : at + n] = block
            at += n
        at = _put(self._file, at, checksum)
        crc = zlib.crc32(self._file[self._at : at])
        _put(self._file, at, struct.pack('>I', crc) + _END)
        return self._file


def _put(memory: np.ndarray, at: int, data: bytes | memoryview) -> int:
    memory[at : at + len(data)] = np.frombuffer(data, np.uint8)
    return at + len(data)


_kept = threading.local()


def _memory(use: str, size: int) -> np.ndarray:
    """Return uint8 (size,), the former call's memory unless an array of it lives.

    New pages from the kernel would cost a quarter of the time that decoding takes.
    """
    kept = vars(_kept).get(use, bytearray())
    try:
        # Python refuses to resize a bytearray that an array looks into.
        kept.append(0)
        kept.pop()
        free = len(kept) >= size
    except BufferError:
        free = False
    if not free:
        kept = vars(_kept)[use] = bytearray(size)
    return np.frombuffer(kept, np.uint8, size)


_END = struct.pack('>I4sI', 0, b'IEND', zlib.crc32(b'IEND'))
