"""What holds of every method at its sites in a network."""

import copy
import re

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ibnseg import hub, methods
from ibnseg.backbones import IBNResNet
from ibnseg.measure import origin
from ibnseg.methods import DSU, NP, EFDMix, MixStyle, NPPlus, PAdaIN
from ibnseg.methods.wild import WildStyle
from ibnseg.placement import METHODS, PLACEMENTS, resolve

TINY = dict(stem_channels=16, base_channels=8)
TRAINING_ONLY = [
    name
    for name, row in METHODS.items()
    if all(hasattr(put.layer, 'training_only') and put.at != 'stem' for put in row)
]
STYLE = {'mixstyle': MixStyle, 'efdmix': EFDMix, 'dsu': DSU, 'padain': PAdaIN, 'np': NP,
         'np_plus': NPPlus}  # fmt: skip


def build(placement, depth: int = 18, always: bool = True, **options) -> nn.Module:
    """A tiny network of fixed weights; with `always`, its style layers act in every step."""
    torch.manual_seed(3)
    net = IBNResNet(depth, placement=placement, **TINY | options)
    torch.manual_seed(4)
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.05, 0.2) if tensor.ndim < 2 else nn.init.normal_(
                tensor, 0, 0.1
            )
    for layer in net.modules():
        if always and isinstance(layer, methods.style.StyleLayer):
            layer.p = 1
        if isinstance(layer, methods.SHM):
            layer.settled.fill_(True)
        if isinstance(layer, WildStyle):  # of the wild photos of `images`
            layer.style = torch.randn(2, 3, layer.num_features, 1, 1).square().unbind()
    return net


