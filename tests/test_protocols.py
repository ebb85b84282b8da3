import json
import logging
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from ibnseg import domains, labels, miniature, weights
from ibnseg.measure import protocols
from ibnseg.measure.protocols import SETTINGS
from ibnseg.pipeline.dataset import CrossDomainDataset
from ibnseg.train.config import load_config
from ibnseg.train.runner import SegRunner
from ibnseg.train.test import test as run_test

ROOT = Path(__file__).parents[1]
FIT = dict(photo=(1024, 1024), keep_ratio=True)
SLIDE = dict(mode='slide', crop_size=(512, 768), stride=(256, 384))


def native(domain='gta5:val', images=7, fields=FIT, test_cfg=SLIDE) -> protocols.Protocol:
    return protocols.describe(fields, domain, images, test_cfg)


def test_settings_are_read_from_the_config():
    assert native() == protocols.Protocol(
        name='native', domain='gta5', split='val', images=7, photo=(1024, 1024), keep_ratio=True,
        mode='slide', crop=(512, 768), stride=(256, 384), space='gta5', classes=tuple(range(19)),
    )  # fmt: skip
    plain = native('camvid:train/0006R0+0016E5', fields=None, test_cfg={})
    assert (plain.mode, plain.crop, plain.stride) == ('whole', None, None)
    assert (plain.photo, plain.keep_ratio) == (None, None)
    assert (plain.domain, plain.split) == ('camvid', 'train/0006R0+0016E5')
    assert len(plain.classes) == 11
    assert native('gta5') == native('gta5:val')
    assert native(test_cfg=SLIDE | dict(mode='whole')) == native(test_cfg={})
    assert protocols.describe('native', 'gta5', 7) == native(fields=None, test_cfg={})
    assert native(fields=dict(photo=(4, 2))).keep_ratio is False


@pytest.mark.parametrize('test_cfg', [SLIDE, dict(mode='whole')], ids=lambda c: c['mode'])
def test_equal_settings_have_equal_hashes(test_cfg):
    """Also where one comes from a config, whose sequences are lists."""
    config = Config(dict(test_cfg=json.loads(json.dumps(test_cfg)), fields=dict(FIT)))
    same = native(fields=config.fields, test_cfg=config.test_cfg)
    assert same == native(test_cfg=test_cfg)
    assert same.hash == native(test_cfg=test_cfg).hash
    assert len(same.hash) == 8 and int(same.hash, 16) >= 0


@pytest.mark.parametrize(
    'change',
    [
        dict(name='other'), dict(domain='cityscapes'), dict(split='train'), dict(images=8),
        dict(photo=None), dict(photo=(1024, 512)), dict(keep_ratio=False), dict(keep_ratio=None),
        dict(mode='whole'), dict(crop=(768, 512)), dict(crop=None), dict(stride=(256, 256)),
        dict(stride=None), dict(space='cityscapes'), dict(classes=tuple(range(16))),
        dict(label_scale=0.5), dict(label_height=1536), dict(label_crop=(1536, 1536)),
        dict(label_pad=0),
        dict(pairs='01234567'), dict(altered=dict(type='ChangeInput', name='x')),
    ],
    ids=str,
)  # fmt: skip
def test_any_change_changes_the_hash(change):
    assert replace(native(), **change).hash != native().hash


def test_every_field_is_changed_above():
    (mark,) = test_any_change_changes_the_hash.pytestmark
    assert {key for change in mark.args[1] for key in change} == set(asdict(native()))


def test_what_the_config_says_reaches_the_hash():
    found = [
        native(), native('gta5:train'), native('cityscapes:val'), native(images=8),
        native(fields=None), native(fields=FIT | dict(keep_ratio=False)),
        native(fields=FIT | dict(photo=(512, 512))), native(test_cfg={}),
        native(test_cfg=SLIDE | dict(stride=(256, 256))),
        native(test_cfg=SLIDE | dict(crop_size=(512, 512))),
    ]  # fmt: skip
    assert len({protocol.hash for protocol in found}) == len(found)


def test_json_keeps_the_hash():
    fields = native().content()
    read = json.loads(json.dumps(fields))
    assert read != fields, 'tuples became lists'
    assert protocols.protocol_hash(read) == native().hash
    assert protocols.protocol_hash(dict(reversed(read.items()))) == native().hash


@pytest.mark.parametrize(
    'fields',
    [
        dict(photo=512),
        dict(photo=(0.5, 0.5)),
        dict(photo=(4, 2, 3)),
        dict(scale=(4, 2)),
        dict(crop=2),
    ],
    ids=str,
)
def test_fields_that_native_does_not_have_are_refused(fields):
    with pytest.raises(ValueError, match=r'protocol has .*expected photo=\(width, height\)'):
        native(fields=fields)


# ------------------------------------------------------------------------ the published settings

