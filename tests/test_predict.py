from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmcv.cnn import ConvAWS2d, ConvWS2d
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch.nn import functional as F

from ibnseg.backbones import IBNDenseNet
from ibnseg.measure.predict import Predictor, for_inference, label_map
from ibnseg.placement import PLACEMENTS, Put


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def smooth(classes: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Logits with regions, as a network's."""
    noise = np.random.default_rng(seed).normal(size=(classes, *size)).astype(np.float32)
    return np.stack([cv2.GaussianBlur(channel, (0, 0), 2) for channel in noise])


def by_torch(logits: np.ndarray, sizes) -> torch.Tensor:
    full = torch.from_numpy(logits)[None].double()
    for size in sizes:
        full = F.interpolate(full, size, mode='bilinear', align_corners=False)
    return full[0]


@pytest.mark.parametrize('kind', ['noise', 'smooth'])
@pytest.mark.parametrize(
    'sizes',
    [
        [(128, 256)],
        [(16, 32)],
        [(128, 256), (128, 256)],
        [(64, 128), (100, 250)],
        [(61, 127), (31, 40)],
        [(33, 50), (128, 200)],
    ],
)
@pytest.mark.parametrize('classes', [2, 19, 256])
def test_label_map_is_the_argmax_of_the_resized_logits(classes, sizes, kind):
    logits = np.random.default_rng(3).normal(size=(classes, 16, 32)).astype(np.float32)
    if kind == 'smooth':
        logits = smooth(classes, (16, 32), 3)
    found = label_map(logits, sizes)
    assert found.dtype == np.uint8 and found.shape == sizes[-1]
    full = by_torch(logits, sizes)
    expected = full.argmax(0).numpy()
    differ = found != expected
    assert differ.mean() < 1e-3
    # Where they differ, the two classes' logits are one and the same number but for rounding.
    chosen = full.gather(0, torch.from_numpy(found).long()[None])[0]
    assert (full.max(0).values - chosen).max() < 1e-4


def test_lowest_class_wins_a_tie():
    logits = np.zeros((5, 4, 4), np.float32)
    logits[[2, 4]] = 1
    assert (label_map(logits, [(8, 8)]) == 2).all()


def test_logits_are_left_alone():
    logits = smooth(4, (8, 8), 0)
    before = logits.copy()
    label_map(logits, [(8, 8)])
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_a_diverged_network_is_named(value):
    logits = smooth(3, (8, 8), 0)
    logits[1, 2, 3] = value
    with pytest.raises(ValueError, match='diverged'):
        label_map(logits, [(16, 16)])


def segmentor(placement='ibn_a', head='FCNHead', mode='whole', align_corners=False):
    heads = {
        'FCNHead': dict(num_convs=0, concat_input=False),
        'DepthwiseSeparableASPPHead': dict(
            dilations=(1, 2), c1_in_channels=64, c1_channels=8, norm_cfg=dict(type='BN')
        ),
    }
    window = dict(mode='slide', crop_size=(32, 48), stride=(24, 32))
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4],
                bgr_to_rgb=True,
            ),
            backbone=dict(type='IBNResNet', depth=18, placement=placement),
            decode_head=dict(
                type=head, in_channels=512, channels=512 if head == 'FCNHead' else 16, in_index=3,
                num_classes=19, dropout_ratio=0, align_corners=align_corners, **heads[head],
            ),
            test_cfg=ConfigDict(window if mode == 'slide' else dict(mode='whole')),
        )
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.running_mean, -0.5, 0.5)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=0.1)
    return model.eval()


def batch(sizes=((64, 96),), ori=((100, 150),)):
    draw = torch.Generator().manual_seed(0)
    images, samples = [], []
    for size, native in zip(sizes, ori, strict=True):
        images.append(torch.randint(0, 256, (3, *size), generator=draw, dtype=torch.uint8))
        meta = dict(img_shape=size, ori_shape=native, domain='x')
        samples.append(SegDataSample(metainfo=meta))
    return dict(inputs=images, data_samples=samples)


