"""What every backbone promises, walked over the networks and their placements."""

import copy
import re
import runpy
from pathlib import Path

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.testing import assert_close

from ibnseg import backbones
from ibnseg.blocks import SqueezeExcite
from ibnseg.norms import IBN, LAYERS, InstanceNorm, ParallelIBN
from ibnseg.placement import PLACEMENTS
from ibnseg.weights import load_weights

NARROW = dict(stem_channels=16, base_channels=8)
GROUPS = NARROW | dict(groups=2, base_width=4)
NETWORKS = {
    'resnet18': dict(type='IBNResNet', depth=18, **NARROW),
    'resnet50': dict(type='IBNResNet', depth=50, **NARROW),
    'resnext50': dict(type='IBNResNeXt', depth=50, **GROUPS),
    'se_resnet18': dict(type='IBNSEResNet', depth=18, **NARROW),
    'se_resnet50': dict(type='IBNSEResNet', depth=50, **NARROW),
    'se_resnext50': dict(type='IBNSEResNeXt', depth=50, **GROUPS),
    'densenet121': dict(type='IBNDenseNet', depth=121, stem_channels=8, growth=4),
}
OS8 = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
OS16 = dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2))
THREE = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(1, 2))
exact = dict(rtol=0, atol=1e-12)


def placements(network: str) -> list[str]:
    """The named placements that this network can have."""
    table = getattr(getattr(backbones, NETWORKS[network]['type']), 'placements', PLACEMENTS)
    refused = {'ibn_c'} if 'resnext' in network else set()
    return [name for name in table if name not in refused]


PAIRS = [(network, name) for network in NETWORKS for name in placements(network)]


def build(network: str, placement: str = 'bn', **arguments) -> nn.Module:
    return MODELS.build(NETWORKS[network] | dict(placement=placement) | arguments)


def randomised(net: nn.Module) -> nn.Module:
    """In float64, all norms different and none zero."""
    for key, tensor in net.double().state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5) if key.endswith(('var', 'weight')) else tensor.normal_(0, 0.1)
    return net


def drawn(net: nn.Module) -> dict[str, Tensor]:
    """A state dict of the net's keys whose values are all different."""
    return {
        key: torch.rand_like(tensor) + 0.5 if tensor.is_floating_point() else tensor + 7
        for key, tensor in net.state_dict().items()
    }


def images(batch: int = 2, side: int = 64) -> Tensor:
    return torch.randn(batch, 3, side, side, dtype=torch.float64)


