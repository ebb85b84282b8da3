"""What training, testing and scoring make of each odd dataset: all kinds, all rows."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from odd_data import DRAWN, LEGAL, ODD, Target, cases
from PIL import Image

from ibnseg import domains, labels
from ibnseg.audit import KINDS
from ibnseg.domains import DOMAINS, DataError
from ibnseg.measure import from_files
from ibnseg.pipeline import CrossDomainDataset, DomainDataset

STEPS = [dict(type='LoadPhoto'), dict(type='LoadLabels'), dict(type='PackSegInputs')]

#: The outcomes: the dataset is as it was; pairs are left out, counted and hashed; training draws
#: another sample; one clear error that names the file.
SAME, FEWER, OVER, REFUSED = 'same', 'fewer', 'over', 'refused'


class Stages(NamedTuple):
    """What becomes of a dataset with something of one kind in it."""

    train: str
    test: str
    score: str


_ALL_SAME = Stages(SAME, SAME, SAME)
_LEFT_OUT = Stages(FEWER, FEWER, FEWER)
_MEANING = Stages(REFUSED, REFUSED, REFUSED)
#: Of what the audit finds. 'photo' and 'label' tell where it is, if that matters.
OUTCOMES = {
    **dict.fromkeys(('photo-alone', 'label-alone', 'misnamed', 'same-name', 'layout'), _MEANING),
    **dict.fromkeys(('unreadable', 'empty', 'wrong-type', 'size', 'rotated'), _LEFT_OUT),
    # Found in the first and last bytes, or else when the file is decoded.
    ('damaged', 'photo'): Stages(OVER, REFUSED, SAME),
    ('damaged', 'label'): Stages(OVER, REFUSED, REFUSED),
    ('orientation', 'photo'): Stages(OVER, REFUSED, SAME),  # scoring opens no photo
    ('orientation', 'label'): Stages(OVER, REFUSED, REFUSED),
    'depth': Stages(REFUSED, REFUSED, SAME),
    **dict.fromkeys(
        ('colour', 'encoding', 'lossy', 'palette', 'ids', 'train-ids', 'same-file', 'swapped'),
        _MEANING,
    ),
    # Only the audit looks at what is right for each pair alone, or says nothing about labels.
    **dict.fromkeys(
        ('constant', 'grey', 'photo-form', 'odd-size', 'all-ignored', 'single-class', 'leak'),
        _ALL_SAME,
    ),
    **dict.fromkeys(('duplicate', 'same-label', 'foreign'), _ALL_SAME),
}
_ORDER = (SAME, OVER, FEWER, REFUSED)


def outcome(t: Target, kind: str, expected: list[tuple[str, Any]]) -> Stages:
    """Return the worst that the findings lead to."""
    stages = [_ALL_SAME]
    for name, file in expected:
        which = 'photo' if file == t.photo else 'label'
        found = OUTCOMES.get(name) or OUTCOMES[name, which]
        stages.append(_LEFT_OUT if (name, cut_at_an_end(t, kind)) == ('damaged', True) else found)
    return Stages(*(max(each, key=_ORDER.index) for each in zip(*stages, strict=True)))


def cut_at_an_end(t: Target, kind: str) -> bool:
    """Whether the beginning or the end of a damaged file shows it."""
    jpeg = t.bytes[0].startswith(b'\xff\xd8')
    polygons = t.label.suffix == '.json'
    flipped = {'bit flipped in the photo': jpeg, 'bit flipped in the label': polygons}
    return 'cut in' in kind or 'without its size' in kind or flipped.get(kind, False)


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


class Pair(NamedTuple):
    photo: np.ndarray
    truth: np.ndarray


def read(dataset, indices) -> dict[str, Pair]:
    """Return what a network sees of each sample, by the photo's path without its suffix."""
    found = {}
    for i in indices:
        sample = dataset[i]
        data = sample['data_samples']
        name = str(data.img_path).rpartition('.')[0]
        found[name] = Pair(sample['inputs'].numpy(), data.gt_sem_seg.data[0].numpy())
    return found


def train(t: Target) -> tuple[domains.Used, Any, dict[str, Pair]]:
    dataset = DomainDataset(t.where, str(t.root), STEPS)
    positions = [((0, i), i) for i in range(len(dataset))]
    replaced = [getattr(dataset[at]['data_samples'], 'replaced', {}) for at in positions]
    return dataset.used[0], replaced, read(dataset, positions)


