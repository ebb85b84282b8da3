import json

import numpy as np
import pytest

from ibnseg import labels


@pytest.mark.parametrize('space', labels.SPACES)
def test_lut_sends_what_it_does_not_know_to_ignore(space):
    table = labels.lut(space)
    assert table.dtype == np.uint8 and table.shape == (256,)
    assert set(table.tolist()) <= {*range(19), labels.IGNORE}
    assert (table[~labels.possible(space)] == labels.IGNORE).all()
    assert table[labels.IGNORE] == labels.IGNORE
    assert labels.class_ids(space) == tuple(sorted(set(table.tolist()) - {labels.IGNORE}))


@pytest.mark.parametrize('space', labels.SPACES)
def test_lut_is_no_shared_array(space):
    labels.lut(space)[:] = 7
    assert labels.lut(space)[255] == labels.IGNORE


@pytest.mark.parametrize('space', labels.SPACES)
def test_lut_is_the_published_map(space, shared):
    maps = json.loads(shared('reference', 'label_maps.json').read_text())
    rows = {
        'cityscapes': maps['cityscapes'],
        'gta5': maps['gta5']['ids'],
        'camvid-11': maps['camvid_11'],
    }[space]
    published = np.full(256, maps['ignore'], np.uint8)
    for row in rows:
        published[row['id'] % 256] = row['train']  # -1 is 255 in an 8-bit file
        assert labels.possible(space)[row['id'] % 256]
    np.testing.assert_array_equal(labels.lut(space), published)


def test_classes_and_colours_are_the_published_ones(shared):
    maps = json.loads(shared('reference', 'label_maps.json').read_text())
    assert list(labels.CLASSES) == maps['train_classes']
    colours = {row['train']: row['color'] for row in maps['cityscapes'] if row['train'] != 255}
    assert labels.PALETTE.tolist() == [colours[i] for i in range(19)]


@pytest.mark.parametrize(('space', 'count'), [('cityscapes', 19), ('gta5', 19), ('camvid-11', 11)])
def test_number_of_classes_a_space_can_name(space, count):
    assert len(labels.class_ids(space)) == count


def test_nineteen_classes():
    assert len(labels.CLASSES) == len(set(labels.CLASSES)) == 19
    assert labels.PALETTE.shape == (19, 3) and labels.PALETTE.dtype == np.uint8
    assert len(np.unique(labels.PALETTE, axis=0)) == 19


@pytest.mark.parametrize('space', ['cityscapes', 'gta5'])
def test_raw_ids_round_trip(space):
    np.testing.assert_array_equal(labels.lut(space)[labels.CITYSCAPES_IDS], np.arange(19))


@pytest.mark.parametrize('function', [labels.lut, labels.possible, labels.class_ids])
def test_unknown_space_names_the_choices(function):
    with pytest.raises(ValueError, match=r"unknown label space 'ade'.*'cityscapes'.*'camvid-11'"):
        function('ade')
