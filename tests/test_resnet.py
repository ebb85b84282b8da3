import copy

import pytest
import torch
from mmseg.models.backbones import ResNet, ResNeXt
from torch import nn
from torch.testing import assert_close

from ibnseg.backbones import IBNResNet, IBNResNeXt
from ibnseg.placement import PLACEMENTS

TINY = dict(stem_channels=16, base_channels=8)
GROUPS = dict(depth=50, groups=2, base_width=4)  # ResNeXt
OS8 = dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4))
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


ARGUMENTS = {
    'depth 18': dict(depth=18),
    'depth 34': dict(depth=34),
    'depth 50': dict(depth=50),
    'full width': dict(depth=18, stem_channels=64, base_channels=64),
    'deep_stem': dict(depth=18, deep_stem=True),
    'deep_stem avg_down': dict(depth=50, deep_stem=True, avg_down=True),
    'output stride 8': dict(depth=18, **OS8),
    'output stride 8, 50': dict(depth=50, **OS8),
    'contract_dilation': dict(depth=50, contract_dilation=True, **OS8),
    'multi_grid': dict(depth=50, multi_grid=(1, 2, 4), **OS8),
    'three stages': dict(depth=18, **THREE),
    'one output': dict(depth=18, out_indices=(3,)),
    'caffe': dict(depth=50, style='caffe'),
    'four channels in': dict(depth=18, in_channels=4),
    'norm_eval': dict(depth=18, norm_eval=True),
    'frozen': dict(depth=18, frozen_stages=2),
    'with_cp': dict(depth=50, with_cp=True),
    'norm_cfg': dict(depth=18, norm_cfg=dict(type='BN', eps=1e-3, momentum=0.03)),
    'ResNeXt': GROUPS,
    'ResNeXt, output stride 8': GROUPS | OS8,
    'ResNeXt, three stages': GROUPS | THREE,
    'ResNeXt, deep_stem avg_down': GROUPS | dict(deep_stem=True, avg_down=True),
    'ResNeXt, one group': GROUPS | dict(groups=1),
    'ResNeXt, with_cp': GROUPS | dict(with_cp=True),
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
    network, ours = (ResNeXt, IBNResNeXt) if 'groups' in arguments else (ResNet, IBNResNet)
    # MMSeg's with_cp moves the running statistics twice a step; ours once, as without it.
    theirs = randomised(network(**arguments | dict(with_cp=False)))
    mine = ours(placement='bn', **arguments).double()
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
    # MMSeg's ignores zero_init_residual: it looks for the block class of its ResNet.
    'ResNeXt': GROUPS | dict(zero_init_residual=False),
}


@pytest.mark.parametrize('case', INIT)
def test_bn_is_initialised_as_mmsegs_resnet(case):
    arguments = dict(depth=18) | TINY | INIT[case]
    states = []
    for network in (ResNeXt, IBNResNeXt) if 'groups' in arguments else (ResNet, IBNResNet):
        torch.manual_seed(5)
        net = network(**arguments)
        net.init_weights()
        states.append(net.state_dict())
    assert_close(states[1], states[0], rtol=0, atol=0)


def test_zero_init_residual_reaches_a_layer_at_the_last_norm():
    net = build([dict(layer='IBN', at='norm2', stages=(1,))])
    net.init_weights()
    assert not net.layer1[0].bn2.IN.weight.any() and not net.layer1[0].bn2.BN.weight.any()


def test_after_stage_is_frozen_with_its_stage():
    net = build([dict(layer='IN', at='after_stage', stages=(1, 2))], frozen_stages=1).train()
    assert not net.layer1.IN.weight.requires_grad
    assert net.layer2.IN.weight.requires_grad


@pytest.mark.parametrize('placement', PLACEMENTS)
def test_a_copy_is_a_network_of_its_own(placement):
    net = randomised(build(placement)).eval()
    other = copy.deepcopy(net)
    x = images()
    expected = net(x)
    for parameter in net.parameters():
        parameter.data.zero_()
    assert_close(other(x), expected, **exact)
