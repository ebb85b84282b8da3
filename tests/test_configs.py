from pathlib import Path

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmseg.registry import DATA_SAMPLERS, MODELS

import ibnseg  # noqa: F401
from ibnseg import domains
from ibnseg.measure import protocols
from ibnseg.methods.others import OTHERS
from ibnseg.placement import METHODS
from ibnseg.train import settings

ROOT = Path(__file__).parents[1] / 'configs'
#: Configs that need other packages; tests/plugins and test_foundation build them where those are.
PLUGINS = {'detection', 'foundation', 'imagenet', 'reid'}
LEAVES = sorted(p for p in ROOT.rglob('*.py') if not {'_base_', *PLUGINS} & set(p.parts))


@pytest.mark.parametrize('path', LEAVES, ids=lambda p: str(p.relative_to(ROOT)))
def test_config_builds(path):
    config = Config.fromfile(path)
    for part in ('backbone', 'teacher'):
        if part in config.model:
            config.model[part].init_cfg = None
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(config.model)
    model.init_weights()
    size = (128, 128)
    with torch.no_grad():
        logits = model.eval()(torch.zeros(1, 3, *size), mode='tensor')
    stride = 16 if path.parent != ROOT else 8  # the small experiments
    if config.model.decode_head.type == 'DepthwiseSeparableASPPHead':
        stride = 4  # the decoder works at the first stage's resolution
    source = domains.Source.of(config.source, config.get('mixing'))
    seen = [*config.test_dataloader.dataset.domains, *source.domains]
    classes = len(domains.task(seen).classes)
    assert logits.shape == (1, classes, *(s // stride for s in size))

    name, expected = path.stem, dict.fromkeys(METHODS, path.stem)
    expected |= dict.fromkeys((*OTHERS, 'resnet'), 'bn')
    expected |= {'ibn_a': 'ibn_a', 'ibn_b': 'ibn_b'}
    prefix = next(p for p in expected if name.startswith(p) and (p == name or p not in METHODS))
    assert name.startswith(config.model_name), name
    assert config.model.backbone.placement == expected[prefix]
    data = config.train_dataloader.dataset
    assert domains.Source.of(data.domain, data.get('mixing')) == source
    sources = [domains.parse(d)[0].name for d in source.domains]
    validated = [domains.parse(d)[0].name for d in config.val_dataloader.dataset.domains]
    assert validated == sources, 'selection sees the source only'
    assert all(domains.parse(d)[1].startswith('train') for d in source.domains)
    measured = [domains.parse(d)[0].name for d in config.test_dataloader.dataset.domains]
    assert measured[: len(sources)] == sources
    asked = config.test_dataloader.dataset.domains
    assert len(set(asked)) == len(asked) >= (2 if classes == 19 else 1)
    if 'gta5_to_cityscapes' in name:
        assert measured == ['gta5', 'cityscapes']


@pytest.mark.parametrize('path', LEAVES, ids=lambda p: str(p.relative_to(ROOT)))
def test_pipelines_samplers_and_protocols_exist(path):
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmseg'):
        for step in (steps := config.train_dataloader.dataset.pipeline):
            if step.type == 'WildPhoto':  # of a folder that the user names
                step.photos = str(ROOT.parent / 'docs')
        Compose(steps)
        for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader):
            assert loader.sampler.type in DATA_SAMPLERS
        for loader in (config.val_dataloader, config.test_dataloader):
            for domain in loader.dataset.domains:
                Compose(protocols.describe(loader.dataset.protocol, domain).pipeline())
    assert config.test_dataloader.dataset.protocol == config.protocol
    # `inference_model` prepares a photo as validation does.
    validated = config.val_dataloader.dataset
    steps = protocols.describe(validated.protocol, validated.domains[0]).pipeline()
    wanted = [step for step in steps if step['type'] != 'LoadLabels']
    wanted[0] = dict(type='LoadImageFromFile', imdecode_backend='pillow')  # `LoadPhoto`, for mmseg
    assert config.test_dataloader.dataset.pipeline == config.test_pipeline
    assert config.test_pipeline == ConfigDict(x=wanted).x
    assert config.param_scheduler[-1].end == config.train_cfg.max_iters


@pytest.mark.parametrize('name', METHODS)
def test_each_method_has_a_config_that_differs_by_the_method(name):
    path = ROOT / 'methods' / f'{name}.py'
    config, plain = Config.fromfile(path), Config.fromfile(ROOT / 'robustnet' / 'resnet50.py')
    text = path.read_text()
    assert f'configs/methods/{name}.py' in text and 'Published' in text
    one, other = dict(settings.of(config)), dict(settings.of(plain))
    changed = {key for key in {*one, *other} if one.get(key) != other.get(key)}
    changed -= {key for key in changed if key.startswith('model.teacher')}
    kinds = {put.layer.abbr for put in METHODS[name] if hasattr(put.layer, 'loss')}
    other_segmentor = kinds or any(hasattr(put.layer, 'times') for put in METHODS[name])
    weights = {f'model.site_loss.{kind}' for kind in kinds}
    steps = len(plain.train_pipeline)
    beside = {put.layer.photos['type'] for put in METHODS[name] if hasattr(put.layer, 'photos')}
    weights |= {f'train_dataloader.dataset.pipeline.{steps}.type' for _ in beside}
    assert {key for key in changed if not key.startswith('custom_hooks')} == {
        'model.backbone.placement',
        *weights,
        *(['model.type'] if other_segmentor else []),
    }


#: What RobustNet's scripts and code say, for its ResNets.
ROBUSTNET = {
    'crop': (768, 768), 'ratios': (0.5, 2.0), 'batch': 16, 'lr': 0.01, 'decay': 5e-4, 'power': 0.9,
    'iterations': 40000, 'jitter': (0.4, 0.4, 0.4, 0.1, 0.5), 'blur': (0.15, 1.3, 1.0), 'aux': 0.4,
}  # fmt: skip


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'robustnet').glob('*.py')), ids=lambda path: path.name
)
def test_robustnet_is_what_its_authors_ran(path):
    config = Config.fromfile(path)
    steps = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    crop, jitter, blur = (
        steps[name] for name in ('RandomScaleCrop', 'ColorJitter', 'RandomGaussianBlur')
    )
    optimizer = config.optim_wrapper.optimizer
    found = {
        'crop': crop.crop_size, 'ratios': crop.ratio_range,
        'batch': config.train_dataloader.batch_size, 'lr': optimizer.lr,
        'decay': optimizer.weight_decay, 'power': config.param_scheduler[0].power,
        'iterations': config.train_cfg.max_iters,
        'jitter': (
            jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue, jitter.prob
        ),
        'blur': (*blur.sigma, blur.prob),
        'aux': config.model.auxiliary_head.loss_decode.loss_weight,
    }  # fmt: skip
    assert found == ROBUSTNET
    assert config.model.data_preprocessor['size'] == crop.crop_size
    deep = config.model.backbone.depth == 101
    with DefaultScope.overwrite_default_scope('mmseg'):
        config.model.backbone.init_cfg = None
        backbone = MODELS.build(config.model.backbone).eval()
    with torch.no_grad():
        last = backbone(torch.zeros(1, 3, 64, 64))[-1]
    assert last.shape[-1] == (64 // 8 if deep else 64 // 16)
    uniform = config.train_dataloader.sampler
    if 'synthia' in path.stem:
        assert config.mixing == 'equal'
    else:
        assert (uniform.type, uniform.fraction, uniform.tile) == ('ClassUniformSampler', 0.5, 1024)


@pytest.mark.parametrize('path', LEAVES, ids=lambda p: str(p.relative_to(ROOT)))
def test_command_in_docstring_names_the_file(path):
    assert f'configs/{path.relative_to(ROOT)}' in path.read_text().split('"""')[1]


def test_the_named_configs_exist():
    names = {p.name for p in LEAVES}
    for start in ('ibn_b', 'ibn_a', 'resnet50'):
        for way in ('gta5_to_cityscapes', 'cityscapes_to_gta5'):
            assert f'{start}_{way}.py' in names
