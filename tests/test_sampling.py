"""Sources, subsets, class statistics and the samplers that draw by them."""

import multiprocessing
import os
import shutil
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from ibnseg import domains, labels, miniature
from ibnseg import workers as spread
from ibnseg.domains import DataError, Source, counts, subset, trained_on
from ibnseg.pipeline.dataset import DomainDataset
from ibnseg.train.config import load_config
from ibnseg.train.sampler import ClassUniformSampler, PositionSampler, RareClassSampler

CONFIGS = Path(__file__).parents[1] / 'configs'


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'ibnseg' / 'classes'


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """40 GTA5 and 10 Cityscapes training pairs. Not to be changed."""
    root = tmp_path_factory.mktemp('data')
    miniature.write(root, ('gta5',), train=40, val=2, size=(64, 128), workers=1)
    miniature.write(root, ('cityscapes',), train=10, val=2, size=(64, 128), workers=1)
    return root


CROP = dict(type='RandomScaleCrop', crop_size=(40, 60), ratio_range=(1.0, 1.0))


def build(data, domain='gta5:train', pipeline=(CROP,), **options) -> DomainDataset:
    return DomainDataset(domain, str(data), list(pipeline), **options)


BOTH = ['gta5:train', 'cityscapes:train']


# ------------------------------------------------------------------------ sources


@pytest.mark.parametrize(
    ('words', 'mixing', 'text', 'shares'),
    [
        ('gta5:train', None, 'gta5:train', (1,)),
        (['gta5'], 'equal', 'gta5:val', (1,)),
        (BOTH, None, 'gta5:train+cityscapes:train', (0.8, 0.2)),
        (BOTH, 'proportional', 'gta5:train+cityscapes:train', (0.8, 0.2)),
        (BOTH, 'equal', 'gta5:train+cityscapes:train (equal)', (0.5, 0.5)),
        (BOTH, (3, 1), 'gta5:train+cityscapes:train (3:1)', (0.75, 0.25)),
        (BOTH, [0.5, 2], 'gta5:train+cityscapes:train (0.5:2)', (0.2, 0.8)),
        (
            ['camvid:train/0006R0+0016E5', 'gta5:train'], 'equal',
            'camvid:train/0006R0+0016E5+gta5:train (equal)', (0.5, 0.5),
        ),
    ],
)  # fmt: skip
def test_source_in_words_and_back(words, mixing, text, shares):
    source = Source.of(words, mixing)
    assert str(source) == text
    again = Source.of(text)
    assert again.domains == source.domains and str(again) == text
    sizes = [40, 10][: len(source.domains)]
    assert source.shares(sizes) == again.shares(sizes) == pytest.approx(shares)


@pytest.mark.parametrize(
    ('words', 'mixing', 'expected'),
    [
        ([], None, 'one or several'),
        (['gta5:train', 'gta5:train'], None, 'each once'),
        (['gta5', 'gta5:val'], None, 'each once'),
        (['gta5:train', 'tokyo:train'], None, "unknown domain 'tokyo'"),
        ('gta5:train+tokyo:train', None, "unknown domain 'tokyo'"),
        (['gta5:train', 'bdd100k_drivable:train'], None, 'their classes differ'),
        (BOTH, 'evenly', "'evenly'"),
        (BOTH, (1,), 'one weight above 0'),
        (BOTH, (1, 0), 'one weight above 0'),
        (BOTH, (1, float('inf')), 'one weight above 0'),
        ('gta5:train+cityscapes:train (often)', None, 'often'),
    ],
)
def test_bad_sources_are_refused(words, mixing, expected):
    with pytest.raises(DataError) as caught:
        Source.of(words, mixing)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ('source', 'names'),
    [
        ('gta5:train', ['gta5']),
        (BOTH, ['gta5', 'cityscapes']),
        ('gta5:train+cityscapes:train (3:1)', ['gta5', 'cityscapes']),
        ('gta5:train -> cityscapes:train 10 %', ['gta5', 'cityscapes']),
        ('gta5:train -> cityscapes:train 10 % (subset 3)', ['gta5', 'cityscapes']),
        ('gta5:train -> cityscapes:train', ['gta5', 'cityscapes']),
    ],
)
def test_what_a_network_was_trained_on(source, names):
    assert [row.name for row in trained_on(source)] == names


