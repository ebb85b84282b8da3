"""Intervals over drives: what is drawn, and that 95 % of them hold the truth."""

import math

import numpy as np
import pytest
from test_report import screen
from test_report_certainty import drawn, gather, markdown, tabulate, write

from ibnseg import report
from ibnseg.domains import DOMAINS
from ibnseg.measure import units
from ibnseg.measure.bootstrap import Interval, miou, resample
from ibnseg.report.table import Stat
from ibnseg.report.verdict import holm, judge, p_value


@pytest.mark.parametrize(
    ('domain', 'key', 'drive'),
    [
        ('camvid', 'camvid/test/Seq05VD_f00000.png', 'Seq05VD'),
        ('camvid32', 'camvid32/701_StillsRaw_full/0001TP_006690.png', '0001TP'),
        ('idd', 'idd/leftImg8bit/val/119/1_leftImg8bit.png', 'idd/leftImg8bit/val/119'),
        (
            'acdc',
            'acdc/rgb_anon/fog/val/GOPR0476/GOPR0476_frame_000854_rgb_anon.png',
            'acdc/rgb_anon/fog/val/GOPR0476',
        ),
        (
            'cityscapes',
            'cityscapes/leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png',
            '',
        ),
        ('gta5', 'gta5/images/00001.png', ''),
    ],
)
def test_the_drive_of_a_photo(domain, key, drive):
    assert DOMAINS[domain].drive(key) == drive


def keys(**drives: int) -> list[str]:
    return [f'camvid/test/{name}_{i:03}.png' for name, n in drives.items() for i in range(n)]


@pytest.mark.parametrize(
    ('drives', 'what', 'sizes'),
    [
        (dict(a=1, b=1, c=1), 'images', [1, 1, 1]),
        (dict(a=5, b=2, c=1), 'drives', [5, 2, 1]),
        (dict(a=12), 'blocks', [2] * 6),
        (dict(a=13), 'blocks', [3, 2, 2, 2, 2, 2]),
        (dict(a=20, b=10), 'blocks', [5, 5, 5, 5, 5, 5]),
        (dict(a=100, b=1), 'blocks', [17, 17, 16, 17, 17, 16, 1]),
        (dict(a=2), 'blocks', [1, 1]),
    ],
)
def test_what_is_drawn(drives, what, sizes):
    names = keys(**drives)
    order = np.random.default_rng(0).permutation(len(names))  # files may come in any order
    found = units.of_domain('camvid:test', [names[i] for i in order])
    assert (found.what, found.number) == (what, len(sizes))
    of = found.of[np.argsort(order)]
    if what != 'images':
        assert np.bincount(of).tolist() == sizes and (np.diff(of) >= 0).all()
    rows = np.arange(2 * len(names)).reshape(-1, 2)
    assert found.sums(rows).sum(0).tolist() == rows.sum(0).tolist()


@pytest.mark.parametrize('domain', ['cityscapes:val', 'nowhere', 'camvid:nothing'])
def test_images_where_no_drives_are_known(domain):
    assert units.of_domain(domain, keys(a=5, b=5, c=5)).what == 'images'


