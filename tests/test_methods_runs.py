"""What holds of every method in a training: resumed, and on two processes."""

import shutil

import pytest
import torch
import torch.distributed as dist
from mmengine.registry import DefaultScope
from processes import group_of_two
from test_resume import assert_same, config, data, interrupt, mmseg_scope  # noqa: F401
from test_whitening import batch, segmentor
from torch.testing import assert_close

from ibnseg import weights
from ibnseg.placement import METHODS
from ibnseg.train import train as training

#: Those that observe photos first are resumed around their pass in test_passes and test_shade, one
#: with wild photos in test_wildnet.
ALONE = [
    name
    for name, row in METHODS.items()
    if not (hasattr(row[0].layer, 'observe') or hasattr(row[0].layer, 'photos'))
]
#: Of those without draws, each image or the joined batch counts: processes make no difference.
UNDRAWN = [name for name in ALONE if not any(hasattr(put.layer, 'draw') for put in METHODS[name])]


def test_every_method_is_tried():
    assert set(METHODS) - set(ALONE) == {'isw', 'shade', 'wildnet'}
    assert {'san', 'san_saw', 'sw', 'sw_b', 'iw', 'irw'} == set(UNDRAWN)


@pytest.mark.parametrize('name', ALONE)
def test_a_resumed_run_is_the_run(name, data, tmp_path):  # noqa: F811
    run = tmp_path / 'run'
    short = ['train_cfg.max_iters=3', f'model.backbone.placement={name}']
    short.append('model.type=SiteSegmentor')
    training.train(config(data, run, *short), show=False)
    kept = weights.read(run / 'iter_3.pth')
    first = weights.read(run / 'iter_1.pth')['state_dict']
    assert not torch.equal(
        first['backbone.conv1.weight'], kept['state_dict']['backbone.conv1.weight']
    )
    copied = shutil.copytree(run, tmp_path / 'copied')
    interrupt(copied, 1)
    training.train(config(data, copied, *short), show=False, resume=True)
    assert_same(weights.read(copied / 'iter_3.pth'), kept)


def _model(name: str) -> torch.nn.Module:
    placement = name
    if name in ('san', 'san_saw'):
        options = dict(classes=(0, 1), num_classes=4, saw=name == 'san_saw')
        placement = [dict(layer='SAN', at='after_stage', stages=(1, 2), options=options)]
    model = segmentor(placement, backbone=dict(norm_eval=True))
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()  # of these each process has its own
    return model.double()


def _found(model: torch.nn.Module, x: torch.Tensor, samples: list) -> dict[str, torch.Tensor]:
    losses = model.loss(x.double(), samples)
    model.parse_losses(losses)[0].backward()
    found = {k: v.detach() for k, v in losses.items() if 'loss' in k}
    return found | {k: p.grad for k, p in model.named_parameters() if p.grad is not None}


def _rank(rank: int, folder: str) -> None:
    x, samples = batch()
    every = {}
    for name in UNDRAWN:
        with DefaultScope.overwrite_default_scope('mmseg'):
            every[name] = _found(_model(name), x[rank::2], samples[rank::2])
        for tensor in every[name].values():
            dist.all_reduce(tensor)
            tensor /= 2
    if rank == 0:
        torch.save(every, f'{folder}/found.pth')


@pytest.fixture(scope='module')
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    group_of_two(_rank, folder)
    return torch.load(folder / 'found.pth')


@pytest.mark.parametrize('name', UNDRAWN)
def test_two_processes_are_one(name, two_processes):
    expected, found = _found(_model(name), *batch()), two_processes[name]
    assert expected.keys() == found.keys()
    for key, tensor in expected.items():
        assert_close(found[key], tensor, rtol=1e-7, atol=1e-9, msg=key)