def test_several_domains_behind_one_another(data):
    step = dict(type='PackSegInputs')
    load = [dict(type='LoadImageFromFile'), dict(type='LoadLabels'), step]
    both = build(data, BOTH, load)
    assert (len(both), both.sizes) == (50, (40, 10))
    found = [pair for domain in BOTH for pair in domains.find(domain, data)]
    for i in (0, 39, 40, 49):
        sample = both[i]['data_samples']
        assert sample.domain == BOTH[i >= 40]
        assert (sample.sample_idx, sample.img_path) == (i, str(found[i][0]))


# ------------------------------------------------------------------------ subsets


@pytest.mark.parametrize('source', ['gta5:train', 'gta5:train+synthia:train (3:1)'])
@pytest.mark.parametrize('fraction', [1, 0.25, 0.001, 1e-7])
@pytest.mark.parametrize('seed', [0, 12])
def test_a_part_says_what_it_is_of(source, fraction, seed):
    text = domains.part(source, fraction, seed)
    assert text != source and domains.whole(text) == source == domains.whole(source)
    assert trained_on(text) == trained_on(source)
    assert trained_on(f'{source} -> {text}') == trained_on(source) * 2


def test_a_config_that_trains_on_a_part_says_so(tmp_path):
    options = {'train_dataloader.dataset.fraction': 0.25}
    path = CONFIGS / 'miniature' / 'ibn_b.py'
    assert load_config(path, options=options).source == 'gta5:train 25 %'
    options['source'] = 'gta5:train 25 %'  # as a dumped config says
    assert load_config(path, options=options).source == 'gta5:train 25 %'
    path = CONFIGS / 'miniature' / 'ibn_b_gta5synthia_to_cityscapes.py'
    assert load_config(path).source == 'gta5:train+synthia:train (equal)'
    assert load_config(path).model_name == 'ibn_b'
    assert load_config(path, name='mine').model_name == 'mine'
    child = tmp_path / 'child.py'
    child.write_text(f"_base_ = '{path}'\n")
    assert load_config(child).model_name == 'child', 'what it changes makes another model'


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({}, 'gta5:train 25 %'),
        (dict(fraction=0.5), 'gta5:train 50 %'),
        (dict(subset_seed=3), 'gta5:train 25 % (subset 3)'),
        (dict(fraction=1), 'gta5:train'),
    ],
)
def test_a_dumped_config_of_a_part_says_what_it_is_changed_to(tmp_path, changes, expected):
    options = {'train_dataloader.dataset.fraction': 0.25}
    load_config(CONFIGS / 'miniature' / 'ibn_b.py', options=options).dump(tmp_path / 'dumped.py')
    options = {f'train_dataloader.dataset.{key}': value for key, value in changes.items()}
    assert load_config(tmp_path / 'dumped.py', options=options).source == expected


@pytest.mark.parametrize(
    ('changes', 'refused'),
    [
        ({}, False),
        (dict(fraction=0.1), False),
        (dict(fraction=1), True),
        (dict(subset_seed=2), True),
    ],
)
def test_a_dumped_config_of_a_fine_tuned_network_keeps_its_part(tmp_path, changes, refused):
    config = load_config(CONFIGS / 'miniature' / 'ibn_b.py')
    config.train_dataloader.dataset.update(domain='cityscapes:train', fraction=0.1, subset_seed=0)
    config.fine_tuned = dict(fraction=0.1, subset_seed=0)
    config.source = 'gta5:train -> cityscapes:train 10 %'
    config.dump(tmp_path / 'dumped.py')
    options = {f'train_dataloader.dataset.{key}': value for key, value in changes.items()}
    if refused:
        with pytest.raises(ValueError, match=r'fine-tuned on 10 % \(subset 0\).*ibnseg finetune'):
            load_config(tmp_path / 'dumped.py', options=options)
    else:
        assert load_config(tmp_path / 'dumped.py', options=options).source == config.source


@pytest.mark.parametrize('size', [1, 3, 40, 2975])
@pytest.mark.parametrize('seed', [0, 7])
def test_subsets_are_nested(size, seed):
    parts = [subset(size, fraction, seed).tolist() for fraction in (0.1, 0.2, 0.3, 1)]
    for smaller, larger in pairwise(parts):
        assert set(smaller) <= set(larger)
    for fraction, part in zip((0.1, 0.2, 0.3, 1), parts, strict=True):
        assert len(part) == max(round(fraction * size), 1) and part == sorted(set(part))
    assert parts[-1] == list(range(size))


