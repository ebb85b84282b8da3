import io
import struct
import zlib

import cv2
import mmcv
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmseg.registry import TRANSFORMS
from PIL import Image, ImageOps, PngImagePlugin

from ibnseg.domains import DataError
from ibnseg.pipeline import photos

fast = pytest.mark.skipif(
    not photos.imagecodecs, reason='imagecodecs is not installed (ibnseg[fast])'
)
HEADER = struct.pack('>IIBBBBB', 20, 40, 8, 2, 0, 0, 0)


def picture(size, channels=3, seed=0):
    """Smooth and noisy parts, so that encoders choose all of PNG's filters."""
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([x + k * y for k in range(channels)], -1)
    noise = rng.integers(0, 256, (*size, channels))
    return np.where((y // 16 % 2 == 0)[..., None], smooth, noise).astype(np.uint8)


def encoded(image, form='PNG', **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(kind, body):
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


def with_rows(header, rows):
    return with_data(header, zlib.compress(rows))


def with_data(header, packed):
    """A PNG of that header and data, its checksums right."""
    parts = ((b'IHDR', header), (b'IDAT', packed), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*part) for part in parts)


def by_pillow(data):
    return mmcv.imfrombytes(data, backend='pillow')


@fast
@pytest.mark.parametrize('channels', [3, 4])
@pytest.mark.parametrize('size', [(1, 1), (1, 90), (300, 401)], ids=str)
@pytest.mark.parametrize('level', [0, 9])
def test_plain_png_is_pillows(size, channels, level):
    data = encoded(picture(size, channels), compress_level=level)
    found = photos.by_libspng(data)
    np.testing.assert_array_equal(found, by_pillow(data))
    assert found.flags.c_contiguous and found.flags.writeable


@fast
@pytest.mark.parametrize('filtering', range(5))
def test_every_filter(filtering):
    rows = np.insert(picture((40, 20)).reshape(40, 60), 0, filtering, axis=1)
    data = with_rows(HEADER, rows.tobytes())
    np.testing.assert_array_equal(photos.by_libspng(data), by_pillow(data))


@fast
def test_harmless_chunks_and_many_data_chunks():
    _, data = cv2.imencode('.png', picture((300, 401)))  # 8 KiB a chunk
    data = data.tobytes()
    assert data.count(b'IDAT') > 9
    data = data[:33] + chunk(b'gAMA', struct.pack('>I', 45455)) + chunk(b'sRGB', b'\0') + data[33:]
    np.testing.assert_array_equal(photos.by_libspng(data), by_pillow(data))


def turned(form):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture((30, 40)), form, exif=exif)


def tagged(form, orientation, size):
    """A photo with an orientation as it may stand in a file."""
    exif, text, options = Image.Exif(), PngImagePlugin.PngInfo(), {}
    exif[0x0112] = orientation
    if form == 'text':  # older ImageMagick
        body = exif.tobytes()
        text.add_text('Raw profile type exif', f'\nexif\n{len(body):8}\n{body.hex()}\n', zip=True)
    elif form == 'XMP':
        text.add_itxt('XML:com.adobe.xmp', f'<x tiff:Orientation="{orientation}"/>')
    else:
        options['exif'] = exif
    if form != 'JPEG':
        options['pnginfo'] = text
    return encoded(picture(size), 'JPEG' if form == 'JPEG' else 'PNG', **options)


def with_text():
    text = PngImagePlugin.PngInfo()
    text.add_text('Author', 'nobody')
    return encoded(picture((30, 40)), pnginfo=text)


def adam7():
    """One pixel: all of it is in the first of the seven passes."""
    return with_rows(struct.pack('>IIBBBBB', 1, 1, 8, 2, 0, 0, 1), b'\0\1\2\3')


ORDINARY = {
    'jpeg': lambda: encoded(picture((30, 40)), 'JPEG'),
    'jpeg, turned': lambda: turned('JPEG'),
    'png, turned': lambda: turned('PNG'),
    'png with a text': with_text,
    'interlaced': adam7,
    'grey': lambda: encoded(picture((30, 40))[..., 0]),
    'grey, alpha': lambda: encoded(picture((30, 40), 2), compress_level=1),
    'palette': lambda: encoded(Image.fromarray(picture((30, 40))).quantize(16)),
    'palette, transparent': lambda: encoded(
        Image.fromarray(picture((30, 40))).quantize(16), transparency=bytes(range(16))
    ),
    'cmyk': lambda: encoded(Image.fromarray(picture((30, 40))).convert('CMYK'), 'JPEG'),
    'transparent colour': lambda: encoded(picture((30, 40)), transparency=(0, 0, 0)),
    '16 bits': lambda: cv2.imencode('.png', picture((30, 40)).astype(np.uint16) * 257)[1].tobytes(),
}


@pytest.mark.filterwarnings('ignore:Palette images with Transparency')
@pytest.mark.parametrize('kind', ORDINARY)
def test_other_files_are_left_to_pillow(kind):
    data = ORDINARY[kind]()
    assert photos.by_libspng(data) is None
    found = photos.read(data)
    np.testing.assert_array_equal(found, by_pillow(data))
    assert found.flags.c_contiguous


def test_without_imagecodecs_pillow_reads_all(monkeypatch):
    monkeypatch.setattr(photos, 'imagecodecs', None)
    data = encoded(picture((30, 40)))
    assert photos.by_libspng(data) is None
    np.testing.assert_array_equal(photos.read(data), by_pillow(data))


def reads_as_by_pillow(data):
    """The same pixels or the same error."""
    try:
        expected = by_pillow(data)
    except Exception as error:
        with pytest.raises(type(error)):
            photos.read(data)
    else:
        np.testing.assert_array_equal(photos.read(data), expected)


@fast
def test_damage_reads_as_by_pillow():
    """One bit wrong anywhere, or the end missing."""
    whole = encoded(picture((30, 40)))
    whole = whole[:33] + chunk(b'gAMA', struct.pack('>I', 45455)) + whole[33:]
    rng = np.random.default_rng(0)
    for end in (0, 7, 8, 20, 33, 40, *rng.integers(41, len(whole), 20), len(whole) - 1):
        reads_as_by_pillow(whole[:end])
    for at in (*range(80), *rng.integers(80, len(whole), 300), *range(len(whole) - 30, len(whole))):
        bad = bytearray(whole)
        bad[at] ^= 1 << rng.integers(8)
        reads_as_by_pillow(bytes(bad))


@fast
@pytest.mark.parametrize('wrong', ['filter', 'too few rows', 'too many rows', 'checksum', 'bomb'])
def test_wrong_content_with_right_checksums(wrong):
    rows = np.insert(picture((40, 20)).reshape(40, 60), 0, 0, axis=1)
    if wrong == 'filter':
        rows[7, 0] = 9
    rows = {'too few rows': rows[:39], 'too many rows': np.tile(rows, (2, 1))}.get(wrong, rows)
    header = HEADER[:4] + struct.pack('>I', 2**31 - 1) + HEADER[8:] if wrong == 'bomb' else HEADER
    packed = zlib.compress(rows.tobytes())
    if wrong == 'checksum':  # zlib's own
        packed = packed[:-1] + bytes([packed[-1] ^ 1])
    reads_as_by_pillow(with_data(header, packed))


@pytest.mark.parametrize('size', [(30, 40), (40, 40)], ids=str)
@pytest.mark.parametrize('orientation', range(1, 10))
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'text', 'XMP'])
def test_orientation(tmp_path, form, orientation, size):
    """A photo with a label is turned if the label's shape can tell; else its name is said."""
    data = tagged(form, orientation, size)
    shown = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))[..., ::-1]
    np.testing.assert_array_equal(photos.read(data), shown)
    path = tmp_path / 'photo.png'
    path.write_bytes(data)
    sample = dict(img_path=str(path), seg_map_path='label.png')
    if orientation in (1, 9) or (orientation > 4 and size == (30, 40)):
        np.testing.assert_array_equal(photos.LoadPhoto()(sample)['img'], shown)
    else:
        with pytest.raises(DataError, match=f'EXIF orientation {orientation}') as caught:
            photos.LoadPhoto()(sample)
        assert str(caught.value).startswith(str(path)) and caught.value.kind == 'orientation'
    assert (photos.LoadPhoto()(dict(img_path=str(path)))['img'] == shown).all()  # one's own