def street(skill: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(images, 3, 6): photos of as many classes, right by a skill each."""
    truth = (rng.dirichlet([8, 5, 3, 2, 1, 0.5], len(skill)) * 1000).round()
    classes = np.array([1, 0.95, 0.9, 0.8, 0.7, 0.5])
    right = (truth / (1 + np.exp(-skill[:, None])) * classes).round()
    return np.stack([right, truth, right + np.roll(truth - right, 1, 1)], 1)


def held(trials: int, sample, true: float) -> tuple[float, float]:
    """Return the shares of intervals over units, and over images, that hold the truth."""
    hits = np.zeros(2)
    for trial in range(trials):
        margins, names = sample()
        for i, drawn_from in enumerate((units.of_drives(names, range(len(names))), None)):
            over = resample(margins[None], range(6), times=200, seed=trial, units=drawn_from)
            found = over.interval(np.ones(1))
            hits[i] += found.low <= true <= found.high
    return tuple(hits / trials)


@pytest.mark.parametrize('drives', [3, 5, 12, 30])
def test_95_of_100_intervals_over_drives_hold_the_truth(drives):
    """Drives of 3 to 40 frames, with half of the variance in common."""
    rng = np.random.default_rng(0)

    def skills(sizes):
        of_drive = np.repeat(rng.normal(size=len(sizes)), sizes)
        return 1.5 + 0.7 * (of_drive + rng.normal(size=sizes.sum()))

    true = miou(street(skills(rng.integers(3, 40, 8000)), rng).sum(0), range(6))

    def sample():
        sizes = rng.integers(3, 40, drives)
        return street(skills(sizes), rng), np.repeat(np.arange(drives), sizes).astype(str)

    over_drives, over_images = held(200, sample, true)
    assert 0.88 <= over_drives <= 0.99
    assert over_images < 0.75, 'the example tells both apart'


@pytest.mark.parametrize('frames', [120, 170, 400])
def test_blocks_of_one_drive_hold_its_truth(frames):
    """Frames of which each has 0.8 of its neighbour's difference from the mean."""
    rng = np.random.default_rng(0)

    def skills(number):
        out = rng.normal(size=number)
        for i in range(1, number):
            out[i] = 0.8 * out[i - 1] + 0.6 * out[i]
        return 1.5 + out

    true = miou(street(skills(100_000), rng).sum(0), range(6))
    over_blocks, over_images = held(
        200, lambda: (street(skills(frames), rng), ['one'] * frames), true
    )
    assert 0.84 <= over_blocks <= 0.99
    assert over_images < 0.7


@pytest.mark.parametrize('seeds', [2, 3, 5])
@pytest.mark.parametrize(('over', 'number'), [('images', 40), ('drives', 4)])
def test_p_is_five_percent_where_the_interval_ends_at_zero(seeds, over, number):
    by_seed = np.linspace(-0.1, 0.1, seeds)
    width = judge(Interval(0, -1, 2, 0, over, number), Stat.of(by_seed))
    value = -width.low

    def found(shift=0.0, sign=1):
        limits = sorted(sign * (value + shift + part) for part in (-1, 2))
        return Interval(sign * (value + shift), *limits, 0, over, number), Stat.of(
            by_seed + sign * (value + shift)
        )

    assert judge(*found()).low == pytest.approx(0, abs=1e-12)
    assert p_value(*found()) == pytest.approx(0.05, abs=1e-9)
    assert p_value(*found(sign=-1)) == pytest.approx(0.05, abs=1e-9)
    assert p_value(*found(1)) < 0.05 and judge(*found(1)).kind == 'clear'
    assert p_value(*found(-0.5)) > 0.05 and judge(*found(-0.5)).kind == 'not clear'
    assert math.isnan(p_value(found()[0], Stat.of([value])))
    assert p_value(Interval(0, 0, 0, 0, over, number), Stat.of([0] * seeds)) == 1


def test_correction_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, math.nan, 0.9])[0] == 0.8 and math.isnan(holm([0.4, math.nan, 0.9])[1])
    assert holm([]) == []


def test_a_report_says_what_was_drawn(tmp_path):
    names = tuple(keys(a=2, b=2, c=2))
    files = [
        write(tmp_path, name, model, seed, keys=names)
        for model, name in enumerate(['resnet50', 'ibn_a', 'ibn_b'])
        for seed in (0, 1, 2)
    ]
    found = gather(*files)
    values = drawn(0, 0), drawn(1, 0)
    assert len(values[0]) == 6
    assert {(one.interval.over, one.interval.units) for one in found.alone} == {('drives', 3)}
    text = markdown(found)
    assert '95 % over drives' in text and '95 % over images' not in text
    assert 'the 3 drives that the 6 images are frames of' in text
    assert 'corrected for the 3 comparisons' in text and '| p of all |' in text
    one = next(pair for pair in found.pairs if (pair.model, pair.against) == ('ibn_b', 'resnet50'))
    assert one.verdict.limits.startswith('95 % over drives and 3 seeds')
    assert one.p <= one.p_of_all <= 3 * one.p
    made = report.texts(tabulate(*files), found)['statistics.csv'].splitlines()
    assert made[0].endswith('p,p_of_all,over,units') and made[-1].endswith(',drives,3')
    assert 'over drives' in screen(tabulate(*files), 80, found)
    narrow = screen(tabulate(*files), 60, found)  # no word is broken, no number lost
    for word in ('ibn_b - resnet50', 'not clear', 'resnet50', 'by seed', f'{one.p_of_all:.3f}'):
        assert word in narrow, word