def test_subsets_of_a_data_set(data):
    def photos(**options):
        part = build(data, BOTH, **options)
        return [part.get_data_info(i)['img_path'] for i in range(len(part))], part.sizes

    (tenth, sizes), (fifth, _) = photos(fraction=0.1), photos(fraction=0.2)
    assert sizes == (4, 1) and set(tenth) < set(fifth)
    assert photos(fraction=0.1) == (tenth, sizes), 'the same, drawn again'
    assert photos(fraction=0.1, subset_seed=1)[0] != tenth
    for wrong in (0, -0.1, 1.1, 10):
        with pytest.raises(DataError, match=f'fraction is {wrong}'):
            build(data, fraction=wrong)


# ------------------------------------------------------------------------ mixing


def drawn(sampler, count, start=0):
    sampler.start = start
    return list(islice(sampler, count))


@pytest.mark.parametrize(
    ('mixing', 'shares'), [('equal', (25, 25)), ((3, 1), (38, 12)), ((1, 9), (5, 45))]
)
def test_each_epoch_has_its_shares(data, mixing, shares):
    sampler = PositionSampler(build(data, BOTH, mixing=mixing), seed=5)
    order = [i >= 40 for _, i in drawn(sampler, 50)]
    assert sum(a != b for a, b in pairwise(order)) > 5, 'domains do not come in blocks'
    for epoch in range(6):
        indices = [i for _, i in drawn(sampler, 50, 50 * epoch)]
        counts = Counter(i >= 40 for i in indices)
        assert (counts[False], counts[True]) == shares
    # Each domain's samples come in turn: none twice as often as another.
    every = Counter(i for _, i in drawn(sampler, 50 * 40))
    for members in (range(40), range(40, 50)):
        times = [every[i] for i in members]
        assert max(times) - min(times) <= 1


def test_a_share_of_nothing_is_refused(data):
    with pytest.raises(DataError, match='none of the 50 draws'):
        PositionSampler(build(data, BOTH, mixing=(1, 1000)), seed=5)


def test_proportional_is_one_shuffled_set(data):
    sampler = PositionSampler(build(data, BOTH, mixing='proportional'), seed=5)
    plain = PositionSampler(range(50), seed=5)
    assert drawn(sampler, 120) == drawn(plain, 120)


# ------------------------------------------------------------------------ statistics


def label(size=(40, 60)):
    truth = np.full(size, labels.IGNORE, np.uint8)
    truth[:20] = 2
    truth[30:34, 50:56] = 7
    return truth


