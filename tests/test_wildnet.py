"""WildNet: wild styles and contents, whose photos they are, resumed and on two processes."""

import shutil

import numpy as np
import pytest
import torch
import torch.distributed as dist
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import TRANSFORMS
from processes import group_of_two
from test_resume import LENGTH, assert_same, config, data, interrupt, mmseg_scope  # noqa: F401
from test_whitening import batch, segmentor
from torch import nn
from torch.testing import assert_close

from ibnseg import weights
from ibnseg.domains import DataError
from ibnseg.methods import wild
from ibnseg.report import claims, compare, headline
from ibnseg.train import train as training

SMALL = dict(columns=50, grids=(5, 3))


def wildnet(placement='wildnet', **options):
    photos = dict(type='SegDataPreProcessor', mean=[127.0] * 3, std=[60.0] * 3)
    given = SMALL | dict(data_preprocessor=photos) | options
    return segmentor(placement, 'WildNetSegmentor', **given)


def wild_batch():
    """A batch whose samples have wild photos."""
    x, samples = batch()
    rng = torch.Generator().manual_seed(5)
    for sample in samples:
        photo = torch.randint(256, (3, 64, 64), generator=rng, dtype=torch.uint8)
        sample.wild = PixelData(data=photo)
    return x, samples


def fixed(model):
    """BatchNorm by its running statistics: without SyncBN each process has its own."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def _styled(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    moments = [(m.mean((2, 3), keepdims=True), m.var((2, 3), ddof=1, keepdims=True) + 1e-5)
               for m in (x, other)]  # fmt: skip
    (mean, var), (new_mean, new_var) = moments
    return (x - mean) / np.sqrt(var) * np.sqrt(new_var) + new_mean


def test_sites_restyle_the_second_half_by_the_wild_photos():
    model, (x, samples), given = wildnet(), wild_batch(), {}

    def note(layer, inputs, output):  # copies: a ReLU in place comes next
        given.setdefault(layer.site, []).append((inputs[0].clone(), output.clone()))

    for layer in wild.layers(model.backbone):
        layer.register_forward_hook(note)
    model.loss(x, samples)
    assert [*given] == ['stem', 'layer1.1.after_add', 'layer2.1.after_add']
    for site, ((wild_in, wild_out), (inner, outer)) in given.items():
        assert torch.equal(wild_out, wild_in) and len(wild_in) == 4 and not wild_in.requires_grad
        plain, styled = (inner, inner) if site == 'stem' else inner.chunk(2)
        assert torch.equal(outer[:4], plain)
        expected = _styled(*(m.detach().double().numpy() for m in (styled, wild_in)))
        assert_close(outer[4:].detach().double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


def _log_softmax(x: np.ndarray, axis: int) -> np.ndarray:
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def _extension(s, w, labels, dictionary, t=0.07) -> float:
    """The definition, pixel by pixel."""
    each = []
    for n in range(len(s)):
        rows, others, y = s[n].reshape(len(s[n]), -1).T, w[n].reshape(len(w[n]), -1).T, labels[n]
        y, terms = y.ravel(), []
        for i in np.flatnonzero(y != 255):
            alike = np.clip(others @ rows[i], -1, 1) / t
            apart = (y != y[i]) & (y != 255)
            first = np.where(apart | (np.arange(len(y)) == i), alike, -1 / t)
            near = dictionary[:, (others[i] @ dictionary).argmax()] @ rows[i] / t
            second = np.exp(near) / (np.exp(near) + np.exp(alike[apart]).sum())
            terms.append(-_log_softmax(first, 0)[i] - np.log(second))
        each.append(sum(terms) / (len(terms) + 1e-5))
    return float(np.mean(each))


def test_content_extension_is_its_definition():
    rng = np.random.default_rng(0)
    s, w = (rng.standard_normal((3, 6, 4, 4)) for _ in range(2))
    s, w = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (s, w))
    dictionary = rng.standard_normal((6, 30))
    dictionary /= np.linalg.norm(dictionary, axis=0)
    labels = rng.integers(0, 4, (3, 4, 4))
    labels[labels == 3] = 255
    labels[2] = 255  # a photo without a label
    found = wild.extension(*map(torch.from_numpy, (s, w, labels, dictionary)))
    assert float(found) == pytest.approx(_extension(s, w, labels, dictionary), rel=1e-12)
    labels[1] = 1  # one class alone
    found = wild.extension(*map(torch.from_numpy, (s, w, labels, dictionary)))
    assert float(found) == pytest.approx(_extension(s, w, labels, dictionary), rel=1e-12)


def test_divergence_is_its_definition():
    rng = np.random.default_rng(1)
    one, other = rng.standard_normal((2, 3, 5, 4, 4))
    p, q = _log_softmax(one, 1), _log_softmax(other, 1)
    expected = (np.exp(p) * (p - q)).sum() / one.size
    assert float(wild.divergence(*map(torch.from_numpy, (one, other)))) == pytest.approx(expected)


def test_the_dictionary_is_a_ring(monkeypatch):
    dictionary, pointer = torch.zeros(2, 5), torch.tensor([3])
    wild.replace_oldest(dictionary, pointer, torch.arange(1.0, 4)[:, None].expand(3, 2))
    assert dictionary[0].tolist() == [3, 0, 0, 1, 2] and pointer == 1
    wild.replace_oldest(dictionary, pointer, torch.arange(1.0, 8)[:, None].expand(7, 2))
    assert sorted(dictionary[0].tolist()) == [3, 4, 5, 6, 7] and pointer == 3
    rows, columns = torch.randn(7, 4), torch.randn(4, 9)
    expected = wild.nearest(rows, columns)
    monkeypatch.setattr(wild, '_AT_ONCE', 20)
    assert torch.equal(wild.nearest(rows, columns), expected)


def test_losses_are_those_of_both_halves_summed():
    model, (x, samples) = fixed(wildnet(consistency=2, extension=3)), wild_batch()
    losses = model.loss(x, samples)
    assert set(losses) == {
        'decode.loss_ce', 'decode.acc_seg', 'loss_consistency', 'loss_extension',
    }  # fmt: skip
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
    logits = nn.functional.interpolate(
        model.decode_head.forward(model.backbone(x)), (64, 64), mode='bilinear'
    )
    each = [nn.functional.cross_entropy(half, labels) for half in logits.chunk(2)]
    assert_close(losses['decode.loss_ce'], sum(each))
    assert_close(losses['loss_consistency'], 2 * wild.divergence(*logits.chunk(2)))
    model.parse_losses(losses)[0].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model.proj[0].weight.grad.any()


def test_the_dictionary_takes_the_wild_contents_and_is_in_the_checkpoint():
    model, (x, samples) = wildnet(), wild_batch()
    before = model.wild_cont_dict.clone()
    model.loss(x, samples)
    assert model.wild_cont_dict_ptr == 4 * 9
    state = model.state_dict()
    assert torch.equal(state['wild_cont_dict'][:, 36:], before[:, 36:])
    assert not (state['wild_cont_dict'][:, :36] == before[:, :36]).any()
    assert_close(state['wild_cont_dict'].norm(dim=0), torch.ones(50))


def test_evaluation_has_no_norm_at_the_stem_and_is_the_plain_network_else():
    model, plain = wildnet().eval(), segmentor('bn', 'EncoderDecoder').eval()
    plain.backbone.bn1 = nn.Identity()
    own = plain.state_dict().keys()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in own})
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(model(x, mode='tensor'), plain(x, mode='tensor'))
    assert all(layer(x) is x for layer in wild.layers(model))


def test_bfloat16_stays_finite():
    model = wildnet()
    with torch.autocast('cpu', torch.bfloat16):
        loss = model.parse_losses(model.loss(*wild_batch()))[0]
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters())
    assert model.wild_cont_dict.dtype == torch.float32


def test_activation_checkpointing_changes_nothing():
    found = []
    for with_cp in (False, True):
        model = wildnet(backbone=dict(with_cp=with_cp))
        model.parse_losses(model.loss(*wild_batch()))[0].backward()
        found.append([*(p.grad for p in model.parameters()), *model.buffers()])
    assert all(map(torch.equal, *found))


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match='has no layer WildStyle'):
        wildnet(placement='ibn_b')
    with pytest.raises(ValueError, match='columns is 0'):
        wildnet(columns=0)
    with pytest.raises(ValueError, match="WildPhoto', photos=FOLDER"):
        wildnet().loss(*batch())
    with pytest.raises(RuntimeError, match='stem: WildStyle has seen no wild photos'):
        wildnet().backbone(torch.randn(2, 3, 64, 64))


def test_wild_photos_are_drawn_cut_and_flipped(data, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match='photos is None; expected a folder of photos'):
        TRANSFORMS.build(dict(type='WildPhoto'))
    (tmp_path / 'none').mkdir()
    with pytest.raises(DataError, match='no images there'):
        TRANSFORMS.build(dict(type='WildPhoto', photos=str(tmp_path / 'none')))
    step = TRANSFORMS.build(dict(type='WildPhoto', photos='gta5:train', data_root=str(data)))
    found = []
    for side in ((32, 48), (32, 48), (100, 300)):
        np.random.seed(len(found) // 2)
        _, (sample, *_) = batch()
        packed = dict(inputs=torch.zeros(3, *side), data_samples=sample)
        found.append(step(packed)['data_samples'].wild.data)
        assert found[-1].shape == (3, *side) and found[-1].dtype == torch.uint8
    assert torch.equal(found[0], found[1])


def _found(model, x, samples):
    losses = model.loss(x, samples)
    model.parse_losses(losses)[0].backward()
    parts = {k: p.grad for k, p in model.named_parameters()}
    return parts | {k: v.detach() for k, v in losses.items() if 'loss' in k}


def _rank(rank, folder):
    x, samples = wild_batch()
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = fixed(wildnet()).double()
    found = _found(model, x[rank::2].double(), samples[rank::2])
    for tensor in found.values():
        dist.all_reduce(tensor)
        tensor /= 2
    torch.save((found, model.wild_cont_dict), f'{folder}/{rank}.pth')


def test_two_processes_are_one(tmp_path):
    group_of_two(_rank, tmp_path)
    model, (x, samples) = fixed(wildnet()).double(), wild_batch()
    expected = _found(model, x.double(), samples)
    for rank in (0, 1):
        found, dictionary = torch.load(tmp_path / f'{rank}.pth')
        assert_close(dictionary, model.wild_cont_dict, rtol=1e-9, atol=1e-12)
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            assert_close(found[key], tensor, rtol=1e-7, atol=1e-9, msg=key)


def train(data, folder, photos, **options):  # noqa: F811
    words = ['model.type=WildNetSegmentor', 'model.backbone.placement=wildnet']
    found = config(data, folder, *words, 'model.columns=50', 'model.grids=5,3')
    found.train_dataloader.dataset.pipeline.append(dict(type='WildPhoto', photos=str(photos)))
    return training.train(found, show=False, **options)


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):  # noqa: F811
    """A run with the target's photos as the wild ones, and its record."""
    folder = tmp_path_factory.mktemp('wildnet') / 'run'
    with DefaultScope.overwrite_default_scope('mmseg'):
        return folder, train(data, folder, data / 'cityscapes' / 'leftImg8bit')


