import json

import numpy as np
import pytest

from ibnseg import labels


@pytest.mark.parametrize('space', labels.SPACES)
def test_lut_sends_what_it_does_not_know_to_ignore(space):
    table = labels.lut(space)
    assert table.dtype == np.uint8 and table.shape == (256,)
    classes = labels.task(space).classes
    assert set(table.tolist()) <= {*range(len(classes)), labels.IGNORE}
    assert (table[~labels.possible(space)] == labels.IGNORE).all()
    assert table[labels.IGNORE] == labels.IGNORE
    absent = {classes.index(name) for name in labels.space(space).absent}
    named = set(table.tolist()) - {labels.IGNORE}
    assert labels.class_ids(space) == tuple(sorted(named - absent))


@pytest.mark.parametrize('space', labels.SPACES)
def test_rows_are_sound(space):
    row = labels.space(space)
    assert len(set(row.names)) == len(row.names) <= 254  # 254 and 255 are no names
    grouped = [name for names in row.groups.values() for name in names]
    assert len(set(grouped)) == len(grouped) and set(grouped) <= set(row.names)
    assert set(row.groups) <= set(row.task.classes) and set(row.absent) <= set(row.groups)
    if row.encoding == 'colour':
        assert len(set(row.colours)) == len(row.names)
    assert row.colours is None or len(row.colours) == len(row.names)


@pytest.mark.parametrize('space', labels.SPACES)
def test_raw_id_is_the_way_back(space):
    task, table = labels.task(space), labels.lut(space)
    for index, name in enumerate(task.classes):
        raw = labels.raw_id(space, name)
        assert (raw is not None) == (index in labels.class_ids(space))
        assert raw is None or table[raw] == index
    assert labels.raw_id(space, 'spaceship') is None


@pytest.mark.parametrize('space', labels.SPACES)
def test_lut_is_no_shared_array(space):
    labels.lut(space)[:] = 7
    assert labels.lut(space)[255] == labels.IGNORE


def published(space: str, maps: dict) -> dict[int, int]:
    """{raw id: class} as the reference has it."""

    def ids(rows, key='train'):
        return {row['id'] % 256: row[key] for row in rows}  # -1 is 255 in an 8-bit file

    if space in ('bdd100k', 'acdc', 'dark_zurich'):  # published as training classes
        return {i: i for i in range(19)}
    return {
        'cityscapes': lambda: ids(maps['cityscapes']),
        'kitti': lambda: ids(maps['cityscapes']),
        'gta5': lambda: ids(maps['gta5']['ids']),
        'synthia': lambda: {int(raw): train for raw, train in maps['synthia']['to_train'].items()},
        'mapillary-coarse': lambda: ids(maps['mapillary_v1_2']['classes'], 'train_coarse'),
        'mapillary-rich': lambda: ids(maps['mapillary_v1_2']['classes'], 'train_rich'),
        'idd': lambda: ids(maps['idd']['classes']),
        'camvid-11': lambda: ids(maps['camvid_11']),
    }[space]()


#: Spaces that the reference says nothing of; tested below against what their publishers say.
ELSEWHERE = {'idd-level3', 'camvid-32', 'bdd100k-drivable', 'bdd100k-drivable-2018'}


@pytest.mark.parametrize('space', sorted(set(labels.SPACES) - ELSEWHERE))
def test_lut_is_the_published_map(space, shared):
    maps = json.loads(shared('reference', 'label_maps.json').read_text())
    expected = np.full(256, maps['ignore'], np.uint8)
    for raw, train in published(space, maps).items():
        expected[raw] = train
        assert labels.possible(space)[raw]
    np.testing.assert_array_equal(labels.lut(space), expected)


@pytest.mark.parametrize(
    ('space', 'rows'),
    [
        ('mapillary-coarse', 'mapillary_v1_2'),
        ('mapillary-rich', 'mapillary_v1_2'),
        ('idd', 'idd'),
    ],
)
def test_raw_names_are_the_published_ones(space, rows, shared):
    maps = json.loads(shared('reference', 'label_maps.json').read_text())
    assert list(labels.space(space).names) == [row['name'] for row in maps[rows]['classes']]