def loss(outs: tuple[Tensor, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return sum((x * torch.randn(x.shape, generator=generator, dtype=x.dtype)).mean() for x in outs)


def gradients(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    net.zero_grad()
    loss(net(x)).backward()
    return {key: p.grad for key, p in net.named_parameters() if p.grad is not None}


def channels(network: str) -> list[int]:
    if network == 'densenet121':
        return [32, 64, 128, 128]
    return [8 * 2**i * (1 if network.endswith('18') else 4) for i in range(4)]


@pytest.mark.parametrize(('network', 'placement'), PAIRS)
def test_every_pair_trains_with_a_batch_of_one(network, placement):
    net = randomised(build(network, placement)).train()
    before = copy.deepcopy(dict(net.named_buffers()))
    found = gradients(net, images(1))
    for key, _ in net.named_parameters():
        dead = '.se.' in key  # one or two hidden ReLUs at this width
        assert found[key].isfinite().all() and (found[key].any() or dead), key
    for key, buffer in net.named_buffers():
        assert not torch.equal(buffer, before[key]), key
    has_layers = any(isinstance(m, tuple(LAYERS.values())) for m in net.modules())
    assert has_layers == (placement != 'bn')
    sizes = zip(channels(network), (16, 8, 4, 2), strict=True)
    assert [o.shape for o in net.eval()(images(1))] == [(1, c, side, side) for c, side in sizes]


@pytest.mark.parametrize('network', ['resnext50', 'se_resnext50'])
def test_c_is_refused_before_grouped_convolutions(network):
    with pytest.raises(ValueError, match=r'layer1\.0\.norm1: ParallelIBN gives 2 times .* one gr'):
        build(network, 'ibn_c')


@pytest.mark.parametrize('network', NETWORKS)
@pytest.mark.parametrize('case', [OS8, OS16, THREE, dict(out_indices=(3,))], ids=str)
def test_strides_stages_and_outputs(network, case):
    net = build(network, 'ibn_a', **case)
    outs = net(torch.randn(1, 3, 64, 64))
    sides = {str(OS8): (16, 8, 8, 8), str(OS16): (16, 8, 4, 4)}.get(str(case), (16, 8, 4, 2))
    wanted = case.get('out_indices', range(4))
    assert [o.shape for o in outs] == [
        (1, channels(network)[i], sides[i], sides[i]) for i in wanted
    ]
    assert len(net.state_dict()) <= len(build(network, 'ibn_a').state_dict())


@pytest.mark.parametrize('network', NETWORKS)
def test_dilated_convolutions(network):
    net = build(network, **OS8)
    found = {}
    for key, module in net.named_modules():
        if key.endswith('conv2') or ('18' in network and key.endswith('conv1')):
            stage = re.search(r'(?:layer|denseblock)(\d)', key)
            if stage:
                found.setdefault(int(stage[1]), set()).add(module.dilation[0])
    assert all(max(found[stage]) == d for stage, d in zip((1, 2, 3, 4), (1, 1, 2, 4), strict=True))
    if network == 'densenet121':
        assert found == {1: {1}, 2: {1}, 3: {2}, 4: {4}}


@pytest.mark.parametrize('arguments', [{}, dict(norm_eval=True, frozen_stages=1)], ids=str)
@pytest.mark.parametrize(('network', 'placement'), PAIRS)
def test_checkpointing_changes_no_output_gradient_or_statistic(network, placement, arguments):
    plain = randomised(build(network, placement, **arguments)).train()
    saving = build(network, placement, with_cp=True, **arguments).double().train()
    saving.load_state_dict(plain.state_dict())
    calls = []
    convs = [
        m
        for k, m in saving.named_modules()
        if re.match(r'(layer|features\.denseblock)3\..*conv1$', k)
    ]
    convs[0].register_forward_hook(lambda *_: calls.append(1))
    x = images()
    assert_close(gradients(saving, x), gradients(plain, x), **exact)
    assert len(calls) == 2  # once forward, once again backward
    assert_close(dict(saving.named_buffers()), dict(plain.named_buffers()), **exact)
    assert_close(saving.eval()(x), plain.eval()(x), **exact)


FREEZABLE = [(n, p, {}) for n, p in PAIRS if p in ('bn', 'ibn_a', 'ibn_b')]


@pytest.mark.parametrize('frozen', [-1, 0, 2, 4])
@pytest.mark.parametrize(
    ('network', 'placement', 'stem'), [*FREEZABLE, ('resnet18', 'ibn_b', dict(deep_stem=True))]
)
def test_frozen_stages(network, placement, stem, frozen):
    net = randomised(build(network, placement, frozen_stages=frozen, **stem))
    for again in (False, True):
        if again:
            net.eval()
            net.train()
        for key, parameter in net.named_parameters():
            stage = re.search(r'(?:layer|denseblock)(\d)', key)
            stage = stage or re.search(r'()transition\d', key)
            if stage and not stage[1]:
                at = int(key[key.index('transition') + 10]) + 1  # it leads into that stage
            else:
                at = int(stage[1]) if stage else 4 if 'norm5' in key else 0
            assert parameter.requires_grad == (at > frozen), key
            assert net.get_submodule(key.rpartition('.')[0]).training == (at > frozen) or (
                key == 'conv1.weight' or 'conv0' in key
            ), key
    if frozen < 4:
        before = copy.deepcopy(net.state_dict())
        net(images())
        for key, buffer in net.named_buffers():
            frozen_norm = not net.get_submodule(key.rpartition('.')[0]).training
            assert torch.equal(buffer, before[key]) == frozen_norm, key


@pytest.mark.parametrize(('network', 'placement'), PAIRS)
def test_norm_eval_keeps_the_statistics(network, placement):
    net = randomised(build(network, placement, norm_eval=True))
    assert net.train() is net and net.training and net.eval() is net
    assert net.train(False) is net and not net.training
    net.train()
    before = copy.deepcopy(dict(net.named_buffers()))
    assert set(gradients(net, images())) == {key for key, _ in net.named_parameters()}
    assert_close(dict(net.named_buffers()), before, rtol=0, atol=0)


@pytest.mark.parametrize(('network', 'placement'), PAIRS)
def test_sync_bn_and_norm_cfg(network, placement):
    plain = randomised(build(network, placement)).train()
    norm_cfg = dict(type='SyncBN', requires_grad=True, eps=1e-3)
    net = build(network, placement, norm_cfg=norm_cfg).double().train()
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))
    bns = [key for key, m in plain.named_modules() if isinstance(m, nn.BatchNorm2d)]
    x = images()
    for synced, eps in ((net, 1e-3), (converted, 1e-5)):
        found = [k for k, m in synced.named_modules() if isinstance(m, nn.SyncBatchNorm)]
        assert found == bns  # and no InstanceNorm
        back = revert_sync_batchnorm(synced)
        for module in back.modules():
            if isinstance(module, _BatchNorm):
                assert module.eps == eps
                module.eps = 1e-5
        back.load_state_dict(plain.state_dict())
        assert_close(back(x), copy.deepcopy(plain)(x), **exact)


@pytest.mark.parametrize('network', NETWORKS)
def test_one_pixel_names_the_layer(network):
    with pytest.raises(ValueError, match=r'(layer|denseblock)\d\.\w+\.norm1: got a .*larger input'):
        build(network, 'ibn_a')(torch.randn(2, 3, 4, 4))


@pytest.mark.parametrize('network', NETWORKS)
def test_a_segmentor_trains_on_it(network):
    norm_cfg = dict(type='BN')
    head = dict(
        type='FCNHead', in_channels=channels(network)[3], channels=8, num_classes=19, num_convs=1
    )
    model = MODELS.build(
        dict(
            type='EncoderDecoder',
            backbone=NETWORKS[network] | dict(placement='ibn_a', **OS8),
            decode_head=head | dict(in_index=3, norm_cfg=norm_cfg),
        )
    )
    model.init_weights()
    out = model(torch.randn(2, 3, 64, 64), mode='tensor')
    assert out.shape == (2, 19, 8, 8)
    out.mean().backward()


# ---------------------------------------------------------------- networks


def se_weights(*blocks: int) -> int:
    """Two matrices C x C/16 in each bottleneck of each stage."""
    return sum(n * 2 * c * c // 16 for n, c in zip(blocks, (256, 512, 1024, 2048), strict=True))


# Parameters without the classifier, as torchvision's networks have them.
PARAMETERS = {
    ('IBNResNet', 18): 11_176_512,
    ('IBNResNet', 34): 21_284_672,
    ('IBNResNet', 50): 23_508_032,
    ('IBNResNet', 101): 42_500_160,
    ('IBNResNet', 152): 58_143_808,
    ('IBNResNeXt', 50): 22_979_904,
    ('IBNResNeXt', 101): 42_128_704,
    ('IBNSEResNet', 50): 23_508_032 + se_weights(3, 4, 6, 3),
    ('IBNSEResNet', 101): 42_500_160 + se_weights(3, 4, 23, 3),
    ('IBNSEResNet', 152): 58_143_808 + se_weights(3, 8, 36, 3),
    ('IBNSEResNeXt', 50): 22_979_904 + se_weights(3, 4, 6, 3),
    ('IBNSEResNeXt', 101): 42_128_704 + se_weights(3, 4, 23, 3),
    ('IBNDenseNet', 121): 6_953_856,
    ('IBNDenseNet', 161): 26_472_000,
    ('IBNDenseNet', 169): 12_484_480,
    ('IBNDenseNet', 201): 18_092_928,
}


@pytest.mark.parametrize(('network', 'depth'), PARAMETERS)
def test_parameters_and_that_a_adds_none(network, depth):
    with torch.device('meta'):
        for placement in ('bn', 'ibn_a'):
            net = MODELS.build(dict(type=network, depth=depth, placement=placement))
            assert sum(p.numel() for p in net.parameters()) == PARAMETERS[network, depth]


def test_32x8d():
    with torch.device('meta'):
        net = backbones.IBNResNeXt(101, base_width=8, placement='ibn_a')
    assert sum(p.numel() for p in net.parameters()) == 86_742_336


def test_unknown_depths():
    for network, depth in (('IBNResNeXt', 18), ('IBNSEResNeXt', 18), ('IBNResNet', 20)):
        with pytest.raises(KeyError, match=str(depth)):
            MODELS.build(dict(type=network, depth=depth))
    with pytest.raises(ValueError, match=r'depth is 50; choose from \[121, 161, 169, 201\]'):
        backbones.IBNDenseNet(50)


def test_table_of_costs(capsys):
    script = Path(__file__).parents[1] / 'tools' / 'benchmark' / 'flops.py'
    rows = ['ResNet-50', 'DenseNet-121']
    assert runpy.run_path(str(script))['main'](['--networks', *rows]) == 0
    printed = capsys.readouterr().out
    assert printed.count('|---|') == 2
    assert '| ResNet-50 | 23.51 | 23.51 | 23.51 | 27.75 |' in printed
    assert '| ResNet-50 | 4.09 | 4.09 | 4.09 | 5.59 |' in printed
    assert '| DenseNet-121 | 2.83 | 2.83 | - |' in printed
    documented = (script.parents[2] / 'docs' / 'family.md').read_text().splitlines()
    assert all(line in documented for line in printed.splitlines())


@pytest.mark.parametrize('size', [64, 4])
def test_squeeze_excite(size):
    se = SqueezeExcite(size).double()
    assert {k: tuple(p.shape) for k, p in se.named_parameters()} == {
        'fc.0.weight': (max(1, size // 16), size),
        'fc.2.weight': (size, max(1, size // 16)),
    }
    x = torch.randn(2, size, 5, 4, dtype=torch.float64)
    gate = torch.sigmoid((x.mean((2, 3)) @ se.fc[0].weight.T).relu() @ se.fc[2].weight.T)
    assert_close(se(x), x * gate[..., None, None], **exact)


@pytest.mark.parametrize('network', ['se_resnet18', 'se_resnet50', 'se_resnext50'])
def test_squeeze_excite_stands_after_the_last_norm(network):
    net = randomised(build(network)).eval()
    block, seen = net.layer1[1], {}
    last = block.bn2 if network == 'se_resnet18' else block.bn3
    last.register_forward_hook(lambda m, i, out: seen.update(norm=out.clone()))
    block.se.register_forward_hook(lambda m, i, out: seen.update(before=i[0].clone(), se=out * 1))
    block.register_forward_hook(lambda m, i, out: seen.update(identity=i[0], out=out))
    net(images())
    assert torch.equal(seen['before'], seen['norm'])
    assert_close(seen['out'], (seen['se'] + seen['identity']).relu(), **exact)


@pytest.mark.parametrize('zero', [True, False])
@pytest.mark.parametrize(('network', 'placement'), [p for p in PAIRS if 'densenet' not in p[0]])
def test_zero_init_residual(network, placement, zero):
    net = build(network, placement, zero_init_residual=zero)
    net.init_weights()
    last = '.bn2.' if network.endswith('18') else '.bn3.'
    for key, parameter in net.named_parameters():
        if parameter.ndim == 1:
            assert torch.all(parameter == (key.endswith('weight') and not (zero and last in key)))


# ---------------------------------------------------------------- weights


@pytest.mark.parametrize(('network', 'placement'), PAIRS)
def test_own_weights_come_back(network, placement):
    state = drawn(build(network, placement))
    net = build(network, placement)
    report = load_weights(net, state)
    assert_close(dict(net.state_dict()), state, rtol=0, atol=0)
    assert sorted(report.loaded) == sorted(state)
    assert not (report.converted or report.dropped or report.initial)


@pytest.mark.parametrize(('network', 'placement'), PAIRS)
def test_plain_weights_convert(network, placement):
    """Every norm keeps its scale and shift, whatever layers they now belong to."""
    state = drawn(build(network))
    net = build(network, placement)
    inserted = {
        f'{path}.{key}'
        for path, module in net.named_modules()
        if getattr(module, 'inserted', False)
        for key in module.state_dict()
    }
    report = load_weights(net, state)
    fates = report.loaded + report.converted + report.dropped
    assert sorted(fates) == sorted(state) and set(report.initial) == inserted
    for path, module in net.named_modules():
        plain = {k: state.get(f'{path}.{k}') for k in ('weight', 'bias')}
        if isinstance(module, IBN) and not module.inserted:
            ours, parts = module.state_dict(), ['IN', 'BN']
            for k, values in plain.items():
                both = [ours[f'{part}.{k}'] for part in parts[:: -1 if module.bn_first else 1]]
                assert torch.equal(torch.cat(both), values), path
            first = module.IN.num_features if not module.bn_first else 0
            stop = first + module.BN.num_features
            statistics = state[f'{path}.running_var'][first:stop]
            assert torch.equal(module.BN.running_var, statistics), path
        elif isinstance(module, ParallelIBN):
            for k, values in plain.items():
                assert torch.equal(getattr(module.IN, k), values), path
                assert torch.equal(getattr(module.BN, k), values), path
            assert torch.equal(module.BN.running_mean, state[f'{path}.running_mean']), path
        elif isinstance(module, InstanceNorm) and plain['weight'] is not None:
            assert torch.equal(module.weight, plain['weight']), path
            assert torch.equal(module.bias, plain['bias']), path


def test_c_from_plain_weights_sees_the_mean_of_both_norms():
    state = drawn(build('resnet50'))
    net, plain = build('resnet50', 'ibn_c').double(), build('resnet50').double()
    load_weights(plain, state)
    report = load_weights(net, state)
    assert 'layer1.0.conv2.weight' in report.converted
    assert 'layer4.0.conv2.weight' in report.loaded
    inorm, bnorm = torch.randn(2, 1, 8, 5, 5, dtype=torch.float64)
    wide = net.layer1[0].conv2(torch.cat((inorm, bnorm), 1))
    assert_close(wide, plain.layer1[0].conv2((inorm + bnorm) / 2), **exact)


def test_full_drops_all_statistics():
    state = drawn(build('resnet50'))
    report = load_weights(build('resnet50', 'in_full'), state)
    statistics = ('running_mean', 'running_var', 'num_batches_tracked')
    assert sorted(report.dropped) == sorted(k for k in state if k.endswith(statistics))
    assert not report.converted and not report.initial


def test_ibn_after_the_add_stays_initial():
    put = dict(layer='IBN', at='after_add', stages=(1,), blocks='last')
    net = build('resnet18', [put])
    report = load_weights(net, drawn(build('resnet18')))
    inserted = [f'layer1.1.IBN.{key}' for key in net.layer1[1].IBN.state_dict()]
    assert sorted(report.initial) == sorted(inserted)
    state = drawn(net)
    for missing in ('IN', 'BN'):  # an inserted layer that the file knows is taken whole
        half = {k: v for k, v in state.items() if f'IBN.{missing}.' not in k}
        with pytest.raises(ValueError, match=rf'lacks: layer1\.1\.IBN\.{missing}\.weight'):
            load_weights(net, half)


def test_weights_of_se_do_not_come_from_a_plain_file():
    with pytest.raises(ValueError, match=r'the file lacks: layer1\.0\.se\.fc\.0\.weight'):
        load_weights(build('se_resnet50'), drawn(build('resnet50')))


def test_another_family_is_refused():
    for network, other in (('resnet50', 'densenet121'), ('densenet121', 'resnet50')):
        with pytest.raises(ValueError, match='does not fit this IBN'):
            load_weights(build(network), drawn(build(other)))


@pytest.mark.parametrize('network', NETWORKS)
def test_stages_that_are_not_built_are_dropped(network):
    state = drawn(build(network, 'ibn_a'))
    net = build(network, 'ibn_a', **THREE)
    report = load_weights(net, state)
    assert sorted(report.loaded) == sorted(net.state_dict())
    assert report.dropped and all(
        re.match(r'layer4|features\.(denseblock4|transition3|norm5)', key) for key in report.dropped
    )
