"""Frozen transformers with adapters: what is trained, what is saved, and what stays."""

import copy
import math
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from processes import group_of_two
from test_resume import LENGTH, assert_same, config, data, interrupt, mmseg_scope  # noqa: F401
from torch.nn import functional as F
from torch.testing import assert_close

from ibnseg import registered, weights  # noqa: F401
from ibnseg.backbones.foundation import FrozenViT, Rescale
from ibnseg.methods.adapters import MinorComponents, Rein
from ibnseg.train import train as training

CONFIGS = Path(__file__).parents[1] / 'configs' / 'foundation'


try:
    import timm  # noqa: F401

    MISSING = ''
except ImportError as error:
    MISSING = f"timm is absent ({error}): pip install 'ibnseg[timm]'"
needs_timm = pytest.mark.skipif(bool(MISSING), reason=MISSING or 'timm is there')

SMALL = dict(depth=4, embed_dim=32, num_heads=2)
FAMILIES = {
    'vit_small_patch14_dinov2': dict(patch_size=16),
    'vit_small_patch14_reg4_dinov2': dict(patch_size=16),
    'vit_small_patch16_dinov3': {},
    'eva02_tiny_patch14_224': dict(patch_size=16),
    'vit_base_patch16_clip_224': {},
    'samvit_base_patch16': dict(global_attn_indexes=(1, 3), window_size=2),
}
NAME = next(iter(FAMILIES))
OUT = {4: (0, 1, 2, 3), 24: None}


def build(name=NAME, adapter=None, pretrained=None, **options) -> FrozenViT:
    torch.manual_seed(0)
    given = dict(img_size=64, **SMALL, **FAMILIES[name]) | options
    return FrozenViT(name, pretrained, adapter, OUT[options.get('depth', 4)], given)


