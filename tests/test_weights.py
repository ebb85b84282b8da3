import argparse
import copy
import hashlib
import os
import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from ibnseg_tools import weights as weights_tool
from mmengine.logging import MessageHub
from mmseg.models.backbones import ResNet
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close

from ibnseg.backbones import IBNResNet
from ibnseg.placement import Put
from ibnseg.weights import Report, load_weights, read

TINY = dict(stem_channels=16, base_channels=8)
THREE = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))
STATISTICS = ('running_mean', 'running_var', 'num_batches_tracked')


def build(placement: str = 'bn', depth: int = 18, **arguments) -> IBNResNet:
    return IBNResNet(depth, placement=placement, **TINY | arguments)


def drawn(net: nn.Module) -> dict[str, Tensor]:
    """A state dict of the net's keys whose values are all different."""
    return {
        key: torch.rand_like(tensor) + 0.5 if tensor.is_floating_point() else tensor + 7
        for key, tensor in net.state_dict().items()
    }


def plain(depth: int = 18, **arguments) -> dict[str, Tensor]:
    """An ImageNet classifier's state dict, as torchvision and timm name it."""
    state = drawn(ResNet(depth, **TINY | arguments))
    return state | {'fc.weight': torch.rand(1000, 64), 'fc.bias': torch.rand(1000)}


def without_fc(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in state.items() if not key.startswith('fc.')}


def expected_a(state: dict[str, Tensor], ratio: float = 0.5) -> dict[str, Tensor]:
    """The rule of the reference, written once more: plain -> a."""
    result = {}
    for key, tensor in without_fc(state).items():
        layer, _, name = key.rpartition('.')
        if not (layer.endswith('.bn1') and layer.startswith(('layer1', 'layer2', 'layer3'))):
            result[key] = tensor
            continue
        half = int(len(state[f'{layer}.weight']) * ratio)
        if name in ('weight', 'bias') and half:
            result[f'{layer}.IN.{name}'] = tensor[:half]
        if half < len(state[f'{layer}.weight']):
            result[f'{layer}.BN.{name}'] = tensor[half:] if tensor.ndim else tensor
    return result


def expected_b(state: dict[str, Tensor]) -> dict[str, Tensor]:
    result = without_fc(state)
    for name in STATISTICS:
        del result[f'bn1.{name}']
    for layer, channels in (('layer1.1', 8), ('layer2.1', 16)):
        result[f'{layer}.IN.weight'] = torch.ones(channels)
        result[f'{layer}.IN.bias'] = torch.zeros(channels)
    return result


EXPECTED = {'bn': without_fc, 'ibn_a': expected_a, 'ibn_b': expected_b}


def assert_state(net: nn.Module, expected: dict[str, Tensor]) -> None:
    assert_close(dict(net.state_dict()), expected, rtol=0, atol=0)


def from_mapping(net: nn.Module, content: dict, path: Path) -> None:
    load_weights(net, content)


def from_path(net: nn.Module, content: dict, path: Path) -> None:
    torch.save(content, path)
    load_weights(net, path)


def from_text(net: nn.Module, content: dict, path: Path) -> None:
    torch.save(content, path)
    load_weights(net, str(path))


def from_init_cfg(net: nn.Module, content: dict, path: Path) -> None:
    torch.save(content, path)
    net.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    net.init_weights()


WAYS = [from_mapping, from_path, from_text, from_init_cfg]


@pytest.mark.parametrize('way', WAYS)
@pytest.mark.parametrize('placement', EXPECTED)
def test_plain_weights(placement, way, tmp_path):
    net, state = build(placement), plain()
    before = copy.deepcopy(state)
    way(net, state, tmp_path / 'plain.pth')
    assert_state(net, EXPECTED[placement](state))
    assert_close(state, before, rtol=0, atol=0)  # and the given mapping is as it was


@pytest.mark.parametrize('ratio', [0, 0.25, 0.4, 1])
def test_plain_weights_at_any_ratio(ratio):
    net, state = build('ibn_a', ratio=ratio), plain()
    load_weights(net, state)
    assert_state(net, expected_a(state, ratio))


class Gated(nn.Module):
    """A site layer of a stranger's: the network's norm under a gate that is open at first."""

    def __init__(self, num_features: int, norm):
        super().__init__()
        self.inner, self.gate = norm(num_features), nn.Parameter(torch.ones(1))
        self.log_weight = nn.Parameter(torch.zeros(num_features))

    def forward(self, x: Tensor) -> Tensor:
        return self.gate * self.inner(x) * self.log_weight.exp()[:, None, None]

    def from_plain(self, plain):
        ones = torch.ones_like(plain['weight'])
        inner = {f'inner.{k}': v for k, v in (dict(plain) | {'weight': ones}).items()}
        inner['inner.bias'] = plain['bias'] / plain['weight']
        return inner | {'log_weight': plain['weight'].log()}


