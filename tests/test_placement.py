import re

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from torch import nn
from torch.testing import assert_close

from ibnseg.backbones import IBNResNet
from ibnseg.norms import IBN, LAYERS, InstanceNorm, ParallelIBN, PartialInstanceNorm
from ibnseg.placement import PLACEMENTS, SITES, Put, Site, install, resolve, setter

SINGLE = ('stem', 'stem_norm1', 'stem_norm2', 'every_norm', 'before_stem', 'after_pool')
BLOCKS = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}
TINY = dict(stem_channels=16, base_channels=8)


def layers(network: nn.Module) -> dict[str, type]:
    """Where the layers with an InstanceNorm stand: module path -> class."""
    found = {}
    for path, module in network.named_modules():
        inside = any(path.startswith(f'{outer}.') for outer in found)
        if isinstance(module, tuple(LAYERS.values())) and not inside:
            found[path] = type(module)
    return found


def every(norm: str, depth: int, *stages: int, layer: type = IBN) -> dict[str, type]:
    return {f'layer{s}.{i}.{norm}': layer for s in stages for i in range(BLOCKS[depth][s - 1])}


def every_norm1(depth: int, *stages: int) -> dict[str, type]:
    return every('bn1', depth, *stages)


def after_add(depth: int, layer: type) -> dict[str, type]:
    """In the last block of layer1 and layer2."""
    return {f'layer{s}.{last(depth, s)}.{layer.abbr}': layer for s in (1, 2)}


def every_norm(depth: int) -> dict[str, type]:
    found = {'bn1': InstanceNorm}
    for norm in ('bn1', 'bn2') + (('bn3',) if depth == 50 else ()):
        found |= every(norm, depth, 1, 2, 3, 4, layer=InstanceNorm)
    return found | {f'layer{s}.0.downsample.1': InstanceNorm for s in (1, 2, 3, 4)}


def last(depth: int, stage: int) -> int:
    return BLOCKS[depth][stage - 1] - 1


EXACT = {
    'bn': lambda depth: {},
    'ibn_a': lambda depth: every_norm1(depth, 1, 2, 3),
    'ibn_b': lambda depth: {'bn1': InstanceNorm} | after_add(depth, InstanceNorm),
    'ibn_c': lambda depth: every('bn1', depth, 1, 2, 3, layer=ParallelIBN),
    'ibn_d': lambda depth: after_add(depth, PartialInstanceNorm),
    'ibn_ad': lambda depth: every_norm1(depth, 1, 2, 3) | after_add(depth, PartialInstanceNorm),
    'ibn_ax2': lambda depth: every_norm1(depth, 1, 2, 3) | every('bn2', depth, 1, 2, 3),
    'ibn_a_stage1': lambda depth: every_norm1(depth, 1),
    'ibn_a_stage1-2': lambda depth: every_norm1(depth, 1, 2),
    'ibn_a_stage1-4': lambda depth: every_norm1(depth, 1, 2, 3, 4),
    'in_full': every_norm,
}


def test_every_row_is_here():
    assert list(EXACT) == list(PLACEMENTS)


@pytest.mark.parametrize('depth', BLOCKS)
@pytest.mark.parametrize('name', EXACT)
def test_papers_variants_stand_exactly_where_the_paper_says(name, depth):
    assert layers(IBNResNet(depth, placement=name, **TINY)) == EXACT[name](depth)


