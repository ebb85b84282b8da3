"""Label files that any tool may have changed: read as their makers meant, or refused by name."""

import io
import json

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from mmseg.datasets import MapillaryDataset_v1
from PIL import Image, PngImagePlugin

from ibnseg import domains, labels
from ibnseg.domains import DataError, pixels

INDEXED = [name for name in labels.SPACES if labels.space(name).encoding == 'index']
COLOURED = [name for name in INDEXED if labels.space(name).colours]
GREY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)


def save(path, ids, palette=None, **how):
    image = Image.fromarray(np.asarray(ids, np.uint8))
    if palette is not None:
        image.putpalette(np.asarray(palette, np.uint8).tobytes())
    image.save(path, **how)
    return path


def every_id(space):
    return np.resize(np.arange(len(labels.space(space).names)), (40, 50))


def colours_of(space):
    published = np.array(labels.space(space).colours, np.uint8)
    return np.concatenate([published, GREY[len(published) :]])


def refused(path, space, kind, *words):
    with pytest.raises(DataError) as caught:
        domains.read_raw(path, space)
    assert caught.value.kind == kind and str(caught.value).startswith(f'{path}: ')
    for word in words:
        assert word in str(caught.value)


# -------------------------------------------------------------------------------- palettes


def test_colours_are_the_published_ones(shared):
    maps = json.loads(shared('reference', 'label_maps.json').read_text())
    for space, rows in (('cityscapes', maps['cityscapes']), ('gta5', maps['gta5']['ids'])):
        expected = {row['id']: tuple(row['color']) for row in rows if row['id'] >= 0}
        assert len(expected) == 34
        assert {i: labels.space(space).colours[i] for i in expected} == expected
    with DefaultScope.overwrite_default_scope('mmseg'):
        vistas = MapillaryDataset_v1.METAINFO
    for space in ('mapillary-coarse', 'mapillary-rich'):
        assert labels.space(space).names == tuple(vistas['classes'])
        assert list(map(list, labels.space(space).colours)) == vistas['palette']


@pytest.mark.parametrize('space', COLOURED)
def test_the_published_palette_passes(tmp_path, space):
    ids = every_id(space)
    path = save(tmp_path / 'x.png', ids, colours_of(space))
    np.testing.assert_array_equal(domains.read_raw(path, space), ids)


@pytest.mark.parametrize('space', INDEXED)
def test_a_grey_palette_is_a_grey_file(tmp_path, space):
    ids = every_id(space)
    path = save(tmp_path / 'x.png', ids, GREY)
    np.testing.assert_array_equal(domains.read_raw(path, space), ids)


def sorted_by_brightness(ids, palette):
    """Each pixel keeps its colour; ids are numbered by it, the darkest first."""
    used = np.unique(ids)
    order = used[np.argsort(palette[used].sum(1), kind='stable')]
    table = np.zeros(256, np.uint8)
    table[order] = range(len(order))
    return table[ids], palette[order]


def two_exchanged(ids, palette):
    table = np.arange(256, dtype=np.uint8)
    table[[13, 15]] = 15, 13
    return table[ids], palette[table]


def shortened(ids, palette):
    used = np.unique(ids[ids > 2])
    table = np.zeros(256, np.uint8)
    table[used] = range(len(used))
    return table[np.maximum(ids, 3)], palette[used]


def quantised(ids, palette):
    colours = Image.fromarray(palette[ids]).quantize(8)
    return np.asarray(colours), np.reshape(colours.getpalette(), (-1, 3))


def of_no_one(ids, palette):
    return ids, np.random.default_rng(0).integers(1, 255, (256, 3))


@pytest.mark.parametrize(
    'change', [sorted_by_brightness, two_exchanged, shortened, quantised, of_no_one]
)
@pytest.mark.parametrize('space', COLOURED)
def test_a_palette_that_contradicts_is_refused(tmp_path, space, change):
    ids, palette = change(every_id(space), colours_of(space))
    refused(save(tmp_path / 'x.png', ids, palette), space, 'palette', 'id ', 'expected (')


def test_only_used_ids_and_meaning_count(tmp_path):
    """Unused entries may be anything; what is ignored may have any colour but a class's."""
    path, palette = tmp_path / 'x.png', colours_of('gta5')
    palette[[30, 33]] = palette[[33, 30]]
    palette[4] = 20, 20, 20  # `static` in GTA5's own files
    domains.read_raw(save(path, [[4, 7], [26, 0]], palette), 'gta5')
    refused(save(path, [[4, 7], [26, 33]], palette), 'gta5', 'palette', 'in 1 of 4 ids: id 33')
    palette[4] = labels.PALETTE[0]
    refused(save(path, [[4, 7], [26, 0]], palette), 'gta5', 'palette', 'id 4')


@pytest.mark.parametrize('space', sorted({*INDEXED} - {*COLOURED}))
def test_without_published_colours_only_a_sorted_grey_is_refused(tmp_path, space):
    path, ids = tmp_path / 'x.png', np.array([[0, 2], [1, 2]])
    domains.read_raw(save(path, ids, of_no_one(ids, None)[1]), space)
    refused(save(path, ids, GREY[[0, 2, 1]]), space, 'palette', 'expected grey')