def test_a_resumed_run_is_the_run(trained, data, tmp_path):  # noqa: F811
    folder, _ = trained
    kept = weights.read(folder / f'iter_{LENGTH}.pth')
    assert kept['state_dict']['wild_cont_dict_ptr'] == LENGTH * 2 * 9 % 50
    copied = shutil.copytree(folder, tmp_path / 'copied')
    interrupt(copied, 4)
    train(data, copied, data / 'cityscapes' / 'leftImg8bit', resume=True)
    assert_same(weights.read(copied / f'iter_{LENGTH}.pth'), kept)


def test_whose_the_wild_photos_are_is_recorded_and_said(trained, data):  # noqa: F811
    _, record = trained
    (said,) = record.provenance['unlabelled']
    assert said['datasets'] == ['cityscapes'] and len(said['digest']) == 8
    assert said['files'] == len([*(data / 'cityscapes' / 'leftImg8bit').rglob('*.png')])
    table = compare.tabulate([record])
    (row,) = table.rows
    assert row.saw == ['cityscapes'] and row.mark.endswith('(saw photos of cityscapes)')
    assert any('adaptation to them, not generalisation' in note for note in table.notes)
    assert 'adaptation' in [one.kind for one in claims.of_table(table).findings]
    assert not row.honest and headline.leader(table.groups[0]) is None