def images(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def step(net: nn.Module, seed: int = 0) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """Outputs and gradients of a training step."""
    net.train().zero_grad()
    torch.manual_seed(seed)
    out = net(images())
    sum(o.square().mean() for o in out).backward()
    return [o.detach() for o in out], {k: p.grad for k, p in net.named_parameters()}


WHERE = {
    ('mixstyle', 18): ['layer1.MixStyle', 'layer2.MixStyle'],
    ('efdmix', 50): ['layer1.EFDMix', 'layer2.EFDMix'],
    ('dsu', 50): ['before_stem', 'maxpool.DSU', *(f'layer{i}.DSU' for i in (1, 2, 3, 4))],
    ('padain', 18): [f'layer{s}.{b}.before_norm{i}' for s in (1, 2, 3, 4)
                     for b in (0, 1) for i in (1, 2)],
    ('padain', 50): [f'layer{s}.{b}.before_norm{i}' for s, n in enumerate((3, 4, 6, 3), 1)
                     for b in range(n) for i in (1, 2, 3)],
    ('np', 18): ['maxpool.NP', 'layer1.NP'],
    ('np_plus', 50): ['maxpool.NPPlus', 'layer1.NPPlus'],
}  # fmt: skip


@pytest.mark.parametrize('name, depth', WHERE)
def test_layers_stand_where_their_paper_says(name, depth):
    net = build(name, depth)
    found = [path for path, m in net.named_modules() if isinstance(m, STYLE[name])]
    assert sorted(found) == sorted(WHERE[name, depth])


def test_every_style_row_is_placed_here():
    assert {name for name, _ in WHERE} == set(STYLE)


@pytest.mark.parametrize('name', TRAINING_ONLY)
def test_evaluation_of_a_training_only_layer_is_the_identity(name):
    net, plain = build(name).eval(), build('bn').eval()
    own = plain.state_dict()  # without the buffers of a layer that observes
    plain.load_state_dict({key: value for key, value in net.state_dict().items() if key in own})
    for one, other in zip(net(images()), plain(images()), strict=True):
        assert torch.equal(one, other)
    for layer in net.modules():
        if getattr(layer, 'training_only', False):
            x = images()
            assert layer(x) is x
    for one, other in zip(step(net)[0], step(plain)[0], strict=True):
        assert not torch.equal(one, other)


@pytest.mark.parametrize('name', METHODS)
def test_a_step_follows_from_the_seed(name):
    one, other, third = step(build(name)), step(build(name)), step(build(name), seed=5)
    assert all(map(torch.equal, one[0], other[0]))
    if all(hasattr(put.layer, 'draw') for put in METHODS[name]):
        assert not torch.equal(one[0][0], third[0][0])


@pytest.mark.parametrize('name', METHODS)
def test_activation_checkpointing_changes_nothing(name):
    (out, grads), (out_cp, grads_cp) = step(build(name)), step(build(name, with_cp=True))
    for one, other in zip(out, out_cp, strict=True):
        assert torch.equal(one, other)
    assert grads.keys() == grads_cp.keys()
    for key, grad in grads.items():
        assert torch.equal(grad, grads_cp[key]), key


@pytest.mark.parametrize('name', METHODS)
@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
def test_bfloat16_stays_finite(name, layout):
    net = build(name).to(memory_format=layout).train()
    with torch.autocast('cpu', torch.bfloat16):
        loss = sum(o.float().square().mean() for o in net(images().to(memory_format=layout)))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize('name', METHODS)
def test_a_copy_is_a_network_of_its_own(name):
    net = build(name)
    other = copy.deepcopy(net)
    expected = step(net)[0]
    for parameter in net.parameters():
        parameter.data.zero_()
    for one, found in zip(expected, step(other)[0], strict=True):
        assert torch.equal(one, found)


@pytest.mark.parametrize('name', METHODS)
def test_a_method_adds_to_ibn(name):
    taken = {'after_add', 'stem'} & {put.at for put in resolve(name)}
    base = 'ibn_a' if taken else 'ibn_b'
    net = build((base, name))
    kinds = {type(m) for m in net.modules()}
    assert {put.layer for put in (*PLACEMENTS[base], *METHODS[name])} <= kinds
    step(net)


@pytest.mark.parametrize('name', STYLE)
def test_a_hub_network_takes_it_and_can_be_scripted(name):
    net = hub.build('resnet18', placement=name, num_classes=3).eval()
    x = images(2)
    assert_close(torch.jit.script(net)(x), net(x))


@pytest.mark.parametrize('layer', [MixStyle, EFDMix, DSU, PAdaIN, NPPlus])
def test_one_image_has_no_partner(layer):
    net = build([dict(layer=layer.__name__, at='after_stage', stages=(1,))]).train()
    with pytest.raises(ValueError, match=rf'layer1.after_stage: {layer.__name__} got maps of \(1, '
                       r'8, 16, 16\).*other images of the batch.*batch_size'):  # fmt: skip
        net(images(1))
    for seldom in net.modules():
        if isinstance(seldom, layer):
            seldom.p = 0
    with pytest.raises(ValueError, match=layer.__name__):
        net(images(1))  # before hours have passed
    net.eval()(images(1))


def test_maps_of_one_pixel_are_refused():
    for layer in STYLE.values():
        one = layer(4, p=1)
        with pytest.raises(ValueError, match='more than one pixel'):
            one(torch.randn(2, 4, 1, 1))


@pytest.mark.parametrize('layer', STYLE.values())
@pytest.mark.parametrize('p', [-0.1, 1.5])
def test_a_probability_is_one(layer, p):
    with pytest.raises(ValueError, match=rf'{layer.__name__}: p is {re.escape(str(p))}'):
        layer(4, p=p)


def test_mixstyle_needs_a_beta_distribution():
    with pytest.raises(ValueError, match='alpha is 0'):
        MixStyle(4, alpha=0)


@pytest.mark.parametrize('name', ['np', 'np_plus'])
def test_np_changes_a_batch_at_all_its_sites_or_at_none(name):
    net = build(name, always=False).train()
    for network in (net, copy.deepcopy(net)):
        acted, layers = [], [m for m in network.modules() if isinstance(m, NP)]
        for layer in layers:
            layer.register_forward_hook(lambda m, i, out, to=acted: to.append(out is not i[0]))
        for _ in range(30):
            network(images())
        steps = [tuple(acted[i : i + 2]) for i in range(0, len(acted), 2)]
        assert set(steps) == {(True, True), (False, False)}


def test_style_layers_act_as_often_as_p_says():
    torch.manual_seed(0)
    layer, x = MixStyle(2, p=0.2).train(), torch.randn(2, 2, 2, 2)
    acted = sum(layer(x) is not x for _ in range(2000))
    assert 330 < acted < 470  # four standard deviations


def test_mixstyle_moves_moments_between_those_of_two_images():
    x = torch.randn(2, 3, 40, 40, dtype=torch.float64) * torch.tensor([1.0, 3]).view(2, 1, 1, 1)
    x[1] += 5
    for layer in (MixStyle(3), EFDMix(3)):
        swap = dict(share=torch.zeros(2, 1, 1, 1), partner=torch.tensor([1, 0]))
        y = layer.restyle(x, **swap)
        assert_close(y.mean((2, 3)), x.mean((2, 3)).flip(0))
        assert_close(y.std((2, 3)), x.std((2, 3)).flip(0), rtol=1e-5, atol=1e-5)
        keep = layer.restyle(x, share=torch.ones(2, 1, 1, 1), partner=torch.tensor([1, 0]))
        assert_close(keep, x)


def test_np_plus_of_equal_images_is_finite():
    x = torch.ones(2, 3, 4, 4).requires_grad_()
    y = NPPlus(3, p=1)(x)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()


def test_a_record_names_what_adds_up():
    from mmengine.config import Config

    spelt = ['ibn_b', 'mixstyle', dict(layer='DSU', at='after_pool')]
    config = Config(dict(model=dict(backbone=dict(placement=spelt))))
    assert origin.method(config) == 'ibn_b+mixstyle+DSU@after_pool'