def images(n=2) -> torch.Tensor:
    return torch.randn(n, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def file_of(net: FrozenViT, path: Path) -> str:
    torch.save(dict(net.net.state_dict()), path)
    return str(path)


def step(net: FrozenViT, times=2) -> None:
    optimiser = torch.optim.SGD(net.parameters(), 0.5, weight_decay=0.1)
    for _ in range(times):
        optimiser.zero_grad()
        sum(y.square().mean() for y in net.train()(images())).backward()
        optimiser.step()


@needs_timm
@pytest.mark.parametrize('kind', ['rein', 'soma'])
@pytest.mark.parametrize('name', FAMILIES)
def test_what_is_frozen_stays_and_what_is_not_is_trained(name, kind):
    net = build(name, dict(kind=kind, rank=2))
    before = copy.deepcopy(torch.nn.Module.state_dict(net))
    assert [y.shape for y in net(images())] == [(2, 32, 4, 4)] * 4
    step(net)
    trained = {key for key, p in net.named_parameters() if p.requires_grad}
    assert all(('reins.' in k) if kind == 'rein' else ('lora' in k or 'bias' in k) for k in trained)
    for key, tensor in torch.nn.Module.state_dict(net).items():
        if key not in trained:
            assert torch.equal(tensor, before[key]), key
    moved = {key for key in trained if not torch.equal(net.get_parameter(key), before[key])}
    assert moved == trained
    assert not any(module.training for module in net.net.modules())


@needs_timm
@pytest.mark.parametrize('name', FAMILIES)
def test_outputs_at_the_start_are_those_of_the_frozen_network(name):
    plain = build(name)(images())
    for one, other in zip(build(name, dict(kind='soma', rank=3))(images()), plain, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-5)
    rein = build(name, dict(kind='rein', rank=2, scale=0.0))
    for one, other in zip(rein(images()), plain, strict=True):
        if name.startswith('samvit'):  # its maps have another layout after it
            assert_close(one, other, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(one, other)
    for one, other in zip(build(name, 'rein')(images()), plain, strict=True):
        assert not torch.equal(one, other)
        assert (one - other).abs().max() < 0.1


@needs_timm
def test_rein_leaves_class_and_registers_as_they_are():
    x = torch.randn(2, 9, 8)
    rein = Rein(1, 8, tokens=3, rank=2, scale=1.0)
    for prefix in (0, 1, 5):
        y = rein(x, 0, prefix)
        assert torch.equal(y[:, :prefix], x[:, :prefix])
        assert not (y[:, prefix:] == x[:, prefix:]).all(-1).any()


def test_rein_has_as_many_parameters_as_published():
    rein = Rein(24, 1024, query_dims=256)
    assert sum(p.numel() for p in rein.parameters()) == 2_990_081
    spread = math.sqrt(6 / (3 * 16**2 + math.sqrt(1024 * 16)))
    assert 0.99 * spread < rein.learnable_tokens_a.abs().max() <= spread
    assert rein.scale == 0.001


def test_somas_alpha_changes_the_factors_and_neither_output_nor_gradient_of_their_product():
    weight, found = torch.randn(12, 8, dtype=torch.float64), []
    for alpha in (None, 2, 8):
        part = MinorComponents(weight, 2, 3, alpha)
        whole = part(part.right_inverse(weight))
        assert_close(whole, weight)
        whole.square().sum().backward()
        a = part.lora_A.detach()
        found.append((part.right_inverse(weight), a, part.lora_A.grad.mT @ a))
    for rest, _, gram in found:
        assert_close(rest, found[0][0])
        assert_close(gram, found[0][2])
    assert_close(found[1][1], found[0][1])
    assert_close(2 * found[2][1], found[0][1])


@needs_timm
def test_soma_has_as_many_parameters_as_published():
    with torch.device('meta'):
        net = build(NAME, 'soma', depth=24, embed_dim=1024, num_heads=16)
    counts = [(k, p.numel()) for k, p in net.named_parameters() if p.requires_grad]
    assert sum(n for k, n in counts if 'lora' in k) == 16 * 294_912
    assert sum(n for k, n in counts if 'bias' in k) == 16 * 9_216
    assert min(int(k.split('.')[2]) for k, _ in counts) == 8


def test_query_key_and_value_are_three_matrices():
    weight = torch.randn(24, 8, dtype=torch.float64)
    whole = MinorComponents(weight, 2, parts=3)
    for i, part in enumerate(weight.chunk(3)):
        alone = MinorComponents(part, 2)
        rest = whole.right_inverse(weight).chunk(3)[i]
        assert_close(rest, alone.right_inverse(part))
        assert torch.linalg.matrix_rank(rest) == 6
        least = torch.linalg.svdvals(part)[-2:]
        assert_close(torch.linalg.svdvals(part - rest)[:2], least)


@needs_timm
@pytest.mark.parametrize('kind', ['rein', 'soma'])
def test_a_checkpoint_holds_the_adapter_alone(kind, tmp_path):
    base = file_of(build(), tmp_path / 'base.pth')
    net = build(adapter=dict(kind=kind, rank=2), pretrained=base)
    step(net)
    state = net.state_dict(prefix='backbone.')
    trained = {f'backbone.{k}' for k, p in net.named_parameters() if p.requires_grad}
    assert set(state) == trained | {'backbone.digest'}
    other = build(adapter=dict(kind=kind, rank=2), pretrained=base)
    assert not torch.equal(other(images())[-1], net(images())[-1])
    other.load_state_dict(net.state_dict())
    assert all(map(torch.equal, other(images()), net(images())))

    torch.manual_seed(7)
    given = dict(SMALL, img_size=64, patch_size=16)
    changed = file_of(FrozenViT(NAME, None, None, OUT[4], given), tmp_path / 'other.pth')
    third = build(adapter=dict(kind=kind, rank=2), pretrained=changed)
    with pytest.raises(ValueError, match=r'the adapter was trained on .*Name that file'):
        third.load_state_dict(net.state_dict())


@needs_timm
@pytest.mark.parametrize('queries', [None, 8])
def test_a_released_adapter_loads_by_its_names(queries, tmp_path):
    released = Rein(4, 32, query_dims=8)
    state = {f'backbone.reins.{k}': t for k, t in released.state_dict().items()}
    state['decode_head.query_embed.weight'] = torch.zeros(3)
    torch.save(dict(state_dict=state), tmp_path / 'rein.pth')
    net = build(
        adapter=dict(kind='rein', query_dims=queries, pretrained=str(tmp_path / 'rein.pth'))
    )
    net.init_weights()
    for key, tensor in net.reins.state_dict().items():
        assert torch.equal(tensor, released.state_dict()[key])
    assert hasattr(net.reins, 'merge') == bool(queries)
    wrong = build(adapter=dict(kind='rein', tokens=5, pretrained=str(tmp_path / 'rein.pth')))
    with pytest.raises(ValueError, match='has no adapter for this network'):
        wrong.init_weights()


@needs_timm
@pytest.mark.parametrize('kind', ['rein', 'soma'])
def test_a_copy_is_a_network_of_its_own(kind):
    net = build(adapter=dict(kind=kind, rank=2))
    other = copy.deepcopy(net)
    expected = net(images())
    for parameter in net.parameters():
        parameter.data.zero_()
    for one, found in zip(expected, other(images()), strict=True):
        assert torch.equal(one, found)


@needs_timm
@pytest.mark.parametrize('kind', ['rein', 'soma'])
def test_bfloat16_stays_finite(kind):
    net = build(adapter=dict(kind=kind, rank=2)).train()
    with torch.autocast('cpu', torch.bfloat16):
        loss = sum(y.float().square().mean() for y in net(images()))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.requires_grad)


@needs_timm
@pytest.mark.parametrize('name', ['vit_small_patch14_dinov2', 'vit_small_patch14_reg4_dinov2'])
def test_weights_are_resized_to_patches_and_positions_as_the_releases_do(name, tmp_path):
    torch.manual_seed(3)
    large = FrozenViT(name, None, None, OUT[4], dict(SMALL, img_size=140, patch_size=14))
    net = build(name, pretrained=file_of(large, tmp_path / 'large.pth')).net
    large = large.net
    assert torch.equal(net.blocks[0].attn.qkv.weight, large.blocks[0].attn.qkv.weight)
    kernel = F.interpolate(large.patch_embed.proj.weight, (16, 16), mode='bicubic')
    assert torch.equal(net.patch_embed.proj.weight, kernel)
    first = large.pos_embed.shape[1] - 100
    grid = large.pos_embed[:, first:].reshape(1, 10, 10, 32).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, (4, 4), mode='bicubic').permute(0, 2, 3, 1).reshape(1, 16, 32)
    assert torch.equal(net.pos_embed[:, first:], resized)
    assert torch.equal(net.pos_embed[:, :first], large.pos_embed[:, :first])


