import io
import struct
import zlib

import cv2
import mmcv
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmseg.registry import TRANSFORMS
from PIL import Image, PngImagePlugin

from ibnseg.pipeline import photos

fast = pytest.mark.skipif(
    photos.imagecodecs() is None, reason='imagecodecs is not installed (ibnseg[fast])'
)
# 771 rows of 1 + 3 * 28 bytes are one stored block exactly.
SIZES = [(1, 1), (1, 90), (771, 28), (772, 28), (300, 401)]


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
    """A PNG of that header and those rows, its checksums right."""
    parts = ((b'IHDR', header), (b'IDAT', zlib.compress(rows)), (b'IEND', b''))
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*part) for part in parts)


def by_pillow(data):
    return mmcv.imfrombytes(data, backend='pillow')


@fast
@pytest.mark.parametrize('channels', [3, 4])
@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('level', [0, 1, 9])
def test_plain_png_is_pillows(size, channels, level):
    data = encoded(picture(size, channels), compress_level=level)
    found = photos.plain_png(data)
    np.testing.assert_array_equal(found, by_pillow(data))
    assert found.flags.c_contiguous and found.flags.writeable


@fast
@pytest.mark.parametrize('filtering', range(5))
def test_every_filter(filtering):
    rows = np.insert(picture((40, 20)).reshape(40, 60), 0, filtering, axis=1)
    data = with_rows(struct.pack('>IIBBBBB', 20, 40, 8, 2, 0, 0, 0), rows.tobytes())
    np.testing.assert_array_equal(photos.plain_png(data), by_pillow(data))


@fast
def test_harmless_chunks_and_many_data_chunks():
    _, data = cv2.imencode('.png', picture((300, 401)))  # 8 KiB a chunk
    data = data.tobytes()
    assert data.count(b'IDAT') > 9
    data = data[:33] + chunk(b'gAMA', struct.pack('>I', 45455)) + data[33:]
    np.testing.assert_array_equal(photos.plain_png(data), by_pillow(data))


@fast
def test_photos_share_no_memory_while_one_is_held():
    """A view of a photo holds it, too; once nobody does, the next photo may lie there."""
    files = [encoded(picture((30, 40), seed=seed)) for seed in range(3)]
    first = photos.read(files[0])
    part = photos.read(files[1])[5:9, ::-1, 1:]
    photos.read(files[2])
    np.testing.assert_array_equal(first, by_pillow(files[0]))
    np.testing.assert_array_equal(part, by_pillow(files[1])[5:9, ::-1, 1:])
    del part
    place = photos.read(files[0]).ctypes.data
    assert photos.read(files[1]).ctypes.data == place


def turned(form):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture((30, 40)), form, exif=exif)


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
    'transparent colour': lambda: encoded(picture((30, 40)), transparency=(0, 0, 0)),
    '16 bits': lambda: cv2.imencode('.png', picture((30, 40)).astype(np.uint16) * 257)[1].tobytes(),
}


@pytest.mark.parametrize('kind', ORDINARY)
def test_other_files_are_left_to_pillow(kind):
    data = ORDINARY[kind]()
    assert photos.plain_png(data) is None
    found = photos.read(data)
    np.testing.assert_array_equal(found, by_pillow(data))
    assert found.flags.c_contiguous


def test_withoutimagecodecs_pillow_reads_all(monkeypatch):
    monkeypatch.setattr(photos, 'imagecodecs', lambda: None)
    data = encoded(picture((30, 40)))
    assert photos.plain_png(data) is None
    np.testing.assert_array_equal(photos.read(data), by_pillow(data))


@fast
def test_no_damage_goes_unnoticed():
    """One bit wrong anywhere, or the end missing: never other pixels, and no other error."""
    whole = encoded(picture((30, 40)))
    truth = by_pillow(whole)
    rng = np.random.default_rng(0)
    damaged = [whole[:n] for n in (0, 7, 8, 20, 33, 40, *rng.integers(41, len(whole), 20))]
    for at in (*range(60), *rng.integers(60, len(whole), 300)):
        bad = bytearray(whole)
        bad[at] ^= 1 << rng.integers(8)
        damaged.append(bytes(bad))
    for data in damaged:
        found = photos.plain_png(data)
        assert found is None or np.array_equal(found, truth)
        try:
            expected = by_pillow(data)
        except Exception as error:
            with pytest.raises(type(error)):
                photos.read(data)
        else:
            np.testing.assert_array_equal(photos.read(data), expected)


@fast
@pytest.mark.parametrize('wrong', ['filter', 'too few rows', 'too many rows', 'checksum', 'bomb'])
def test_wrong_content_with_right_checksums(wrong):
    height = dict(bomb=2**31 - 1).get(wrong, 40)
    header = struct.pack('>IIBBBBB', 20, height, 8, 2, 0, 0, 0)
    rows = np.insert(picture((40, 20)).reshape(40, 60), 0, 0, axis=1)
    if wrong == 'filter':
        rows[7, 0] = 9
    rows = {'too few rows': rows[:39], 'too many rows': np.tile(rows, (2, 1))}.get(wrong, rows)
    data = with_rows(header, rows.tobytes())
    if wrong == 'checksum':  # Adler-32's, and the chunk's is right for it
        end = len(data) - 12 - 4
        data = data[: end - 1] + bytes([data[end - 1] ^ 1]) + data[end:]
        body = data[41:end]
        data = data[:33] + chunk(b'IDAT', body) + data[-12:]
    assert photos.plain_png(data) is None


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