def agreement(model, data, seed=0) -> float:
    """The share of pixels that `Predictor` and `test_step` give one class."""
    own, results = dict(data, data_samples=[s.clone() for s in data['data_samples']]), []
    predictor = Predictor(model)
    for step, given in ((predictor, data), (model.test_step, own)):
        torch.manual_seed(seed)
        with torch.no_grad():
            results.append(step(given))
    found, expected = results
    same = [
        (a.pred_sem_seg.data == b.pred_sem_seg.data).float().mean().item()
        for a, b in zip(found, expected, strict=True)
    ]
    assert all(a.domain == 'x' for a in found)
    return min(same)


@pytest.mark.parametrize('mode', ['whole', 'slide'])
@pytest.mark.parametrize('head', ['FCNHead', 'DepthwiseSeparableASPPHead'])
def test_predictions_are_those_of_mmseg(head, mode):
    model = segmentor(head=head, mode=mode)
    assert Predictor(model).is_fast
    two = batch(((64, 96), (64, 96)), ((100, 150), (64, 96)))
    assert agreement(model, two) > 0.999


@pytest.mark.parametrize('placement', PLACEMENTS)
def test_folding_keeps_the_logits(placement):
    model = segmentor(placement)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    copied = for_inference(model)
    with torch.no_grad():
        expected = model.decode_head(model.extract_feat(x))
        found = copied.decode_head(copied.extract_feat(x))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())
    for before, now in zip(model.state_dict().values(), segmentor(placement).state_dict().values(),
                           strict=True):  # fmt: skip
        torch.testing.assert_close(before, now)  # the model itself is as it was


@pytest.mark.parametrize('in_a_run', [False, True])
def test_the_norms_of_our_configs_are_folded(in_a_run):
    """SyncBN is MMEngine's own class, and another one once a run on a CPU has reverted it."""
    root = Path(__file__).parents[1] / 'configs'
    config = Config.fromfile(root / 'ibn_b_gta5_to_cityscapes.py').model
    config.backbone.update(init_cfg=None, depth=18, base_channels=8, stem_channels=8)
    config.decode_head.update(in_channels=64, channels=64)
    model = MODELS.build(config).eval()
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        torch.nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    if in_a_run:
        model = revert_sync_batchnorm(model)
    folded = for_inference(model)
    left = [m for m in folded.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 19 and not left
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found, wanted = folded(x), model(x)
    assert not torch.equal(found, wanted)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4 * wanted.abs().max().item())


def test_a_batchnorm_is_folded_into_no_convolution_but_its_own():
    """Without a BatchNorm of its own, the stem's convolution is not that of a later one."""
    torch.manual_seed(0)
    model = IBNDenseNet(121, placement=[Put('InstanceNorm', 'stem')]).eval()
    x = torch.randn(1, 3, 64, 64)
    folded = for_inference(model)
    assert sum(isinstance(module, torch.nn.Identity) for module in folded.modules()) == 58
    with torch.no_grad():
        for found, expected in zip(folded(x), model(x), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_diverged_network_stays_on_the_fast_path():
    model = segmentor()
    torch.nn.init.constant_(model.backbone.conv1.weight, float('nan'))
    with torch.no_grad(), pytest.raises(ValueError, match='diverged'):
        Predictor(model)(batch())


class Odd(torch.nn.Module):
    """A convolution and a BatchNorm, `how` they are used."""

    def __init__(self, how, conv=torch.nn.Conv2d):
        super().__init__()
        self.how = how
        # Registered in the order in which `skipped` does not run them.
        self.other, self.conv = torch.nn.Conv2d(3, 3, 1), conv(3, 3, 3, padding=1)
        self.norm, self.relu = torch.nn.BatchNorm2d(3), torch.nn.ReLU(inplace=True)

    def forward(self, x):
        conv, norm, how = self.conv, self.norm, self.how
        if how == 'skipped':
            return conv(norm(self.other(x)))
        y = conv(x)
        if how == 'written to':
            return norm(self.relu(y))
        if how == 'used again':
            return norm(y) + y
        if how == 'twice':
            return norm(y) + conv(x.flip(3))
        if how == 'norm twice':
            return norm(norm(y))
        if how == 'weight used':
            return norm(y) * conv.weight.mean()
        if how == 'functional':
            parts = norm.running_mean, norm.running_var, norm.weight, norm.bias
            return torch.nn.functional.batch_norm(y, *parts)
        return norm(y)


def spectral(*args, **kwargs):
    return torch.nn.utils.spectral_norm(torch.nn.Conv2d(*args, **kwargs))


def parametrised(*args, **kwargs):
    return torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(*args, **kwargs))