def released_soma(net: FrozenViT, path: Path) -> tuple[str, dict]:
    """Write the adapter of a network as SoMA's release does, other values in it; return both."""
    torch.manual_seed(7)
    content = {'backbone.model.mask_token': torch.zeros(1, 32)}
    expected = {}
    trained = {key for key, p in net.net.named_parameters() if p.requires_grad}
    for key, tensor in torch.nn.Module.state_dict(net.net).items():
        adapted = key in trained
        if not adapted and not key.endswith('bias'):
            continue
        value = tensor + torch.randn(tensor.shape) if adapted else tensor
        expected[f'net.{key}'] = value
        name = key.replace('.parametrizations.weight.0', '')
        name = f'backbone.model.{name}.weight' if 'lora' in name else f'backbone.model.{name}'
        for one, part in zip('qkv', value.chunk(3) if '.qkv.' in key else [value], strict=False):
            content[name.replace('.qkv.', f'.{one}.')] = part.squeeze(0) if 'lora' in key else part
    torch.save(dict(state_dict=content | {'decode_head.a': torch.ones(1)}), path)
    return str(path), expected


@needs_timm
def test_an_adapter_that_soma_released_is_taken(tmp_path):
    base = file_of(build(), tmp_path / 'base.pth')
    file, expected = released_soma(build(NAME, dict(kind='soma', rank=2), base), tmp_path / 's.pth')
    keys = weights.read(file)['state_dict']
    assert keys['backbone.model.blocks.2.attn.k.lora_A.weight'].shape == (2, 32)
    assert keys['backbone.model.blocks.2.mlp.fc1.lora_B.weight'].shape == (128, 2)
    assert keys['backbone.model.blocks.3.attn.v.bias'].shape == (32,)
    net = build(NAME, dict(kind='soma', rank=2, pretrained=file), base)
    net.init_weights()
    for key, tensor in expected.items():
        assert torch.equal(torch.nn.Module.state_dict(net)[key], tensor), key
    other = build(NAME, dict(kind='soma', rank=3, pretrained=file), base)
    with pytest.raises(ValueError, match=r's.pth has no adapter .* wrong shapes'):
        other.init_weights()
    torch.manual_seed(9)
    strange = FrozenViT(NAME, None, None, OUT[4], dict(SMALL, img_size=64, patch_size=16))
    for parameter in strange.net.parameters():
        parameter.data.add_(0.1)
    strange = file_of(strange, tmp_path / 'strange.pth')
    with pytest.raises(ValueError, match=r's.pth was trained on other weights .*bias differs'):
        build(NAME, dict(kind='soma', rank=2, pretrained=file), strange).init_weights()
    torch.save({k: t for k, t in keys.items() if '2.attn.q.' not in k}, tmp_path / 's.pth')
    with pytest.raises(ValueError, match=r's.pth: .*2.attn.k.bias.* only a part of'):
        build(NAME, dict(kind='soma', rank=2, pretrained=file), base).init_weights()