def brute(truth, tile):
    """Counts and centroids pixel by pixel, as defined."""
    counts = [int((truth == c).sum()) for c in range(19)]
    height, width = truth.shape
    found = []
    for top in range(0, max(height // tile, 1) * tile, tile):
        for left in range(0, max(width // tile, 1) * tile, tile):
            for c in range(19):
                ys, xs = np.nonzero(truth[top : top + tile, left : left + tile] == c)
                if len(ys):
                    found.append((c, left + int(xs.mean()), top + int(ys.mean())))
    return counts, found


@pytest.mark.parametrize('tile', [16, 20, 40, 50, 1024])
def test_counts_and_centroids(tile):
    noisy = np.random.default_rng(0).choice([0, 3, 18, 255], (40, 60)).astype(np.uint8)
    for truth in (label(), noisy, np.full((8, 8), labels.IGNORE, np.uint8)):
        assert counts.of_label(truth, tile, 19) == brute(truth, tile)


def files(data, domain='gta5:train'):
    space = domains.parse(domain)[0].space
    return [(str(path), space) for _, path in domains.find(domain, data)]


@pytest.mark.parametrize('workers', [1, 2])
def test_statistics_of_files(data, monkeypatch, workers):
    monkeypatch.setattr(spread, 'cores', lambda: workers)
    found = counts.count(files(data))
    for i, (path, space) in enumerate(files(data)):
        expected, centroids = brute(domains.read_labels(path, space), 1024)
        assert found.counts[i].tolist() == expected
        rows = found.centroids[found.centroids[:, 0] == i, 1:]
        assert list(map(tuple, rows.tolist())) == centroids


def counting(monkeypatch) -> list:
    """The paths that are read from now on."""
    read, seen = counts.read_labels, []
    monkeypatch.setattr(
        counts, 'read_labels', lambda path, space: seen.append(path) or read(path, space)
    )
    return seen


def test_files_are_counted_once(data, cache, monkeypatch, tmp_path):
    root = shutil.copytree(data, tmp_path / 'mine')
    seen = counting(monkeypatch)
    monkeypatch.setattr(spread, 'cores', lambda: 1)
    some, every = files(root)[::4], files(root)
    first = counts.count(some)
    assert len(seen) == 10
    whole = counts.count(every)
    assert len(seen) == 40, 'what another run has counted is taken from it'
    again = counts.count(some)
    assert len(seen) == 40
    np.testing.assert_array_equal(first.counts, again.counts)
    np.testing.assert_array_equal(first.centroids, again.centroids)
    np.testing.assert_array_equal(whole.counts[::4], first.counts)
    # A changed file is counted again, alone.
    changed = Path(every[3][0])
    Image.fromarray(np.zeros((64, 128), np.uint8)).save(changed)
    os.utime(changed, ns=(1, 1))
    assert counts.count(every).counts[3].sum() == 0
    assert seen[40:] == [changed]
    assert [path.name for path in cache.iterdir()] == ['gta5.json']


@pytest.mark.parametrize('content', [b'', b'not an archive', None])
def test_a_damaged_cache_is_made_anew(data, cache, content):
    expected = counts.count(files(data))
    path, whole = cache / 'gta5.json', (cache / 'gta5.json').read_bytes()
    path.write_bytes(whole[:-200] if content is None else content)
    np.testing.assert_array_equal(counts.count(files(data)).centroids, expected.centroids)
    assert path.read_bytes() == whole


@pytest.mark.parametrize('workers', [1, 2])
def test_a_damaged_label_is_named_and_what_was_counted_stays(data, tmp_path, monkeypatch, workers):
    bad = tmp_path / 'bad.png'
    bad.write_bytes(b'no image')
    monkeypatch.setattr(spread, 'cores', lambda: workers)
    with pytest.raises(DataError, match=r'bad\.png: unreadable'):
        counts.count([*files(data), (str(bad), 'gta5')])
    monkeypatch.setattr(counts, '_of_file', lambda *_: pytest.fail('counted again'))
    assert len(counts.count(files(data)).counts) == 40


def test_other_tiles_have_their_own_cache(data, cache):
    one, other = (counts.count(files(data), tile) for tile in (1024, 32))
    assert len(other.centroids) > len(one.centroids)
    np.testing.assert_array_equal(counts.count(files(data)).centroids, one.centroids)


def test_a_cache_that_cannot_be_written(data, monkeypatch, tmp_path):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    with pytest.raises(DataError, match='XDG_CACHE_HOME'):
        counts.count(files(data))


def _count_pixels(job: tuple) -> int:
    found, log = job
    read = domains.read_labels

    def logged(path, space):
        with log.open('a') as file:
            file.write(f'{path}\n')
        return read(path, space)

    counts.read_labels = logged
    spread.cores = lambda: 1
    return int(counts.count(found).counts.sum())


def test_two_runs_count_once(data, tmp_path):
    """Two runs started together share the work."""
    with multiprocessing.get_context('fork').Pool(2) as pool:
        sums = pool.map(_count_pixels, [(files(data), tmp_path / 'log')] * 2, chunksize=1)
    assert sums[0] == sums[1] > 0
    assert sorted((tmp_path / 'log').read_text().split()) == [path for path, _ in files(data)]


# ------------------------------------------------------------------------ by classes

SAMPLERS = {
    'position': lambda dataset, seed: PositionSampler(dataset, seed),
    'uniform': lambda dataset, seed: ClassUniformSampler(dataset, seed, fraction=0.5),
    'rare': lambda dataset, seed: RareClassSampler(dataset, seed, 0.1, min_pixels=1),
}


def plain(draws):
    """Draws as comparable values."""
    return [(entropy, index, *map(str, aim)) for entropy, index, *aim in draws]


@pytest.mark.parametrize('name', SAMPLERS)
@pytest.mark.parametrize('start', [0, 5, 93])
@pytest.mark.parametrize('world_size', [1, 2, 3])
def test_draws_depend_on_seed_and_position_alone(data, name, start, world_size):
    dataset = build(data)
    whole = plain(drawn(SAMPLERS[name](dataset, 5), start + 42))[start:]
    ranks = []
    for rank in range(world_size):
        sampler = SAMPLERS[name](dataset, 5)
        sampler.rank, sampler.world_size = rank, world_size
        ranks.append(plain(drawn(sampler, 42 // world_size, start)))
    assert [draw for turn in zip(*ranks, strict=True) for draw in turn] == whole
    assert plain(drawn(SAMPLERS[name](dataset, 6), start + 42))[start:] != whole


def test_half_an_epoch_is_uniform_over_the_classes(data):
    dataset = build(data)
    sampler = ClassUniformSampler(dataset, 5, fraction=1.0)
    occurring = {c for c, rows in enumerate(sampler.occurrences) if len(rows)}
    assert sampler.of_each == 2 and len(occurring) > 10
    known = {tuple(row) for row in sampler.statistics.centroids.tolist()}
    for epoch in range(4):
        draws = drawn(sampler, 40, 40 * epoch)
        aimed = [(i, aim[0]['centroid']) for _, i, *aim in draws if aim]
        assert len(aimed) == 2 * len(occurring)
        classes = Counter()
        for i, point in aimed:
            (c, *others) = [row[1] for row in known if (row[0], *row[2:]) == (i, *point)]
            classes.update([c] if not others else [])
        assert max(classes.values()) == 2
    orders = [plain(drawn(sampler, 40, 40 * epoch)) for epoch in range(2)]
    assert [draw[1:] for draw in orders[0]] != [draw[1:] for draw in orders[1]]


def test_share_of_uniform_draws(data):
    counts = {
        fraction: sum(
            len(draw) == 3
            for draw in drawn(ClassUniformSampler(build(data), 5, fraction=fraction), 40)
        )
        for fraction in (0, 0.5, 1)
    }
    present = sum(len(rows) > 0 for rows in ClassUniformSampler(build(data), 5).occurrences)
    assert counts == {0: 0, 0.5: present, 1: 2 * present}


def test_rare_classes_come_often(data):
    dataset = build(data)
    total = counts.count(files(data)).counts
    share = total.sum(0) / total.sum()
    present = np.flatnonzero(share)
    for temperature in (0.01, 0.1):
        sampler = RareClassSampler(dataset, 5, temperature, min_pixels=20)
        expected = np.exp((1 - share[present]) / temperature)
        expected /= expected.sum()
        draws = drawn(sampler, 3000)
        seen = Counter(aim['rare_class'][0] for *_, aim in draws)
        found = np.array([seen[c] for c in present]) / 3000
        # Four standard deviations of a share of 3000 draws.
        assert (np.abs(found - expected) <= 4 * np.sqrt(expected / 3000) + 1e-3).all()
        for _, i, aim in draws[:200]:
            c, pixels = aim['rare_class']
            assert total[i, c] > 20 and pixels == 10


def test_a_class_too_small_is_named(data):
    with pytest.raises(DataError, match=r'more than 3000 pixels of .*traffic light.*min_pixels'):
        RareClassSampler(build(data), 5)


@pytest.mark.parametrize('domain', ['bdd100k_drivable', 'bdd100k_drivable_2018'])
def test_drivable_areas_are_drawn_by_their_own_classes(tmp_path, domain):
    miniature.write(tmp_path, ('bdd100k',), train=6, val=1, size=(64, 128), workers=1)
    dataset = build(tmp_path, f'{domain}:train')
    sampler = ClassUniformSampler(dataset, 5, fraction=1.0)
    assert (sampler.of_each, len(sampler.occurrences)) == (2, 3)
    assert sampler.statistics.counts.shape == (6, 3)
    assert (sampler.statistics.counts.sum(1) == 64 * 128).all()
    with pytest.raises(DataError, match=r'99999 pixels of direct, alternative, background\.'):
        RareClassSampler(dataset, 5, min_pixels=99999)


@pytest.mark.parametrize('name', ['uniform', 'rare'])
def test_what_cannot_be_drawn_by_classes_is_refused(data, name):
    assert SAMPLERS[name](build(data, BOTH), 5).size == 50
    with pytest.raises(DataError, match='proportional'):
        SAMPLERS[name](build(data, BOTH, mixing='equal'), 5)
    crop = dict(type='RandomCrop', crop_size=(40, 60))
    with pytest.raises(DataError, match='only RandomScaleCrop listens'):
        SAMPLERS[name](build(data, pipeline=[crop]), 5)


@pytest.mark.parametrize('name', SAMPLERS)
def test_the_crop_shows_what_was_aimed_at(data, name):
    steps = [dict(type='LoadImageFromFile'), dict(type='LoadLabels'), CROP,
             dict(type='PackSegInputs')]  # fmt: skip
    dataset = build(data, pipeline=steps)
    hits = []
    for entropy, i, *aim in drawn(SAMPLERS[name](dataset, 5), 40):
        sample = dataset[(entropy, i, *aim)]
        again = dataset[(entropy, i, *aim)]
        assert sample['inputs'].equal(again['inputs'])
        truth = sample['data_samples'].gt_sem_seg.data.numpy()
        if aim and 'rare_class' in aim[0]:
            hits.append((truth == aim[0]['rare_class'][0]).sum() > aim[0]['rare_class'][1])
    if name == 'rare':
        assert sum(hits) > 30