# Puts (as a config spells them) in a network of depth 50 -> where layers stand then.
SPELT = {
    'all': (dict(layer='IBN', at='norm1', stages=(2,)), every_norm1(50, 2)),
    'every second': (
        dict(layer='IBN', at='norm2', stages=[3], blocks=2),
        {f'layer3.{i}.bn2': IBN for i in (0, 2, 4)},
    ),
    'every third, of uneven stages': (
        dict(layer='IN', at='norm3', stages=(1, 2), blocks=3),
        {f'layer{s}.{i}.bn3': InstanceNorm for s, i in ((1, 0), (2, 0), (2, 3))},
    ),
    'more than a stage has': (
        dict(layer='IBN', at='norm1', stages=(4,), blocks=99),
        {'layer4.0.bn1': IBN},
    ),
    'odd': (
        dict(layer='IBN', at='norm2', stages=(1, 3), blocks='odd'),
        {f'layer{s}.{i}.bn2': IBN for s, i in ((1, 1), (3, 1), (3, 3), (3, 5))},
    ),
    'before a norm': (
        dict(layer='IN', at='before_norm3', stages=(4,), blocks='last'),
        {'layer4.2.before_norm3': InstanceNorm},
    ),
    'before all norms': (
        dict(layer='IN', at='before_norms', stages=(4,), blocks='last'),
        {f'layer4.2.before_norm{i}': InstanceNorm for i in (1, 2, 3)},
    ),
    'before the stem': (dict(layer='IN', at='before_stem'), {'before_stem': InstanceNorm}),
    'after the pool': (dict(layer='IN', at='after_pool'), {'maxpool.IN': InstanceNorm}),
    'last': (
        dict(layer='PartialInstanceNorm', at='after_add', stages=(1, 4), blocks='last'),
        {'layer1.2.PIN': PartialInstanceNorm, 'layer4.2.PIN': PartialInstanceNorm},
    ),
    'after_stage': (
        dict(layer='IN', at='after_stage', stages=(1, 3)),
        {'layer1.IN': InstanceNorm, 'layer3.IN': InstanceNorm},
    ),
    'stem': (dict(layer='IBN', at='stem'), {'bn1': IBN}),
    'every norm': (dict(layer='IN', at='every_norm'), every_norm(50)),
    'wider, at norm2': (
        dict(layer='ParallelIBN', at='norm2', stages=(4,)),
        every('bn2', 50, 4, layer=ParallelIBN),
    ),
}


@pytest.mark.parametrize('case', SPELT)
def test_spelt_puts(case):
    put, expected = SPELT[case]
    net = IBNResNet(50, placement=[put], **TINY)
    assert layers(net) == expected
    assert [o.shape[1] for o in net(torch.randn(2, 3, 64, 64))] == [32, 64, 128, 256]


def test_puts_from_a_config_file(tmp_path):
    path = tmp_path / 'net.py'
    path.write_text(
        "model = dict(type='IBNResNet', depth=18, stem_channels=16, base_channels=8, placement=[\n"
        "    dict(layer='IN', at='stem', options=dict(eps=0.1)),\n"
        "    dict(layer='IBN', at='norm1', stages=[1], blocks='last', options=dict(ratio=0.25))])"
    )
    net = MODELS.build(Config.fromfile(path).model)
    assert layers(net) == {'bn1': InstanceNorm, 'layer1.1.bn1': IBN}
    assert net.bn1.eps == 0.1
    assert net.layer1[1].bn1.IN.num_features == 2


def test_names_and_puts_add_up():
    spelt = dict(layer='IN', at='after_stage', stages=(4,))
    net = IBNResNet(18, placement=('ibn_a_stage1', 'ibn_d', spelt), **TINY)
    assert layers(net) == EXACT['ibn_a_stage1'](18) | EXACT['ibn_d'](18) | {
        'layer4.IN': InstanceNorm
    }
    with pytest.raises(ValueError, match=r'two layers at one site, layer1\.0\.norm1'):
        IBNResNet(18, placement=('ibn_a', 'ibn_a_stage1'), **TINY)
    with pytest.raises(ValueError, match="unknown placement 'ibn_z'"):
        IBNResNet(18, placement=('ibn_a', 'ibn_z'), **TINY)


@pytest.mark.parametrize('deep', [False, True])
def test_inserted_layers_of_the_stem_see_what_their_names_say(deep):
    puts = [Put('IN', 'before_stem'), Put('IN', 'after_pool'), Put('IBN', 'stem')]
    net, seen = IBNResNet(18, placement=puts, deep_stem=deep, **TINY), {}
    conv, norm = (net.stem.get_submodule(n) for n in '67') if deep else (net.conv1, net.bn1)
    before = net.stem.before_stem if deep else net.before_stem
    assert isinstance(norm, IBN)
    for name, module in dict(conv=conv, before=before, norm=norm, pool=net.maxpool.pool,
                             after=net.maxpool.IN).items():  # fmt: skip
        module.register_forward_hook(
            lambda m, i, out, name=name: seen.update({name: (i[0].clone(), out.clone())})
        )
    net(torch.randn(2, 3, 64, 64))
    for one, following in (('conv', 'before'), ('before', 'norm'), ('pool', 'after')):
        assert_close(seen[one][1], seen[following][0], rtol=0, atol=0)


