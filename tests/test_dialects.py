"""Files as other code names them, made by renaming, and the table of published ones."""

import importlib.util
import json
import os
import re
import runpy
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mmseg.registry import MODELS
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close

from ibnseg import disk, weights
from ibnseg.weights import PUBLISHED, cache, dialects, files, networks

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / 'shared'
TINY = dict(stem_channels=16, base_channels=8)
DEEP = dict(deep_stem=True)
State = dict[str, Tensor]


def resnet(depth: int = 18, placement: str = 'ibn_a', **options) -> dict:
    return dict(type='IBNResNet', depth=depth, placement=placement, **TINY | options)


def densenet(placement: str = 'ibn_a') -> dict:
    return dict(
        type='IBNDenseNet', depth=121, placement=placement, growth=8, stem_channels=16,
    )  # fmt: skip


def build(config: dict) -> nn.Module:
    return MODELS.build(dict(config))


def drawn(config: dict) -> State:
    """What the original would hold: every tensor drawn from its own name, as the golden recipe."""
    state = {}
    for key, tensor in build(config).state_dict().items():
        generator = torch.Generator().manual_seed(zlib.crc32(key.encode()))
        if tensor.is_floating_point():
            state[key] = torch.rand(tensor.shape, generator=generator) + 0.5
        else:
            state[key] = torch.randint(1, 99, tensor.shape, generator=generator)
    return state


def renamed(state: State, *rules: tuple[str, str]) -> State:
    """Apply the first rule that matches a key; a rule's replacement may be a function."""
    result = {}
    for key, tensor in state.items():
        name = next((re.sub(p, r, key) for p, r in rules if re.search(p, key)), key)
        assert name not in result
        result[name] = tensor
    return result


def prefixed(prefix: str, state: State) -> State:
    return {prefix + key: tensor for key, tensor in state.items()}


def head(name: str, bias: bool = True) -> State:
    tensors = {f'{name}.weight': torch.rand(5, 64), f'{name}.bias': torch.rand(5)}
    return tensors if bias else {f'{name}.weight': tensors[f'{name}.weight']}


# What each code makes of the original's names. Written from the other end than the rules: from
# ours to theirs, as a reader of their code would.


def old_release(state: State) -> State:
    """IN's and BN's channels have a convolution each; before torch 0.4 nothing counted batches."""
    result = {}
    for key, tensor in state.items():
        if (block := re.match(r'(layer\d\.\d+)\.conv1\.weight', key)) and (
            f'{block[1]}.bn1.IN.weight' in state
        ):
            half = len(state[f'{block[1]}.bn1.IN.weight'])
            result[f'{block[1]}.convbnin.conv1.weight'] = tensor[half:]
            result[f'{block[1]}.convbnin.conv2.weight'] = tensor[:half]
        elif match := re.match(r'(layer\d\.\d+)\.bn1\.((?:IN|BN)\..*)', key):
            result[f'{match[1]}.convbnin.{match[2]}'] = tensor
        else:
            result[key] = tensor
    return {k: v for k, v in result.items() if not k.endswith('num_batches_tracked')}


def robustnet(state: State) -> dict:
    body = renamed(
        state,
        (r'^conv1\.', 'layer0.0.'),
        (r'^bn1\.', 'layer0.1.'),
        (r'^stem\.', 'layer0.'),
        (r'^(layer\d\.\d+)\.IN\.', r'\1.instance_norm_layer.'),
    )
    heads = ('aspp.features.0.0', 'bot_aspp.0', 'bot_fine.0', 'final1.0', 'final2.0', 'dsn.0')
    for name in heads:
        body |= head(name)
    return dict(state_dict=prefixed('module.', body), optimizer={}, epoch=1, mean_iu=0.5)


def unit(match: re.Match) -> str:
    return f'features.stage{match[1]}.unit{int(match[2]) + 1}.'


