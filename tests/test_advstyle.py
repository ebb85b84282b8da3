"""AdvStyle: what the inner step sees, leaves as it was, and shares over processes."""

import shutil

import pytest
import torch
from mmengine.registry import DefaultScope
from processes import group_of_two
from test_resume import LENGTH, assert_same, data, interrupt, mmseg_scope  # noqa: F401
from test_resume import config as run_config
from test_whitening import batch, segmentor
from torch.testing import assert_close

from ibnseg import weights
from ibnseg.methods import SHM
from ibnseg.methods.adversarial import restyled
from ibnseg.train import train as training


def advstyle(placement='bn', **options):
    return segmentor(placement, 'AdvStyleSegmentor', **options)


def test_the_network_trains_on_both_styles_and_the_labels_twice():
    model, (x, samples), seen = advstyle(), batch(), []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    torch.manual_seed(0)
    losses = model.loss(x, samples)
    inner, outer = seen
    assert_close(inner, x)
    assert torch.equal(outer[:4], x) and not torch.allclose(outer[4:], x, atol=1e-4)
    plain = segmentor('bn', 'EncoderDecoder')
    expected = plain.loss(outer, samples * 2)
    assert_close(losses['decode.loss_ce'], expected['decode.loss_ce'])
    model.parse_losses(losses)[0].backward()
    plain.parse_losses(expected)[0].backward()
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert_close(one.grad, other.grad)  # the inner step leaves none
    for (key, one), other in zip(
        model.state_dict().items(), plain.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), key  # nor does it move running statistics


def test_the_style_is_the_worse_one():
    model, (x, samples) = advstyle(adversarial_rate=0.1), batch()

    def loss(images):
        return model.decode_head.loss(model.extract_feat(images), samples, None)['loss_ce']

    with torch.no_grad():
        before = loss(x)
    after = loss(restyled(x, loss, 0.1))
    assert after > before
    assert_close(restyled(x, loss, 0.0), x, rtol=1e-5, atol=1e-5)


def test_a_gradient_that_is_not_finite_makes_no_step():
    x = torch.randn(2, 3, 4, 4)
    found = restyled(x, lambda images: images.sum() * float('inf'), 1.0)
    assert_close(found, x)


def test_the_scale_of_the_loss_changes_nothing():
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    steps = [restyled(x, lambda y: y.square().mean(), 2.0, scale=s) for s in (1, 1024)]
    assert_close(*steps)
    assert not torch.allclose(steps[0], x)


@pytest.mark.parametrize('placement', ['iw', 'mixstyle', 'shade', ('ibn_b', 'san')])
def test_other_methods_go_with_it(placement):
    options = dict(layer='SHM', at='after_pool', options=dict(styles=2))
    san = dict(layer='SAN', at='after_stage', stages=(1,),
               options=dict(classes=(0, 1), num_classes=4))  # fmt: skip
    placement = {'shade': [options], ('ibn_b', 'san'): ['ibn_b', san]}.get(placement, placement)
    model = advstyle(placement)
    for layer in model.modules():
        if isinstance(layer, SHM):
            layer.settled.fill_(True)
    loss = model.parse_losses(model.loss(*batch()))[0]
    loss.backward()
    assert loss.isfinite()


def test_activation_checkpointing_changes_nothing():
    found = []
    for with_cp in (False, True):
        model = advstyle(backbone=dict(with_cp=with_cp))
        model.parse_losses(model.loss(*batch()))[0].backward()
        found.append([*(p.grad for p in model.parameters()), *model.buffers()])
    assert all(map(torch.equal, *found))


def test_bfloat16_stays_finite():
    model = advstyle()
    with torch.autocast('cpu', torch.bfloat16):
        loss = model.parse_losses(model.loss(*batch()))[0]
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in model.parameters())


def test_half_precision_scales_the_loss():
    model, x = advstyle(), torch.zeros(1)
    assert model._scale(x) == 1
    with torch.autocast('cpu', torch.float16):
        assert model._scale(x) > 1


def test_a_rate_is_a_number_from_0():
    with pytest.raises(ValueError, match='adversarial_rate is -1'):
        advstyle(adversarial_rate=-1)


def _found(model, x, samples) -> list[torch.Tensor]:
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    losses = model.loss(x, samples)
    model.parse_losses(losses)[0].backward()
    return [seen[1].chunk(2)[1].detach(), *(p.grad for p in model.parameters())]


def _fixed():
    model = advstyle(backbone=dict(norm_eval=True))
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    return model


def _rank(rank, folder):
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = _fixed()
    x, samples = batch()
    wrapped = torch.nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.forward = model.loss  # as the wrapper calls it
    losses = wrapped(x[rank::2], samples[rank::2])
    model.parse_losses(losses)[0].backward()
    adversarial = seen[1].chunk(2)[1].detach()
    torch.save([adversarial, *(p.grad for p in model.parameters())], f'{folder}/{rank}.pth')


def test_two_processes_are_one(tmp_path):
    group_of_two(_rank, tmp_path)
    expected = _found(_fixed(), *batch())
    for rank in (0, 1):
        adversarial, *gradients = torch.load(tmp_path / f'{rank}.pth')
        assert_close(adversarial, expected[0][rank::2])
        for one, other in zip(gradients, expected[1:], strict=True):
            assert_close(one, other, rtol=1e-3, atol=1e-6)


def train(data, folder, **options):  # noqa: F811
    found = run_config(data, folder, 'model.type=AdvStyleSegmentor')
    return training.train(found, show=False, **options)


def test_a_resumed_run_is_the_run(data, tmp_path):  # noqa: F811
    run = tmp_path / 'run'
    train(data, run)
    kept = weights.read(run / f'iter_{LENGTH}.pth')
    copied = shutil.copytree(run, tmp_path / 'copied')
    interrupt(copied, 4)
    train(data, copied, resume=True)
    assert_same(weights.read(copied / f'iter_{LENGTH}.pth'), kept)
