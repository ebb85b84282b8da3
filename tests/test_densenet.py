"""What only IBNDenseNet has; what it shares with the others is in test_family.py."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from ibnseg.backbones import IBNDenseNet
from ibnseg.norms import IBN, LAYERS, InstanceNorm, ParallelIBN
from ibnseg.placement import DENSENET_PLACEMENTS, PLACEMENTS

NARROW = dict(stem_channels=8, growth=4)
LAYERS_OF = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32)}
exact = dict(rtol=0, atol=1e-12)


def build(placement='bn', depth: int = 121, **arguments) -> IBNDenseNet:
    return IBNDenseNet(depth, placement=placement, **NARROW | arguments)


def layers(net: nn.Module) -> dict[str, type]:
    kinds = tuple(LAYERS.values())
    found = {k: type(m) for k, m in net.named_modules() if isinstance(m, kinds)}
    return {k: kind for k, kind in found.items() if k.rpartition('.')[0] not in found}


def third_layers(depth: int) -> dict[str, type]:
    return {
        f'features.denseblock{b}.denselayer{i + 1}.norm1': IBN
        for b in (1, 2, 3)
        for i in range(LAYERS_OF[depth][b - 1])
        if i % 3 == 0
    }


@pytest.mark.parametrize('depth', LAYERS_OF)
def test_a_stands_in_every_third_layer_of_the_first_three_blocks(depth):
    net = build('ibn_a', depth)
    assert layers(net) == third_layers(depth)
    for path in layers(net):
        ibn = net.get_submodule(path)
        assert ibn.bn_first and ibn.BN.num_features == int(ibn.num_features * 0.6), path
    assert not layers(build('bn', depth))


def test_spelt_puts():
    put = dict(layer='IBN', at='norm2', stages=[4], blocks='last')
    assert layers(build([put])) == {'features.denseblock4.denselayer16.norm2': IBN}
    assert layers(build([dict(layer='IN', at='stem')])) == {'features.norm0': InstanceNorm}


def test_every_norm():
    net = build([dict(layer='IN', at='every_norm')])
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert {'features.norm5', 'features.transition3.norm'} <= set(layers(net))
    net(torch.randn(2, 3, 64, 64))


def test_a_wider_layer_widens_the_convolution_after_it():
    net = build([dict(layer='ParallelIBN', at='norm1', stages=(1,), blocks=3)])
    first = net.features.denseblock1.denselayer1
    assert isinstance(first.norm1, ParallelIBN)
    assert first.conv1.weight.shape == (16, 16, 1, 1)
    net(torch.randn(2, 3, 64, 64))
    with pytest.raises(ValueError, match=r'norm5: .* 2 times|stem: .* 2 times'):
        build([dict(layer='ParallelIBN', at='every_norm')])


@pytest.mark.parametrize('ratio', [0, 0.25, 0.5, 1])
def test_ratio(ratio):
    net = build('ibn_a', ratio=ratio)
    for path in layers(net):
        ibn = net.get_submodule(path)
        bn = int(ibn.num_features * (1 - ratio))
        assert (ibn.BN.num_features if ibn.BN else 0) == bn, path


@pytest.mark.parametrize('name', [name for name in PLACEMENTS if name not in DENSENET_PLACEMENTS])
def test_placements_of_other_families_are_refused(name):
    message = rf"^IBNDenseNet: unknown placement '{name}'; choose from \('bn', 'ibn_a'\)"
    with pytest.raises(ValueError, match=message):
        build(name)


@pytest.mark.parametrize('site', ['norm3', 'after_add', 'after_stage'])
def test_sites_that_a_densenet_does_not_have(site):
    with pytest.raises(ValueError, match=rf"at='{site}'.* matches no site of this IBNDenseNet"):
        build([dict(layer='IN', at=site, stages=(1,))])


def test_ratio_without_effect():
    with pytest.raises(ValueError, match=r'ratio=0.5 has no effect'):
        build(ratio=0.5)


ERRORS = {
    'strides': (dict(strides=(1, 2, 2)), r'strides are \(1, 2, 2\); expected one for each of 4'),
    'dilations': (dict(dilations=(1,)), r'dilations are \(1,\)'),
    'first stride': (dict(strides=(2, 2, 2, 2)), 'no transition leads into stage 1'),
    'outputs': (dict(out_indices=(4,)), r'out_indices are \(4,\); expected some of 0..3'),
    'no output': (dict(out_indices=()), r'out_indices are \(\)'),
    'stages': (dict(num_stages=5), 'num_stages is 5; expected 1, 2, 3 or 4'),
}


@pytest.mark.parametrize('case', ERRORS)
def test_wrong_arguments_are_named(case):
    arguments, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        build(**arguments)


def plain_forward(net: IBNDenseNet, x: Tensor, pools: tuple[int, ...] = (2, 2, 2)) -> list[Tensor]:
    """The paper's equations (Huang et al., sec. 3), written once more on the net's own tensors."""
    f, outs = net.features, []
    x = F.max_pool2d(f.norm0(f.conv0(x)).relu(), 3, 2, 1)
    for stage in (1, 2, 3, 4):
        if stage > 1:
            t = f.get_submodule(f'transition{stage - 1}')
            x = t.conv(t.norm(x).relu())
            x = F.avg_pool2d(x, 2) if pools[stage - 2] == 2 else x
        for layer in f.get_submodule(f'denseblock{stage}').values():
            new = layer.conv2(layer.norm2(layer.conv1(layer.norm1(x).relu())).relu())
            x = torch.cat((x, new), 1)
        outs.append(x)
    outs[-1] = f.norm5(x).relu()
    return outs


@pytest.mark.parametrize('pools', [(2, 2, 2), (2, 2, 1), (2, 1, 1)])
@pytest.mark.parametrize('placement', DENSENET_PLACEMENTS)
def test_forward_is_the_papers(placement, pools):
    net = build(placement, strides=(1, *pools)).double().eval()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        outs = net(x)
        assert_close(list(outs), plain_forward(net, x, pools), **exact)
    assert [o.shape[1] for o in outs] == net.out_channels
    assert (outs[3] >= 0).all() and (outs[0] < 0).any()


def test_outputs_are_a_choice_of_the_same_maps():
    net = build('ibn_a').eval()
    x = torch.randn(1, 3, 64, 64)
    whole = net(x)
    net.out_indices = (1, 3)
    assert_close(net(x), (whole[1], whole[3]))


def test_norm5_belongs_to_the_fourth_stage():
    three = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
    net = build('ibn_a', **three)
    assert list(dict(net.features.named_children())) == [
        *('conv0', 'norm0', 'relu0', 'pool0', 'denseblock1', 'transition1', 'denseblock2'),
        *('transition2', 'denseblock3'),
    ]
    assert net(torch.randn(1, 3, 64, 64))[0].shape == (1, net.out_channels[2], 4, 4)


def test_checkpointing_keeps_less_for_the_backward_pass():
    def kept(with_cp: bool) -> int:
        net, sizes = build(with_cp=with_cp, growth=8), OrderedDict()

        def pack(tensor: Tensor) -> Tensor:
            sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(torch.randn(2, 3, 64, 64))[-1].mean()
        return sum(sizes.values())

    assert kept(True) < kept(False) / 2


def test_initial_values():
    net = build('ibn_a')
    net.init_weights()
    for key, parameter in net.named_parameters():
        if parameter.ndim == 1:
            assert torch.all(parameter == key.endswith('weight')), key
    conv = net.features.conv0.weight
    assert abs(conv.std().item() / (2 / (49 * 8)) ** 0.5 - 1) < 0.1  # N(0, sqrt(2 / (k k out)))