def pytorchcv_resnet(state: State) -> State:
    block = r'^layer(\d)\.(\d+)\.'
    stem = 'bn' if 'bn1.running_mean' in state else 'inst_norm'
    part = {'IN': 'inst_norm', 'BN': 'batch_norm'}
    return renamed(
        state,
        (r'^conv1\.', 'features.init_block.conv.conv.'),
        (r'^bn1\.', f'features.init_block.conv.{stem}.'),
        (block + r'IN\.', lambda m: unit(m) + 'inst_norm.'),
        (block + r'downsample\.0\.', lambda m: unit(m) + 'identity_conv.conv.'),
        (block + r'downsample\.1\.', lambda m: unit(m) + 'identity_conv.bn.'),
        (block + r'conv(\d)\.', lambda m: unit(m) + f'body.conv{m[3]}.conv.'),
        (
            block + r'bn(\d)\.(IN|BN)\.',
            lambda m: unit(m) + f'body.conv{m[3]}.ibn.{part[m[4]]}.',
        ),
        (block + r'bn(\d)\.', lambda m: unit(m) + f'body.conv{m[3]}.bn.'),
    ) | head('output')


def pytorchcv_densenet(state: State) -> State:
    layer = r'^features\.denseblock(\d)\.denselayer(\d+)\.'
    part = {'IN': 'inst_norm', 'BN': 'batch_norm'}

    def trans(match: re.Match) -> str:
        stage = int(match[1]) + 1
        return f'features.stage{stage}.trans{stage}.conv.{"bn" if match[2] == "norm" else "conv"}.'

    return renamed(
        state,
        (r'^features\.conv0\.', 'features.init_block.conv.'),
        (r'^features\.norm0\.', 'features.init_block.bn.'),
        (r'^features\.transition(\d)\.(norm|conv)\.', trans),
        (
            layer + r'norm(\d)\.(IN|BN)\.',
            lambda m: f'features.stage{m[1]}.unit{m[2]}.conv{m[3]}.ibn.{part[m[4]]}.',
        ),
        (layer + r'norm(\d)\.', r'features.stage\1.unit\2.conv\3.bn.'),
        (layer + r'conv(\d)\.', r'features.stage\1.unit\2.conv\3.conv.'),
        (r'^features\.norm5\.', 'features.post_activ.bn.'),
    ) | head('output')


def torchvision_densenet(state: State) -> State:
    old = renamed(state, (r'(denselayer\d+\.(?:norm|conv))(\d)\.', r'\1.\2.'))
    return {k: v for k, v in old.items() if not k.endswith('num_batches_tracked')} | head(
        'classifier'
    )


def timm_deep_stem(state: State) -> State:
    return renamed(state, (r'^stem\.7\.', 'bn1.'), (r'^stem\.', 'conv1.')) | head('fc')


def numbered_stem(state: State) -> State:
    of = {0: 'conv1', 1: 'bn1', 3: 'conv2', 4: 'bn2', 6: 'conv3', 7: 'bn3'}
    return renamed(state, (r'^stem\.(\d)\.', lambda m: f'{of[int(m[1])]}.')) | head('fc')


def fast_reid(state: State) -> dict:
    extra = {
        'backbone.NL_2.0.g.weight': torch.rand(4, 8, 1, 1),
        'pixel_mean': torch.rand(1, 3, 1, 1),
        'pixel_std': torch.rand(1, 3, 1, 1),
        'heads.bottleneck.0.running_mean': torch.rand(8),
        'heads.weight': torch.rand(4, 8),
    }
    return dict(model=prefixed('backbone.', state) | extra, iteration=9)


def strong_baseline(state: State) -> State:
    extra = {'bottleneck.running_mean': torch.rand(64)} | head('classifier', bias=False)
    return prefixed('base.', state) | extra


def torchreid(state: State) -> dict:
    return dict(state_dict=prefixed('module.', state | head('classifier')), epoch=60, rank1=0.9)


def segmentor(state: State) -> dict:
    extra = head('decode_head.conv_seg') | head('auxiliary_head.convs.0.conv')
    return dict(meta=dict(iter=8), state_dict=prefixed('backbone.', state) | extra)


