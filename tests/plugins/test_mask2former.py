"""Mask2Former on frozen transformers with adapters: MMDetection's head, Rein's queries."""

import shutil

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict

from .processes import need

need('mmdet', 'mmcv.ops', 'timm')

from mmseg.registry import MODELS  # noqa: E402
from mmseg.structures import SegDataSample  # noqa: E402
from test_foundation import (  # noqa: E402
    CONFIGS,
    NAME,
    OUT,
    SMALL,
    build,
    file_of,
    images,
    run_config,
    trained_parameters,
)
from test_resume import LENGTH, assert_same, data, interrupt, mmseg_scope  # noqa: E402, F401

from ibnseg import load, registered, weights  # noqa: E402, F401
from ibnseg.train import train as training  # noqa: E402

QUERIES, WIDTH = 5, 16
LEAVES = ['rein_mask2former', 'soma_mask2former']
#: What the head and the adapter have in a config of Rein.
REIN = dict(kind='rein', tokens=QUERIES, rank=2, query_dims=WIDTH)


def head_of(leaf='rein_mask2former', channels=32, classes=19) -> ConfigDict:
    """The head of a config, small."""
    head = Config.fromfile(CONFIGS / f'{leaf}.py').model.decode_head
    head.update(
        in_channels=[channels] * 4, feat_channels=WIDTH, out_channels=WIDTH, num_classes=classes,
        num_queries=QUERIES,
    )  # fmt: skip
    layer = head.pixel_decoder.encoder.layer_cfg
    layer.self_attn_cfg.update(embed_dims=WIDTH, num_heads=2)
    layer.ffn_cfg.update(embed_dims=WIDTH, feedforward_channels=8)
    head.pixel_decoder.encoder.num_layers = 1
    head.pixel_decoder.norm_cfg.num_groups = 4
    for one in (head.pixel_decoder, head):
        one.positional_encoding.num_feats = WIDTH // 2
    layer = head.transformer_decoder.layer_cfg
    for part in (layer.self_attn_cfg, layer.cross_attn_cfg, layer.ffn_cfg):
        part.embed_dims = WIDTH
        part.update(dict(num_heads=2) if 'num_heads' in part else dict(feedforward_channels=8))
    head.transformer_decoder.num_layers = 2
    head.loss_cls.class_weight = [1.0] * classes + [0.1]
    head.train_cfg.num_points = 64
    return head


def maps_and_queries():
    torch.manual_seed(2)
    maps = [torch.randn(2, 32, side, side) for side in (16, 8, 4, 2)]
    return maps, torch.randn(QUERIES, WIDTH, requires_grad=True)


def test_it_is_mmsegs_head_with_these_queries():
    ours = MODELS.build(head_of())
    given = head_of()
    given.type = 'Mask2FormerHead'
    theirs = MODELS.build(given)
    own = {'query_embed.weight', 'query_feat.weight'}
    assert theirs.state_dict().keys() - ours.state_dict().keys() == own
    theirs.load_state_dict(ours.state_dict(), strict=False)
    maps, queries = maps_and_queries()
    with torch.no_grad():
        theirs.query_embed.weight.copy_(queries)
        theirs.query_feat.weight.copy_(queries)
    samples = [SegDataSample(metainfo=dict(img_shape=(64, 64)))] * 2
    for mine, other in zip(ours([*maps, queries], samples), theirs(maps, samples), strict=True):
        for one, expected in zip(mine, other, strict=True):
            torch.testing.assert_close(one, expected, rtol=0, atol=0)
    assert ours.query_feat.weight is None


def test_queries_learn_through_the_head():
    net = build(adapter=REIN).train()
    neck, head = MODELS.build(dict(type='Rescale')), MODELS.build(head_of())
    found = neck(net(images()))
    assert [tuple(y.shape) for y in found] == [
        (2, 32, 16, 16), (2, 32, 8, 8), (2, 32, 4, 4), (2, 32, 2, 2), (QUERIES, WIDTH)
    ]  # fmt: skip
    scores, masks = head(found, [SegDataSample(metainfo=dict(img_shape=(64, 64)))] * 2)
    (scores[-1].square().mean() + masks[-1].square().mean()).backward()
    for name in ('transform.weight', 'merge.weight', 'learnable_tokens_a', 'mlp_delta_f.weight'):
        assert net.reins.get_parameter(name).grad.abs().sum() > 0, name


def test_without_queries_it_says_where_they_come_from():
    maps, queries = maps_and_queries()
    head = MODELS.build(head_of())
    for last in (queries[1:], queries[:, 1:], maps[0]):
        with pytest.raises(ValueError, match=f"kind='rein', tokens={QUERIES}, query_dims={WIDTH}"):
            head([*maps, last], [])


@pytest.mark.parametrize('leaf', LEAVES)
def test_the_configs_build_with_as_many_parameters_as_published(leaf):
    expected = dict(rein_mask2former=2_990_081, soma_mask2former=16 * 304_128)
    assert trained_parameters(leaf) == expected[leaf]


def small(data, folder, base, leaf):  # noqa: F811
    """A config of a short run on the miniature, with what the leaf says of head and training."""
    found, stated = run_config(data, folder, base), Config.fromfile(CONFIGS / f'{leaf}.py')
    kind = stated.model.backbone.adapter.kind
    found.model.backbone = dict(
        type='FrozenViT', name=NAME, pretrained=base, out_indices=OUT[4],
        adapter=REIN if kind == 'rein' else dict(kind='soma', rank=2),
        options=dict(SMALL, img_size=(64, 64), patch_size=16),
    )  # fmt: skip
    found.model.neck = stated.model.neck
    found.model.decode_head = head_of(leaf, classes=found.model.decode_head.num_classes)
    found.model.auxiliary_head = None
    found.model.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(32, 48))
    found.model.data_preprocessor.size = (64, 64)
    for step in found.train_dataloader.dataset.pipeline:
        if step.type == 'RandomCrop':
            step.crop_size = (64, 64)
    found.optim_wrapper = stated.optim_wrapper
    found.param_scheduler = stated.param_scheduler
    for one in found.param_scheduler:
        one.end = LENGTH
    if leaf.startswith('soma'):
        found.custom_hooks = stated.custom_hooks
        found.custom_hooks[-1].begin_iter = 3
    return found


@pytest.mark.parametrize('leaf', LEAVES)
def test_a_resumed_run_is_the_run_and_predicts(leaf, data, tmp_path):  # noqa: F811
    base = file_of(build(img_size=(64, 64)), tmp_path / 'base.pth')
    run = tmp_path / 'run'
    training.train(small(data, run, base, leaf), show=False)
    kept = weights.read(run / f'iter_{LENGTH}.pth')
    assert 'decode_head.cls_embed.weight' in kept['state_dict']
    (found,) = load(run, device='cpu')([np.zeros((96, 160, 3), np.uint8)])
    assert found.labels.shape == (96, 160)
    copied = shutil.copytree(run, tmp_path / 'copied')
    interrupt(copied, 4)
    training.train(small(data, copied, base, leaf), resume=True, show=False)
    assert_same(weights.read(copied / f'iter_{LENGTH}.pth'), kept)
