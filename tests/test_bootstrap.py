"""The bootstrap against loops, against scipy, and against what an interval promises."""

import numpy as np
import pytest

from ibnseg.measure import bootstrap, metric
from ibnseg.measure.bootstrap import accuracy, miou, resample
from ibnseg.measure.matrices import Images

CLASSES = (0, 1, 3)


def matrices(images: int = 9, seed: int = 0, size: int = 5) -> np.ndarray:
    """Sparse int64 (images, size, size), mostly right; class 3 in few of them."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 30, (images, size, size)) * (rng.random((images, size, size)) < 0.4)
    counts += np.eye(size, dtype=np.int64) * rng.integers(0, 200, (images, size, 1))
    few = rng.random(images) < 0.6
    counts[few, 3] = counts[few, :, 3] = 0
    return counts


def margins(*seeds: int, images: int = 9) -> np.ndarray:
    return np.stack([Images.pack(matrices(images, seed)).margins() for seed in seeds])


@pytest.mark.parametrize('classes', [CLASSES, range(5), [3]])
def test_scores_are_those_of_the_matrix(classes):
    for matrix in [*matrices(), matrices().sum(0), np.zeros((5, 5), np.int64)]:
        expected = metric.score(matrix, classes)
        found = Images.pack([matrix]).margins()[0]
        np.testing.assert_allclose(miou(found, classes), expected.miou, rtol=1e-12)
        np.testing.assert_allclose(accuracy(found), expected.accuracy, rtol=1e-12)


def test_bootstrap_is_a_loop_over_draws_of_matrices():
    runs = [matrices(seed=seed) for seed in (0, 1)]
    found = resample(margins(0, 1), CLASSES, times=50, seed=3)
    drawn = np.random.default_rng(3).integers(9, size=(50, 9))
    for i, images in enumerate(drawn):
        for run, counts in enumerate(runs):
            expected = metric.score(sum(counts[image] for image in images), CLASSES).miou
            assert found.drawn[i, run] == pytest.approx(expected, abs=1e-12)
    expected = [metric.score(counts.sum(0), CLASSES).miou for counts in runs]
    np.testing.assert_allclose(found.observed, expected, atol=1e-12)


def test_limits_are_percentiles_and_the_other_sign_is_counted():
    found = resample(margins(0, 1), CLASSES, times=400)
    difference = found.drawn[:, 0] - found.drawn[:, 1]
    paired = found.interval(np.array([1, -1]))
    assert paired.value == pytest.approx(found.observed[0] - found.observed[1])
    assert (paired.low, paired.high) == pytest.approx(
        tuple(np.quantile(difference, [0.025, 0.975]))
    )
    against = sum(d * paired.value <= 0 for d in difference) / 400
    assert paired.other_sign == pytest.approx(against)
    assert 0 < against < 1, 'the example tells both apart'
    flipped = found.interval(np.array([-1, 1]))
    assert (flipped.low, flipped.high) == pytest.approx((-paired.high, -paired.low))
    assert flipped.other_sign == paired.other_sign


def test_blocks_of_draws_change_nothing(monkeypatch):
    whole = resample(margins(0, 1), CLASSES, times=100)
    monkeypatch.setattr(bootstrap, '_CHUNK', 25)
    blocks = list(bootstrap.draws(9, 100))
    assert len(blocks) == 50 and all(block.sum(1).tolist() == [9, 9] for block in blocks)
    np.testing.assert_array_equal(resample(margins(0, 1), CLASSES, times=100).drawn, whole.drawn)


def test_interval_is_scipys():
    """Up to the luck of the draws, which are scipy's own there."""
    bootstrap = pytest.importorskip('scipy.stats', reason='no scipy to compare with').bootstrap
    one, other = margins(0, 1, images=60)

    def difference(index: np.ndarray) -> float:
        return miou(one[index].sum(0), CLASSES) - miou(other[index].sum(0), CLASSES)

    expected = bootstrap(
        (np.arange(60),), difference, n_resamples=4000, method='percentile', vectorized=False,
        rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip
    found = resample(np.stack([one, other]), CLASSES, times=4000).interval(np.array([1, -1]))
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.05 * width)
    assert found.high == pytest.approx(expected.high, abs=0.05 * width)


def street(images: int, rng: np.random.Generator) -> np.ndarray:
    """(images, 3, 6): photos that differ in what is in them and in how hard they are."""
    share = rng.dirichlet([8, 5, 3, 2, 1, 0.3], images)
    skill = rng.beta(6, 2, (images, 1)) * np.array([1, 0.95, 0.9, 0.8, 0.7, 0.5])
    truth = (share * 1000).round()
    right = (truth * skill).round()
    return np.stack([right, truth, right + np.roll(truth - right, 1, 1)], 1)


def test_95_of_100_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    true = miou(street(200_000, rng).sum(0), range(6))
    hits = 0
    for trial in range(300):
        found = resample(street(80, rng)[None], range(6), times=400, seed=trial)
        interval = found.interval(np.ones(1))
        hits += interval.low <= true <= interval.high
    assert 0.90 < hits / 300 < 0.98  # 95 % within three standard errors, and some bias


def test_pairing_sees_a_difference_that_separate_intervals_hide():
    rng = np.random.default_rng(2)
    one = street(80, rng)
    other = one.copy()
    moved = np.minimum(10, other[:, 0, 0])
    other[:, 0, 0] -= moved  # ten pixels of the first class an image, taken for the second
    other[:, 2, 0] -= moved
    other[:, 2, 1] += moved
    found = resample(np.stack([one, other]), range(6))
    alone = [found.interval(weights) for weights in np.eye(2)]
    paired = found.interval(np.array([1, -1]))
    assert alone[0].low < alone[1].high, 'the intervals overlap'
    assert 0 < paired.low < paired.value < paired.high
    assert paired.other_sign < 0.01
    assert resample(np.stack([one, one]), range(6)).interval(np.array([1, -1])).other_sign == 1


def test_equal_images_leave_no_doubt():
    same = np.repeat(margins(0)[:, :1], 6, axis=1)
    found = resample(same, CLASSES).interval(np.ones(1))
    assert (found.low, found.high) == pytest.approx((found.value, found.value))


def test_no_interval_where_some_draw_holds_no_class():
    some = np.zeros((1, 3, 3, 5))
    some[0, 0] = 4
    found = resample(some, CLASSES).interval(np.ones(1))
    assert found.value == 1
    assert np.isnan([found.low, found.high, found.other_sign]).all()


def test_one_image_cannot_be_drawn_from():
    with pytest.raises(ValueError, match='1 images; a bootstrap needs two'):
        resample(margins(0, images=1), CLASSES)