def test_inner_norms_of_a_deep_stem_have_an_address():
    puts = [Put('IN', 'stem_norm1'), Put('IN', 'stem_norm2')]
    net = IBNResNet(18, placement=puts, deep_stem=True, **TINY)
    assert list(layers(net)) == ['stem.1', 'stem.4']
    with pytest.raises(ValueError, match='matches no site'):
        IBNResNet(18, placement=puts, **TINY)


def test_resolve_gives_puts_for_each_spelling():
    spelt = [dict(layer='IBN', at='norm1', stages=(1, 2, 3))]
    assert resolve('ibn_a') == resolve(spelt) == resolve([Put(**spelt[0])]) == PLACEMENTS['ibn_a']


@pytest.mark.parametrize('ratio', [0, 0.25, 0.4, 1])
def test_ratio_reaches_every_ibn(ratio):
    net = IBNResNet(18, placement='ibn_a', ratio=ratio, **TINY)
    for path in layers(net):
        ibn = net.get_submodule(path)
        found = 0 if ibn.IN is None else ibn.IN.num_features
        assert found == int(ibn.num_features * ratio), path


def test_after_add_stands_between_the_add_and_the_relu():
    net = IBNResNet(18, placement='ibn_b', **TINY)
    block, seen = net.layer1[1], {}
    block.bn2.register_forward_hook(lambda m, i, out: seen.update(residual=out.clone()))
    block.register_forward_hook(lambda m, i, out: seen.update(identity=i[0], block=out))
    block.IN.register_forward_hook(lambda m, i, out: seen.update(before=i[0], after=out.clone()))
    net(torch.randn(2, 3, 64, 64))
    assert_close(seen['before'], seen['residual'] + seen['identity'])
    assert_close(seen['block'], seen['after'].relu())
    assert (seen['after'] < 0).any()


def test_after_stage_is_the_last_layer_of_the_stage():
    put = dict(layer='IN', at='after_stage', stages=(2,))
    out = IBNResNet(18, placement=[put], **TINY)(torch.randn(2, 3, 64, 64))[1]
    assert_close(out.mean((2, 3)), torch.zeros(2, 16), atol=1e-5, rtol=0)
    assert (out < 0).any()


def test_instance_norm_in_the_stem_drops_the_photos_contrast():
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    stem = [Put('IN', 'stem', options=dict(eps=1e-15))]
    net = IBNResNet(18, placement=stem, **TINY).double().eval()
    plain = IBNResNet(18, **TINY).double().eval()
    assert_close(net(3 * x), net(x), rtol=0, atol=1e-9)
    with pytest.raises(AssertionError):
        assert_close(plain(3 * x), plain(x), rtol=0, atol=1e-3)


def test_deep_stem_takes_its_last_norm():
    net = IBNResNet(18, placement='ibn_b', deep_stem=True, **TINY)
    assert list(layers(net)) == ['stem.7', 'layer1.1.IN', 'layer2.1.IN']
    assert [type(net.stem[i]) for i in (1, 4)] == [nn.BatchNorm2d] * 2
    assert net(torch.randn(2, 3, 64, 64))[3].shape == (2, 64, 2, 2)


def test_stages_that_are_not_built_are_left_out_of_a_put():
    three = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,), **TINY)
    net = IBNResNet(18, placement=[Put(IBN, 'norm1', (3, 4))], **three)
    assert layers(net) == every_norm1(18, 3)
    with pytest.raises(ValueError, match=r'stages=\(4,\).* matches no site of this IBNResNet'):
        IBNResNet(18, placement=[Put(IBN, 'norm1', (3,)), Put(IBN, 'norm1', (4,))], **three)