#: case -> (backbone, the file made of its state, the dialect's name).
CASES = {
    'original a': (resnet(), lambda s: s | head('fc'), 'original'),
    'original densenet': (densenet(), lambda s: s | head('classifier'), 'original'),
    'torchreid': (resnet(50), torchreid, 'original'),
    'plain': (resnet(50, 'bn'), lambda s: s | head('fc'), 'original'),
    'old release': (resnet(50), old_release, 'IBN-Net, old release'),
    'old release of three stages': (
        resnet(
            50, num_stages=3, strides=(1, 2, 2), dilations=(1,) * 3, out_indices=(2,)
        ),
        old_release,
        'IBN-Net, old release',
    ),
    'RobustNet': (resnet(50, 'ibn_b'), robustnet, 'RobustNet'),
    'RobustNet, plain': (resnet(50, 'bn'), robustnet, 'RobustNet'),
    'RobustNet, deep stem': (resnet(50, 'ibn_b', **DEEP), robustnet, 'RobustNet, deep stem'),
    'RobustNet, start': (resnet(50, 'bn', **DEEP), numbered_stem, 'deep stem by numbers'),
    'pytorchcv a': (resnet(50), pytorchcv_resnet, 'pytorchcv ResNet'),
    'pytorchcv b': (resnet(50, 'ibn_b'), pytorchcv_resnet, 'pytorchcv ResNet'),
    'pytorchcv plain': (resnet(18, 'bn'), pytorchcv_resnet, 'pytorchcv ResNet'),
    'pytorchcv resnext': (
        dict(resnet(50), type='IBNResNeXt', base_channels=16), pytorchcv_resnet, 'pytorchcv ResNet',
    ),
    'pytorchcv densenet': (densenet(), pytorchcv_densenet, 'pytorchcv DenseNet'),
    'pytorchcv densenet, plain': (densenet('bn'), pytorchcv_densenet, 'pytorchcv DenseNet'),
    'torchvision densenet': (
        densenet('bn'), torchvision_densenet, "torchvision's published DenseNet",
    ),
    'timm, deep stem and avg_down': (
        resnet(50, 'bn', avg_down=True, **DEEP), timm_deep_stem, 'timm, deep stem',
    ),
    'timm, avg_down': (
        resnet(50, 'bn', avg_down=True), lambda s: s | head('fc'),
        'avg_down of MMSegmentation and timm',
    ),
    'MMSegmentation, deep stem': (
        resnet(18, 'ibn_a', **DEEP), lambda s: s, 'deep stem of MMSegmentation',
    ),
    'MMSegmentation segmentor': (resnet(), segmentor, 'MMSegmentation segmentor'),
    'MMSegmentation segmentor, V1d': (
        resnet(18, 'ibn_b', avg_down=True, **DEEP), segmentor, 'MMSegmentation segmentor',
    ),
    'MMPretrain': (
        resnet(), lambda s: dict(state_dict=prefixed('backbone.', s) | head('head.fc')),
        'MMPretrain',
    ),
    'fast-reid': (resnet(50), fast_reid, 'fast-reid'),
    'fast-reid, SE': (dict(resnet(50), type='IBNSEResNet'), fast_reid, 'fast-reid'),
    'reid-strong-baseline': (resnet(50), strong_baseline, 'reid-strong-baseline'),
    'reid-strong-baseline, parallel': (
        resnet(50), lambda s: prefixed('module.', strong_baseline(s)), 'reid-strong-baseline',
    ),
}  # fmt: skip


def test_every_dialect_is_tested():
    adapters = {'SoMA'}  # test_foundation.py
    assert {name for _, _, name in CASES.values()} == {
        dialect.name for dialect in dialects.DIALECTS
    } - adapters


@pytest.fixture(params=CASES)
def case(request):
    """(backbone config, state by our names, content of the file, dialect's name)."""
    config, rename, name = CASES[request.param]
    state = drawn(config)
    return config, state, rename(state), name


def without_counters(state: State) -> State:
    return {k: v for k, v in state.items() if not k.endswith('num_batches_tracked')}


