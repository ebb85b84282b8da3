import copy
from collections.abc import Iterator

import pytest
import torch
from mmengine.model import revert_sync_batchnorm
from mmseg.models.backbones import ResNet
from mmseg.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.testing import assert_close

from ibnseg.backbones import IBNResNet
from ibnseg.norms import IBN, InstanceNorm
from ibnseg.placement import PLACEMENTS

TINY = dict(stem_channels=16, base_channels=8)
THREE = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(1, 2))
exact = dict(rtol=0, atol=1e-12)


def images(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, 64, 64, dtype=torch.float64)


def build(placement: str = 'bn', depth: int = 18, **arguments) -> IBNResNet:
    return IBNResNet(depth, placement=placement, **TINY | arguments).double()


def randomised(net: nn.Module) -> nn.Module:
    """All norms different and no norm zero, so that a wrong order or weight shows."""
    for key, tensor in net.double().state_dict().items():
        if tensor.ndim == 1:
            tensor.uniform_(0.5, 1.5) if key.endswith(('var', 'weight')) else tensor.normal_(0, 0.1)
    return net


def step(net: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """One backward pass: outputs, gradients and the statistics left behind, by name."""
    net.zero_grad()
    outs = net(x)
    generator = torch.Generator().manual_seed(1)
    sum(
        (out * torch.randn(out.shape, generator=generator, dtype=out.dtype)).mean() for out in outs
    ).backward()
    result = {f'out.{i}': out.detach() for i, out in enumerate(outs)}
    result |= {f'grad.{k}': p.grad for k, p in net.named_parameters() if p.grad is not None}
    return result | {k: v.clone() for k, v in net.named_buffers()}


def batch_norms(net: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    return ((k, m) for k, m in net.named_modules() if isinstance(m, _BatchNorm))


ARGUMENTS = {
    'depth 18': dict(depth=18),
    'depth 34': dict(depth=34),
    'depth 50': dict(depth=50),
    'full width': dict(depth=18, stem_channels=64, base_channels=64),
    'deep_stem': dict(depth=18, deep_stem=True),
    'deep_stem avg_down': dict(depth=50, deep_stem=True, avg_down=True),
    'output stride 8': dict(depth=18, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    'output stride 8, 50': dict(depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    'contract_dilation': dict(
        depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True
    ),
    'multi_grid': dict(
        depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), multi_grid=(1, 2, 4)
    ),
    'three stages': dict(depth=18, **THREE),
    'one output': dict(depth=18, out_indices=(3,)),
    'caffe': dict(depth=50, style='caffe'),
    'four channels in': dict(depth=18, in_channels=4),
    'norm_eval': dict(depth=18, norm_eval=True),
    'frozen': dict(depth=18, frozen_stages=2),
    'with_cp': dict(depth=50, with_cp=True),
    'norm_cfg': dict(depth=18, norm_cfg=dict(type='BN', eps=1e-3, momentum=0.03)),
    'plugins': dict(
        depth=50,
        plugins=[
            dict(
                cfg=dict(type='ContextBlock', ratio=1 / 4, postfix=str(i)),
                stages=(False, True, True, False),
                position=f'after_conv{i}',
            )
            for i in (1, 2, 3)
        ],
    ),
}


@pytest.mark.filterwarnings('ignore:.*use_reentrant')  # MMSeg's own
@pytest.mark.parametrize('case', ARGUMENTS)
def test_bn_is_mmsegs_resnet(case):
    arguments = TINY | ARGUMENTS[case]
    theirs = randomised(ResNet(**arguments))
    mine = IBNResNet(placement='bn', **arguments).double()
    assert list(mine.state_dict()) == list(theirs.state_dict())
    mine.load_state_dict(theirs.state_dict())
    x = torch.randn(2, arguments.get('in_channels', 3), 64, 64, dtype=torch.float64)
    mine.train(), theirs.train()
    assert_close(step(mine, x), step(theirs, x), **exact)
    mine.eval(), theirs.eval()
    assert_close(mine(x), theirs(x), **exact)


INIT = {
    'default': {},
    'no zero_init': dict(zero_init_residual=False),
    'bottleneck': dict(depth=50),
    'bottleneck, no zero_init': dict(depth=50, zero_init_residual=False),
    'own init_cfg': dict(
        init_cfg=[
            dict(type='Xavier', layer='Conv2d'),
            dict(type='Constant', val=0.5, layer='_BatchNorm'),
        ]
    ),
    'one init_cfg': dict(init_cfg=dict(type='Normal', layer='Conv2d', std=0.1)),
    'deep_stem': dict(deep_stem=True, avg_down=True),
}


@pytest.mark.parametrize('case', INIT)
def test_bn_is_initialised_as_mmsegs_resnet(case):
    arguments = dict(depth=18) | TINY | INIT[case]
    states = []
    for network in (ResNet, IBNResNet):
        torch.manual_seed(5)
        net = network(**arguments)
        net.init_weights()
        states.append(net.state_dict())
    assert_close(states[1], states[0], rtol=0, atol=0)


@pytest.mark.parametrize('zero', [True, False])
@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('placement', PLACEMENTS)
def test_zero_init_residual(placement, depth, zero):
    net = build(placement, depth, zero_init_residual=zero)
    net.init_weights()
    last = {18: 'bn2', 50: 'bn3'}[depth]
    for key, parameter in net.named_parameters():
        if parameter.ndim == 1:
            zeroed = zero and f'.{last}.' in key
            assert torch.all(parameter == (key.endswith('weight') and not zeroed)), key


def test_zero_init_residual_reaches_a_layer_at_the_last_norm():
    net = build([dict(layer='IBN', at='norm2', stages=(1,))])
    net.init_weights()
    assert not net.layer1[0].bn2.IN.weight.any() and not net.layer1[0].bn2.BN.weight.any()


@pytest.mark.parametrize('placement', PLACEMENTS)
def test_norm_eval_keeps_the_statistics(placement):
    net = randomised(build(placement, norm_eval=True))
    assert net.train() is net and net.training
    assert not any(bn.training for _, bn in batch_norms(net))
    before = {k: v.clone() for k, v in net.named_buffers()}
    step(net, images())
    assert_close(dict(net.named_buffers()), before, rtol=0, atol=0)
    for key, parameter in net.named_parameters():
        assert parameter.requires_grad and parameter.grad.any(), key


@pytest.mark.parametrize('placement', PLACEMENTS)
def test_without_norm_eval_the_statistics_move(placement):
    net = randomised(build(placement)).train()
    before = {k: v.clone() for k, v in net.named_buffers()}
    net(images())
    for key, buffer in net.named_buffers():
        assert not torch.equal(buffer, before[key]), key


def of_mmseg(key: str, theirs: nn.Module) -> str:
    """The tensor of MMSeg's ResNet that stands where ours `key` does."""
    key = key.replace('.IN.', '.').replace('.BN.', '.')
    if key in dict(theirs.named_parameters()):
        return key
    block = '.'.join(key.split('.')[:2])  # an inserted layer goes with its block
    return f'{block}.conv1.weight'


@pytest.mark.parametrize('deep_stem', [False, True], ids=['stem', 'deep_stem'])
@pytest.mark.parametrize('frozen_stages', [-1, 0, 1, 2, 3, 4])
@pytest.mark.parametrize('placement', PLACEMENTS)
def test_frozen_stages_freeze_what_mmseg_freezes(placement, frozen_stages, deep_stem):
    arguments = dict(frozen_stages=frozen_stages, deep_stem=deep_stem)
    mine, theirs = build(placement, **arguments), ResNet(18, **TINY, **arguments)
    expected = {k: p.requires_grad for k, p in theirs.named_parameters()}
    for again in (False, True):
        if again:
            for net in (mine, theirs):
                net.eval()
                net.train()
            modes = {key: bn.training for key, bn in batch_norms(theirs)}
            for key, bn in batch_norms(mine):
                assert bn.training == modes[key.removesuffix('.BN')], key
        for key, parameter in mine.named_parameters():
            assert parameter.requires_grad == expected[of_mmseg(key, theirs)], key
    before = copy.deepcopy(mine.state_dict())
    net = mine
    if frozen_stages < 4:
        optimizer = torch.optim.SGD((p for p in net.parameters() if p.requires_grad), 0.1)
        step(net, images())
        optimizer.step()
    for key, tensor in net.state_dict().items():
        own = key.replace('running_mean', 'weight').replace('running_var', 'weight')
        if own in dict(net.named_parameters()) and not net.get_parameter(own).requires_grad:
            assert torch.equal(tensor, before[key]), key


@pytest.mark.parametrize('placement', PLACEMENTS)
def test_after_stage_is_frozen_with_its_stage(placement):
    puts = [*PLACEMENTS[placement], dict(layer='IN', at='after_stage', stages=(1, 2))]
    net = build(puts, frozen_stages=1).train()
    assert not net.layer1.IN.weight.requires_grad
    assert net.layer2.IN.weight.requires_grad


@pytest.mark.parametrize('placement', PLACEMENTS)
def test_train_and_eval_return_the_network(placement):
    net = build(placement)
    assert net.train() is net and net.training
    assert net.eval() is net and not net.training
    assert net.train(False) is net and not net.training


@pytest.mark.parametrize('arguments', [{}, dict(norm_eval=True), dict(frozen_stages=1)], ids=str)
@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('placement', PLACEMENTS)
def test_checkpointing_changes_no_output_and_no_gradient(placement, depth, arguments):
    plain = randomised(build(placement, depth, **arguments)).train()
    saving = build(placement, depth, with_cp=True, **arguments).train()
    saving.load_state_dict(plain.state_dict())
    x = images()
    calls = []
    saving.layer3[0].conv1.register_forward_hook(lambda *_: calls.append(1))
    expected, found = step(plain, x), step(saving, x)
    assert len(calls) == 2  # once forward, once again backward
    keys = [key for key in expected if key.startswith(('out', 'grad'))]
    assert {k for k in found if k.startswith('grad')} == {k for k in keys if k.startswith('grad')}
    for key in keys:
        assert_close(found[key], expected[key], msg=lambda text, key=key: f'{key}: {text}', **exact)


def norms(net: nn.Module, *kinds: type) -> list[str]:
    return [key for key, module in net.named_modules() if isinstance(module, kinds)]


@pytest.mark.parametrize('placement', PLACEMENTS)
def test_sync_bn_takes_the_bn_half_only(placement):
    plain = randomised(build(placement)).train()
    in_halves, bn_halves = norms(plain, InstanceNorm), norms(plain, nn.BatchNorm2d)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))
    built = build(placement, norm_cfg=dict(type='SyncBN', requires_grad=True)).train()
    built.load_state_dict(plain.state_dict())

    x = images()
    expected = step(plain, x)
    for net in (converted, built):
        assert norms(net, nn.SyncBatchNorm) == bn_halves
        assert norms(net, InstanceNorm) == in_halves
        back = revert_sync_batchnorm(copy.deepcopy(net)).train()
        assert not norms(back, nn.SyncBatchNorm)
        back.load_state_dict(net.state_dict())
        assert_close(step(back, x), expected, **exact)
        assert_close(back.eval()(x), plain.eval()(x), **exact)
        plain.train()


@pytest.mark.parametrize('placement', PLACEMENTS)
def test_batch_of_one_trains(placement):
    net = build(placement).train()
    before = copy.deepcopy(dict(net.named_parameters()))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    found = step(net, images(1))
    optimizer.step()
    assert all(tensor.isfinite().all() for tensor in found.values())
    for key, parameter in net.named_parameters():
        assert not torch.equal(parameter, before[key]), key


@pytest.mark.parametrize('placement', PLACEMENTS)
def test_norm_cfg_reaches_every_bn(placement):
    norm_cfg = dict(type='BN', requires_grad=False, eps=1e-3, momentum=0.03)
    net = build(placement, norm_cfg=norm_cfg).train()
    for key, bn in batch_norms(net):
        assert (bn.eps, bn.momentum) == (1e-3, 0.03), key
        assert not bn.weight.requires_grad and not bn.bias.requires_grad, key
    assert net.conv1.weight.requires_grad
    for _, module in net.named_modules():
        if isinstance(module, InstanceNorm):
            assert module.eps == 1e-5


@pytest.mark.parametrize('placement', PLACEMENTS)
def test_built_from_the_registry(placement):
    net = MODELS.build(dict(type='IBNResNet', depth=18, placement=placement, **TINY))
    assert isinstance(net, IBNResNet) and isinstance(net, ResNet)


@pytest.mark.parametrize('placement', PLACEMENTS)
def test_a_copy_is_a_network_of_its_own(placement):
    net = randomised(build(placement)).eval()
    other = copy.deepcopy(net)
    x = images()
    expected = net(x)
    for parameter in net.parameters():
        parameter.data.zero_()
    assert_close(other(x), expected, **exact)


@pytest.mark.parametrize('ratio', [0, 0.25, 1])
def test_ratio_of_a_network(ratio):
    net = build('ibn_a', ratio=ratio)
    ibn = net.layer2[1].bn1
    assert isinstance(ibn, IBN)
    assert (ibn.IN.num_features if ibn.IN else 0) == int(16 * ratio)
    step(net, images())


def test_unknown_depth():
    with pytest.raises(KeyError, match='20'):
        IBNResNet(20)
