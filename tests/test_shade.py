"""SHADE: the batch doubled, both losses, and basis styles that a pass renews."""

import copy
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from processes import group_of_two
from test_resume import LENGTH, assert_same, config, data, interrupt, mmseg_scope  # noqa: F401
from test_whitening import TINY, batch, segmentor
from torch.nn import functional as F
from torch.testing import assert_close

from ibnseg import registered, weights  # noqa: F401
from ibnseg.methods import SHM, hallucination, ranks
from ibnseg.methods.segmentor import check_collected
from ibnseg.methods.shade import SHADESegmentor
from ibnseg.train import train as training

TEACHER = dict(type='IBNResNet', depth=18, **TINY)
PUT = dict(layer='SHM', at='after_pool', options=dict(styles=3))


def settled(model):
    layer = next(m for m in model.modules() if isinstance(m, SHM))
    layer.observe(torch.randn(6, 16, 5, 5, generator=torch.Generator().manual_seed(2)))
    layer.settle(0)
    return model


def shade(placement=(PUT,), **options):
    options = dict(teacher=TEACHER, classes=(1, 2)) | options
    return settled(segmentor(list(placement), 'SHADESegmentor', **options))


def test_both_losses_are_added_and_the_labels_repeated():
    model = shade(consistency=3, retrospection=2)
    x, samples = batch()
    torch.manual_seed(0)
    losses = model.loss(x, samples)
    assert set(losses) == {
        'decode.loss_ce', 'decode.acc_seg', 'loss_consistency', 'loss_retrospection',
    }  # fmt: skip
    torch.manual_seed(0)
    features = model.backbone(x)
    assert len(features[-1]) == 8
    logits = F.interpolate(model.decode_head.forward(features), (64, 64), mode='bilinear')
    labels = torch.cat([sample.gt_sem_seg.data for sample in samples] * 2)
    assert_close(losses['decode.loss_ce'], F.cross_entropy(logits, labels))
    assert_close(losses['loss_consistency'], 3 * hallucination.consistency(logits))
    assert losses['loss_consistency'] > 0


def test_only_pixels_of_the_classes_count():
    features = torch.randn(2, 4, 3, 3, requires_grad=True)
    labels = torch.full((2, 24, 24), 255)
    assert hallucination.retrospection(features, features.detach() + 1, labels, (1,)) == 0
    labels[0, :8, :8] = 1
    labels[1, 8:16, 8:13] = 1  # 40 of 64
    loss = hallucination.retrospection(features, features.detach() + 2, labels, (1, 3))
    loss.backward()
    assert_close(loss.item(), 4.0)
    assert features.grad[0, :, 0, 0].all() and features.grad.count_nonzero() == 4


def test_the_teacher_stays_as_it_is():
    model = shade().train()
    before = copy.deepcopy(model.teacher.state_dict())
    optimiser = torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.1)
    x, samples = batch()
    for _ in range(2):
        optimiser.zero_grad()
        model.parse_losses(model.loss(x, samples))[0].backward()
        optimiser.step()
    assert all(torch.equal(t, before[k]) for k, t in model.teacher.state_dict().items())
    assert not any(m.training for m in model.teacher.modules())
    assert model.backbone.training


def test_a_loss_before_the_doubling_has_its_own_labels():
    put = dict(layer='SAN', at='after_stage', stages=(1,),
               options=dict(classes=(0, 1), num_classes=4))  # fmt: skip
    assert shade([PUT, put]).loss(*batch())['loss_SAN'].isfinite()


@pytest.mark.parametrize('change', [dict(strides=(1, 2, 2, 1)), dict(base_channels=16)])
def test_a_teacher_of_another_shape_is_named_at_the_start(change, monkeypatch):
    teacher = TEACHER | change
    wrong = '128x2x2' if 'base_channels' in change else '64x4x4'
    says = rf'model.teacher: its last features are {wrong} .* those of model.backbone 64x2x2'
    with pytest.raises(ValueError, match=says):
        shade(teacher=teacher)
    monkeypatch.setattr(SHADESegmentor, '_compare', lambda self: None)  # where shapes need values
    with pytest.raises(ValueError, match=says):
        shade(teacher=teacher).loss(*batch())


@pytest.mark.parametrize('teacher', [None, TEACHER])
def test_predictions_are_those_of_the_plain_network(teacher):
    model, plain = shade(teacher=teacher).eval(), segmentor('bn', 'EncoderDecoder').eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k in plain.state_dict()})
    x = batch()[0]
    assert torch.equal(model(x), plain(x))


def test_bfloat16_stays_finite():
    model = shade()
    with torch.autocast('cpu', torch.bfloat16):
        loss = model.parse_losses(model.loss(*batch()))[0]
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r'a batch that is doubled .SHM., which EncoderDecoder'):
        check_collected(segmentor('shade', 'EncoderDecoder'))
    with pytest.raises(ValueError, match=r"no layer of model.backbone doubles.*Add 'shade'"):
        segmentor('ibn_b', 'SHADESegmentor')
    with pytest.raises(RuntimeError, match='after_pool: SHM has no basis styles yet'):
        segmentor('shade', 'SHADESegmentor').loss(*batch())
    with pytest.raises(ValueError, match='styles is 1'):
        SHM(4, styles=1)
    layer = SHM(4, styles=3)
    layer.observe(torch.randn(2, 4, 3, 3))
    with pytest.raises(ValueError, match='3 basis styles are to be chosen among 2 photos'):
        layer.settle(0)
    with pytest.raises(ValueError, match='more than one pixel'):
        settled(SHM(16, styles=2)).train()(torch.randn(2, 16, 1, 1))


