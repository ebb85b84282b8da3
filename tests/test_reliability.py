"""Reliability: known distributions, files, and label maps that stay the same."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from test_matrices import example

from ibnseg.measure import matrices, predict, records, reliability
from ibnseg.measure.records import RecordError
from ibnseg.measure.reliability import BINS, EDGES, MEASURES, Reliability, histogram, measures

RNG = np.random.default_rng(0)


def measured(doubt, right) -> dict[str, float]:
    counts, doubts = histogram(np.asarray(doubt, float), np.asarray(right, bool))
    return dict(zip(MEASURES, measures(counts, doubts).tolist(), strict=True))


def directly(doubt: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """The same from all pixels, sorted, without a histogram."""
    sure = 1 - doubt
    bins = np.minimum(np.ceil(sure * 15) - 1, 14)
    gaps = [abs(right[bins == b].sum() - sure[bins == b].sum()) for b in range(15)]
    order = np.argsort(doubt)
    wrong = ~right[order]
    above = np.searchsorted(np.sort(doubt[right]), doubt[~right])
    limit = np.quantile(doubt[right], 0.95)
    return {
        'ECE': sum(gaps) / len(doubt),
        'AUROC': above.mean() / right.sum(),
        'FPR@95': (doubt[~right] <= limit).mean(),
        'AURC': (np.cumsum(wrong) / np.arange(1, len(wrong) + 1)).mean(),
    }


def test_bins_are_those_of_calibration_divided():
    assert EDGES[0] == 0 and EDGES[-1] == 1 and (np.diff(EDGES) > 0).all()
    for k in range(16):
        assert np.abs(EDGES - k / 15).min() < 1e-12
    assert np.bincount(reliability._CALIBRATION).min() == 20


@pytest.mark.parametrize('sharp', [0.2, 1.0, 5.0])
def test_as_computed_from_all_pixels(sharp):
    doubt = RNG.beta(0.3, sharp, 40_000)
    right = RNG.random(40_000) > doubt**1.3
    found, expected = measured(doubt, right), directly(doubt, right)
    assert found['ECE'] == pytest.approx(expected['ECE'], abs=1e-9), 'exact'
    for name in ('AUROC', 'FPR@95', 'AURC'):
        assert found[name] == pytest.approx(expected[name], abs=2e-3), name


def test_a_calibrated_network_with_known_values():
    # Doubt uniform on 0..1 and a pixel wrong with that chance: wrong ones have density 2u, right
    # ones 2(1 - u). AUROC = 5/6; 95 % of the right lie below 1 - sqrt(.05); AURC: the risk at
    # coverage c is c/2, its mean 1/4.
    doubt = (np.arange(300_000) + 0.5) / 300_000
    counts = np.zeros((2, BINS))
    index = np.searchsorted(EDGES, doubt, side='right') - 1
    np.add.at(counts[0], index, doubt)  # as many pixels as expected, fractions of them
    np.add.at(counts[1], index, 1 - doubt)
    doubts = np.add.reduceat(doubt, np.arange(15) * 20_000)
    ece, auroc, fpr, aurc = measures(counts, doubts)
    assert ece == pytest.approx(0, abs=1e-9)
    assert auroc == pytest.approx(5 / 6, abs=1e-4)
    assert fpr == pytest.approx((1 - np.sqrt(0.05)) ** 2, abs=1e-3)
    assert aurc == pytest.approx(1 / 4, abs=1e-4)


def test_errors_that_show_fully_or_not_at_all():
    right = np.arange(1000) % 4 > 0
    perfect = measured(np.where(right, 0.01, 0.6), right)
    assert (perfect['AUROC'], perfect['FPR@95']) == (1, 0)
    blind = measured(np.full(1000, 0.1), right)
    assert blind['AUROC'] == 0.5 and blind['FPR@95'] == pytest.approx(0.95)
    assert blind['AURC'] == pytest.approx(0.25), 'that of any order'
    assert blind['ECE'] == pytest.approx(0.15), '90 % sure, 75 % right'
    # Of 3 in 4 right and sorted first, the risk is 0 up to a coverage of 3/4, then 1 - .75/c.
    assert perfect['AURC'] == pytest.approx(0.25 + 0.75 * np.log(0.75), abs=1e-9)
    assert np.isnan(measured([0.1], [True])['AUROC']) and np.isnan(measured([], [])['ECE'])


def runs(number=30, pixels=400):
    """Two networks on the same images; the first one's confidence says less."""
    found = []
    for blur in (0.5, 0.1):
        images = []
        for i in range(number):
            rng = np.random.default_rng(i)
            hard = rng.beta(1, 3, pixels)
            right = rng.random(pixels) > hard
            images.append(histogram(np.clip(hard + blur * (rng.random(pixels) - 0.5), 0, 1), right))
        counts, doubts = map(np.stack, zip(*images, strict=True))
        found.append(Reliability(counts, doubts))
    return found


