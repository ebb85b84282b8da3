"""A dataset of one's own from a YAML file, through every command."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from documented import blocks
from PIL import Image

from ibnseg import domains, labels, miniature
from ibnseg.domains import own
from ibnseg.errors import DataError
from ibnseg.measure import records

ROOT = Path(__file__).parents[1]
TINY = [
    *('model.backbone.base_channels=8', 'model.backbone.stem_channels=8'),
    *('model.decode_head.in_channels=64', 'model.decode_head.channels=64'),
    *('train_dataloader.batch_size=2', 'train_cfg.max_iters=2', 'train_cfg.val_interval=2'),
]
#: Class -> id in the files.
IDS = {name: 40 + 3 * i for i, name in enumerate(labels.CLASSES)}


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch):
    monkeypatch.setattr(own, 'FILES', {})
    monkeypatch.setattr(own, 'DOMAINS', domains.DOMAINS)
    monkeypatch.delenv(own.VARIABLE, raising=False)
    before, spaces = dict(domains.DOMAINS), dict(labels.spaces.SPACES)
    yield
    for table, was in ((domains.DOMAINS, before), (labels.spaces.SPACES, spaces)):
        table.clear()
        table.update(was)


def write(folder, **changed):
    said = dict(
        name='mycity', photos='images/{split}/*.png', labels='masks/{split}/*.png',
        splits=['train', 'val'], ids=dict(IDS), ignore=[0, 255],
    ) | changed  # fmt: skip
    said = {key: value for key, value in said.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'mycity.yaml').write_text(yaml.safe_dump(said))
    return folder / 'mycity.yaml'


@pytest.fixture(scope='module')
def city(tmp_path_factory):
    """A folder with a domain file, photos, and masks in ids that no other dataset has."""
    place = tmp_path_factory.mktemp('city')
    miniature.write(place / 'mini', ('cityscapes',), 4, 3, (64, 128), 0, 1)
    table = np.zeros(256, np.uint8)
    table[: len(IDS)] = [*IDS.values()]
    for split in ('train', 'val'):
        pairs = domains.find(f'cityscapes:{split}', place / 'mini')
        for number, (photo, label) in enumerate(pairs):
            classes = domains.read_labels(label, 'cityscapes')
            for kind, image in (
                ('images', Image.open(photo)), ('masks', Image.fromarray(table[classes])),
            ):  # fmt: skip
                file = place / 'my city' / kind / split / f'{number}.png'
                file.parent.mkdir(parents=True, exist_ok=True)
                image.save(file)
    write(place / 'my city')
    return place


def test_ids_become_the_classes(city):
    row = own.read(city / 'my city' / 'mycity.yaml')
    assert domains.parse('mycity')[1] == 'val' and labels.class_ids(row.space) == tuple(range(19))
    pairs = domains.find('mycity:train', 'anywhere')
    reference = domains.find('cityscapes:train', city / 'mini')
    assert len(pairs) == 4
    for (_, mine), (_, theirs) in zip(pairs, reference, strict=True):
        found = domains.read_labels(mine, row.space)
        np.testing.assert_array_equal(found, domains.read_labels(theirs, 'cityscapes'))


@pytest.mark.parametrize('value', [1, 41, 250])
def test_an_id_that_nobody_named_is_refused(city, tmp_path, value):
    row = own.read(city / 'my city' / 'mycity.yaml')
    Image.fromarray(np.full((4, 4), value, np.uint8)).save(tmp_path / 'a.png')
    with pytest.raises(DataError, match=f'ids {value} .16 px. do not exist'):
        domains.read_labels(tmp_path / 'a.png', row.space)


def test_colours_and_own_classes(tmp_path):
    row = own.read(
        write(
            tmp_path, ids=None, ignore=[[0, 0, 0]],
            classes=dict(ground=[1, 2, 3], rest=[4, 5, 6]),
            colours=dict(ground=[10, 20, 30], rest=[[40, 50, 60], [70, 80, 90]]),
        )
    )  # fmt: skip
    raw = np.array([[[10, 20, 30], [70, 80, 90]], [[40, 50, 60], [0, 0, 0]]], np.uint8)
    Image.fromarray(raw).save(tmp_path / 'a.png')
    assert domains.read_labels(tmp_path / 'a.png', row.space).tolist() == [[0, 1], [1, 255]]
    assert labels.task(row.space).classes == ('ground', 'rest')
    raw[0, 0] = 9
    Image.fromarray(raw).save(tmp_path / 'a.png')
    with pytest.raises(DataError, match='do not exist'):
        domains.read_labels(tmp_path / 'a.png', row.space)


def test_another_mapping_is_another_space(tmp_path):
    first = own.read(write(tmp_path)).space
    assert own.read(write(tmp_path)).space == first
    assert own.read(write(tmp_path, ids=IDS | dict(road=7))).space != first


@pytest.mark.parametrize(
    ('changed', 'said'),
    [
        (dict(name='gta5'), r"the name 'gta5' is taken, by a dataset of ibnseg"),
        (dict(name='../x'), 'expected a-z'),
        (dict(photos=None), r'no photos; docs/datasets\.md'),
        (dict(photo='x'), r"unknown key 'photo' \(did you mean 'photos'"),
        (dict(photos='images/*/../*.png'), 'photos is .* one star'),
        (dict(photos='/abs/{split}/*.png'), 'photos is .* below root'),
        (dict(photos='images/{split}/a.png'), 'photos is .* one star'),
        (dict(photos='images/*.png'), r'photos has no \{split\}'),
        (dict(splits='train'), 'splits is'),
        (dict(splits=['a/b']), 'splits is'),
        (dict(default='test'), "default is 'test'"),
        (dict(ids=None), 'expected either ids or colours'),
        (dict(ids=dict(raod=7)), r"no class 'raod' \(did you mean 'road'"),
        (dict(ids=dict(road=7, car=7)), 'ids: 7 is given twice'),
        (dict(ids=dict(road=256)), 'whole numbers of 0 to 255'),
        (dict(ids=dict(road=True)), 'whole numbers of 0 to 255'),
        (dict(classes=dict(a=[0, 0, 0])), 'classes is'),
        (dict(ids=None, colours=dict(road=[1, 2])), 'red, green, blue'),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, changed, said):
    with pytest.raises(DataError, match=said) as error:
        own.read(write(tmp_path, **changed))
    assert str(tmp_path / 'mycity.yaml') in str(error.value)
    assert 'mycity' not in domains.DOMAINS


@pytest.mark.parametrize('text', ['a: [', '- 1', '', '!!python/object/apply:os.getcwd []'])
def test_a_file_that_is_none_is_refused(tmp_path, text):
    (tmp_path / 'a.yaml').write_text(text)
    with pytest.raises(DataError, match=r'a\.yaml: '):
        own.read(tmp_path / 'a.yaml')
    with pytest.raises(DataError, match='no such domain file'):
        own.read(tmp_path / 'b.yaml')


def ibnseg(*words, cwd, code=0):
    done = subprocess.run(
        [sys.executable, '-m', 'ibnseg', *map(str, words)], capture_output=True, text=True, cwd=cwd,
        env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT)),
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_every_command_takes_it(city):
    file = ['--domain-file', 'my city/mycity.yaml']
    said = ibnseg('audit', 'mycity:train', 'data', *file, cwd=city)
    assert 'nothing wrong' in said.stdout and '8 files' in said.stdout
    chosen = ['source=mycity:train', 'train_dataloader.dataset.domain=mycity:train']
    chosen += [f'{one}_dataloader.dataset.domains=[mycity:val]' for one in ('val', 'test')]
    ibnseg(
        'train', 'miniature/ibn_b', '--work-dir', 'run', *file, '--cfg-options', *TINY, *chosen,
        cwd=city,
    )  # fmt: skip
    record = records.read(city / 'run' / 'ibn_b.record.json')
    assert record.source == 'mycity:train' and record.domains[0].domain == 'mycity:val'
    assert record.domains[0].matrix.sum() > 0
    # The run says where its dataset is described.
    config, checkpoint = city / 'run' / 'ibn_b.py', record.provenance['checkpoint']
    saved = ['--save-predictions', 'saved', '--domains', 'mycity', 'mycity:train']
    ibnseg('test', config, city / 'run' / checkpoint, *saved, cwd=city)
    again = records.read(next((city / 'run' / 'test').glob('*.record.json')))
    assert (again.domains[0].matrix == record.domains[0].matrix).all()
    assert again.domains[0].protocol_hash == record.domains[0].protocol_hash
    ibnseg('score', 'mycity', 'saved', *file, '--out', 'scored.record.json', cwd=city)
    scored = records.read(city / 'scored.record.json')
    assert (scored.domains[0].matrix == record.domains[0].matrix).all()
    said = ibnseg('report', 'run', *file, '--out', 'report', cwd=city)
    assert 'mycity:val' in said.stdout
    ibnseg('picture', 'run', '--domain', 'mycity', *file, '--out', 'p.png', cwd=city)
    assert Image.open(city / 'p.png').width > 500
    ibnseg('predict', 'run', 'my city/images/val', '--out', 'predicted', cwd=city)
    said = ibnseg('audit', 'mycity', 'data', cwd=city, code=2)
    assert "unknown domain 'mycity'" in said.stderr


def test_the_file_of_the_page_is_taken(tmp_path):
    (block,) = blocks('datasets.md', 'Your own', 'yaml')
    (tmp_path / 'mycity.yaml').write_text(block)
    row = own.read(tmp_path / 'mycity.yaml')
    assert [labels.raw_id(row.space, name) for name in ('road', 'sky', 'car')] == [7, 23, 26]
