from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

import ibnseg  # noqa: F401
from ibnseg import domains

ROOT = Path(__file__).parents[1] / 'configs'
#: Configs of other MM projects; tests/plugins builds them where those are installed.
PLUGINS = {'detection', 'imagenet', 'reid'}
LEAVES = sorted(p for p in ROOT.rglob('*.py') if not {'_base_', *PLUGINS} & set(p.parts))


@pytest.mark.parametrize('path', LEAVES, ids=lambda p: str(p.relative_to(ROOT)))
def test_config_builds(path):
    config = Config.fromfile(path)
    config.model.backbone.init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config.model)
    model.init_weights()
    size = (128, 128)
    with torch.no_grad():
        logits = model.eval()(torch.zeros(1, 3, *size), mode='tensor')
    stride = 16 if path.parent != ROOT else 8  # the small experiments
    if 'deeplabv3plus' in path.stem:
        stride = 4  # the decoder works at the first stage's resolution
    assert logits.shape == (1, 19, *(s // stride for s in size))

    name, expected = path.stem, {'ibn_a': 'ibn_a', 'ibn_b': 'ibn_b', 'resnet': 'bn'}
    prefix = next(p for p in expected if name.startswith(p))
    assert config.model.backbone.placement == expected[prefix]
    row, split = domains.parse(config.source)
    validated = [domains.parse(d)[0].name for d in config.val_dataloader.dataset.domains]
    assert validated == [row.name], 'selection sees the source only'
    assert split.startswith('train')
    measured = [domains.parse(d)[0].name for d in config.test_dataloader.dataset.domains]
    assert measured[0] == row.name
    asked = config.test_dataloader.dataset.domains
    assert len(set(asked)) == len(asked) >= 2
    if 'gta5_to_cityscapes' in name:
        assert measured == ['gta5', 'cityscapes']


@pytest.mark.parametrize('path', LEAVES, ids=lambda p: str(p.relative_to(ROOT)))
def test_command_in_docstring_names_the_file(path):
    assert f'configs/{path.relative_to(ROOT)}' in path.read_text().split('"""')[1]


def test_the_named_configs_exist():
    names = {p.name for p in LEAVES}
    for start in ('ibn_b', 'ibn_a', 'resnet50'):
        for way in ('gta5_to_cityscapes', 'cityscapes_to_gta5'):
            assert f'{start}_{way}.py' in names
