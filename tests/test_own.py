"""A dataset of one's own from a YAML file, through every command."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml
from documented import blocks
from PIL import Image
from processes import run

from ibnseg import domains, labels, miniature
from ibnseg.audit import audit, browse
from ibnseg.domains import own
from ibnseg.domains.draft import draft
from ibnseg.errors import DataError
from ibnseg.measure import records
from ibnseg.train.config import load_config

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
        (dict(name='gta5'), r"name: 'gta5' is taken, by a dataset of ibnseg"),
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
        (dict(drives='city'), "drives is 'city'; expected folder or name"),
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


def ibnseg(*words, **kwargs):
    return run('-m', 'ibnseg', *words, **kwargs)


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


def test_a_file_beside_the_config_is_found(city, tmp_path):
    config = tmp_path / 'city.py'
    write(tmp_path, root=str(city / 'my city'))
    (tmp_path / 'other.yaml').write_text('photos of a holiday: [')
    os.mkfifo(tmp_path / 'pipe.yaml')
    config.write_text(
        f"_base_ = '{ROOT}/configs/miniature/ibn_b.py'\nsource = 'mycity:train'\n"
        "train_dataloader = dict(dataset=dict(domain='mycity:train'))\n"
        "val_dataloader = dict(dataset=dict(domains=['mycity:val']))\n"
        "test_dataloader = dict(dataset=dict(domains=['mycity:val']))\n"
    )
    (tmp_path / 'away').mkdir()
    read = load_config(config)
    assert read.domain_files == [str(tmp_path / 'mycity.yaml')]
    (tmp_path / 'mycity.yaml').write_text('photos: 1\nlabels: 2\n')
    with pytest.raises(DataError, match=r'mycity\.yaml: no name, splits'):
        load_config(config)


def test_a_class_without_a_pixel_is_a_finding(city, tmp_path):
    row = own.read(write(tmp_path, root=str(city / 'my city'), ids=IDS | dict(car=[*[IDS['car']]])))
    assert audit('mycity', 'x', workers=1).findings == []
    other = labels.spaces.SPACES[row.space]
    moved = {n: i for n, i in IDS.items() if n != 'car'} | dict(truck=[IDS['truck'], IDS['car']])
    own.read(write(tmp_path, root=str(city / 'my city'), ids=moved | dict(car=9)))
    (found,) = audit('mycity', 'x', workers=1).findings
    assert (found.kind, found.detail) == ('no-pixels', 'car (9) in none of 7 labels')
    assert labels.spaces.SPACES[row.space] == other


# Patterns, and a first version of the file.

LAYOUTS = [
    # photo, label: of a split and a key
    ('images/{split}/{key}.jpg', 'masks/{split}/{key}.png'),
    ('{split}/rgb/img_{key}.png', '{split}/semantic/mask_{key}.png'),
    ('{split}/city{n}/{key}_photo.jpg', '{split}/city{n}/{key}_label.png'),
    ('photos/{split}/city{n}/{key}.jpeg', 'labels/{split}/city{n}/{key}_gt.png'),
    ('{split}/drive{n}/rgb/{key}.png', '{split}/drive{n}/semantic/{key}.png'),
    ('{split}_images/{key}.bmp', '{split}_labels/{key}.png'),
    ('all of them/{key}.png', 'truth/{key}.png'),
    ('{key}.jpg', '{key}.png'),
]


def lay(folder, photo: str, label: str, value=None) -> int:
    """Write 8 pairs in a layout; returns the splits' number."""
    rng = np.random.default_rng(0)
    for number in range(8):
        split = 'train' if number < 5 else 'validation'
        where = dict(split=split, n=number % 2, key=f'{number:04}')
        truth = rng.choice([3, 7, 11] if value is None else value, (6, 8)).astype(np.uint8)
        for pattern, image in (
            (photo, Image.fromarray(rng.integers(0, 256, (6, 72, 3), dtype=np.uint8))),
            (label, Image.fromarray(truth.repeat(9, 1))),
        ):
            file = folder / pattern.format(**where)
            file.parent.mkdir(parents=True, exist_ok=True)
            image.save(file)
    return 1 + ('{split}' in photo)


@pytest.mark.parametrize(('photo', 'label'), LAYOUTS)
def test_a_first_version_finds_every_pair(tmp_path, photo, label):
    splits = lay(tmp_path / 'a b', photo, label)
    made = draft(tmp_path / 'a b', 'mycity', 'a b')
    assert not made.is_whole and '# 11  # ' in made.text
    file = tmp_path / 'mycity.yaml'
    file.write_text(made.text)
    with pytest.raises(DataError, match='ids is None; expected class'):
        own.read(file)
    file.write_text(made.text.replace('ids:', 'ids: {road: 3, car: [7, 11]}'))
    row = own.read(file)
    assert len(row.splits) == splits
    found = [pair for split in row.splits for pair in domains.find(f'mycity:{split}', '')]
    assert len({photo for photo, _ in found}) == len({label for _, label in found}) == 8
    for image, truth in found:
        key = image.stem.removeprefix('img_').removesuffix('_photo')
        assert key == truth.stem.removeprefix('mask_').removesuffix('_label').removesuffix('_gt')
        assert set(np.unique(domains.read_labels(truth, row.space))) <= {0, 13}