@needs_timm
def test_an_adapter_of_ones_own_that_was_trained_on_another_file_is_refused(tmp_path):
    base = file_of(build(), tmp_path / 'base.pth')
    trained = build(adapter=dict(kind='rein', rank=2), pretrained=base)
    torch.save(dict(state_dict=trained.state_dict()), tmp_path / 'run.pth')
    adapter = dict(kind='rein', rank=2, pretrained=str(tmp_path / 'run.pth'))
    build(adapter=adapter, pretrained=base).init_weights()
    other = build()
    other.net.norm.bias.data.add_(1)
    other = file_of(other, tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'run.pth: model.backbone.pretrained is .*Name that'):
        build(adapter=adapter, pretrained=other).init_weights()


@needs_timm
def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"timm has no network 'vit_smal_patch14_dinov2'"):
        FrozenViT('vit_smal_patch14_dinov2')
    with pytest.raises(ValueError, match=r'out_indices is .* below the 4 layers'):
        FrozenViT(NAME, options=SMALL)
    with pytest.raises(ValueError, match=r"adapter is 'lora'; choose from"):
        build(adapter='lora')
    with pytest.raises(ValueError, match=r'rank is 99; expected 1 to 32'):
        build(adapter=dict(kind='soma', rank=99))
    with pytest.raises(ValueError, match=r'first of SoMA is 4; expected 0 to 3'):
        build(adapter=dict(kind='soma', first=4))
    with pytest.raises(ValueError, match=r"'soma' has no option 'ranks' \(did you mean 'rank'"):
        build(adapter=dict(kind='soma', ranks=2))
    with pytest.raises(ValueError, match=r"'rein' has no option 'first'; choose from .'tokens'"):
        build(adapter=dict(kind='rein', first=2))
    with pytest.raises(ValueError, match=r'alpha is 0; expected a number above 0'):
        build(adapter=dict(kind='soma', alpha=0))
    with pytest.raises(ValueError, match=r"alpha is '2'; expected a number above 0"):
        build(adapter=dict(kind='soma', alpha='2'))
    with pytest.raises(ValueError, match=r"adapter is \['soma'\]; choose from"):
        build(adapter=dict(kind=['soma']))
    with pytest.raises(ValueError, match='no vision transformer'):
        FrozenViT('resnet18')
    with pytest.raises(ValueError, match=r'images of 65x64; expected multiples .*16x16'):
        build()(torch.zeros(1, 3, 64, 65))
    torch.save(dict(a=torch.zeros(1)), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'a.pth lacks \d+ tensors of this VisionTransformer'):
        build(pretrained=str(tmp_path / 'a.pth'))