def test_a_layer_says_itself_how_it_starts_from_a_plain_norm():
    state, original = plain(), ResNet(18, **TINY)
    original.load_state_dict(without_fc(state))
    original.eval()
    net = build([Put(Gated, 'norm1', (1,))]).eval()
    report = load_weights(net, state)
    x = torch.randn(1, 3, 64, 64)
    assert_close(net(x), original(x))
    replaced = [f'layer1.{i}.bn1' for i in (0, 1)]
    assert report.initial == [f'{path}.gate' for path in replaced]
    assert report.converted == [
        f'{p}.{n}' for p in replaced for n in ('weight', 'bias', *STATISTICS)
    ]

    own = drawn(net)
    assert load_weights(net, own) == Report(loaded=list(own))
    assert_state(net, own)
    del state['layer1.0.bn1.running_var']
    with pytest.raises(ValueError, match=r'lacks: layer1\.0\.bn1\.inner\.running_var'):
        load_weights(net, state)


@pytest.mark.parametrize('way', ['argument', 'list', 'pretrained'])
def test_spellings_of_pretrained(way, tmp_path):
    path, state = tmp_path / 'plain.pth', plain()
    torch.save(state, path)
    config = dict(type='Pretrained', checkpoint=str(path))
    arguments = {
        'argument': dict(init_cfg=config),
        'list': dict(init_cfg=[dict(type='Kaiming', layer='Conv2d'), config]),
        'pretrained': dict(pretrained=str(path)),
    }[way]
    net = build('ibn_a', **arguments)
    net.init_weights()
    assert_state(net, expected_a(state))


def test_plain_weights_keep_the_networks_answer():
    """An a of ratio 0 holds the plain network's function, whatever its keys are called."""
    state = plain()
    original = ResNet(18, **TINY)
    original.load_state_dict(without_fc(state))
    original.eval()
    net = build('ibn_a', ratio=0).eval()
    load_weights(net, state)
    x = torch.randn(1, 3, 64, 64)
    assert_close(net(x), original(x))


def test_deep_stem_b():
    state = plain(deep_stem=True)
    net = build('ibn_b', deep_stem=True)
    report = load_weights(net, state)
    assert torch.equal(net.stem[7].weight, state['stem.7.weight'])
    assert {key for key in report.dropped if key.startswith('stem')} == {
        f'stem.7.{name}' for name in STATISTICS
    }


def test_after_stage_stays_initial():
    net = build([dict(layer='IN', at='after_stage', stages=(2,))])
    assert load_weights(net, plain()).initial == ['layer2.IN.weight', 'layer2.IN.bias']


def test_report_accounts_for_every_key():
    state = plain()
    for placement in EXPECTED:
        net = build(placement)
        report = load_weights(net, state)
        fates = report.loaded + report.converted + report.dropped
        assert sorted(fates) == sorted(state), placement
        assert set(report.initial) <= set(net.state_dict()), placement

    report = load_weights(build('ibn_a'), state)
    split = [f'layer{s}.{i}.bn1' for s in (1, 2, 3) for i in (0, 1)]
    names = ('weight', 'bias', *STATISTICS)
    assert report.converted == [f'{layer}.{name}' for layer in split for name in names]
    assert report.dropped == ['fc.weight', 'fc.bias'] and not report.initial

    report = load_weights(build('ibn_b'), state)
    assert not report.converted
    assert set(report.dropped) == {f'bn1.{n}' for n in STATISTICS} | {'fc.weight', 'fc.bias'}
    assert report.initial == [
        f'{layer}.IN.{name}' for layer in ('layer1.1', 'layer2.1') for name in ('weight', 'bias')
    ]
    text = str(report)
    assert '4 left at their initial value (layer1.1.IN.weight, ' in text
    assert '5 dropped (' in text


SEGMENTOR_HEADS = {
    'decode_head.conv_seg.weight': torch.rand(19, 8, 1, 1),
    'auxiliary_head.convs.0.bn.running_mean': torch.rand(8),
}


def below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f'{prefix}{key}': tensor for key, tensor in state.items()}


