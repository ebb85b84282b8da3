"""Ids through a table, eight and two at a time, against one by one."""

import numpy as np
import pytest

from ibnseg.domains.lookup import look_up, pairs

RNG = np.random.default_rng(0)
CLASSES = RNG.integers(0, 256, 256).astype(np.uint8)
KNOWN = np.arange(256) < 200


@pytest.mark.parametrize('size', [0, 1, 7, 8, 9, 40, 1001])
@pytest.mark.parametrize('run', [1, 5, 30], ids=lambda n: f'runs of {n}')
def test_every_id_has_its_class(size, run):
    ids = np.repeat(RNG.integers(0, 200, size), run)[:size].astype(np.uint8)
    found, known = look_up(ids, pairs(CLASSES, KNOWN))
    assert known
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, CLASSES[ids])


def test_a_file_that_begins_with_nothing():
    ids = np.zeros(24, np.uint8)
    assert CLASSES[0]
    np.testing.assert_array_equal(look_up(ids, pairs(CLASSES, KNOWN))[0], CLASSES[ids])


def test_every_pair_of_ids():
    ids = np.arange(1 << 16, dtype=np.uint16).view(np.uint8)
    found, known = look_up(ids, pairs(CLASSES, KNOWN))
    assert not known
    np.testing.assert_array_equal(found, CLASSES[ids])


@pytest.mark.parametrize('size', [1, 8, 19])
def test_one_unknown_id_is_seen_wherever_it_is(size):
    table = pairs(CLASSES, KNOWN)
    for place in range(size):
        ids = np.zeros(size, np.uint8)
        ids[place] = 200
        assert not look_up(ids, table)[1]


def test_maps_and_views_keep_their_shape():
    ids = RNG.integers(0, 200, (6, 22)).astype(np.uint8)
    for view in (ids, ids[:, ::2], ids[::-1], ids.T):
        np.testing.assert_array_equal(look_up(view, pairs(CLASSES, KNOWN))[0], CLASSES[view])
