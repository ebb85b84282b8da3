import copy
import functools

import pytest
import test_whitening
import torch
from mmseg.registry import MODELS
from torch.testing import assert_close

import ibnseg  # noqa: F401
from ibnseg.methods import recording, with_loss
from ibnseg.train.runner import compile_backbone


def segmentor():
    backbone = dict(type='IBNResNet', depth=18, placement='ibn_a', base_channels=8)
    return torch.nn.ModuleDict(
        dict(backbone=MODELS.build(dict(backbone, stem_channels=8, norm_cfg=dict(type='BN'))))
    )


def test_a_compiled_backbone_is_the_same(monkeypatch):
    """Traced and differentiated, not yet made C++ of: that takes minutes."""
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='aot_eager'))
    plain, compiled = segmentor(), segmentor()
    compiled.load_state_dict(plain.state_dict())
    compile_backbone(compiled)
    x = torch.randn(2, 3, 64, 64)
    for net in (plain, compiled):
        sum(out.square().mean() for out in net.backbone(x)).backward()
    gradients = [[p.grad for p in net.parameters()] for net in (plain, compiled)]
    assert_close(*gradients, rtol=1e-3, atol=1e-5)
    assert_close(dict(compiled.state_dict()), dict(plain.state_dict()))
    with torch.no_grad():
        assert_close(compiled.eval().backbone(x), plain.eval().backbone(x), rtol=1e-4, atol=1e-5)


def losses_of(net, x, samples):
    net.train().zero_grad()
    torch.manual_seed(5)
    losses = net.loss(x, samples)
    sum(value for name, value in losses.items() if 'loss' in name).backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return [{name: value.detach() for name, value in losses.items()}, gradients, net.state_dict()]


@pytest.mark.parametrize('placement', ['iw', 'irw', 'isw', 'san_saw'])
def test_a_compiled_backbone_has_its_layers_losses(placement, monkeypatch):
    torch._dynamo.reset()
    monkeypatch.setattr(torch, 'compile', functools.partial(torch.compile, backend='aot_eager'))
    plain = test_whitening.segmentor(placement)
    for layer in with_loss(plain.backbone, 'observe'):
        layer.settled.fill_(True)
        layer.mask.fill_(1)
    compiled = copy.deepcopy(plain)
    compile_backbone(compiled)
    for _ in range(2):  # hooks are still heard in the second step
        one, other = (losses_of(net, *test_whitening.batch()) for net in (plain, compiled))
        assert any(name.startswith('loss_') for name in one[0])
        for each, expected in zip(other, one, strict=True):
            assert_close(dict(each), dict(expected), rtol=1e-3, atol=1e-5)
    x = test_whitening.batch()[0]
    compiled.extract_feat(x)  # nobody asked for the losses
    assert not compiled.backbone.recorded.seen
    for name in ('loss', 'observe'):  # in evaluation hooks of the moment are heard, too
        with recording(compiled.eval().backbone, name) as seen:
            compiled.extract_feat(x)
        assert len(seen) == len(with_loss(compiled.backbone, name))


def test_losses_in_parts_that_are_computed_twice_are_not_compiled():
    net = test_whitening.segmentor('iw')
    net.backbone.layer1[0].with_cp = True
    with pytest.raises(ValueError, match=r'--compile: the loss of IW and with_cp=True'):
        compile_backbone(net)


def test_no_compiler_is_one_line(monkeypatch):
    def broken(_):
        raise RuntimeError('No working C++ compiler found\nand much more')

    monkeypatch.setattr(torch, 'compile', broken)
    expected = r'^--compile: .*compiler found\. It .*g\+\+'
    with pytest.raises(ValueError, match=expected) as found:
        compile_backbone(segmentor())
    assert '\n' not in str(found.value)