def hooked(*args, **kwargs):
    conv = torch.nn.Conv2d(*args, **kwargs)
    conv.register_forward_hook(lambda module, inputs, out: 2 * out)
    return conv


@pytest.mark.parametrize(
    ('how', 'conv', 'folded'),
    [
        ('plain', torch.nn.Conv2d, 'conv'),
        ('skipped', torch.nn.Conv2d, 'other'),
        *(
            (how, torch.nn.Conv2d, None)
            for how in (
                'written to', 'used again', 'twice', 'norm twice', 'weight used', 'functional',
            )
        ),
        *(('plain', conv, None) for conv in (spectral, parametrised, hooked, ConvAWS2d, ConvWS2d)),
    ],
)  # fmt: skip
def test_a_fold_follows_the_data(how, conv, folded):
    torch.manual_seed(0)
    model = Odd(how, conv).double()
    for tensor in (model.norm.running_mean, model.norm.running_var, model.norm.weight):
        torch.nn.init.uniform_(tensor, 0.5, 1.5)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    model.train()(x)
    state = torch.get_rng_state()
    fast = for_inference(model.eval())
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(getattr(fast, 'norm', None), torch.nn.Identity) == (folded is not None)
    for name in ('conv', 'other'):
        same = all(map(torch.equal, getattr(model, name).state_dict().values(),
                       getattr(fast, name).state_dict().values()))  # fmt: skip
        assert same == (name != folded)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x), rtol=1e-9, atol=1e-9)


def test_layers_left_in_training_and_hooks_keep_their_effect():
    model = segmentor()
    model.backbone.bn1.train()
    assert not Predictor(model).is_fast
    model.eval()
    handle = model.register_forward_hook(lambda *_: None)
    assert not Predictor(model).is_fast
    handle.remove()
    model.decode_head.register_forward_hook(lambda module, inputs, out: -out)  # MMSeg runs none
    assert Predictor(model).is_fast and agreement(model, batch()) > 0.999
    model.postprocess_result = lambda logits, samples: samples
    assert not Predictor(model).is_fast


def test_a_pipeline_that_pads():
    """MMSeg brings logits to pad_shape, or img_shape, and from there to ori_shape."""
    model = segmentor()
    for shape in (dict(pad_shape=(64, 96, 3)), dict(img_shape=(48, 64)), dict(pad_shape=(70, 99))):
        data = batch()
        data['data_samples'][0].set_metainfo(shape)
        assert agreement(model, data) > 0.999


def test_a_compiled_backbone_is_what_runs():
    model = segmentor()
    passes = []

    def backend(graph, _):
        return lambda *args: passes.append(1) or graph(*args)

    model.backbone.compile(backend=backend)
    predictor = Predictor(model)
    predictor(batch())
    assert predictor.is_fast and passes
    assert agreement(model, batch()) > 0.999


def test_what_is_not_the_same_takes_the_models_own_way():
    model = segmentor(align_corners=True)
    predictor = Predictor(model)
    assert not predictor.is_fast and predictor.model is model
    assert agreement(model, batch()) == 1


def test_flipped_and_padded_samples_are_mmsegs():
    model = segmentor()
    data = batch()
    data['data_samples'][0].set_metainfo(dict(flip=True, flip_direction='horizontal'))
    assert agreement(model, data) > 0.999
    model.data_preprocessor.test_cfg = dict(size_divisor=64)
    assert agreement(model, batch()) > 0.999


@pytest.mark.parametrize('placement', ['ibn_a', None])
def test_photos_of_unequal_sizes_are_predicted_one_by_one(placement):
    """None: as a model of another kind, by its own `test_step`."""
    predictor = Predictor(segmentor(placement or 'ibn_a'))
    predictor.is_fast = placement is not None
    sizes = (64, 96), (48, 64), (64, 96)
    data = batch(sizes, sizes)
    alone = [
        predictor(dict(inputs=[image], data_samples=[sample.clone()]))[0].pred_sem_seg.data
        for image, sample in zip(data['inputs'], data['data_samples'], strict=True)
    ]
    found = predictor(data)
    assert [tuple(sample.pred_sem_seg.data.shape[1:]) for sample in found] == list(sizes)
    assert all(torch.equal(a.pred_sem_seg.data, b) for a, b in zip(found, alone, strict=True))