def test_without_timm_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'timm', None)
    with pytest.raises(ValueError, match=r"pip install 'ibnseg\[timm\]'"):
        FrozenViT(NAME)


@pytest.mark.parametrize(
    'options, message', [(dict(tokens=1), 'tokens is 1'), (dict(rank=0), 'rank')]
)
def test_wrong_sizes_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Rein(2, 8, **options)


def test_the_neck_makes_a_pyramid():
    y = torch.randn(1, 3, 4, 6)
    found = Rescale()([y] * 4)
    assert [one.shape[2:] for one in found] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert found[2] is y


def trained_parameters(name: str) -> int:
    """How many the backbone of a config trains; its docstring has to name it."""
    stated = Config.fromfile(CONFIGS / f'{name}.py')
    assert f'configs/foundation/{name}.py' in (CONFIGS / f'{name}.py').read_text()
    stated.model.backbone.pretrained = None
    with torch.device('meta'):
        model = MODELS.build(stated.model)
    return sum(p.numel() for p in model.backbone.parameters() if p.requires_grad)


@needs_timm
@pytest.mark.parametrize('name', ['rein', 'soma'])
def test_the_configs_build(name):
    trained = trained_parameters(name)
    assert trained == dict(rein=2_990_081 - 262_400 - 196_864, soma=16 * (294_912 + 9_216))[name]


def _gradients(net, x) -> list[torch.Tensor]:
    sum(y.square().mean() for y in net(x)).backward()
    return [p.grad for p in net.parameters() if p.requires_grad]


def _rank(rank, folder, kind):
    net = build(adapter=dict(kind=kind, rank=2)).train()
    wrapped = torch.nn.parallel.DistributedDataParallel(net)
    _gradients(wrapped, images(4)[rank::2])
    torch.save([p.grad for p in net.parameters() if p.requires_grad], f'{folder}/{rank}.pth')


@needs_timm
@pytest.mark.parametrize('kind', ['rein', 'soma'])
def test_two_processes_are_one(kind, tmp_path):
    group_of_two(_rank, tmp_path, kind)
    expected = _gradients(build(adapter=dict(kind=kind, rank=2)).train(), images(4))
    for rank in (0, 1):
        for one, other in zip(torch.load(tmp_path / f'{rank}.pth'), expected, strict=True):
            assert_close(one, other, rtol=1e-4, atol=1e-6)


def run_config(data, folder, base, kind='rein'):  # noqa: F811
    found = config(data, folder)
    found.model.backbone = dict(
        type='FrozenViT', name=NAME, pretrained=base, out_indices=OUT[4],
        adapter=dict(kind=kind, rank=2), options=dict(SMALL, img_size=(128, 256), patch_size=16),
    )  # fmt: skip
    found.model.decode_head.update(in_channels=32, channels=32)
    return found


@needs_timm
@pytest.mark.parametrize('kind', ['rein', 'soma'])
def test_a_resumed_run_is_the_run(kind, data, tmp_path):  # noqa: F811
    net = build(img_size=(128, 256))
    base = file_of(net, tmp_path / 'base.pth')
    run = tmp_path / 'run'
    found = run_config(data, run, base, kind)
    training.train(found, show=False)
    kept = weights.read(run / f'iter_{LENGTH}.pth')
    keys = [k for k in kept['state_dict'] if k.startswith('backbone.net.')]
    assert all('lora' in k or 'bias' in k for k in keys) and bool(keys) == (kind == 'soma')
    (came,) = kept['meta']['trained']['weights']
    assert came['by'] == 'model.backbone.pretrained'
    assert came['file'] == 'base.pth' and len(came['sha256']) == 64
    copied = shutil.copytree(run, tmp_path / 'copied')
    interrupt(copied, 4)
    training.train(run_config(data, copied, base, kind), resume=True, show=False)
    assert_same(weights.read(copied / f'iter_{LENGTH}.pth'), kept)