def test_dialect_loads_to_the_last_tensor(case, tmp_path):
    config, state, content, name = case
    path = tmp_path / 'theirs.pth'
    torch.save(content, path)
    net = build(config)
    report = weights.load_weights(net, path)
    assert report.dialect == name
    counted = any(key.endswith('num_batches_tracked') for key in files.unwrap(content))
    compared = dict if counted else without_counters
    assert_close(compared(net.state_dict()), compared(state), rtol=0, atol=0)

    # Every key of the file has one fate.
    fates = report.loaded + report.converted + report.dropped
    assert sorted(fates) == sorted(files.strip(key) for key in files.unwrap(content))
    assert not report.initial
    assert name in str(report) or name == 'original'

    found = weights.describe(path)
    # A default spelt out is no difference.
    assert {key: found.network.get(key, config[key]) for key in config} == config
    assert found.dialect.name == name and found.sha256 == disk.sha256(path)
    assert found.parameters == sum(p.numel() for p in net.parameters())
    assert len(found.others) == len(report.dropped)
    assert found.stem == ('three 3x3' if config.get('deep_stem') else '7x7') + ', 16 channels'


def test_dialect_through_a_config(tmp_path):
    config, state = resnet(50, 'ibn_b'), drawn(resnet(50, 'ibn_b'))
    torch.save(robustnet(state), tmp_path / 'theirs.pth')
    config['init_cfg'] = dict(type='Pretrained', checkpoint=str(tmp_path / 'theirs.pth'))
    net = build(config)
    net.init_weights()
    assert_close(dict(net.state_dict()), state, rtol=0, atol=0)


@pytest.mark.parametrize('case', {name: case for case, (_, _, name) in CASES.items()}.values())
def test_keys_that_no_rule_explains_are_listed(case):
    config, rename, _ = CASES[case]
    content = rename(drawn(config))
    named = next(
        content[w] if isinstance(content.get(w), dict) else content
        for w in ('state_dict', 'model', '')
        if w in content or not w
    )
    named['layer1.0.mystery.weight'] = torch.rand(3)
    net = build(config)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    with pytest.raises(ValueError, match=r'no place in the backbone: layer1\.0\.mystery\.weight'):
        weights.load_weights(net, content)
    assert_close(dict(net.state_dict()), before, rtol=0, atol=0)


def test_every_case_becomes_safetensors_and_loads(case, tmp_path):
    config, state, content, name = case
    path, out = tmp_path / 'theirs.pth', tmp_path / 'ours.safetensors'
    torch.save(content, path)
    weights.convert(path, out)
    written = load_file(out)
    assert_close(without_counters(written), without_counters(state), rtol=0, atol=0)
    net = build(config)
    net.load_state_dict(written)  # strict: just our keys
    report = weights.load_weights(net, out)
    assert not report.dropped + report.converted + report.initial

    with safe_open(out, 'pt') as file:
        said = file.metadata()
    assert said['source'] == 'theirs.pth' and said['source_sha256'] == disk.sha256(path)
    assert said['dialect'] == name and said['naming'] == 'ours'
    assert json.loads(said['network'])['type'] == config['type']
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith('.')] == []

    again = tmp_path / 'original.safetensors'
    if config.get('deep_stem') or config.get('avg_down'):
        with pytest.raises(ValueError, match=r'no deep stem and no avg_down.*--to ours'):
            weights.convert(path, again, to='original')
        return
    report = weights.convert(path, again, to='original')
    original = load_file(again)
    extra = set(original) - set(written)
    translated = dialects.translate(
        files.state_dict_of(content), dialects.detect(files.unwrap(content))
    )
    heads = ('classifier.',) if config['type'] == 'IBNDenseNet' else ('fc.',)
    assert extra == {key for key in translated.tensors if key.startswith(heads)}
    fates = report.loaded + report.converted + report.dropped
    assert sorted(fates) == sorted(files.strip(key) for key in files.unwrap(content))


# ------------------------------------------------------------------------ golden files, renamed

GOLDEN = {
    'resnet50_ibn_a': [old_release, pytorchcv_resnet, strong_baseline, fast_reid],
    'resnet50_ibn_b': [robustnet, pytorchcv_resnet],
    'densenet121_ibn_a': [pytorchcv_densenet],
}


