"""Photo files, decoded: PNG in half the time of Pillow where `imagecodecs` is installed.

`imagecodecs` brings the decoders libspng and libdeflate (`pip install ibnseg[fast]`).
"""

import io
import struct
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.registry import TRANSFORMS
from PIL import Image

from .. import disk
from ..domains import pixels
from ..errors import DataError

try:
    import imagecodecs
except ImportError:
    imagecodecs = None


@TRANSFORMS.register_module()
class LoadPhoto(BaseTransform):
    """As MMCV's LoadImageFromFile(imdecode_backend='pillow'): the same pixels of 8 bits, faster.

    Raises DataError as `read`; a photo with a label (`seg_map_path`) is `labelled`.
    """

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        photo = read(disk.read(path), path, labelled=bool(results.get('seg_map_path')))
        results['img'] = photo
        results['img_shape'] = results['ori_shape'] = photo.shape[:2]
        return results


def read(data: bytes, name: str | Path = 'photo', labelled: bool = False) -> np.ndarray:
    """Decode a photo: uint8 BGR (H, W, 3), turned as its EXIF orientation says.

    16 bits are divided by 257 and rounded. Alpha is dropped; grey with alpha lies on MMCV's grey
    instead. CMYK is converted without its colour profile.

    Args:
        data: the file's content.
        name: of the file, for messages.
        labelled: whether a label belongs to it, drawn over the photo as stored or as shown.

    Raises:
        DataError: values that can't be scaled to 8 bits (`pixels.photo_fault`); `labelled`, and
            its orientation leaves open how the label lies (`pixels.is_clear`).
        Exception: what Pillow raises of a file that it can't read.
    """
    photo = by_libspng(data)
    return _by_pillow(data, name, labelled) if photo is None else photo


def of_image(image: Image.Image) -> np.ndarray:
    """Return a picture of Pillow as `read` gives its file: uint8 BGR (H, W, 3), turned.

    Of 16 bits in colour Pillow keeps the upper eight: give `read` the file instead.

    Raises DataError for modes I and F, which do not say which value is white.
    """
    if image.mode.startswith(('I', 'F')):
        raise DataError(
            f'picture of mode {image.mode}, which does not say which value is white. Convert it to '
            'RGB of 8 bits',
            'depth',
        )
    return _turned(image, 'picture')


def _by_pillow(data: bytes, name: str | Path, labelled: bool) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    if fault := pixels.photo_fault(image):
        raise DataError(f'{name}: photo is {fault}. Take the original file', 'depth')
    return _turned(image, name, labelled, data)


def _turned(
    image: Image.Image, name: str | Path, labelled: bool = False, data: bytes = b''
) -> np.ndarray:
    image.load()
    mode, turn = image.mode, pixels.orientation(image)
    if labelled and not pixels.is_clear(image.size, turn):
        raise DataError(
            f'{name}: {pixels.unclear(turn)}. Turn the pixels of the one that lies wrong and drop '
            'the tag, take the original file, or leave the pair out with --skip-list',
            'orientation',
        )
    if pixels.is_deep(data):
        image = _eight_bits(data)
    if mode == 'LA':  # on MMCV's grey, for alpha 0 is often over black
        alpha, image = image.convert('RGBA').getchannel(3), image.convert('RGB')
        image = Image.composite(image, Image.new('RGB', image.size, (124, 117, 104)), alpha)
    if turn > 1:
        image = image.transpose(pixels.TURNS[turn])
    if image.mode != 'RGB':  # would be a copy
        image = image.convert('RGB')
    return cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR)


def _eight_bits(png: bytes) -> Image.Image:
    """Decode a PNG of 16 bits by OpenCV, for Pillow cuts its values or keeps them as they are."""
    deep = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    eight = ((deep.astype(np.uint32) + 128) // 257).astype(np.uint8)
    channels = 1 if eight.ndim == 2 else eight.shape[2]
    order = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    return Image.fromarray(eight if channels == 1 else cv2.cvtColor(eight, order[channels]))


#: Depth, colour type, compression, filter and interlace method -> channels, and what makes Pillow's
#: RGB of them as BGR.
_KINDS = {
    b'\x08\x02\0\0\0': (3, cv2.COLOR_RGB2BGR),
    b'\x08\x06\0\0\0': (4, cv2.COLOR_RGBA2BGR),
}
#: The chunks beside IDAT that never change a pixel, and their sizes. A text or eXIf may turn the
#: photo, and tRNS makes a colour transparent.
_CHUNKS = {b'IHDR': 13, b'gAMA': 4, b'cHRM': 32, b'sRGB': 1, b'pHYs': 9, b'tIME': 7, b'IEND': 0}


def by_libspng(data: bytes) -> np.ndarray | None:
    """Decode an undamaged PNG of 8-bit RGB or RGBA, not interlaced: uint8 BGR (H, W, 3).

    libspng itself unpacks by zlib, which takes 17 of its 25 ms for a photo of 1914x1052, libdeflate
    6. So libdeflate unpacks, and libspng gets the rows stored as they are.

    None for any other file, and without `imagecodecs`.
    """
    if imagecodecs is None or data[:16] != pixels.PNG or data[24:29] not in _KINDS:
        return None
    width, height = struct.unpack_from('>II', data, 16)
    channels, to_bgr = _KINDS[data[24:29]]
    packed = _image_data(data)
    # Pillow warns of a larger photo.
    if packed is None or width * height > (Image.MAX_IMAGE_PIXELS or 0):
        return None
    try:
        size = height * (1 + width * channels)
        memory = _memory(2 * size + size // 1000 + 1000)  # stored, rows take a little more
        rows = imagecodecs.deflate_decode(packed, out=memory[:size])
        png = memoryview(memory[size:])
        stored = imagecodecs.deflate_encode(rows, level=0, out=png[41:-16])
        png[:41] = data[:33] + struct.pack('>I', len(stored)) + b'IDAT'
        checksum = imagecodecs.deflate_crc32(stored, zlib.crc32(b'IDAT'))
        end = 41 + len(stored) + 16
        png[end - 16 : end] = struct.pack('>I', checksum) + pixels.PNG_END
        image = imagecodecs.spng_decode(png[:end])
        return cv2.cvtColor(image, to_bgr, dst=image if channels == 3 else None)
    except (imagecodecs.DeflateError, imagecodecs.SpngError):
        return None


def _image_data(data: bytes) -> bytes | None:
    """Return a PNG's zlib stream; None if it is cut off or has a chunk not as in `_CHUNKS`."""
    view, at, kind, found = memoryview(data), 8, b'', []
    while kind != b'IEND':
        if at + 12 > len(data):
            return None
        size, kind = struct.unpack_from('>I4s', data, at)
        body, at = view[at + 8 : at + 8 + size], at + 12 + size
        if kind == b'IDAT':
            found.append(body)
            continue
        checksum = int.from_bytes(view[at - 4 : at], 'big')
        if size != _CHUNKS.get(kind) or zlib.crc32(body, zlib.crc32(kind)) != checksum:
            return None
    return b''.join(found) if at == len(data) else None


def _memory(size: int) -> np.ndarray:
    """Return uint8 (size,), a thread's own and the same in each call: new pages would cost 4 ms."""
    kept = vars(_kept).get('memory', ())
    if len(kept) < size:
        kept = _kept.memory = np.empty(size, np.uint8)
    return kept[:size]


_kept = threading.local()
