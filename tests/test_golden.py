"""Equality with the original release, in float64, within the tolerances of the golden README."""

import json
import re
import runpy

import numpy as np
import pytest
import torch
from conftest import SHARED
from torch import Tensor, nn

from ibnseg import backbones
from ibnseg.weights import load_weights

NAMES = sorted(path.stem for path in SHARED.glob('golden/*.json')) or ['absent']


@pytest.fixture(params=NAMES)
def golden(request, shared):
    return json.loads(shared('golden', f'{request.param}.json').read_text())


@pytest.fixture
def recipe(shared):
    return runpy.run_path(str(shared('golden', 'recipe.py')))


@pytest.fixture
def weights(golden, recipe) -> dict[str, Tensor]:
    return {
        key: torch.from_numpy(recipe['draw'](key, tuple(shape)))
        for key, shape in golden['keys'].items()
    }


FAMILIES = dict(
    resnet='IBNResNet', resnext='IBNResNeXt', se_resnet='IBNSEResNet', densenet='IBNDenseNet'
)


def build(name: str, **arguments) -> nn.Module:
    """'resnet50_ibn_a' -> the network."""
    family, depth, placement = re.fullmatch(r'(\D+)(\d+)_(.*)', name).groups()
    return getattr(backbones, FAMILIES[family])(int(depth), placement=placement, **arguments)


def eval_maps(net: nn.Module, x: Tensor) -> list[Tensor]:
    """Forward; of a DenseNet's `norm5` what comes before the ReLU.

    So the golden README has it, and so it is in `eval`. In `train` and `grads` the original's
    in-place ReLU has gone over the map before it was kept (its least value is 0): there the golden
    map is what our forward gives.
    """
    before = []
    if isinstance(net, backbones.IBNDenseNet):
        hook = net.features.norm5.register_forward_hook(lambda m, i, out: before.append(out))
        maps = net(x)
        hook.remove()
        assert torch.equal(maps[-1], before[0].relu())
        return [*maps[:-1], before[0]]
    return list(net(x))


def is_head(key: str) -> bool:
    return key.startswith(('fc.', 'classifier.'))


def assert_sample(recipe: dict, name: str, found: Tensor, expected: dict) -> None:
    sample = recipe['sample'](name, found.detach().numpy())
    assert sample['shape'] == expected['shape']
    for value in ('mean', 'std', 'values'):
        np.testing.assert_allclose(
            sample[value], expected[value], rtol=0, atol=1e-9 * expected['std'], err_msg=name
        )


def assert_norms(found: dict[str, Tensor], expected: dict[str, float], atol: float = 0) -> None:
    assert set(found) == set(expected)
    for key, norm in expected.items():
        np.testing.assert_allclose(
            found[key].norm().item(), norm, rtol=1e-7, atol=atol, err_msg=key
        )


def test_keys_and_shapes_are_the_originals(golden, weights):
    net = build(golden['model'])
    shapes = {key: list(tensor.shape) for key, tensor in net.state_dict().items()}
    assert shapes == {k: shape for k, shape in golden['keys'].items() if not is_head(k)}
    report = load_weights(net, weights)
    assert sorted(report.dropped) == sorted(filter(is_head, golden['keys']))
    assert sorted(report.loaded) == sorted(shapes)
    assert not report.converted and not report.initial


def test_eval_and_logits(golden, recipe, weights):
    net = build(golden['model'])
    load_weights(net, weights)
    net.double().eval()
    with torch.no_grad():
        maps = eval_maps(net, torch.from_numpy(recipe['image']()).double())
        for layer, found in zip(golden['eval'], maps, strict=True):
            assert_sample(recipe, f'eval.{layer}', found, golden['eval'][layer])
        image = recipe['image'](recipe['LOGITS_INPUT_SHAPE'])
        pooled = net(torch.from_numpy(image).double())[-1].mean((2, 3))
    weight, bias = (weights[key].double() for key in filter(is_head, weights))
    logits = pooled @ weight.T + bias
    assert_sample(recipe, 'logits', logits, golden['logits'])


def test_train_gradients_and_statistics(golden, recipe, weights, tmp_path):
    torch.save(weights, tmp_path / 'original.pth')
    net = build(
        golden['model'],
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'original.pth')),
    )
    net.init_weights()
    net.double().train()
    maps = net(torch.from_numpy(recipe['image']()).double())
    for layer, found in zip(golden['train'], maps, strict=True):
        assert_sample(recipe, f'train.{layer}', found, golden['train'][layer])

    weight = np.random.default_rng(7).standard_normal(maps[-1].shape).astype('float32')
    (maps[-1] * torch.from_numpy(weight)).mean().backward()
    assert_norms(
        {key: parameter.grad for key, parameter in net.named_parameters()},
        {key: norm for key, norm in golden['grads'].items() if not is_head(key)},
        # A shift before an InstanceNorm has no gradient: the golden 2e-17 is rounding, which only
        # the same order of operations repeats.
        atol=1e-15,
    )
    statistics = {k: v for k, v in net.named_buffers() if not k.endswith('num_batches_tracked')}
    assert_norms(statistics, golden['buffers_after'])