@pytest.mark.parametrize('name', GOLDEN)
def test_golden_weights_in_other_dialects(name, shared):
    """The original's real keys and shapes, drawn by the golden recipe."""
    keys = json.loads(shared('golden', f'{name}.json').read_text())['keys']
    draw = runpy.run_path(str(shared('golden', 'recipe.py')))['draw']
    state = {
        key: torch.from_numpy(draw(key, tuple(shape)))
        for key, shape in keys.items()
        if not dialects.is_head(key)
    }
    net = build(weights.network(name))
    for rename in GOLDEN[name]:
        for parameter in net.state_dict().values():
            parameter.zero_()
        weights.load_weights(net, rename(state))
        assert_close(without_counters(net.state_dict()), without_counters(state), rtol=0, atol=0)


# ------------------------------------------------------------------------------ what is refused


def test_a_7x7_stem_never_goes_into_a_deep_one():
    for placement in ('ibn_a', 'ibn_b'):
        net = build(resnet(18, placement, **DEEP))
        with pytest.raises(ValueError) as caught:
            weights.load_weights(net, drawn(resnet(18, placement)))
        for part in ('one 7x7', 'three 3x3', 'ResNetV1c', 'deep_stem=False', 'stem.0.weight'):
            assert part in str(caught.value)
        with pytest.raises(ValueError, match=r'deep_stem=True, and stem_channels as many'):
            weights.load_weights(build(resnet(18, placement)), drawn(resnet(18, placement, **DEEP)))


def test_pooled_shortcuts_and_plain_ones_are_told_apart():
    pooled, plain = resnet(50, 'bn', avg_down=True), resnet(50, 'bn')
    for one, other in ((pooled, plain), (plain, pooled)):
        with pytest.raises(ValueError, match=r'avg_down=True.*The file fits IBNResNet'):
            weights.load_weights(build(one), drawn(other))


def test_a_wider_deep_stem_is_refused_by_shape():
    """RobustNet's is 64-64-128."""
    net = build(resnet(18, 'ibn_b', **DEEP))
    content = robustnet(drawn(resnet(18, 'ibn_b', **DEEP | dict(stem_channels=32))))
    with pytest.raises(
        ValueError, match=r'stem\.3\.weight \(16, 16, 3, 3\), expected \(8, 8.*stem_channels=32'
    ):
        weights.load_weights(net, content)


def test_robustnets_deep_stem_at_its_own_width():
    with torch.device('meta'):
        net = build(dict(type='IBNResNet', depth=101, placement='ibn_b', stem_channels=128, **DEEP))
        state = net.state_dict()
        assert state['stem.0.weight'].shape[0] == state['stem.3.weight'].shape[0] == 64
        assert not weights.load_weights(net, robustnet(state)).converted


def test_parts_of_the_old_release():
    state = old_release(drawn(resnet(50)))
    key = 'layer1.0.convbnin.conv2.weight'
    for broken, match in (
        ({k: v for k, v in state.items() if k != key}, r'conv1\.weight .*only a part of layer1\.0'),
        (state | {key: torch.rand(4, 3, 1, 1)}, r'layer1\.0\.convbnin\.conv2\.weight, .*Sizes of'),
        (state | {'layer1.0.conv1.weight': torch.rand(8, 16, 1, 1)}, 'another key of the file'),
    ):
        with pytest.raises(ValueError, match=match):
            weights.load_weights(build(resnet(50)), broken)


def test_two_networks_in_one_file_must_be_told_apart():
    one, other = drawn(resnet()), {k: v + 1 for k, v in drawn(resnet()).items()}
    both = dict(state_dict=one | prefixed('backbone.', other))
    with pytest.raises(ValueError, match=r"2 networks in .*prefix='state_dict\.backbone'"):
        weights.load_weights(build(resnet()), both)
    net = build(resnet())
    weights.load_weights(net, both, prefix='backbone')
    assert_close(dict(net.state_dict()), other, rtol=0, atol=0)


def test_a_note_goes_with_fast_reid():
    report = weights.load_weights(build(resnet(50)), fast_reid(drawn(resnet(50))))
    assert 'ceil_mode' in report.note and report.note in str(report)
    assert 'NL_2.0.g.weight' in report.dropped