STATED = [(name, domain) for name, s in SETTINGS.items() for domain in s.of or ('gta5', 'camvid')]


@pytest.mark.parametrize(('name', 'domain'), STATED)
def test_a_setting_says_all_of_a_domain(name, domain):
    found = protocols.describe(name, domain, 7)
    assert (found.name, found.domain, found.images) == (name, domain, 7)
    assert set(found.classes) >= set(labels.class_ids(found.space))
    assert (found.mode == 'slide') == (found.crop is not None) == (found.stride is not None)
    assert (found.photo is None) == (found.keep_ratio is None)
    assert (found.label_crop is None) == (found.label_pad is None)
    steps = [step['type'] for step in found.pipeline()]
    assert steps[:2] == ['LoadPhoto', 'LoadLabels'] and steps[-1] == 'PackSegInputs'
    assert found.test_cfg()['mode'] == found.mode
    assert protocols.protocol_hash(json.loads(json.dumps(found.content()))) == found.hash
    assert protocols.describe(name, domain, 7, bfloat16=True).name == f'{name}-bfloat16'


def test_settings_have_hashes_of_their_own():
    found = [protocols.describe(n, d, 7) for n, d in STATED]
    assert len({protocol.hash for protocol in found}) == len(found)


def test_old_hashes_stay():
    """Of a record written before protocols could crop labels."""
    read = dict(
        name='native', domain='gta5', split='val', images=40, photo=[256, 128], keep_ratio=True,
        mode='whole', crop=None, stride=None, space='gta5', classes=list(range(19)),
    )  # fmt: skip
    now = native(images=40, fields=FIT | dict(photo=(256, 128)), test_cfg={})
    assert now.hash == protocols.protocol_hash(read) == 'fea82f44', 'that of docs/results'


def test_mapillary_is_where_the_settings_differ():
    """The published geometries that make numbers incomparable, as stated in the sources."""
    fields = ('photo', 'label_scale', 'label_height', 'label_crop', 'label_pad', 'crop', 'stride')
    expected = {
        'robustnet-1536': (None, None, 1536, (1536, 1536), 0, None, None),
        'blindnet-1024': (None, None, 1024, (1024, 1024), 0, None, None),
        'hrda-1024': ((1024, 512), None, None, None, None, None, None),
        'hrda-2048': ((2048, 1024), None, None, None, None, (1024, 1024), (512, 512)),
        'tqdm-2048': ((2048, 1024), None, None, None, None, (512, 512), (341, 341)),
        'rein-half': ((1024, 512), 0.5, None, None, None, (512, 512), (341, 341)),
        'soma-half': ((2048, 1024), 0.5, None, None, None, (512, 512), (341, 341)),
    }
    rich = ('rein-half', 'soma-half')
    for name, values in expected.items():
        found = protocols.describe(name, 'mapillary_rich' if name in rich else 'mapillary', 7)
        assert tuple(getattr(found, field) for field in fields) == values, name
        assert found.space == ('mapillary-rich' if name in rich else 'mapillary-coarse')


@pytest.mark.parametrize(
    ('name', 'domain', 'says'),
    [
        ('rein-half', 'camvid', r"rein-half' says nothing of 'camvid'.*'cityscapes'"),
        ('hrda-1024', 'gta5', r"hrda-1024' says nothing of 'gta5'.*'cityscapes'"),
        ('robustnet', 'gta5', r"unknown protocol 'robustnet'.*'robustnet-1536'"),
        ('native', 'mars:val', 'unknown domain'),
    ],
)
def test_what_no_source_states_is_refused(name, domain, says):
    with pytest.raises(ValueError, match=says):
        protocols.describe(name, domain, 7)


@pytest.mark.parametrize(('classes', 'count'), [('19', 19), ('16', 16), ('13', 13)])
@pytest.mark.parametrize('space', ['gta5', 'synthia', 'mapillary-rich'])
def test_class_sets(shared, space, classes, count):
    found = protocols.class_set(space, classes)
    assert len(found) == count
    if classes != '19':
        facts = json.loads(shared('reference', 'label_maps.json').read_text())['synthia']
        assert set(range(19)) - set(found) == set(facts[f'drop_for_{classes}'])


def test_class_set_of_a_space_that_names_fewer():
    every = labels.class_ids('camvid-11')
    assert protocols.class_set('camvid-11', '19') == every
    assert protocols.class_set('camvid-11', '13') == tuple(set(every) - {3, 4, 5})
    assert protocols.class_set('bdd100k-drivable', '13') == (0, 1, 2)
    with pytest.raises(ValueError, match=r"unknown class set '11'; choose from .'19', '16', '13'"):
        protocols.class_set('gta5', '11')


def test_synthia_counts_19_where_the_source_did_and_16_elsewhere():
    """RobustNet's mean has a class that is absent from the truth, if it was predicted."""
    counted = {
        name: len(protocols.describe(name, 'synthia', 7).classes)
        for name, setting in SETTINGS.items()
        if setting.covers('synthia')
    }
    assert counted == {'native': 16, 'robustnet-1536': 19, 'blindnet-1024': 19}