def test_styles_lie_between_the_basis_styles():
    layer = settled(SHM(16, styles=3)).train()
    x = torch.randn(8, 16, 20, 20)
    y = layer(x)
    assert torch.equal(y[:8], x)
    mean, std = y[8:].mean((2, 3)), y[8:].std((2, 3))
    for found, basis in ((mean, layer.proto_mean), (std, layer.proto_std)):
        assert (found > basis.amin(0) - 1e-3).all() and (found < basis.amax(0) + 1e-3).all()


def _losses(model, x, samples) -> tuple[list[torch.Tensor], dict]:
    losses = model.loss(x, samples)
    model.parse_losses(losses)[0].backward()
    found = [p.grad for p in model.parameters() if p.grad is not None]
    return found, {k: v.detach() for k, v in losses.items() if 'loss' in k}


def _rank(rank, folder):
    points = torch.arange(10.0).view(5, 2)
    assert torch.equal(ranks.dealt(points[rank::2]), points)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = _deterministic()
    x, samples = _uneven()
    layer = next(m for m in model.modules() if isinstance(m, SHM))
    layer.observe(x[rank::2].repeat(1, 6, 1, 1)[:, :16])
    layer.settle(0)
    grads, losses = _losses(model, x[rank::2], samples[rank::2])
    for tensor in (*grads, *losses.values()):
        dist.all_reduce(tensor)
        tensor /= 2
    if rank == 0:
        torch.save((grads, losses, layer.proto_mean), f'{folder}/found.pth')


def _uneven():
    """Images with labels such that the pixels that count are not equally many in both halves."""
    x, samples = batch()
    for i, sample in enumerate(samples):
        sample.gt_sem_seg.data[:] = 3
        sample.gt_sem_seg.data[:, :, : 32 * (i + 1) % 64 + 8 * i] = 1
    return x, samples


def _deterministic():
    """Of fixed BatchNorm statistics and one basis style for all."""
    model = shade(backbone=dict(norm_eval=True))
    layer = next(m for m in model.modules() if isinstance(m, SHM))
    layer.draw = lambda x: dict(share=torch.eye(3)[:1].expand(len(x), 3).to(x))
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def test_two_processes_are_one(tmp_path):
    group_of_two(_rank, tmp_path)
    model, (x, samples) = _deterministic(), _uneven()
    layer = next(m for m in model.modules() if isinstance(m, SHM))
    layer.observe(x.repeat(1, 6, 1, 1)[:, :16])
    layer.settle(0)
    grads, losses, proto = torch.load(tmp_path / 'found.pth')
    expected, one = _losses(model, x, samples)
    assert torch.equal(layer.proto_mean, proto)
    assert one['loss_retrospection'] > 0
    for key, value in one.items():
        assert_close(losses[key], value, rtol=1e-5, atol=1e-6, msg=key)
    for found, grad in zip(grads, expected, strict=True):
        assert_close(found, grad, rtol=1e-3, atol=1e-5)


PASS = dict(type='StatisticsPass', at=0, every=3, images=None, trials=1, change=None, until=0.9)


def train(data, folder, hooks=(PASS,), **options):  # noqa: F811
    found = config(data, folder, 'model.type=SHADESegmentor', hooks=hooks)
    found.model.backbone.placement = [PUT]
    return training.train(found, show=False, **options)


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp('shade') / 'run'
    with DefaultScope.overwrite_default_scope('mmseg'):
        train(data, folder)
    return {path.name: weights.read(path) for path in folder.glob('iter_*.pth')} | {None: folder}


def test_basis_styles_are_renewed(whole):
    found = [whole[f'iter_{i}.pth']['state_dict']['backbone.maxpool.SHM.proto_mean']
             for i in range(1, LENGTH + 1)]  # fmt: skip
    changes = [not torch.equal(a, b) for a, b in pairwise(found)]
    assert changes == [False, False, True, False, False]  # before iteration 0 and 3


@pytest.mark.parametrize('stop', [2, 3, 4], ids=['before', 'at', 'after'])
def test_a_run_resumed_around_a_pass_is_the_run(stop, whole, data, tmp_path):  # noqa: F811
    run = shutil.copytree(whole[None], tmp_path / 'run')
    interrupt(run, stop)
    train(data, run, resume=True)
    last = f'iter_{LENGTH}.pth'
    assert_same(weights.read(run / last), whole[last])


def test_a_run_killed_in_a_pass_is_the_run(whole, data, tmp_path, monkeypatch):  # noqa: F811
    observe, times = SHM.observe, []

    def killed(self, y):
        observe(self, y)
        times.append(1)
        if len(times) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(SHM, 'observe', killed)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path)
    monkeypatch.undo()
    assert (tmp_path / 'iter_3.pth').exists() and not (tmp_path / 'iter_4.pth').exists()
    train(data, tmp_path, resume=True)
    last = f'iter_{LENGTH}.pth'
    assert_same(weights.read(tmp_path / last), whole[last])


def test_a_training_without_a_pass_is_refused(data, tmp_path):  # noqa: F811
    with pytest.raises(ValueError, match=r'nothing until a pass over the photos \(SHM\)'):
        train(data, tmp_path, hooks=())


def test_the_config_builds():
    stated = Config.fromfile(Path(__file__).parents[1] / 'configs' / 'methods' / 'shade.py')
    built = MODELS.build(stated.model)
    layers = (built.backbone, built.teacher)
    shapes = [[t.shape for t in net.parameters()] for net in layers]
    assert shapes[0] == shapes[1]
    assert stated.custom_hooks[1].every == 3 * 12403 // stated.train_dataloader.batch_size