def test_plain_weights_in_any_dialect_are_converted(tmp_path):
    """Renaming and splitting together: pytorchcv's plain ResNet into a."""
    plain = drawn(resnet(50, 'bn'))
    expected = build(resnet(50))
    weights.load_weights(expected, plain)
    net = build(resnet(50))
    report = weights.load_weights(net, pytorchcv_resnet(plain))
    assert_close(dict(net.state_dict()), dict(expected.state_dict()), rtol=0, atol=0)
    assert 'features.stage1.unit1.body.conv1.bn.weight' in report.converted


# ------------------------------------------------------------------------------------ the table

IBN_NET = [name for name in PUBLISHED if '_ibn_' in name]


def published_keys(name: str) -> dict[str, list[int]]:
    """Keys and shapes of a published file: golden ones, else those that test_family counts."""
    golden = SHARED / 'golden' / f'{name}.json'
    if golden.is_file():
        return json.loads(golden.read_text())['keys']
    state = build(weights.network(name)).state_dict()
    state |= head('classifier' if 'densenet' in name else 'fc')
    return {key: list(tensor.shape) for key, tensor in state.items()}


def test_the_table_has_the_twelve_and_torchvisions():
    assert len(IBN_NET) == 12
    assert len({row.url for row in PUBLISHED.values()}) == len(PUBLISHED) == 23
    base = 'https://github.com/XingangPan/IBN-Net/releases/download/v1.0/'
    assert PUBLISHED['resnet50_ibn_b'].url == f'{base}resnet50_ibn_b-9ca61e85.pth'
    assert PUBLISHED['resnet50'].url == 'https://download.pytorch.org/models/resnet50-0676ba61.pth'


@pytest.mark.parametrize('name', PUBLISHED)
def test_rows(name):
    row = PUBLISHED[name]
    assert row.name == name and re.fullmatch('[0-9a-f]{8}', row.sha256)
    assert cache._hash_in(cache.place(row.url).name) == row.sha256
    assert (row.top1 is None) == (row.top5 is None)
    if '_ibn_' not in name:
        assert row.top1 is None  # no source that we have gives one
    with torch.device('meta'):
        build(weights.network(name))


@pytest.mark.parametrize('name', IBN_NET)
def test_published_architecture_takes_its_file_and_no_other(name):
    with torch.device('meta'):
        keys = published_keys(name)
        net = build(weights.network(name))
        content = {key: torch.empty(shape) for key, shape in keys.items()}
        report = weights.load_weights(net, content)
        head_keys = [key for key in keys if dialects.is_head(key)]
        assert report.dropped == head_keys and not report.converted + report.initial
        assert sorted(report.loaded) == sorted(set(keys) - set(head_keys))

        victim = next(key for key in reversed(keys) if key.endswith('conv2.weight'))
        shape = list(keys[victim])
        for wrong, match in (
            ({k: v for k, v in content.items() if k != victim}, f'the file lacks: {victim}'),
            (content | {victim: torch.empty(shape[0] + 1, *shape[1:])}, f'wrong shapes: {victim}'),
            (content | {f'{victim}x': content[victim]}, f'no place in the backbone: {victim}x'),
        ):
            with pytest.raises(ValueError, match=re.escape(match)):
                weights.load_weights(net, wrong)
        assert networks.guess(dialects.without_heads(content)) == weights.network(name)
        other = build(weights.network(IBN_NET[IBN_NET.index(name) - 1]))
        fits = re.escape(f'The file fits {networks.spell(weights.network(name))}')
        with pytest.raises(ValueError, match=f'does not fit this IBN.*{fits}'):
            weights.load_weights(other, content)


PLAIN = [name for name in PUBLISHED if '_ibn_' not in name]


@pytest.mark.parametrize('name', PLAIN)
def test_torchvisions_files_start_a_placement(name):
    with torch.device('meta'):
        plain = build(weights.network(name)).state_dict()
        content = torchvision_densenet(plain) if 'densenet' in name else plain | head('fc')
        net = build(weights.network(name) | dict(placement='ibn_a'))
        report = weights.load_weights(net, content)
        assert report.converted and not report.initial
        assert networks.guess(plain) == weights.network(name)