# -------------------------------------------------------------------------- training classes


def file_of(counts):
    ids = np.repeat(list(counts), list(counts.values()))
    return np.resize(ids, (100, len(ids) // 100 + 1))


CONVERTED = {
    'with 255': {0: 5000, 2: 3000, 10: 2000, 255: 500},
    'without': {0: 5000, 2: 3000, 8: 1000, 10: 2000, 13: 900},
    '19 for the ignored': {0: 5000, 1: 900, 2: 3000, 10: 2000, 19: 500},
    'few pixels of the road': {0: 1500, 2: 9000, 7: 40, 255: 10},
}
ORIGINAL = {
    'a tunnel': {0: 900, 7: 5000, 8: 900, 16: 4000},
    'a car': {0: 5000, 4: 900, 11: 3000, 26: 40},
    'one sky pixel in between': {0: 9000, 8: 900, 10: 800, 23: 1},
    'nearly blank': {0: 9000, 4: 1000},
    'blank': {0: 9000},
    'nothing': {0: 9000, 255: 1000},
    'no id 0': {7: 9000, 11: 1000},
}


@pytest.mark.parametrize('space', ['cityscapes', 'gta5', 'kitti'])
@pytest.mark.parametrize('counts', CONVERTED.values(), ids=CONVERTED)
def test_training_classes_in_place_of_ids_are_refused(tmp_path, counts, space):
    refused(save(tmp_path / 'x.png', file_of(counts)), space, 'train-ids', 'training classes')


@pytest.mark.parametrize('space', ['cityscapes', 'gta5', 'kitti'])
@pytest.mark.parametrize('counts', ORIGINAL.values(), ids=ORIGINAL)
def test_an_original_that_looks_alike_is_read(tmp_path, counts, space):
    ids = file_of(counts)
    path = save(tmp_path / 'x.png', ids)
    np.testing.assert_array_equal(domains.read_raw(path, space), ids)


def test_training_classes_are_told_from_ids_where_both_call_the_road_0(tmp_path):
    path = tmp_path / 'x.png'
    refused(save(path, file_of(CONVERTED['without'])), 'idd-level3', 'train-ids', 'no sky')
    for counts in ({0: 900, 9: 90, 10: 90}, {0: 900, 2: 90, 9: 90, 10: 90, 22: 1}, {0: 900}):
        ids = file_of(counts)
        np.testing.assert_array_equal(domains.read_raw(save(path, ids), 'idd-level3'), ids)


@pytest.mark.parametrize('space', ['bdd100k', 'acdc', 'dark_zurich', 'camvid-11'])
def test_where_classes_are_the_ids_they_are_read(tmp_path, space):
    ids = file_of({0: 5000, 1: 2000, 8: 900, 10: 900})
    np.testing.assert_array_equal(domains.read_raw(save(tmp_path / 'x.png', ids), space), ids)


# -------------------------------------------------------------------------------- encodings


@pytest.mark.parametrize(
    ('form', 'kind'),
    [('JPEG', 'lossy'), ('WEBP', 'lossy'), ('BMP', 'encoding'), ('TIFF', 'encoding')],
)
@pytest.mark.parametrize('space', ['cityscapes', 'synthia', 'camvid-32'])
def test_only_png_keeps_ids_as_published(tmp_path, space, form, kind):
    path = tmp_path / 'x.png'
    save(path, np.zeros((8, 8)), format=form)
    refused(path, space, kind, f'{form} data; expected PNG')


def label_with(form, orientation):
    out, text, options = io.BytesIO(), PngImagePlugin.PngInfo(), {}
    exif = Image.Exif()
    exif[0x0112] = orientation
    if form == 'eXIf':
        options['exif'] = exif
    elif form == 'Raw profile':
        text.add_text('Raw profile type exif', f'\nexif\n{9:8}\n{exif.tobytes().hex()}\n')
    else:
        text.add_text('Comment', f'eXIf tiff:Orientation="{orientation}"')
    save(out, np.full((8, 8), 7), format='png', pnginfo=text, **options)
    return out.getvalue()


@pytest.mark.parametrize('form', ['eXIf', 'Raw profile', 'a comment'])
def test_a_label_is_never_turned(tmp_path, form):
    path = tmp_path / 'x.png'
    for orientation in range(1, 9):
        path.write_bytes(label_with(form, orientation))
        if orientation == 1 or form == 'a comment':
            assert (domains.read_raw(path, 'cityscapes') == 7).all()
        else:
            refused(path, 'cityscapes', 'orientation', f'EXIF orientation {orientation}')


@pytest.mark.parametrize('data', [b'', b'\x89PNG', bytes(99), label_with('a comment', 1)[:60]])
def test_a_glance_at_damage_ends(data):
    assert pixels.may_turn(data) is False