def segmentor(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return below('backbone.', without_fc(state)) | SEGMENTOR_HEADS


def with_parts(state: dict[str, Tensor], *keys: str) -> dict[str, Tensor]:
    return state | {key: torch.ones(1) for key in keys}


WRAPPINGS = {
    'any wrapper': lambda s: dict(epoch=3, model_state=s, optimizer={'state': {0: torch.ones(1)}}),
    'Lightning': lambda s: dict(state_dict=below('model.', s)),
    'torch.compile': lambda s: below('_orig_mod.', s),
    'torchvision segmentation': lambda s: with_parts(
        below('backbone.', without_fc(s)), 'classifier.4.weight', 'aux_classifier.4.weight'
    ),
    'MMDetection': lambda s: dict(
        state_dict=with_parts(
            below('backbone.', without_fc(s)), 'neck.conv.weight', 'roi_head.bbox_head.fc.weight'
        )
    ),
    'SwAV': lambda s: below('module.', with_parts(without_fc(s), 'projection_head.0.weight')),
    'smp': lambda s: with_parts(below('encoder.', without_fc(s)), 'decoder.blocks.0.weight'),
    'one of two, by rank': lambda s: dict(state_dict=s, ema_state_dict=plain()),
    'numpy': lambda s: dict(
        state_dict=s, rank1=np.float32(0.5), n=np.int64(3), name=np.str_('x'), odd=np.float16(1),
        args=argparse.Namespace(lr=0.1),
    ),
    'state_dict': lambda s: dict(state_dict=s, epoch=3),
    'model': lambda s: dict(model=s, optimizer={'state': {}}),
    'module.': lambda s: below('module.', s),
    'backbone.': lambda s: below('backbone.', s),
    'base.': lambda s: below('base.', s),
    'module.backbone.': lambda s: below('module.backbone.', s),
    'model, module.': lambda s: dict(model=below('module.', s)),
    'segmentor': lambda s: dict(meta=dict(iter=7), state_dict=segmentor(s)),
    'parallel segmentor': lambda s: dict(state_dict=below('module.', segmentor(s))),
    'mmpretrain': lambda s: dict(
        state_dict=below('backbone.', without_fc(s)) | {'head.fc.weight': torch.rand(10, 8)}
    ),
}  # fmt: skip


@pytest.mark.parametrize('way', [from_mapping, from_init_cfg])
@pytest.mark.parametrize('case', WRAPPINGS)
def test_wrappers_and_prefixes(case, way, tmp_path):
    state, net = plain(), build('ibn_a')
    way(net, WRAPPINGS[case](state), tmp_path / 'wrapped.pth')
    assert_state(net, expected_a(state))


@pytest.mark.parametrize('prefix', ['teacher', 'teacher.', 'teacher.net'])
def test_prefix_chooses_one_of_two_networks(prefix, tmp_path):
    teacher, student = plain(), plain()
    start = prefix.rstrip('.')
    both = {f'{start}.{k}': v for k, v in teacher.items()}
    both |= {f'student.{k}': v for k, v in student.items()}
    path = tmp_path / 'both.pth'
    torch.save(dict(state_dict=both), path)
    config = dict(type='Pretrained', checkpoint=str(path), prefix=prefix)
    net = build('ibn_b', init_cfg=config)
    net.init_weights()
    assert_state(net, expected_b(teacher))


def test_numbers_of_numpy_become_plain_ones(tmp_path):
    path = tmp_path / 'x.pth'
    given = dict(a=np.float32(0.5), b=np.int64(-3), c=np.bool_(True), d=np.str_('x'))
    torch.save(given, path)
    found = read(path)
    assert found == dict(a=0.5, b=-3, c=True, d='x')
    assert [type(value) for value in found.values()] == [float, int, bool, str]
    torch.save(np.datetime64('2020-01-01'), path)
    with pytest.raises(ValueError, match=r'a numpy scalar of type M8'):
        read(path)


def two_networks(student: str, teacher: str) -> dict:
    return dict(state_dict=below(student, plain()) | below(teacher, plain()))


#: What must be told apart or does not match: (content, prefix) -> what to type.
UNCLEAR = {
    'two wrappers': (lambda: dict(student=plain(), teacher=plain()), None, "prefix='teacher'"),
    'mean teacher': (
        lambda: two_networks('model.backbone.', 'ema_model.backbone.'), None,
        "prefix='state_dict.ema_model.backbone'",
    ),
    'typo': (
        lambda: below('backbone.', plain()), 'bakbone',
        "no key begins with prefix='bakbone'.*backbone\\.\\* \\(tensors\\).*prefix='backbone'",
    ),
    'another network': (
        lambda: dict(epoch=3, net={'features.0.weight': torch.ones(1)}), None,
        'the file lacks: conv1.weight.*holds epoch \\(int\\), net \\(dict of 1\\)',
    ),
    'a part of its own': (
        lambda: plain() | {'novel.weight': torch.ones(1)}, None,
        r'no place in the backbone: novel.weight. .*torch.save\(state',
    ),
}  # fmt: skip


@pytest.mark.parametrize('case', UNCLEAR)
def test_the_message_says_what_to_type(case):
    content, prefix, expected = UNCLEAR[case]
    with pytest.raises(ValueError, match=expected):
        load_weights(build('ibn_a'), content(), prefix)


@pytest.mark.parametrize('prefix', ['encoder_q', 'module.encoder_q', 'encoder_q.'])
def test_a_prefix_is_found_behind_wrappers(prefix):
    content = two_networks('module.encoder_q.', 'module.encoder_k.')
    net = build('ibn_a')
    load_weights(net, content, prefix)
    start = 'module.encoder_q.'
    own = {k.removeprefix(start): v for k, v in content['state_dict'].items() if start in k}
    assert_state(net, expected_a(own))


@pytest.mark.parametrize('address', ['torchvision://resnet50', 'open-mmlab://resnet50_v1c'])
def test_addresses_of_mmengine_are_told_from_files(address):
    with pytest.raises(ValueError, match=r'reads no .*ibn://NAME'):
        load_weights(build(), address)


@pytest.mark.parametrize('placement', EXPECTED)
def test_real_imagenet_trunk(placement, shared):
    path = shared('data', 'weights', 'resnet18_imagenet_trunk.pth')
    net = IBNResNet(
        18, placement=placement, **THREE, init_cfg=dict(type='Pretrained', checkpoint=str(path))
    )
    net.init_weights()
    state = read(path)
    report = load_weights(net, path)
    assert all(key.startswith('fc.') or key.startswith('bn1.') for key in report.dropped)
    if placement == 'ibn_a':
        assert torch.equal(net.layer2[1].bn1.IN.weight, state['layer2.1.bn1.weight'][:64])
        assert torch.equal(net.layer2[1].bn1.BN.running_var, state['layer2.1.bn1.running_var'][64:])
    if placement == 'ibn_b':
        assert torch.equal(net.bn1.weight, state['bn1.weight'])
        assert torch.all(net.layer2[1].IN.weight == 1)
    out = net.eval()(torch.randn(1, 3, 64, 64))[0]
    assert out.shape == (1, 256, 4, 4) and out.isfinite().all()


def changed(state: dict[str, Tensor], remove: tuple[str, ...] = (), **add) -> dict[str, Tensor]:
    added = {key.replace('__', '.'): tensor for key, tensor in add.items()}
    return {key: tensor for key, tensor in state.items() if key not in remove} | added


# What does not fit: (network, content) -> what the one message must name.
MISFITS = {
    'unexplained': (
        lambda: (build(), changed(plain(), layer1__0__extra__weight=torch.ones(3))),
        ['no place in the backbone: layer1.0.extra.weight'],
    ),
    'missing': (
        lambda: (build('ibn_a'), changed(plain(), ('conv1.weight', 'layer4.1.bn2.running_var'))),
        ['the file lacks: conv1.weight, layer4.1.bn2.running_var'],
    ),
    'shape': (
        lambda: (build(), changed(plain(), conv1__weight=torch.ones(16, 4, 7, 7))),
        ['wrong shapes: conv1.weight (16, 4, 7, 7), expected (16, 3, 7, 7)'],
    ),
    'all three at once': (
        lambda: (
            build('ibn_b'),
            changed(
                plain(), ('layer1.0.bn1.bias',), odd=torch.ones(1), conv1__weight=torch.ones(1)
            ),
        ),
        ['backbone: odd', 'lacks: layer1.0.bn1.bias', 'shapes: conv1.weight (1,), expected'],
    ),
    'half of a norm, missing': (
        lambda: (build('ibn_a'), changed(plain(), ('layer1.0.bn1.bias',))),
        ['layer1.0.bn1.IN.bias', 'layer1.0.bn1.BN.bias'],
    ),
    "a's IN, missing": (
        lambda: (
            build('ibn_a'),
            changed(drawn(build('ibn_a')), ('layer2.0.bn1.IN.weight', 'layer2.0.bn1.IN.bias')),
        ),
        ['the file lacks: layer2.0.bn1.IN.weight, layer2.0.bn1.IN.bias'],
    ),
    "b's stem, missing": (
        lambda: (build('ibn_b'), changed(drawn(build('ibn_b')), ('bn1.weight',))),
        ['the file lacks: bn1.weight'],
    ),
    "half of b's IN, missing": (
        lambda: (build('ibn_b'), changed(drawn(build('ibn_b')), ('layer1.1.IN.bias',))),
        ['the file lacks: layer1.1.IN.bias'],
    ),
    'a into bn': (
        lambda: (build(), drawn(build('ibn_a'))),
        ['layer1.0.bn1.IN.weight', 'lacks: layer1.0.bn1.weight', 'placement'],
    ),
    'b into a': (
        lambda: (build('ibn_a'), drawn(build('ibn_b'))),
        ['layer1.1.IN.weight', 'lacks: bn1.running_mean', 'placement'],
    ),
    'another ratio': (
        lambda: (build('ibn_a', ratio=0.25), drawn(build('ibn_a'))),
        ['layer1.0.bn1.IN.weight (4,), expected (2,)', 'ratio'],
    ),
    '34 into 18': (
        lambda: (build('ibn_a'), drawn(build('ibn_a', 34))),
        ['no place in the backbone: layer1.2.conv1.weight', 'depth'],
    ),
    '50 into 18': (
        lambda: (build('ibn_b'), plain(50)),
        ['layer1.0.conv3.weight', 'layer1.0.conv1.weight (8, 16, 1, 1), expected (8, 16, 3, 3)'],
    ),
    'no tensors': (
        lambda: (build(), dict(epoch=3)),
        ['the file lacks: conv1.weight', 'At its top the file holds epoch (int)'],
    ),
}


@pytest.mark.parametrize('case', MISFITS)
def test_what_does_not_fit_is_named_and_changes_nothing(case, tmp_path):
    make, named = MISFITS[case]
    net, content = make()
    before = copy.deepcopy(net.state_dict())
    path = tmp_path / 'other.pth'
    torch.save(content, path)
    for source, name in ((content, 'the mapping'), (path, str(path))):
        with pytest.raises(ValueError) as caught:
            load_weights(net, source)
        assert str(caught.value).startswith(f'{name} does not fit this IBNResNet')
        for part in named:
            assert part in str(caught.value)
        assert_state(net, before)


def test_a_prefix_that_is_not_there():
    with pytest.raises(ValueError, match=r"prefix='teacher'\. At its top .* conv1\.\* \(tensors"):
        load_weights(build(), plain(), prefix='teacher')


def test_a_failed_init_can_be_repeated(tmp_path):
    """A second init_weights must not pass quietly over the weights that the first did not find."""
    path = tmp_path / 'late.pth'
    net = build('ibn_a', init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    with pytest.raises(FileNotFoundError):
        net.init_weights()
    state = plain()
    torch.save(state, path)
    net.init_weights()
    assert_state(net, expected_a(state))


class Exploit:
    """Pickles to a call that makes a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def save_zip(content: dict, path: Path) -> None:
    torch.save(content, path)


def save_legacy(content: dict, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def save_pickle(content: dict, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize('save', [save_zip, save_legacy, save_pickle])
def test_a_file_that_runs_code_is_refused_and_does_not(save, tmp_path):
    path, marker = tmp_path / 'evil.pth', tmp_path / 'marker'
    save({'conv1.weight': torch.ones(1), 'meta': Exploit(marker)}, path)
    if save is not save_pickle:  # the payload is a real one
        torch.load(path, weights_only=False)
        marker.rmdir()
    net = build('ibn_a')
    before = copy.deepcopy(net.state_dict())
    net.init_cfg = dict(type='Pretrained', checkpoint=str(path))
    for load in (lambda: read(path), lambda: load_weights(net, path), net.init_weights):
        with pytest.raises(ValueError, match=r'evil\.pth: not a readable.*refused') as caught:
            load()
        assert 'weights_only=False' not in str(caught.value)  # no advice to run it after all
        assert not marker.exists()
    assert set(net.state_dict()) == set(before)


def test_the_exploit_of_the_pickle_file_is_real(tmp_path):
    marker = tmp_path / 'marker'
    pickle.loads(pickle.dumps(Exploit(marker)))
    assert marker.exists()


def truncated(path: Path) -> None:
    torch.save(plain(), path)
    path.write_bytes(path.read_bytes()[:-5000])


def half_a_pickle(path: Path) -> None:
    torch.save(plain(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:3000])


DAMAGED = {
    'truncated': (truncated, r'the file is cut off \(after [\d,]+ bytes\).*fetch it again'),
    'half a pickle': (half_a_pickle, r'the file is cut off \(after [\d,]+ bytes\)'),
    'empty': (lambda path: path.touch(), r'the file is empty \(0 bytes\)'),
    'text': (lambda path: path.write_text('<html>404</html>\n'), 'not a readable weight file'),
    'version pointer': (
        lambda path: path.write_text('version https://git-lfs.github.com/spec/v1\n'),
        'not a readable weight file',
    ),
    'list': (lambda path: torch.save([torch.ones(1)], path), 'holds a list; expected a state dict'),
    'tensor': (lambda path: torch.save(torch.ones(1), path), 'holds a Tensor; expected'),
}


@pytest.mark.parametrize('case', DAMAGED)
def test_damaged_files_are_named(case, tmp_path):
    damage, message = DAMAGED[case]
    path = tmp_path / f'{case}.pth'
    damage(path)
    net = build()
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(ValueError, match=f'{path}: {message}'):
        load_weights(net, path)
    assert_state(net, before)


@pytest.mark.parametrize('name', ['absent.pth', '.'])
def test_no_file_is_named(name, tmp_path):
    path = tmp_path / name
    with pytest.raises(FileNotFoundError, match=f'{path}: no such weight file'):
        load_weights(build(), path)


def test_whole_model_objects_are_refused(tmp_path):
    torch.save(nn.BatchNorm2d(3), tmp_path / 'model.pth')
    with pytest.raises(ValueError, match=r'model\.pth: not a readable.*refused'):
        read(tmp_path / 'model.pth')


@pytest.mark.parametrize('save', [save_zip, save_legacy])
def test_mmengines_own_checkpoint_is_named_and_the_way_out_works(save, tmp_path):
    """What MMEngine's Runner saves beside the weights: its message hub, with HistoryBuffers."""
    hub = MessageHub('ours')
    hub.update_scalar('train/loss', 1.5)
    path, state = tmp_path / "it's.pth", plain()
    save(dict(meta=dict(iter=3), state_dict=state, message_hub=hub.state_dict()), path)
    net = build('ibn_a', init_cfg=dict(type='Pretrained', checkpoint=str(path)))
    for load in (lambda: read(path), net.init_weights):
        with pytest.raises(ValueError, match=r"MMEngine's own Runner.*HistoryBuffer") as caught:
            load()
    message = str(caught.value)
    assert message.startswith(str(path)) and '\n' not in message and 'If you trust' in message
    command, *words = shlex.split(message.split('out of it once: ')[1])
    assert command == 'ibnseg' and words.pop(0) == 'weights'
    assert weights_tool.main(words) == 0
    load_weights(net, tmp_path / "it's.weights.pth")
    assert_state(net, expected_a(state))


@pytest.mark.parametrize(
    ('damage', 'said'),
    [
        (lambda b: b[:-9], 'the file is cut off'),
        (lambda b: b[:30], 'not a readable safetensors file'),
        (lambda b: b'', 'the file is empty'),
        (bytes.swapcase, 'not a readable safetensors file'),
    ],
)
def test_damaged_safetensors_are_named(damage, said, tmp_path):
    path = tmp_path / 'x.safetensors'
    save_file(plain(), path)
    load_weights(build('ibn_a'), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=rf'x\.safetensors: {said}'):
        read(path)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """torch's download cache, empty."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setattr(torch.hub, '_hub_dir', None)
    return tmp_path / 'hub' / 'checkpoints'


def laid(folder: Path, content: dict, stem: str = 'resnet18_ibn_a') -> Path:
    """Save a file under a name with its own hash, as published ones have."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(content, folder / 'new.pth')
    digest = hashlib.sha256((folder / 'new.pth').read_bytes()).hexdigest()
    return (folder / 'new.pth').rename(folder / f'{stem}-{digest[:8]}.pth')


@pytest.mark.parametrize('way', ['load_weights', 'init_cfg'])
def test_an_address_in_the_cache_needs_no_network(hub, way):
    state = plain()
    url = f'http://127.0.0.1:9/v1.0/{laid(hub, state).name}'
    net = build('ibn_a', init_cfg=dict(type='Pretrained', checkpoint=url))
    if way == 'init_cfg':
        net.init_weights()
    else:
        load_weights(net, url)
    assert_state(net, expected_a(state))
