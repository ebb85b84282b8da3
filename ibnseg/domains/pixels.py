"""What a picture file says of its pixels beside their values; audit and reading share it.

Pillow alone, so that the audit needs no MM package.
"""

from PIL import ExifTags, Image

#: How a PNG begins, up to its size, and how it ends.
PNG, PNG_END = b'\x89PNG\r\n\x1a\n\0\0\0\rIHDR', b'\0\0\0\0IEND\xaeB`\x82'
#: Formats whose photos are 8-bit, or in PNG's case 16-bit, as Pillow's mode or the header says.
_PHOTOS = ('PNG', 'JPEG', 'MPO', 'BMP', 'GIF', 'WEBP', 'PPM')
#: Formats that may change ids.
LOSSY = ('JPEG', 'MPO', 'JPEG2000', 'WEBP', 'AVIF')
#: How the chunks of a PNG begin whose metadata can turn it: EXIF, older EXIF as text, XMP.
_TURNING = (b'eXIf', b'tEXtRaw profile type', b'zTXtRaw profile type', b'iTXtXML:com.adobe.xmp')

#: EXIF orientation -> how a viewer turns the stored pixels.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(image: Image.Image) -> int:
    """Return a picture's EXIF orientation, 1 to 8; 1 where it has none or an unknown one.

    Of a PNG without an eXIf chunk this decodes the pixels: a text may stand behind them.
    """
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    return found if found in TURNS else 1


def may_turn(png: bytes) -> bool:
    """Whether a PNG has metadata that could hold an orientation, at a glance at each chunk."""
    at = 8
    while at < len(png):
        if png.startswith(_TURNING, at + 4):
            return True
        at += 12 + int.from_bytes(png[at : at + 4], 'big')
    return False


def is_deep(data: bytes) -> bool:
    """Whether this is a PNG of 16 bits a channel, in colour or grey."""
    return data.startswith(PNG[:8]) and data[24:25] == b'\x10'


def as_shown(size: tuple[int, int], turn: int) -> tuple[int, int]:
    """Return (width, height) of a picture of stored `size` as a viewer shows it."""
    return size[::-1] if turn > 4 else size


def is_clear(size: tuple[int, int], turn: int) -> bool:
    """Whether a label's shape tells if it was drawn over the photo as stored or as shown.

    Nothing else does. A photo that is not clear is not used with a label.
    """
    return turn == 1 or as_shown(size, turn) != size


def unclear(turn: int) -> str:
    """Say what is wrong with a photo that is not clear."""
    return (
        f'EXIF orientation {turn} turns the photo, and its shape does not tell whether its label '
        'is turned too'
    )


def photo_fault(image: Image.Image) -> str | None:
    """Say why a photo's values can not be scaled to 8 bits, or None where they can.

    PNGs of 16 bits can. Modes I and F and TIFF do not say which value is white.
    """
    deep = image.format != 'PNG' and image.mode.startswith(('I', 'F'))
    if deep or image.format not in _PHOTOS:
        return f'{image.format}, mode {image.mode}; expected PNG or JPEG of 8 bits, or PNG of 16'
    return None