def test_mapillary_maps_differ_on_eleven_ids():
    coarse, rich = labels.lut('mapillary-coarse'), labels.lut('mapillary-rich')
    names = labels.space('mapillary-rich').names
    assert {names[i] for i in np.flatnonzero(coarse != rich)} == {
        'Bike Lane', 'Crosswalk - Plain', 'Curb Cut', 'Parking', 'Pedestrian Area',
        'Service Lane', 'Lane Marking - Crosswalk', 'Manhole', 'Street Light',
        'Traffic Sign Frame', 'Traffic Sign (Back)',
    }  # fmt: skip


def test_idd_level3_merges_what_idd_tells_apart():
    """Every name of `idd` is in one id of level 3 and has its class, or one it shares the id with.

    The exception is the train, among more of other vehicles.
    """
    fine, coarse = labels.space('idd'), labels.space('idd-level3')
    home = {part: i for i, name in enumerate(coarse.names) for part in name.split(', ')}
    assert set(home) == set(fine.names[: fine.names.index('unlabeled')])
    table, level3 = labels.lut('idd'), labels.lut('idd-level3')
    for i, name in enumerate(fine.names):
        if name != 'train' and table[i] != labels.IGNORE:
            assert level3[home[name]] == table[i]
    # As AutoNUE's own table numbers them.
    assert [home[name] for name in ('sidewalk', 'car', 'train', 'pole', 'building', 'sky')] == [
        2, 9, 12, 20, 22, 25,
    ]  # fmt: skip


def test_camvid_32_groups_into_camvid_11():
    assert labels.class_ids('camvid-32') == labels.class_ids('camvid-11')
    row = labels.space('camvid-32')
    unmapped = np.array(row.names)[labels.lut('camvid-32')[:32] == labels.IGNORE]
    assert len(row.names) == 32 and unmapped.tolist() == ['Void']
    # Every channel of its colours is a multiple of 64: a slip of the pen would show.
    assert {channel % 64 for colour in row.colours for channel in colour} == {0}


@pytest.mark.parametrize(
    ('space', 'order'),
    [
        ('bdd100k-drivable', ['direct', 'alternative', 'background']),
        ('bdd100k-drivable-2018', ['background', 'direct', 'alternative']),
    ],
)
def test_drivable_areas(space, order):
    classes = labels.task(space).classes
    assert classes == ('direct', 'alternative', 'background')
    assert [classes[i] for i in labels.lut(space)[:3]] == order


def test_classes_and_colours_are_the_published_ones(shared):
    maps = json.loads(shared('reference', 'label_maps.json').read_text())
    assert list(labels.CLASSES) == maps['train_classes']
    colours = {row['train']: row['color'] for row in maps['cityscapes'] if row['train'] != 255}
    assert labels.PALETTE.tolist() == [colours[i] for i in range(19)]


@pytest.mark.parametrize(
    'function', [labels.lut, labels.possible, labels.class_ids, labels.space, labels.task]
)
def test_unknown_space_names_the_choices(function):
    with pytest.raises(ValueError, match=r"unknown label space 'ade'.*'cityscapes'.*'camvid-11'"):
        function('ade')


@pytest.mark.parametrize('space', labels.SPACES)
def test_fold_is_the_map_before_counting(space):
    """Counting raw ids and then mapping is mapping and then counting."""
    ids, classes = len(labels.space(space).names), len(labels.task(space).classes)
    rng = np.random.default_rng(0)
    truth, prediction = rng.integers(0, ids, 500), rng.integers(0, classes, 500)
    raw, expected = np.zeros((ids, classes), np.int64), np.zeros((classes, classes), np.int64)
    for true, guess in zip(truth, prediction, strict=True):
        raw[true, guess] += 1
        if labels.lut(space)[true] != labels.IGNORE:
            expected[labels.lut(space)[true], guess] += 1
    np.testing.assert_array_equal(labels.fold(raw, space), expected)


def test_only_mapillary_has_two_maps():
    both = ('mapillary-coarse', 'mapillary-rich')
    found = {space: labels.maps(space) for space in labels.SPACES}
    assert {space: maps for space, maps in found.items() if maps} == dict.fromkeys(both, both)