def test_a_file_under_another_name_is_misnamed(tmp_path):
    lay(tmp_path, *LAYOUTS[4])
    stray = tmp_path / 'train/drive0/rgb/0000.png'
    stray.rename(stray.with_name('x0000.png'))
    own.read(
        write(
            tmp_path, photos='{split}/*/rgb/*.png', labels='{split}/*/semantic/*.png',
            splits=['train'], ids=dict(road=3, car=7, bus=11), ignore=None,
        )
    )  # fmt: skip
    with pytest.raises(DataError, match=r'semantic/0000\.png, under another name'):
        domains.find('mycity:train', '')


def test_what_values_stand_for_is_never_guessed(tmp_path):
    lay(tmp_path, *LAYOUTS[0], value=[7, 11, 4])
    named = draft(tmp_path, 'mycity', '.', 'cityscapes').text
    assert yaml.safe_load(named)['ids']['building'] == 11 and '4' in named.partition('ignore')[2]
    with pytest.raises(DataError, match=r'ids \[33\] do not exist'):
        lay(tmp_path, *LAYOUTS[0], value=[33])
        draft(tmp_path, 'mycity', '.', 'bdd100k')
    lay(tmp_path, *LAYOUTS[0], value=[3, 4, 5])
    for file in tmp_path.rglob('*.png'):
        raw = np.array(Image.open(file)) % 3
        Image.fromarray(np.array([[0, 0, 0], *labels.PALETTE[:2]], np.uint8)[raw]).save(file)
    made = draft(tmp_path, 'mycity', '.')
    assert made.is_whole and yaml.safe_load(made.text)['colours'].keys() <= {'road', 'sidewalk'}
    file = next(tmp_path.rglob('*.png'))
    Image.new('RGB', (72, 6), (1, 2, 3)).save(file)
    assert '# [1, 2, 3]  # ' in draft(tmp_path, 'mycity', '.').text


def test_a_folder_without_pairs(tmp_path):
    with pytest.raises(DataError, match='no picture in it'):
        draft(tmp_path, 'mycity', '.')
    Image.new('RGB', (4, 4)).save(tmp_path / 'a.png')
    with pytest.raises(DataError, match='no photos and labels whose names share'):
        draft(tmp_path, 'mycity', '.')
    with pytest.raises(DataError, match='no such folder'):
        draft(tmp_path / 'none', 'mycity', '.')


def test_new_and_browse_as_a_user_types_them(city, tmp_path):
    folder = city / 'my city'
    said = ibnseg('domain', 'new', folder, '--name', 'mine', cwd=tmp_path)
    assert 'pairs      3 in val' in said.stdout and 'say in mine.yaml which class' in said.stdout
    assert (
        'exists already'
        in ibnseg('domain', 'new', folder, '--name', 'mine', cwd=tmp_path, code=2).stderr
    )
    assert (
        "'gta5' is taken"
        in ibnseg('domain', 'new', folder, '--name', 'gta5', cwd=tmp_path, code=2).stderr
    )
    file = folder / 'mycity.yaml'
    ibnseg('browse', 'mycity:train', '--domain-file', file, '--number', '3', cwd=tmp_path)
    text = (tmp_path / 'mycity_train.html').read_text()
    assert '3 of 4 pairs' in text and text.count('class="over"') == 3


def test_the_page_of_odd_pairs(city, tmp_path):
    name = '<img src=x onerror=alert(1)>'
    lay(tmp_path, f'images/{{split}}/{name}{{key}}.png', f'masks/{{split}}/{name}{{key}}.png')
    own.read(write(tmp_path, ids=dict(road=3, car=7, bus=11, sky=5), splits=['train'], ignore=None))
    files = sorted((tmp_path / 'masks/train').iterdir())
    Image.new('L', (8, 8), 3).save(files[0])
    Image.new('L', (72, 6), 9).save(files[1])
    sorted((tmp_path / 'images/train').iterdir())[2].write_bytes(b'none')
    text = browse.page('mycity:train', '', 24)
    assert '<img src=x' not in text and '&lt;img src=x' in text
    assert 'No pixel in these labels: ' in text and 'sky' in text.partition('No pixel')[2]
    assert 'label is 8x8, its photo 72x6' in text and 'ids 9 (432 px) do not exist' in text
    assert 'cannot identify image file' in text and '5 of 5 pairs' in text


def test_the_file_of_the_page_is_taken(tmp_path):
    (block,) = blocks('datasets.md', 'Your own', 'yaml')
    (tmp_path / 'mycity.yaml').write_text(block)
    row = own.read(tmp_path / 'mycity.yaml')
    assert [labels.raw_id(row.space, name) for name in ('road', 'sky', 'car')] == [7, 23, 26]