# ------------------------------------------------------------------------ on files


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('data')
    wanted = {domains.DOMAINS[domain].folder for _, domain in STATED}
    miniature.write(root, train=0, val=4, size=(64, 128), workers=1, worlds=sorted(wanted))
    return root


def sizes(protocol: protocols.Protocol, height: int, width: int) -> tuple[tuple[int, int], ...]:
    """(height, width) of network input and truth of a photo."""
    if protocol.label_scale:
        height, width = int(height * protocol.label_scale), int(width * protocol.label_scale)
    truth = photo = protocol.label_crop or (height, width)
    if protocol.photo:
        room = min(max(protocol.photo) / max(photo), min(protocol.photo) / min(photo))
        photo = tuple(int(side * room + 0.5) for side in photo)
    return photo, truth


@pytest.mark.parametrize(('name', 'domain'), STATED)
def test_the_pipeline_does_to_files_what_the_setting_says(data, name, domain):
    count = len(domains.find(domain, data))
    protocol = protocols.describe(name, domain, count)
    key = f'{protocol.domain}:{protocol.split}'
    with DefaultScope.overwrite_default_scope('mmseg'), warnings.catch_warnings():
        dataset = CrossDomainDataset([domain], data, protocol=name, raw=True)
        warnings.simplefilter('error')
        sample = dataset[0]
    truth = sample['data_samples'].gt_sem_seg.data[0].numpy()
    (photo, file), *_ = domains.find(domain, data)
    width, height = Image.open(photo).size
    assert (sample['inputs'].shape[1:], truth.shape) == sizes(protocol, height, width)
    assert sample['data_samples'].ori_shape == truth.shape, 'predictions are brought to the label'
    raw = dataset.metainfo['raw'].get(key)
    assert raw == (protocol.space if domain.startswith('mapillary') else None)
    classes = labels.lut(raw)[truth] if raw else truth
    assert set(np.unique(classes)) - {labels.IGNORE} <= set(protocol.classes)
    assert len(np.unique(classes)) > 3
    if not (protocol.label_scale or protocol.label_height):
        np.testing.assert_array_equal(classes, domains.read_labels(file, protocol.space))


@pytest.fixture
def config(data, tmp_path):
    """Of a tiny network, which need not have been trained."""
    widths = {
        'backbone.base_channels': 4,
        'decode_head.in_channels': 32,
        'decode_head.channels': 32,
    }
    yield load_config(
        ROOT / 'configs' / 'miniature' / 'ibn_a.py', work_dir=str(tmp_path), data_root=str(data),
        options={f'model.{key}': value for key, value in widths.items()},
    )  # fmt: skip
    logging.captureWarnings(False)


@pytest.fixture
def reached(monkeypatch):
    """Model and data of an evaluation that is about to begin, and does not."""

    class Reached(Exception):
        pass

    def stop(runner):
        raise Reached(runner)

    monkeypatch.setattr(weights, 'read', lambda *_: {})
    monkeypatch.setattr(SegRunner, 'test', stop)
    return Reached


@pytest.mark.parametrize('said', ['by argument', 'in the config'])
@pytest.mark.parametrize('name', ['hrda-2048', 'robustnet-1536'])
def test_a_setting_replaces_the_configs_own(config, reached, name, said):
    config.model.test_cfg = dict(mode='slide', crop_size=(5, 5), stride=(3, 3))
    if said == 'in the config':
        config.protocol, config.class_set = name, '13'
    options = dict(protocol=name, classes='13') if said == 'by argument' else {}
    measured = ['cityscapes', 'mapillary']
    with DefaultScope.overwrite_default_scope('mmseg'), pytest.raises(reached) as caught:
        run_test(config, ROOT / 'README.md', domains=measured, **options)
    (runner,) = caught.value.args
    assert runner.model.test_cfg == protocols.describe(name, 'mapillary', 4).test_cfg()
    dataset = runner.test_dataloader.dataset
    for domain, part in zip(measured, dataset.datasets, strict=True):
        steps = [step['type'] for step in protocols.describe(name, domain, 4).pipeline()]
        assert [type(step).__name__ for step in part.pipeline.transforms] == steps
    assert dataset.metainfo['raw'] == {'mapillary:val': 'mapillary-coarse'}


def test_predictions_of_scaled_labels_are_not_saved(config, reached, tmp_path):
    with pytest.raises(ValueError, match=r"'robustnet-1536' scales the labels of mapillary:val"):
        run_test(
            config, ROOT / 'README.md', domains=['cityscapes', 'mapillary'],
            protocol='robustnet-1536', save_predictions=tmp_path / 'predictions',
        )  # fmt: skip
    assert not (tmp_path / 'predictions').exists()
