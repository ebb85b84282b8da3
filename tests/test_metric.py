import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.structures import SegDataSample
from PIL import Image

from ibnseg import domains, labels, miniature
from ibnseg.measure import metric as module
from ibnseg.measure.confusion import confusion, score
from ibnseg.measure.metric import CrossDomainIoU, scores_of
from ibnseg.train.config import load_config
from ibnseg.train.runner import FOR_TRAINING, SegRunner

ROOT = Path(__file__).parents[1]
exact = dict(rtol=0, atol=1e-9)


def maps(seed: int, num_classes: int, shape=(23, 17)) -> tuple[np.ndarray, np.ndarray]:
    """Random truth (a fifth ignored, some classes absent) and prediction (half of it right)."""
    rng = np.random.default_rng(seed)
    present = rng.permutation(num_classes)[: max(2, 3 * num_classes // 4)]
    truth = rng.choice(present, shape)
    prediction = np.where(rng.random(shape) < 0.5, truth, rng.choice(present[1:], shape))
    truth[rng.random(shape) < 0.2] = 255
    return truth.astype(np.uint8), prediction


# ------------------------------------------------------------------------ confusion


def by_loop(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    matrix = np.zeros((num_classes, num_classes), np.int64)
    for t, p in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if t < num_classes:
            matrix[t, p] += 1
    return matrix


@pytest.mark.parametrize('num_classes', [2, 11, 19, 66, 200])
@pytest.mark.parametrize('dtype', [np.uint8, np.int64, np.int32])
@pytest.mark.parametrize('truth_dtype', [np.uint8, np.int64])
def test_confusion_is_a_loop_over_pixels(num_classes, dtype, truth_dtype):
    truth, prediction = maps(num_classes, num_classes)
    expected = by_loop(truth, prediction, num_classes)
    found = confusion(truth.astype(truth_dtype), prediction.astype(dtype), num_classes)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int64 and found.shape == (num_classes, num_classes)
    assert found.sum() == (truth != 255).sum() < truth.size


@pytest.mark.parametrize(
    'view',
    [lambda a: a.T, lambda a: a[::2, ::-3], lambda a: a[..., None], lambda a: np.asfortranarray(a)],
    ids=['transposed', 'strided', 'three axes', 'Fortran'],
)
def test_confusion_of_any_memory_layout(view):
    truth, prediction = map(view, maps(1, 19))
    for other in (prediction, np.ascontiguousarray(prediction)):
        np.testing.assert_array_equal(confusion(truth, other, 19), by_loop(truth, prediction, 19))


def test_confusion_ignores_every_value_that_is_no_class():
    truth, prediction = np.arange(256, dtype=np.uint8), np.zeros(256, np.uint8)
    found = confusion(truth, prediction, 19)
    assert found[:, 0].tolist() == [1] * 19 and found.sum() == 19


@pytest.mark.parametrize('shape', [(0,), (0, 5)])
def test_confusion_of_nothing(shape):
    empty = np.zeros(shape, np.uint8)
    np.testing.assert_array_equal(confusion(empty, empty, 19), np.zeros((19, 19)))


@pytest.mark.parametrize('wrong', [19, 255, 65536, -1], ids=str)
@pytest.mark.parametrize('truth', [0, 255], ids=['counted', 'ignored'])
def test_value_out_of_range_lands_in_no_class(wrong, truth):
    with pytest.raises(ValueError, match=rf'prediction holds values .*{wrong}.*expected 0 to 18'):
        confusion(np.full(3, truth, np.uint8), np.array([3, wrong, 4]), 19)
    if not 0 <= wrong < 256:
        with pytest.raises(ValueError, match=rf'truth holds values .*{wrong}.*expected 0 to 255'):
            confusion(np.array([0, wrong]), np.zeros(2, np.uint8), 19)


@pytest.mark.parametrize('shape', [(17, 23), (391,), (23, 17, 1), (1, 1)])
def test_confusion_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r'prediction is \(.*truth is \(23, 17\)'):
        confusion(np.zeros((23, 17), np.uint8), np.zeros(shape, np.uint8), 19)


# ------------------------------------------------------------------------ score


def mmseg_areas(pairs: list, num_classes: int) -> list[torch.Tensor]:
    """What IoUMetric sums, in float64 (its own float32 sums are rounded beyond 2^24 pixels)."""
    rows = [
        IoUMetric.intersect_and_union(torch.tensor(p), torch.tensor(t).to(torch.int64), n, 255)
        for (t, p), n in zip(pairs, [num_classes] * len(pairs), strict=True)
    ]
    return [sum(area.double() for area in column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize('num_classes', [2, 19, 66])
@pytest.mark.parametrize('seed', range(3))
def test_score_is_mmsegs(num_classes, seed):
    pairs = [maps(10 * seed + i, num_classes) for i in range(3)]
    expected = IoUMetric.total_area_to_metrics(*mmseg_areas(pairs, num_classes))
    found = score(sum(confusion(*pair, num_classes) for pair in pairs))
    np.testing.assert_allclose(found.iou, expected['IoU'], equal_nan=True, **exact)
    np.testing.assert_allclose(found.miou, np.nanmean(expected['IoU']), **exact)
    np.testing.assert_allclose(found.accuracy, expected['aAcc'], **exact)
    assert found.counted == np.isfinite(expected['IoU']).sum()


def test_score_of_absent_classes_is_mmsegs():
    """0, 1: in both; 2: predicted only; 3: truth only; others: in neither."""
    pair = np.array([0, 0, 1, 3, 255], np.uint8), np.array([0, 2, 1, 1, 7])
    expected = IoUMetric.total_area_to_metrics(*mmseg_areas([pair], 19))
    found = score(confusion(*pair, 19))
    np.testing.assert_allclose(found.iou, expected['IoU'], equal_nan=True, **exact)
    assert found.iou[:4].tolist() == [1 / 2, 1 / 2, 0, 0]
    assert np.isnan(found.iou[4:]).all() and found.counted == 4
    assert (found.miou, found.accuracy) == (1 / 4, 1 / 2)


@pytest.mark.filterwarnings('error')
def test_score_where_all_is_ignored():
    found = score(confusion(np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8), 19))
    assert np.isnan(found.iou).all() and found.counted == 0
    assert np.isnan(found.miou) and np.isnan(found.accuracy)


def test_score_over_some_classes_keeps_the_others_mistakes():
    truth, prediction = maps(3, 19)
    matrix = confusion(truth, prediction, 19)
    some, every = score(matrix, (0, 5, 13)), score(matrix)
    assert some.classes == (0, 5, 13)
    np.testing.assert_array_equal(some.iou, every.iou[[0, 5, 13]])
    assert some.accuracy == every.accuracy


def test_score_is_exact_for_a_whole_data_set():
    """More pixels than float32 counts: 2^24."""
    found = score(np.array([[2**40 + 1, 0], [1, 2**40]]))
    assert found.iou[0] == (2**40 + 1) / (2**40 + 2) < 1


def test_each_domain_is_scored_over_its_own_classes():
    matrix = np.ones((19, 19), np.int64)
    found = scores_of({'gta5:val': matrix, 'camvid:Seq05VD': matrix})
    assert found['gta5:val'].classes == tuple(range(19))
    assert found['camvid:Seq05VD'].classes == labels.class_ids('camvid-11')


# ------------------------------------------------------------------------ the metric

SIZES = {'gta5:val': 3, 'cityscapes:val': 2, 'camvid:Seq05VD': 2}


def samples(sizes: dict[str, int] = SIZES) -> list[SegDataSample]:
    """Model outputs, every domain its share, each with maps of its own."""
    out = []
    for name, count in sizes.items():
        for number in range(count):
            truth, prediction = (torch.from_numpy(a) for a in maps(len(out), 19))
            sample = SegDataSample(
                gt_sem_seg=PixelData(data=truth.long()[None]),
                pred_sem_seg=PixelData(data=prediction[None]),
            )
            sample.set_metainfo(dict(domain=name, sample_idx=number))
            out.append(sample)
    return out


def metric(sizes: dict[str, int] = SIZES) -> tuple[Evaluator, CrossDomainIoU]:
    """A fresh metric in MMEngine's Evaluator, which hands it samples as dicts."""
    inner = CrossDomainIoU()
    evaluator = Evaluator([inner])
    evaluator.dataset_meta = dict(classes=labels.CLASSES, domains=sizes)
    return evaluator, inner


def by_hand(found: list[SegDataSample]) -> dict[str, np.ndarray]:
    return {
        name: sum(
            confusion(s.gt_sem_seg.data.numpy(), s.pred_sem_seg.data.numpy(), 19)
            for s in found
            if s.domain == name
        )
        for name in SIZES
    }


def test_metric_reports_every_domain_and_their_mean():
    evaluator, inner = metric()
    evaluator.process(samples())
    found = evaluator.evaluate(7)
    expected = scores_of(by_hand(samples()))
    assert set(found) == {'mIoU'} | {f'{d}/{m}' for d in SIZES for m in ('mIoU', 'aAcc')}
    for name, scores in expected.items():
        assert found[f'{name}/mIoU'] == pytest.approx(100 * scores.miou, abs=1e-9)
        assert found[f'{name}/aAcc'] == pytest.approx(100 * scores.accuracy, abs=1e-9)
    mean = np.mean([100 * s.miou for s in expected.values()])
    assert found['mIoU'] == pytest.approx(mean, abs=1e-9)
    assert len({round(v, 6) for v in found.values()}) == len(found), 'values are told apart'
    assert list(inner.totals) == list(SIZES)
    for name, matrix in by_hand(samples()).items():
        np.testing.assert_array_equal(inner.totals[name], matrix)
        assert inner.totals[name].dtype == np.int64


@pytest.mark.parametrize('order', [slice(None), slice(None, None, -1)], ids=['in order', 'mixed'])
@pytest.mark.parametrize('batch', [1, 2, 7])
def test_streaming_equals_all_at_once_and_starts_from_zero(batch, order):
    evaluator, inner = metric()
    stream = samples()[order]
    for _ in range(2):
        for i in range(0, len(stream), batch):
            evaluator.process(stream[i : i + batch])
        evaluator.evaluate(7)
        for name, matrix in by_hand(samples()).items():
            np.testing.assert_array_equal(inner.totals[name], matrix)


@pytest.mark.parametrize(
    ('drawn', 'says'),
    [
        (samples()[:-1], 'camvid:Seq05VD: 1 images were evaluated, the dataset has 2'),
        (samples()[1:], 'gta5:val: 2 images were evaluated, the dataset has 3'),
        ([*samples(), samples()[0]], 'gta5:val: 4 images were evaluated, the dataset has 3'),
        ([*samples()[1:], samples()[-1]], 'gta5:val: 2 images'),  # as many in all
        ([], 'gta5:val: 0 images'),
        ([samples()[1], *samples()[1:]], 'has 3; number 0 0 times'),  # as many in the domain
    ],
    ids=['last gone', 'first gone', 'one twice', 'one for another', 'none', 'one for its twin'],
)
def test_every_image_counts_once(drawn, says):
    evaluator, inner = metric()
    evaluator.process(drawn)
    with pytest.raises(RuntimeError, match=rf'{says}.*round_up=False'):
        evaluator.evaluate(7)
    assert inner.totals == {}
    evaluator.process(samples())  # the failure leaves nothing behind
    evaluator.evaluate(7)


def test_image_of_another_domain_is_refused():
    evaluator, _ = metric({'gta5:val': 3})
    with pytest.raises(RuntimeError, match=r"an image of cityscapes:val; .*'gta5:val'"):
        evaluator.process(samples())


def test_state_grows_by_the_cells_of_a_matrix_not_by_pixels():
    _, inner = metric()
    truth, prediction = (torch.zeros(1, 64, 64, dtype=torch.uint8) for _ in range(2))
    truth[:, :9] = 3  # two cells of the matrix, 8 bytes each
    image = dict(gt_sem_seg=dict(data=truth), pred_sem_seg=dict(data=prediction))
    sizes = []
    for images in (100, 1100):
        for number in range(images):
            inner.process(None, [dict(image, domain='gta5:val', sample_idx=number)])
        sizes.append(len(pickle.dumps(vars(inner)['_seen'])))
    assert 16 < (sizes[1] - sizes[0]) / 1100 < 200
    assert inner.results == []


def test_matrix_of_each_image_whatever_the_order():
    evaluator, inner = metric()
    evaluator.process(samples()[::-1])
    evaluator.evaluate(7)
    for name in SIZES:
        found = [sample for sample in samples() if sample.domain == name]
        assert len(inner.images[name]) == len(found)
        for i, sample in enumerate(found):
            truth, prediction = sample.gt_sem_seg.data, sample.pred_sem_seg.data
            expected = by_loop(truth.numpy(), prediction.numpy(), 19)
            np.testing.assert_array_equal(inner.images[name][i], expected)


def test_watch_sees_each_prediction():
    evaluator, inner = metric()
    seen = {}
    inner.watch = lambda name, number, prediction: seen.update({(name, number): prediction})
    evaluator.process(samples())
    assert len(seen) == 7
    for sample in samples():
        found = seen[sample.domain, sample.sample_idx]
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, sample.pred_sem_seg.data[0].numpy())


def in_two_ranks(monkeypatch, job) -> list:
    """Run job(rank) in two threads whose reductions meet; returns what each returns or raises."""
    meet, shared = threading.Barrier(2, timeout=60), []

    def reduce(row: torch.Tensor) -> None:
        shared.append(row.clone())
        meet.wait()
        row.copy_(sum(shared))
        meet.wait()
        shared.clear()
        meet.wait()

    monkeypatch.setattr(module, 'all_reduce', reduce)
    with ThreadPoolExecutor(2) as threads:
        ranks = [threads.submit(job, rank) for rank in range(2)]
        return [rank.exception() or rank.result() for rank in ranks]


def test_two_ranks_over_seven_images_are_one(monkeypatch):
    def job(rank: int) -> CrossDomainIoU:
        evaluator, inner = metric()
        evaluator.process(samples()[rank::2])
        evaluator.evaluate(7)
        return inner

    evaluator, alone = metric()
    evaluator.process(samples())
    evaluator.evaluate(7)
    for inner in in_two_ranks(monkeypatch, job):
        for name in SIZES:
            np.testing.assert_array_equal(inner.totals[name], by_hand(samples())[name])
            for part in ('starts', 'cells', 'counts'):
                found, expected = (getattr(m.images[name], part) for m in (inner, alone))
                np.testing.assert_array_equal(found, expected)


def test_an_image_that_two_ranks_saw_is_refused_by_both(monkeypatch):
    """As a sampler does that pads to equal shares."""

    def job(rank: int) -> None:
        evaluator, _ = metric()
        evaluator.process([*samples(), samples()[0]][rank::2])
        evaluator.evaluate(7)

    for error in in_two_ranks(monkeypatch, job):
        assert 'gta5:val: 4 images were evaluated, the dataset has 3; number 0 2' in str(error)


def test_raw_ids_are_counted_and_mapped():
    """Where there are two label maps, one evaluation answers for both."""
    evaluator, inner = metric()
    drawn = samples()
    evaluator.dataset_meta['raw'] = {'cityscapes:val': 'mapillary-rich'}
    ours = [sample for sample in drawn if sample.domain == 'cityscapes:val']
    rng = np.random.default_rng(0)
    for sample in ours:
        sample.gt_sem_seg.data = torch.from_numpy(rng.integers(0, 66, (1, 23, 17)))
    evaluator.process(drawn)
    evaluator.evaluate(7)
    assert list(inner.raw) == ['cityscapes:val']
    assert inner.raw['cityscapes:val'].shape == (66, 19)
    for space in ('mapillary-coarse', 'mapillary-rich'):
        expected = sum(
            confusion(labels.lut(space)[s.gt_sem_seg.data[0]], s.pred_sem_seg.data[0].numpy(), 19)
            for s in ours
        )
        found = labels.fold(inner.raw['cityscapes:val'], space)
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(inner.totals['cityscapes:val'], expected)
    np.testing.assert_array_equal(inner.totals['gta5:val'], by_hand(samples())['gta5:val'])
    evaluator.process(samples())  # starts from zero
    evaluator.evaluate(7)
    assert inner.raw['cityscapes:val'].sum() < 66 * 23 * 17


# ------------------------------------------------------------------------ the loop


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data')
    miniature.write(root, train=0, val=3, size=(64, 128), workers=1)
    return root


@pytest.fixture
def runner_of(data, tmp_path):
    def build(test_cfg: dict, batch_size: int = 1) -> SegRunner:
        config = load_config(
            ROOT / 'configs' / 'miniature' / 'ibn_a.py',
            work_dir=str(tmp_path),
            data_root=str(data),
            options={
                'model.backbone.base_channels': 4,
                'model.decode_head.in_channels': 32,
                'model.decode_head.channels': 32,
                'model.test_cfg': test_cfg,
                'test_dataloader.batch_size': batch_size,
                'test_dataloader.num_workers': 0,
            },
        )
        config.update(dict.fromkeys(FOR_TRAINING))
        runner = SegRunner.from_cfg(config)
        torch.manual_seed(1)
        for layer in runner.model.modules():  # so that predictions differ from place to place
            if isinstance(layer, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(layer.weight)
        return runner

    yield build
    logging.captureWarnings(False)


WHOLE = dict(mode='whole')
SLIDE = dict(mode='slide', crop_size=(96, 128), stride=(64, 96))


def windows(size: int, crop: int, stride: int) -> list[int]:
    """First pixels of the windows over one side; the last window ends with the image."""
    starts = list(range(0, max(size - crop, 0), stride))
    return [*starts, max(size - crop, 0)]


def infer(model: torch.nn.Module, photo: Path, test_cfg: dict) -> np.ndarray:
    """The prediction for one photo, without MMSeg's inference."""
    image = cv2.resize(np.array(Image.open(photo)), (256, 128), interpolation=cv2.INTER_LINEAR)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    image = torch.from_numpy((image - mean) / std).float().permute(2, 0, 1)[None]
    height, width = crop = test_cfg.get('crop_size', (128, 256))
    stride = test_cfg.get('stride', crop)
    logits, count = torch.zeros(1, 19, 128, 256), torch.zeros(128, 256)
    for y in windows(128, height, stride[0]):
        for x in windows(256, width, stride[1]):
            part = model(image[..., y : y + height, x : x + width], mode='tensor')
            part = F.interpolate(part, (height, width), mode='bilinear', align_corners=False)
            logits[..., y : y + height, x : x + width] += part
            count[y : y + height, x : x + width] += 1
    assert count.min() >= 1
    logits = F.interpolate(logits / count, (64, 128), mode='bilinear', align_corners=False)
    return logits[0].argmax(0).numpy()


@torch.no_grad()
@pytest.mark.parametrize('batch_size', [1, 2])
@pytest.mark.parametrize('test_cfg', [WHOLE, SLIDE], ids=lambda c: c['mode'])
def test_loop_measures_what_the_model_predicts(data, runner_of, test_cfg, batch_size):
    runner = runner_of(test_cfg, batch_size)
    metrics = runner.test()
    totals = runner.test_evaluator.metrics[0].totals
    expected = {}
    for name in ('gta5:val', 'cityscapes:val'):
        pairs = domains.find(name, data)
        assert len(pairs) == 3  # so that a batch of two holds both domains
        expected[name] = sum(
            confusion(
                domains.read_labels(truth, name.split(':')[0]),
                infer(runner.model, photo, test_cfg),
                19,
            )
            for photo, truth in pairs
        )
    by_mode = [infer(runner.model, pairs[0][0], mode) for mode in (WHOLE, SLIDE)]
    assert (by_mode[0] != by_mode[1]).any(), 'the modes are told apart'
    assert list(totals) == list(expected)
    for name, matrix in expected.items():
        assert (matrix.sum(0) > 0).sum() >= 3, 'the network predicts several classes'
        # Convolutions may sum in another order: two pixels may tip over.
        assert np.abs(totals[name] - matrix).sum() <= 4
        assert totals[name].sum() == matrix.sum()
        assert metrics[f'{name}/mIoU'] == pytest.approx(100 * score(totals[name]).miou)
