"""What a segmentor's losses and wrappers do with options that MMSegmentation or MMEngine drops."""

from types import SimpleNamespace

import mmengine.runner
import pytest
import torch
from mmengine.config import Config
from mmseg.models.losses import CrossEntropyLoss
from torch import distributed, nn
from torch.nn import functional as F

from ibnseg.train import checks, losses
from ibnseg.train.runner import SegRunner


@pytest.mark.parametrize('avg_non_ignore', [True, False])
@pytest.mark.parametrize('dtype', [torch.uint8, torch.int64])
def test_class_weights_are_those_of_torch(avg_non_ignore, dtype):
    weights = [0.5, 1.0, 3.0]
    model = nn.ModuleList([CrossEntropyLoss(class_weight=weights, avg_non_ignore=avg_non_ignore)])
    losses.mend(model)
    logits = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 4, 5))
    labels[:, 0] = 255
    expected = F.cross_entropy(logits, labels, torch.tensor(weights).double(), ignore_index=255)
    found = model[0](logits, labels.to(dtype), ignore_index=255)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_a_wrong_number_of_class_weights_is_refused():
    head = dict(num_classes=19, loss_decode=[dict(type='CrossEntropyLoss', class_weight=[1, 2, 3])])
    with pytest.raises(ValueError, match=r'decode_head.* has 3 weights; expected 19, one a class'):
        checks.check_heads(Config(dict(model=dict(decode_head=head))), ['gta5'])


def test_one_image_a_step_behind_a_pooling_is_said_to_be_a_batch_of_one(monkeypatch):
    def train(runner):
        nn.BatchNorm2d(2)(torch.zeros(1, 2, 1, 1))

    monkeypatch.setattr(mmengine.runner.Runner, 'train', train)
    runner = object.__new__(SegRunner)
    runner._work_dir = '.'
    runner.cfg = Config(dict(train_dataloader=dict(batch_size=1)))
    runner.model, runner._load_from, runner._hooks = nn.BatchNorm2d(2), None, []
    with pytest.raises(ValueError, match=r'^train_dataloader\.batch_size is 1: a BatchNorm'):
        runner.train()


@pytest.mark.parametrize(
    ('wrapper', 'stated'), [(None, True), (dict(find_unused_parameters=True), False)]
)
def test_find_unused_parameters_on_a_cpu(wrapper, stated, tmp_path, monkeypatch):
    monkeypatch.setattr(mmengine.device, 'get_device', lambda: 'cpu')
    store = distributed.FileStore(str(tmp_path / 'store'), 1)
    distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    try:
        runner = SimpleNamespace(distributed=True, cfg=Config(dict(find_unused_parameters=stated)))
        model = SegRunner.wrap_model(runner, wrapper, nn.Linear(1, 1))
        assert model.find_unused_parameters
    finally:
        distributed.destroy_process_group()