NAMES = {
    'resnet50_ibn_a_stage1-4': dict(type='IBNResNet', depth=50, placement='ibn_a_stage1-4'),
    'se_resnext50': dict(type='IBNSEResNeXt', depth=50, placement='bn'),
    'resnext101_32x8d_ibn_b': dict(
        type='IBNResNeXt', depth=101, placement='ibn_b', groups=32, base_width=8
    ),
    'resnext50_32x4d': dict(type='IBNResNeXt', depth=50, placement='bn'),
}


@pytest.mark.parametrize('name', NAMES)
def test_names_of_networks(name):
    assert weights.network(name) == NAMES[name]
    with torch.device('meta'):
        assert networks.guess(build(NAMES[name]).state_dict()) == NAMES[name]


@pytest.mark.parametrize('name', ['', 'resnet', 'vgg16', 'resnet50-ibn_a', 'resnet50_32x4d', '50'])
def test_names_of_no_network(name):
    with pytest.raises(ValueError, match='names no network'):
        weights.network(name)


@pytest.mark.parametrize('ratio', [0, 0.25, 0.4, 1])
def test_the_ratio_is_found(ratio):
    config = resnet(18, 'ibn_a', ratio=ratio, base_channels=64)
    found = networks.guess(build(config).state_dict())
    net = build(found)
    assert {k: v.shape for k, v in net.state_dict().items()} == {
        k: v.shape for k, v in build(config).state_dict().items()
    }


def test_no_network_is_guessed_from_others_keys():
    state = drawn(resnet())
    assert networks.guess({}) is None
    assert networks.guess({'conv1.weight': torch.rand(1)}) is None
    for shape in ((), (0, 0, 0, 0), (1, 1, 1, 1)):
        for key in ('conv1.weight', 'layer1.0.conv2.weight', 'layer1.0.conv3.weight'):
            assert networks.guess(state | {key: torch.rand(shape)}) is None
    assert networks.guess(state | {'layer1.0.bn1.IN.weight': torch.tensor(1.0)}) is None
    assert networks.guess(state | {'layer1.0.x': torch.rand(1)}) is None
    assert networks.guess({k: v for k, v in state.items() if 'layer2.1' not in k}) is None
    assert networks.guess(state | {'layer4.1.bn2.weight': torch.rand(3)}) is None


# --------------------------------------------------------------------------------- the commands


