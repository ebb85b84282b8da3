import json
from dataclasses import asdict, replace

import pytest
from mmengine.config import Config

from ibnseg import protocols

LOAD, LABELS, PACK = (dict(type=t) for t in ('LoadImageFromFile', 'LoadLabels', 'PackSegInputs'))
RESIZE = dict(type='Resize', scale=(1024, 1024), keep_ratio=True)
SLIDE = dict(mode='slide', crop_size=(512, 768), stride=(256, 384))


def native(domain='gta5:val', images=7, resize=RESIZE, test_cfg=SLIDE) -> protocols.Protocol:
    return protocols.native(domain, images, [LOAD, *filter(None, [resize]), LABELS, PACK], test_cfg)


def test_settings_are_read_from_the_config():
    assert native() == protocols.Protocol(
        name='native', domain='gta5', split='val', images=7, photo=(1024, 1024), keep_ratio=True,
        mode='slide', crop=(512, 768), stride=(256, 384), space='gta5', classes=tuple(range(19)),
    )  # fmt: skip
    plain = native('camvid:train/0006R0+0016E5', resize=None, test_cfg={})
    assert (plain.mode, plain.crop, plain.stride) == ('whole', None, None)
    assert (plain.photo, plain.keep_ratio) == (None, None)
    assert (plain.domain, plain.split) == ('camvid', 'train/0006R0+0016E5')
    assert len(plain.classes) == 11
    assert native('gta5') == native('gta5:val')
    assert native(resize=dict(type='Resize', scale=(4, 2))).keep_ratio is False


@pytest.mark.parametrize('test_cfg', [SLIDE, dict(mode='whole')], ids=lambda c: c['mode'])
def test_equal_settings_have_equal_hashes(test_cfg):
    """Also where one comes from a config, whose sequences are lists."""
    config = Config(dict(test_cfg=json.loads(json.dumps(test_cfg)), resize=dict(RESIZE)))
    same = native(resize=config.resize, test_cfg=config.test_cfg)
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
        native(resize=None), native(resize=RESIZE | dict(keep_ratio=False)),
        native(resize=RESIZE | dict(scale=(512, 512))), native(test_cfg={}),
        native(test_cfg=SLIDE | dict(stride=(256, 256))),
        native(test_cfg=SLIDE | dict(crop_size=(512, 512))),
    ]  # fmt: skip
    assert len({protocol.hash for protocol in found}) == len(found)


def test_whole_mode_ignores_leftover_windows():
    assert native(test_cfg=SLIDE | dict(mode='whole')) == native(test_cfg={})


def test_json_keeps_the_hash():
    fields = asdict(native())
    read = json.loads(json.dumps(fields))
    assert read != fields, 'tuples became lists'
    assert protocols.protocol_hash(read) == native().hash
    assert protocols.protocol_hash(dict(reversed(read.items()))) == native().hash


@pytest.mark.parametrize(
    'pipeline',
    [
        [LOAD, LABELS, RESIZE, PACK],  # labels change their size, too
        [LOAD, RESIZE, RESIZE, LABELS, PACK],
        [LOAD, LABELS, dict(type='PhotoMetricDistortion'), PACK],
        [LOAD, LABELS, dict(type='RandomCrop', crop_size=(2, 2)), PACK],
        [],
    ],
    ids=lambda steps: '-'.join(step['type'] for step in steps),
)
def test_pipeline_that_no_protocol_describes_is_refused(pipeline):
    with pytest.raises(ValueError, match=r'test pipeline is \[.*labels keep their size'):
        protocols.native('gta5:val', 7, pipeline, {})


@pytest.mark.parametrize('scale', [dict(scale_factor=0.5), dict(scale=512)], ids=str)
def test_resize_without_a_size_is_refused(scale):
    with pytest.raises(ValueError, match=r'Resize has .*scale.*expected scale=\(width, height\)'):
        native(resize=dict(type='Resize', **scale))


def test_unknown_domain_is_refused():
    with pytest.raises(ValueError, match='unknown domain'):
        native('mars:val')