def test_a_site_the_blocks_do_not_have_matches_nothing():
    with pytest.raises(ValueError, match=r"at='norm3'.* matches no site"):
        IBNResNet(18, placement=[Put(IBN, 'norm3', (1, 2, 3, 4))], **TINY)


PUT_ERRORS = {
    'site': (dict(layer='IBN', at='norm4', stages=(1,)), f"'norm4'.*{re.escape(str(SITES))}"),
    'layer': (dict(layer='Ibn', at='norm1', stages=(1,)), "'Ibn'.*IBN.*InstanceNorm"),
    'stage 0': (dict(layer='IBN', at='norm1', stages=(0, 1)), r'\(0, 1\).*1, 2, 3, 4'),
    'stage 5': (dict(layer='IBN', at='norm1', stages=(5,)), r'\(5,\).*1, 2, 3, 4'),
    'a bare stage': (dict(layer='IBN', at='norm1', stages=3), r'stages are 3.*1, 2, 3, 4'),
    'no stage': (dict(layer='IBN', at='norm1'), 'every other site takes at least one'),
    'stem with stages': (dict(layer='IN', at='stem', stages=(1,)), 'stem takes no stages'),
    'every norm with stages': (
        dict(layer='IN', at='every_norm', stages=(1,)),
        'stem takes no stages, nor do every_norm',
    ),
    'blocks 0': (dict(layer='IBN', at='norm1', stages=(1,), blocks=0), "blocks is 0.*'last'"),
    'blocks -1': (dict(layer='IBN', at='norm1', stages=(1,), blocks=-1), "blocks is -1.*'all'"),
    'blocks first': (
        dict(layer='IBN', at='norm1', stages=(1,), blocks='first'),
        "blocks is 'first'; expected 'all', 'last', 'odd' or a number",
    ),
    'blocks 1.5': (dict(layer='IBN', at='norm1', stages=(1,), blocks=1.5), 'blocks is 1.5'),
}


@pytest.mark.parametrize('case', PUT_ERRORS)
def test_a_wrong_put_names_the_value_and_the_choices(case):
    put, message = PUT_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        Put(**put)
    with pytest.raises(ValueError, match=message):
        IBNResNet(18, placement=[put], **TINY)


NETWORK_ERRORS = {
    'placement': (dict(placement='ibn_z'), "'ibn_z'.*'bn', 'ibn_a', 'ibn_b'"),
    'ratio without effect, bn': (dict(ratio=0.25), 'ratio=0.25 has no effect.*bn'),
    'ratio without effect, b': (dict(placement='ibn_b', ratio=0.5), 'ratio=0.5 has no effect'),
    'ratio above': (dict(placement='ibn_a', ratio=1.5), 'ratio is 1.5'),
    'ratio below': (dict(placement='ibn_a', ratio=-0.5), 'ratio is -0.5'),
    'one mapping, no list': (
        dict(placement=dict(layer='IBN', at='norm1', stages=(1,))),
        'expected a name or a list of Puts',
    ),
    'one Put, no list': (dict(placement=Put('IN', 'stem')), 'expected a name or a list of Puts'),
}


@pytest.mark.parametrize('case', NETWORK_ERRORS)
def test_a_wrong_network_names_the_value(case):
    arguments, message = NETWORK_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        IBNResNet(18, **arguments, **TINY)


@pytest.mark.parametrize('site', SITES)
def test_two_layers_at_one_site_are_refused(site):
    put = Put('IN', site, () if site in SINGLE else (1,))
    named = {'every_norm': 'stem', 'before_norms': 'before_norm1',
             'stem_norm1': r'stem\.1', 'stem_norm2': r'stem\.4'}.get(site, site)  # fmt: skip
    with pytest.raises(ValueError, match=rf'two layers at one site, .*{named}'):
        IBNResNet(50, placement=[put, put], deep_stem=True, **TINY)


def test_every_norm_and_one_of_them_are_refused():
    puts = [Put('IBN', 'norm1', (2,)), Put('IN', 'every_norm')]
    with pytest.raises(ValueError, match=r'two layers at one site, layer2\.0\.norm1'):
        IBNResNet(18, placement=puts, **TINY)
    with pytest.raises(ValueError, match=r'stem: InstanceNorm and ISW. .*ibn_b.*isw'):
        IBNResNet(18, placement=('ibn_b', 'isw'), **TINY)