def test_intervals_and_paired_differences():
    first, second = runs()
    found = reliability.resample([first, second], times=300)
    assert list(found) == list(MEASURES)
    values = measures(first.counts.sum(0), first.doubts.sum(0))
    for name, value in zip(MEASURES, values, strict=True):
        one = found[name].interval(np.array([1.0, 0.0]))
        assert one.value == pytest.approx(value) and one.low < one.value < one.high
    auroc = found['AUROC']
    alone = [auroc.interval(np.eye(2)[i]) for i in range(2)]
    change = auroc.interval(np.array([-1.0, 1.0]))
    assert change.low > 0 and change.other_sign == 0
    width = sum(one.high - one.low for one in alone)
    assert change.high - change.low < width / 2, 'on the same draws'
    with pytest.raises(ValueError, match='needs two'):
        reliability.resample([Reliability(first.counts[:1], first.doubts[:1])])


# ------------------------------------------------------------------------------------------- files


def written(tmp_path):
    record, images = example()
    path = records.write(record, tmp_path / 'a.record.json')
    found = {}
    for measurement in record.domains:
        of = images[measurement.domain]
        counts = np.zeros((len(of), 2, BINS), np.uint32)
        for i in range(len(of)):
            right = np.trace(of[i])
            counts[i, :, 3] = of[i].sum() - right, right
        doubts = np.full((len(of), 15), 0.5)
        found[measurement.domain] = Reliability(counts, doubts, of.keys)
    return path, record, found


def test_round_trip(tmp_path):
    path, record, found = written(tmp_path)
    assert reliability.read(path, record) is None
    assert reliability.write(path, record, found) == tmp_path / 'a.reliability.npz'
    again = reliability.read(path, record)
    assert list(again) == list(found)
    for name, one in again.items():
        np.testing.assert_array_equal(one.counts, found[name].counts)
        np.testing.assert_array_equal(one.doubts, found[name].doubts)
        assert one.keys == tuple(found[name].keys)


@pytest.mark.parametrize('kind', ['counts', 'doubts', 'shape', 'record', 'no archive', 'schema'])
def test_damage_is_one_error_with_its_file(tmp_path, kind):
    path, record, found = written(tmp_path)
    file = reliability.write(path, record, found)
    with np.load(file) as kept:
        arrays = dict(kept)
    if kind == 'counts':
        arrays['counts0'][0, 1, 5] += 1
    elif kind == 'doubts':
        arrays['doubts0'][0, 0] = np.nan
    elif kind == 'shape':
        arrays['counts0'] = arrays['counts0'][:, :, :-1]
    elif kind == 'record':
        record.domains[0].matrix[0, 0] += 1
    elif kind == 'schema':
        header = json.loads(arrays['header'].tobytes()) | dict(schema='another')
        arrays['header'] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez_compressed(file, **arrays)
    if kind == 'no archive':
        file.write_bytes(b'nothing')
    with pytest.raises(RecordError, match=r'a\.reliability\.npz: these histograms cannot be used'):
        reliability.read(path, record)


# --------------------------------------------------------------------------------- where it is from


def segmentor():
    torch.manual_seed(0)
    model = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size_divisor=1),
        backbone=dict(type='ResNetV1c', depth=18, base_channels=8, stem_channels=8),
        decode_head=dict(
            type='FCNHead', in_channels=64, in_index=3, channels=8, num_classes=5, num_convs=1
        ),
        test_cfg=ConfigDict(mode='whole'),
    )
    with DefaultScope.overwrite_default_scope('mmseg'):
        return MODELS.build(model).eval()


def batch():
    size = (48, 80)
    meta = dict(ori_shape=size, img_shape=size, pad_shape=size)
    samples = [SegDataSample(metainfo=meta) for _ in range(2)]
    torch.manual_seed(1)
    return dict(inputs=[torch.randn(3, *size) * 50 for _ in samples], data_samples=samples)


@pytest.mark.parametrize('fast', [True, False])
def test_doubt_is_that_of_the_full_size_logits_and_labels_stay(fast, monkeypatch):
    model = segmentor()
    if not fast:
        monkeypatch.setattr(predict, '_is_plain', lambda model: False)
    plain = predict.Predictor(model)(batch())
    doubted = predict.Predictor(model, doubt=True)
    assert doubted.is_fast == fast
    expected = model.test_step(batch())
    for one, other, whole in zip(plain, doubted(batch()), expected, strict=True):
        assert torch.equal(one.pred_sem_seg.data, other.pred_sem_seg.data)
        assert 'doubt' not in one
        wanted = 1 - whole.seg_logits.data.softmax(0).amax(0, keepdim=True)
        assert other.doubt.data.shape == (1, 48, 80)
        torch.testing.assert_close(other.doubt.data, wanted, rtol=1e-4, atol=1e-5)


def test_a_head_without_softmax_is_refused():
    model = segmentor()
    model.out_channels = model.decode_head.out_channels = 1
    with pytest.raises(ValueError, match=r'EncoderDecoder does not predict.*--reliability'):
        predict.Predictor(model, doubt=True)


def test_identity_is_that_of_the_images(tmp_path):
    path, record, found = written(tmp_path)
    reliability.write(path, record, found)
    record.model = 'renamed'
    assert matrices.identity(record) and reliability.read(path, record)