def test(t: Target) -> tuple[domains.Used, dict[str, Pair]]:
    dataset = CrossDomainDataset([t.where], str(t.root))
    (used,) = dataset.used.values()
    return used, read(dataset, range(len(dataset)))


test.__test__ = False


def score(t: Target, folder) -> Any:
    record, _ = from_files.measure(t.where, folder, t.root, name='m')
    return record.domains[0]


@pytest.fixture(scope='module')
def whole(mended, tmp_path_factory):
    """name -> what the stages make of the untouched dataset, and perfect predictions of it."""
    known: dict[str, tuple] = {}

    def get(name: str) -> tuple:
        if name not in known:
            t = target(mended, name)
            folder = tmp_path_factory.mktemp('predictions')
            used, _, seen = train(t)
            for photo, label in used.pairs:
                classes = domains.read_labels(label, t.row.space)
                classes[classes == labels.IGNORE] = 0
                out = folder / photo.relative_to(t.folder).with_suffix('.png')
                out.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(classes).save(out)
            known[name] = used, seen, test(t)[1], score(t, folder), folder
        return known[name]

    return get


def target(mended, name: str) -> Target:
    t = mended(name)
    t.where = f'{name}:{t.split}'
    return t


def equal(one: dict[str, Pair], other: dict[str, Pair], but: set[str]) -> None:
    assert one.keys() | but == other.keys() | but
    for name in one.keys() - but:
        np.testing.assert_array_equal(one[name].photo, other[name].photo)
        np.testing.assert_array_equal(one[name].truth, other[name].truth)


def test_every_row_has_at_least_25_kinds():
    for name in DRAWN:
        assert len([1 for row, _ in cases(ODD) if row == name]) >= 60
    assert set(DRAWN) == set(DOMAINS)
    of_the_set = {'absent', 'count', 'resized', 'no-pixels'}
    known = {key if isinstance(key, str) else key[0] for key in OUTCOMES}
    assert known | of_the_set == set(KINDS)


@pytest.mark.parametrize(('name', 'kind'), cases(ODD))
def test_the_outcome_of_each_kind(mended, whole, name, kind):
    before, trained, tested, scored, folder = whole(name)
    t = target(mended, name)
    expected = ODD[kind](t)
    stages = outcome(t, kind, expected)
    if kind == 'pair scaled':  # It fits, unlike photos of other splits, and unlike its prediction.
        stages = Stages(SAME, SAME, REFUSED)
    touched = {str(path).rpartition('.')[0] for path in t.photos}
    changed = set() if kind in LEGAL else touched | {str(t.other[0]).rpartition('.')[0]}
    files = [str(file) for _, file in expected]

    def refused(stage, *words) -> None:
        with pytest.raises(DataError) as caught:
            stage(t, *words)
        said = str(caught.value)
        assert any(file in said for file in files) or t.photo.stem in said, said
        assert len(said) < 1500 and 'Traceback' not in said

    if stages.train == REFUSED:
        refused(train)
    else:
        used, replaced, seen = train(t)
        check_pairs(t, stages.train, used, before, files, seen)
        assert any(replaced) == (stages.train == OVER)
        equal(seen, trained, changed if stages.train != OVER else changed | touched)
    if stages.test == REFUSED:
        refused(test)
    else:
        used, seen = test(t)
        check_pairs(t, stages.test, used, before, files, seen)
        equal(seen, tested, changed)
    if stages.score == REFUSED:
        refused(score, folder)
        return
    found = score(t, folder)
    if stages.score == SAME and kind in LEGAL:
        np.testing.assert_array_equal(found.matrix, scored.matrix)
        assert found.protocol_hash == scored.protocol_hash
    elif stages.score == FEWER:
        assert found.images < scored.images and found.protocol_hash != scored.protocol_hash


def check_pairs(t, stage, used, before, files, seen) -> None:
    if stage == FEWER:
        assert len(used.pairs) < len(before.pairs) and used.digest != before.digest
        assert len(used.pairs) + len(used.odd) == len(before.pairs)
        assert all({*map(str, pair)} & {*files} for pair in used.odd)
        with pytest.raises(DataError, match='--skip-list'):
            domains.use(t.where, t.root, odd_pairs='refuse')
    else:
        assert used.keys == before.keys and used.digest == before.digest