def test_install_into_any_network_with_sites():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(8)

        def sites(self):
            yield Site('stem', 'stem', 8, setter(self, 'norm'))

    net = Net()
    norm = lambda n: nn.BatchNorm2d(n, eps=0.5)  # noqa: E731
    install(net, [Put(IBN, 'stem')], ratio=0.25, norm=norm)
    assert (net.norm.IN.num_features, net.norm.BN.eps) == (2, 0.5)
    assert net.norm.site == net.norm.IN.site == 'stem'
    with pytest.raises(ValueError, match='matches no site of this Net'):
        install(net, 'ibn_a')


def test_full_leaves_no_batch_norm():
    for arguments in (dict(), dict(deep_stem=True, avg_down=True)):
        net = IBNResNet(50, placement='in_full', **TINY, **arguments)
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in net.modules())


def test_c_feeds_both_norms_of_all_channels_to_a_wider_conv():
    net = IBNResNet(50, placement='ibn_c', **TINY)
    plain = IBNResNet(50, **TINY)
    for path in layers(net):
        conv2 = path.replace('bn1', 'conv2')
        wider, conv = net.get_submodule(conv2), plain.get_submodule(conv2)
        assert wider.weight.shape[1] == wider.in_channels == 2 * conv.in_channels
        assert (wider.stride, wider.dilation) == (conv.stride, conv.dilation)
        assert net.get_submodule(path).IN.num_features == conv.in_channels


CONTEXT = dict(cfg=dict(type='ContextBlock', ratio=0.25), position='after_conv1')
# Where a layer that gives twice the channels can't stand -> what the message says of it.
TOO_WIDE = {
    'stem': (dict(), dict(at='stem'), 'stem: .*2 times.*found NoneType'),
    'before the add': (dict(depth=18), dict(at='norm2', stages=(1,)), r'layer1\.0\.norm2: '),
    'after the add': (dict(), dict(at='after_add', stages=(1,)), r'layer1\.0\.after_add: '),
    'every norm': (dict(), dict(at='every_norm'), 'stem: '),
    'before a plugin': (
        dict(plugins=[CONTEXT]),
        dict(at='norm1', stages=(1,)),
        r'layer1\.0\.norm1: .*found NoneType',
    ),
}


@pytest.mark.parametrize('case', TOO_WIDE)
def test_a_wider_layer_needs_one_convolution_after_it(case):
    arguments, put, message = TOO_WIDE[case]
    with pytest.raises(ValueError, match=message):
        IBNResNet(**dict(depth=50) | arguments, placement=[dict(layer='ParallelIBN') | put], **TINY)


@pytest.mark.parametrize('name', PLACEMENTS)
def test_group_norm_takes_the_batch_norms_part(name):
    net = IBNResNet(18, placement=name, norm_cfg=dict(type='GN', num_groups=2), **TINY)
    assert bool(layers(net)) == (name != 'bn')
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    net(torch.randn(2, 3, 64, 64))[-1].mean().backward()


# A map of one pixel reaches the layer: placement, input side -> the layer that the message names.
ONE_PIXEL = {
    ('ibn_b', 2): 'stem',
    ('ibn_b', 4): 'layer1.1.after_add',
    ('ibn_b', 8): 'layer2.1.after_add',
    ('ibn_a', 4): 'layer1.0.norm1',
    ('ibn_a', 8): 'layer2.0.norm1',
    ('ibn_c', 4): 'layer1.0.norm1',
    ('ibn_d', 4): 'layer1.1.after_add',
    ('in_full', 2): 'stem',
}


@pytest.mark.parametrize('training', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize(('placement', 'side'), ONE_PIXEL)
def test_one_pixel_names_the_layer(placement, side, training):
    net = IBNResNet(18, placement=placement, **TINY).train(training)
    with pytest.raises(ValueError, match=rf'^{ONE_PIXEL[placement, side]}: got a .*larger input'):
        net(torch.randn(2, 3, side, side))
