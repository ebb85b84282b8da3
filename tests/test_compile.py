import functools

import pytest
import torch
from mmseg.registry import MODELS
from torch.testing import assert_close

import ibnseg  # noqa: F401
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


def test_no_compiler_is_one_line(monkeypatch):
    def broken(_):
        raise RuntimeError('No working C++ compiler found\nand much more')

    monkeypatch.setattr(torch, 'compile', broken)
    expected = r'^--compile: .*compiler found\. It .*g\+\+'
    with pytest.raises(ValueError, match=expected) as found:
        compile_backbone(segmentor())
    assert '\n' not in str(found.value)