@pytest.fixture
def here(tmp_path, monkeypatch):
    """torch's download cache in tmp_path; nothing leaves the machine."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'torch'))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')
    monkeypatch.setenv('https_proxy', 'http://127.0.0.1:9')
    return tmp_path


def the_tool():
    """tools/weights.py as a module: a process for each call would be slow."""
    spec = importlib.util.spec_from_file_location('tool', ROOT / 'tools' / 'weights.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_list(here, capsys):
    assert the_tool().main(['list']) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, row in PUBLISHED.items():
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert row.sha256 in line and networks.spell(weights.network(name)) in line
        assert (f'{row.top1:.2f}/{row.top5:.2f}' in line) if row.top1 else ' - ' in line
    text = '\n'.join(lines)
    assert 'older architecture' in text and '22.54/6.32' in text and '21.39/5.59' in text
    assert str(here / 'torch' / 'hub' / 'checkpoints') in text


def test_inspect_and_convert_and_inspect(tmp_path, capsys):
    def run(*words) -> str:
        assert the_tool().main([str(word) for word in words]) == 0
        return capsys.readouterr().out

    path, out = tmp_path / 'cv.pth', tmp_path / 'a.safetensors'
    torch.save(pytorchcv_resnet(drawn(resnet(50))), path)
    text = run('inspect', path)
    for part in ('pytorchcv ResNet', 'depth=50', "placement='ibn_a'", '7x7, 16 channels'):
        assert part in text
    assert disk.sha256(path) in text and 'output.weight, output.bias' in text
    text = run('convert', path, out, '--to', 'original')
    assert 'tensors loaded (names: pytorchcv ResNet)' in text and str(out) in text
    text = run('inspect', out)
    assert 'original' in text and disk.sha256(path) in text and 'fc.bias, fc.weight' in text


def test_arch_turns_plain_weights_into_a_variant(tmp_path):
    config = dict(type='IBNResNet', depth=18, placement='bn')
    plain = drawn(config)
    torch.save(plain | head('fc'), tmp_path / 'plain.pth')
    out = tmp_path / 'b.safetensors'
    report = weights.convert(tmp_path / 'plain.pth', out, arch='resnet18_ibn_b')
    assert report.initial == [
        f'layer{s}.1.IN.{name}' for s in (1, 2) for name in ('weight', 'bias')
    ]
    net = build(weights.network('resnet18_ibn_b'))
    weights.load_weights(net, plain)
    assert_close(load_file(out), dict(net.state_dict()), rtol=0, atol=0)


def bad_inputs(folder: Path) -> dict[str, tuple[list, str]]:
    good, empty, odd, text = (folder / f'{n}.pth' for n in ('good', 'empty', 'odd', 'text'))
    torch.save(drawn(resnet()), good)
    torch.save(dict(epoch=3, net={'a': torch.ones(1)}), empty)
    torch.save(drawn(resnet()) | {'extra.weight': torch.ones(1)}, odd)
    text.write_text('<html>')
    (folder / 'text.safetensors').write_text('<html>')
    (folder / 'there.safetensors').write_text('')
    out = folder / 'new.safetensors'
    return {
        'no file': (['inspect', folder / 'none.pth'], 'no such weight file'),
        'a folder': (['inspect', folder], 'no such weight file'),
        'no weights': (['inspect', text], 'not a readable weight file'),
        'no safetensors': (
            ['inspect', folder / 'text.safetensors'], 'the file is cut off (after',
        ),
        'no tensors': (['inspect', empty], 'At its top the file holds epoch (int), net'),
        'no name': (['inspect', 'ibn://resnet50_ibn_c'], 'choose from resnet18_ibn_a'),
        'unknown keys': (['convert', odd, out], 'Name the one that it should fit with --arch'),
        'wrong arch': (['convert', good, out, '--arch', 'resnet50_ibn_a'], 'does not fit this'),
        'no arch': (['convert', good, out, '--arch', 'vgg16'], 'names no network'),
        'no depth': (['convert', good, out, '--arch', 'resnet20'], '20'),
        'no placement': (['convert', good, out, '--arch', 'resnet18_x'], 'unknown placement'),
        'suffix': (['convert', good, folder / 'new.pth'], 'ends in .safetensors'),
        'no folder': (['convert', good, folder / 'no' / 'new.safetensors'], 'no such folder'),
        'there': (['convert', good, folder / 'there.safetensors'], 'exists already'),
    }  # fmt: skip


def test_bad_input_ends_with_one_line(here, capsys):
    for name, (words, text) in bad_inputs(here).items():
        assert the_tool().main([str(word) for word in words]) == 2, name
        error = capsys.readouterr().err
        assert error.startswith('error: ') and error.count('\n') == 1, (name, error)
        assert text in error, (name, error)
    assert not (here / 'new.safetensors').exists()
    assert not list(here.rglob('.*'))


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, 'No space left on device')

    torch.save(drawn(resnet()), tmp_path / 'x.pth')
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match=r'No space left on device: .*x\.safetensors'):
        weights.convert(tmp_path / 'x.pth', tmp_path / 'x.safetensors')
    assert [path.name for path in tmp_path.iterdir()] == ['x.pth']


def test_a_published_name_in_a_config(here, monkeypatch):
    """`checkpoint='ibn://...'`, with the file laid into the cache by hand."""
    row = PUBLISHED['resnet18_ibn_a']
    state = drawn(resnet())
    path = cache.place(row.url)
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    config = resnet() | dict(init_cfg=dict(type='Pretrained', checkpoint='ibn://resnet18_ibn_a'))
    with pytest.raises(ValueError, match=r'begins with [0-9a-f]{8}, expected 2f571257.*Delete it'):
        build(config).init_weights()

    right = replace(row, sha256=disk.sha256(path)[:8])
    monkeypatch.setitem(PUBLISHED, row.name, right)
    path.rename(cache.place(right.url))
    net = build(config)
    net.init_weights()
    assert_close(dict(net.state_dict()), state, rtol=0, atol=0)