@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_16_bits_are_rounded_to_the_nearest_of_8(channels):
    values = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256, 1)
    values = np.concatenate([np.roll(values, 77 * c) for c in range(channels)], -1)
    if channels in (2, 4):
        values[..., -1] = 65535  # opaque
    header = struct.pack('>IIBBBBB', 256, 256, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = np.insert(values.astype('>u2').reshape(256, -1).view(np.uint8), 0, 0, axis=1)
    expected = np.rint(values / 257).astype(np.uint8)
    colour = expected[..., :3] if channels > 2 else np.repeat(expected[..., :1], 3, -1)
    found = photos.read(with_rows(header, rows.tobytes()))
    np.testing.assert_array_equal(found, colour[..., ::-1])


def test_a_16_bit_photo_is_turned():
    data, grey = tagged('PNG', 6, (30, 40)), picture((30, 40))[..., 0]
    deep = cv2.imencode('.png', grey.astype(np.uint16) * 257)[1].tobytes()
    at = data.index(b'eXIf') - 4
    tag = data[at : at + 12 + int.from_bytes(data[at : at + 4], 'big')]
    found = photos.read(deep[:33] + tag + deep[33:])
    np.testing.assert_array_equal(found[..., 0], np.rot90(grey, -1))


@pytest.mark.parametrize(('bits', 'scale'), [(1, 255), (2, 85), (4, 17)])
def test_few_bits_are_scaled_up(bits, scale):
    header = struct.pack('>IIBBBBB', 8, 2, bits, 0, 0, 0, 0)
    values = np.arange(16).reshape(2, 8) % (1 << bits)
    packed = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
    rows = np.insert(np.packbits(packed.reshape(2, -1), axis=1), 0, 0, axis=1)
    found = photos.read(with_rows(header, rows.tobytes()))
    np.testing.assert_array_equal(found, np.repeat(scale * values[..., None], 3, -1))


@pytest.mark.parametrize(
    ('pixels', 'mode'),
    [(np.uint16, 'I;16'), ('>u2', 'I;16B'), (np.int32, 'I'), (np.float32, 'F'), (np.uint8, 'L')],
)
def test_values_of_unknown_scale_are_refused(tmp_path, pixels, mode):
    path = tmp_path / 'photo.png'
    path.write_bytes(encoded(Image.fromarray(picture((30, 40))[..., 0].astype(pixels)), 'TIFF'))
    with pytest.raises(DataError, match=f'photo is TIFF, mode {mode}; expected') as caught:
        photos.LoadPhoto()(dict(img_path=str(path)))
    assert str(caught.value).startswith(str(path)) and caught.value.kind == 'depth'


@fast
def test_a_photo_turned_by_what_follows_its_pixels():
    data = turned('PNG')
    at = data.index(b'eXIf') - 4
    end = at + 12 + int.from_bytes(data[at : at + 4], 'big')
    late = data[:at] + data[end:-12] + data[at:end] + data[-12:]
    assert by_pillow(late).shape == (40, 30, 3)
    reads_as_by_pillow(late)


def test_a_large_photo_is_left_to_pillow(monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 30 * 40 - 1)
    with pytest.warns(Image.DecompressionBombWarning):
        photos.read(encoded(picture((30, 40))))


def test_load_photo_is_load_image_from_file(tmp_path):
    for name, form in (('a.png', 'PNG'), ('b.jpg', 'JPEG')):
        path = tmp_path / name
        path.write_bytes(encoded(picture((30, 40)), form))
        with DefaultScope.overwrite_default_scope('mmseg'):
            ours = TRANSFORMS.build(dict(type='LoadPhoto'))
            theirs = TRANSFORMS.build(dict(type='LoadImageFromFile', imdecode_backend='pillow'))
        found, expected = ours(dict(img_path=str(path))), theirs(dict(img_path=str(path)))
        np.testing.assert_array_equal(found.pop('img'), expected.pop('img'))
        assert found == expected
