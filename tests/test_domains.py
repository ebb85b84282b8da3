import gc
import json
import pickle
import random
import re
import shutil
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS
from mmseg.structures import SegDataSample
from PIL import Image
from torch.utils.data import DataLoader

from ibnseg import domains, labels, miniature, splits
from ibnseg.domains import DataError
from ibnseg.measure import protocols
from ibnseg.pipeline.dataset import CrossDomainDataset, DomainDataset
from ibnseg.train.sampler import PositionSampler

CONFIGS = Path(__file__).parents[1] / 'configs' / '_base_' / 'datasets'
CAMVID = {
    'train': ('0006R0_f1', '0016E5_f2', '0001TP_f3', 'Seq05VD_f4'),
    'val': ('0016E5_f5', '0001TP_f6'),
    'test': ('Seq05VD_f0',),
}


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    """A data root with three tiny domains as downloaded. Not to be changed."""
    root = tmp_path_factory.mktemp('as downloaded')  # with a space
    miniature.write(root, train=3, val=2, size=(64, 128), workers=1)
    rng = np.random.default_rng(0)
    for folder, stems in CAMVID.items():
        for stem in stems:
            for name, array in (
                (folder, rng.integers(0, 256, (48, 64, 3), np.uint8)),
                (f'{folder}annot', rng.integers(0, 12, (48, 64), np.uint8)),
            ):
                (root / 'camvid' / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(root / 'camvid' / name / f'{stem}.png')
    return root


@pytest.fixture
def copy(data, tmp_path) -> Path:
    return shutil.copytree(data, tmp_path / 'my data')


@cache
def pipeline(config: str, part: str = 'test') -> list[dict]:
    content = Config.fromfile(CONFIGS / f'{config}.py')
    if part == 'test':
        return protocols.describe(content.protocol, 'gta5:val').pipeline()
    return content[f'{part}_pipeline']


def build(
    domain: str, root: Path, config='camvid_day_to_dusk', part='test', **words
) -> DomainDataset:
    return DomainDataset(domain, str(root), pipeline(config, part), **words)


def names(pairs: domains.Pairs) -> list[str]:
    return [photo.stem for photo, _ in pairs]


@pytest.mark.parametrize('by_the_host', [False, True])
def test_garbage_stays_the_hosts(data, by_the_host):
    """Nothing is left frozen, nor thawed."""
    if by_the_host:
        gc.freeze()
    before = gc.get_freeze_count()
    try:
        build('gta5:val', data)
        assert (gc.get_freeze_count() > 0) == (before > 0) == by_the_host
    finally:
        gc.unfreeze()


# ------------------------------------------------------------------------ as downloaded


CITY = '{0}/{1}/{1}_000000_000019'


@pytest.mark.parametrize(
    ('domain', 'photo', 'label', 'names'),
    [
        ('gta5:train-12388', 'images/{}', 'labels/{}', splits.gta5('train')[:3]),
        ('gta5', 'images/{}', 'labels/{}', splits.gta5('val')[:2]),
        ('cityscapes:val', f'leftImg8bit/{CITY}_leftImg8bit.png',
         f'gtFine/{CITY}_gtFine_labelIds.png', ['val/frankfurt', 'val/lindau']),
        *(
            (f'camvid:{split}', '{}/{}.png', '{}annot/{}.png', names)
            for split, names in {
                'val': ['val/0001TP_f6', 'val/0016E5_f5'],
                'Seq05VD': ['test/Seq05VD_f0', 'train/Seq05VD_f4'],
                'train/0006R0+0016E5': ['train/0006R0_f1', 'train/0016E5_f2'],
                'val/0016E5': ['val/0016E5_f5'],
            }.items()
        ),
    ],
)  # fmt: skip
def test_pairs_are_found_sorted(data, domain, photo, label, names):
    root = data / domain.split(':')[0]
    expected = [[root / form.format(*name.split('/')) for form in (photo, label)] for name in names]
    assert list(map(list, domains.find(domain, data))) == expected


# ------------------------------------------------------------------------ every row


@pytest.fixture(scope='module')
def every(tmp_path_factory) -> Path:
    """A data root with a stand-in for every row. Not to be changed."""
    root = tmp_path_factory.mktemp('every')
    miniature.write(root, tuple(miniature.LAYOUTS), train=5, val=4, size=(64, 128), workers=1)
    return root


def scenes(row: domains.Domain, part: str) -> list[np.ndarray]:
    """Training classes of each scene of a stand-in's split, by the miniature's own ids."""
    frames = [f for f in miniature.sets._frames(row.folder, 5, 4, (64, 128), 0) if f.split == part]
    if labels.task(row.space).name == 'drivable':
        return [miniature.drivable(frame.seed, frame.size) for frame in frames]
    drawn = [miniature.render(frame.seed, 'gta5', frame.size)[1] for frame in frames]
    return [labels.lut('cityscapes')[label] for label in drawn]


def written_splits() -> list[str]:
    """Every split of every row that stand-ins have files of."""
    return [
        f'{row.name}:{split}'
        for row in domains.DOMAINS.values()
        for split in row.splits
        if split in miniature.LAYOUTS[row.folder].limits or '/' in split
    ]


def test_every_row_has_a_stand_in():
    assert {row.folder for row in domains.DOMAINS.values()} == set(miniature.LAYOUTS)
    covered = {domain.split(':')[0] for domain in written_splits()}
    assert covered == set(domains.DOMAINS)


@pytest.mark.parametrize('domain', written_splits())
def test_labels_read_as_the_scene_was_drawn(every, domain):
    """From the file as downloaded to classes, for every row and split."""
    row, split = domains.parse(domain)
    named = labels.class_ids(row.space)
    expected = scenes(row, split.split('/')[0])
    found = domains.find(domain, every)
    # Conditions take turns: of four or five frames each shows one, and fog the fifth.
    one_condition = row.name == 'acdc' and '/' in split
    assert len(found) == (1 + (split == 'train/fog') if one_condition else len(expected))
    left = [truth.tobytes() for truth in expected]
    for photo, path in found:
        truth = domains.read_labels(path, row.space)
        with Image.open(photo) as image:
            assert image.mode == 'RGB' and image.size == truth.shape[::-1]
        assert truth.dtype == np.uint8 and set(np.unique(truth)) <= {*named, labels.IGNORE}
        raw = domains.read_raw(path, row.space)
        np.testing.assert_array_equal(labels.lut(row.space)[raw], truth)
        # The scene that it shows: equal wherever the label space has a word for the class.
        (match,) = {
            scene.tobytes()
            for scene in expected
            if (truth[np.isin(scene, named)] == scene[np.isin(scene, named)]).all()
        }
        left.remove(match)
        scene = np.frombuffer(match, np.uint8).reshape(truth.shape)
        other = truth[~np.isin(scene, named)]
        # Parking is road in Mapillary's rich map, and nothing in any other.
        assert set(np.unique(other)) <= {labels.IGNORE} | ({0} if 'rich' in row.space else set())


@pytest.mark.parametrize(
    ('short', 'long'),
    [
        ('acdc', 'val'),
        ('acdc:night', 'val/night'),
        ('foggy_cityscapes', 'val/0.02'),
        ('foggy_cityscapes:train', 'train/0.02'),
        ('kitti', 'train'),
        ('dark_zurich', 'val'),
        ('synthia', 'val'),
    ],
)
def test_short_names_stand_for_one_split(every, short, long):
    row, split = domains.parse(short)
    assert split == long
    assert domains.find(short, every) == domains.find(f'{row.name}:{long}', every)
    assert build(short, every).domain == f'{row.name}:{long}'


def test_acdc_together_is_its_conditions(every):
    together = domains.find('acdc:val', every)
    apart = [domains.find(f'acdc:{name}', every) for name in ('fog', 'night', 'rain', 'snow')]
    assert together == [pair for pairs in apart for pair in pairs] and all(apart)


def test_mapillary_maps_read_the_same_files_differently(every, tmp_path):
    coarse, rich = (domains.find(name, every) for name in ('mapillary', 'mapillary_rich'))
    assert coarse == rich
    path = tmp_path / 'parking.png'
    parking = labels.space('mapillary-rich').names.index('Parking')
    Image.new('L', (4, 3), parking).save(path)
    assert (domains.read_raw(path, 'mapillary-coarse') == parking).all()
    assert (domains.read_labels(path, 'mapillary-coarse') == labels.IGNORE).all()
    assert (domains.read_labels(path, 'mapillary-rich') == 0).all()


@pytest.mark.parametrize('place', [(0, 0), (3, 4), (-1, -1)])
def test_every_possible_id_has_its_class_and_no_other_goes_unseen(tmp_path, place):
    path = tmp_path / 'x.png'
    raw = np.resize(np.flatnonzero(labels.possible('cityscapes')), (7, 9)).astype(np.uint8)
    Image.fromarray(raw).save(path)
    np.testing.assert_array_equal(domains.read_raw(path, 'cityscapes'), raw)
    found = domains.read_labels(path, 'cityscapes')
    np.testing.assert_array_equal(found, labels.lut('cityscapes')[raw])
    raw[place] = 200
    Image.fromarray(raw).save(path)
    for read in (domains.read_raw, domains.read_labels):
        with pytest.raises(DataError, match=r'ids 200 \(1 px\) do not exist'):
            read(path, 'cityscapes')


def test_other_published_layouts(every, tmp_path):
    """BDD100K of 2018, Vistas v2.0, IDD with JPEGs, Foggy Cityscapes beside Cityscapes' labels."""

    def same(domain: str, folder: str, change: Callable[[Path], None]) -> None:
        root = shutil.copytree(every / folder, tmp_path / folder)
        before = [domains.read_labels(path, domains.parse(domain)[0].space)
                  for _, path in domains.find(domain, every)]  # fmt: skip
        change(root)
        found = domains.find(domain, tmp_path)
        after = [domains.read_labels(path, domains.parse(domain)[0].space) for _, path in found]
        assert all(map(np.array_equal, before, after)) and len(before) == len(after) == 4
        assert all(tmp_path in photo.parents and photo.is_file() for photo, _ in found)

    def older_bdd(root: Path) -> None:
        (root / 'seg').mkdir()
        (root / 'images/10k').rename(root / 'seg/images')
        (root / 'labels/sem_seg/masks').rename(root / 'seg/labels')
        (root / 'labels/sem_seg').rmdir()
        for path in (root / 'seg/labels').rglob('*.png'):
            path.rename(path.with_name(f'{path.stem}_train_id.png'))

    def newer_vistas(root: Path) -> None:
        for part in ('training', 'validation'):
            (root / part / 'v1.2').mkdir()
            (root / part / 'labels').rename(root / part / 'v1.2' / 'labels')

    def idd_part_two(root: Path) -> None:
        for path in (root / 'leftImg8bit').rglob('*.png'):
            Image.open(path).save(path.with_suffix('.jpg'))
            path.unlink()

    def beside(root: Path) -> None:
        (tmp_path / 'cityscapes').mkdir()
        (root / 'gtFine').rename(tmp_path / 'cityscapes' / 'gtFine')

    same('bdd100k:val', 'bdd100k', older_bdd)
    same('mapillary:val', 'mapillary', newer_vistas)
    same('idd:val', 'idd', idd_part_two)
    same('foggy_cityscapes:val', 'foggy_cityscapes', beside)


def test_classes_of_a_data_set_are_those_of_its_space(every):
    dataset = build('bdd100k_drivable', every)
    assert dataset.metainfo['classes'] == ('direct', 'alternative', 'background')
    assert len(dataset.metainfo['palette']) == 3
    assert set(dataset[0]['data_samples'].gt_sem_seg.data.unique().tolist()) <= {0, 1, 2}
    both = CrossDomainDataset(['bdd100k_drivable', 'bdd100k_drivable_2018'], str(every),
                              pipeline('camvid_day_to_dusk'))  # fmt: skip
    assert both.metainfo['classes'] == dataset.metainfo['classes']
    with pytest.raises(DataError, match=r'classes differ \(drivable, streets\)'):
        CrossDomainDataset(['cityscapes', 'bdd100k_drivable'], str(every), [])


def documented() -> dict[str, str]:
    """Section of docs/datasets.md -> its text; a heading may name two rows."""
    text = (Path(__file__).parents[1] / 'docs' / 'datasets.md').read_text()
    sections = (part.split('\n', 1) for part in text.split('\n## ')[1:])
    return {name: body for heading, body in sections for name in heading.split(', ')}


@pytest.mark.parametrize('row', domains.DOMAINS.values(), ids=lambda row: row.name)
def test_docs_say_what_the_row_says(row):
    section = documented()[row.name]
    for line in row.tree.splitlines():
        assert line in section
    assert re.findall(r'https?://[^ ,)]+', row.source)[0].rstrip('/') in section
    for split, count in row.splits.items():
        if row.name == 'foggy_cityscapes' or (row.name == 'acdc' and split.startswith('train/')):
            assert f'{count:,}' in section  # said of all at once
        else:
            assert f'`{split}` {count:,}' in section
    table = Path(__file__).parents[1].joinpath('docs', 'datasets.md').read_text()
    (cells,) = (
        line for line in table.splitlines() if line.count('|') == 5 and f'`{row.name}`' in line
    )
    assert f'| {len(labels.class_ids(row.space))}' in cells
    assert row.size is None or '{}x{}'.format(*row.size) in cells


# ------------------------------------------------------------------------ polygons


def test_polygons_are_painted_in_their_order(tmp_path):
    def read(*objects: dict) -> np.ndarray:
        path = tmp_path / 'x_gtFine_polygons.json'
        path.write_text(json.dumps(dict(imgWidth=8, imgHeight=6, objects=objects)))
        return domains.read_raw(path, 'idd')

    names = labels.space('idd').names
    road = dict(label='road', polygon=[[0, 0], [7, 0], [7, 5], [0, 5]])
    car = dict(label='car', polygon=[[2, 1], [4, 1], [4, 3], [2, 3]])
    assert (read() == names.index('unlabeled')).all()
    assert (read(road) == names.index('road')).all()
    assert (read(road, car) == names.index('car')).sum() == 9
    assert (read(car, road) == names.index('road')).all()
    assert (read(road, car | dict(deleted=1)) == names.index('road')).all()
    assert (read(road, car | dict(label='cargroup')) == names.index('car')).sum() == 9
    outside = car | dict(polygon=[[-5, -5], [2.6, -5], [2.6, 1.4], [-5, 1.4]])
    assert (read(road, outside) == names.index('car')).any()


def polygon(label: str, *corners: list) -> dict:
    return dict(imgWidth=8, imgHeight=6, objects=[dict(label=label, polygon=corners)])


POLYGONS = dict(imgWidth=8, imgHeight=6, objects=[])


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        *((bad, 'not a file of polygons') for bad in (b'', b'<html>', b'\xff\xfe', b'[]')),
        (b'[' * 100_000, 'not a file of polygons'),
        (b'{}', "KeyError: 'imgWidth'"),
        (POLYGONS | dict(imgWidth=0), r"\(0, 6\) are no photo's size"),
        (POLYGONS | dict(imgWidth=8.5), "no photo's size"),
        (POLYGONS | dict(imgWidth=10**9), "no photo's size"),
        (POLYGONS | dict(objects=7), 'not a file of polygons'),
        (POLYGONS | dict(objects=['road']), 'not a file of polygons'),
        (POLYGONS | dict(objects=[dict(label='road')]), "KeyError: 'polygon'"),
        (polygon('ufo', [0, 0], [1, 1]), "polygon 0 is a 'ufo', which does not exist"),
        (polygon('road', [0, 0]), r'polygon 0 \(road\) has 1 corners'),
        (polygon('road', [0, 0], [1, float('nan')]), 'far outside'),
        (polygon('road', [0, 0], [1, 1e12]), 'far outside'),
        (polygon('road', [0, 'x'], [1, 1]), 'not a file of polygons'),
    ],
)
def test_damaged_polygons_are_named(tmp_path, content, message):
    path = tmp_path / 'x_gtFine_polygons.json'
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(DataError, match=message) as caught:
        domains.read_labels(path, 'idd')
    assert str(caught.value).startswith(str(path))


def damage_16_bit(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        cv2.imwrite(str(path), change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))

    return damage


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


ENCODED = {
    'synthia in 8 bits': (
        'synthia', damage_16_bit(lambda a: a.astype(np.uint8)), '16-bit RGB with synthia ids'),
    'synthia beyond 8 bits': (
        'synthia', damage_16_bit(lambda a: np.full_like(a, 300)), "do not exist .* 'synthia'"),
    'synthia id 23': (
        'synthia', damage_16_bit(lambda a: np.full_like(a, 23)), r'ids 23 \(8192 px\)'),
    'synthia cut off': (
        'synthia', lambda path: path.write_bytes(half(path.read_bytes())), 'unreadable label file'),
    'synthia with a flipped byte': ('synthia', flip_a_byte, 'unreadable label file'),
    'camvid32 other colour': (
        'camvid32', lambda path: Image.new('RGB', (128, 64), (1, 2, 3)).save(path),
        r"colours \(1, 2, 3\) \(8192 px\) do not exist in label space 'camvid-32'"),
    'camvid32 in grey': (
        'camvid32', lambda path: Image.new('L', (128, 64)).save(path), 'mode L; expected RGB'),
    'bdd100k in other ids': (
        'bdd100k', lambda path: Image.new('L', (128, 64), 33).save(path), "33 .* 'bdd100k'"),
}  # fmt: skip


@pytest.mark.parametrize('name', ENCODED)
def test_damage_in_other_encodings(every, tmp_path, name, capfd):
    domain, damage, message = ENCODED[name]
    row, _ = domains.parse(domain)
    (_, path), *_ = domains.find(domain, every)
    copy = shutil.copy(path, tmp_path / path.name)
    damage(Path(copy))
    for read in (domains.read_labels, domains.read_raw):
        with pytest.raises(DataError, match=message) as caught:
            read(copy, row.space)
        assert str(caught.value).startswith(str(copy))
    assert capfd.readouterr().err == ''


def test_gta5_leaves_the_fifteen_out(copy):
    _, last = domains.find('gta5:train', copy)[-1]
    for folder in ('images', 'labels'):
        (copy / 'gta5' / folder / last.name).rename(copy / 'gta5' / folder / '12160.png')
    assert names(domains.find('gta5:train', copy))[-1] == '12160'
    assert '12160' not in names(domains.find('gta5:train-12388', copy))


def test_real_camvid_by_drive(shared):
    root = shared('data', 'camvid').parent
    found = {
        split: names(domains.find(f'camvid:{split}', root))
        for split in domains.DOMAINS['camvid'].splits
    }
    counts = {split: len(stems) for split, stems in found.items()}
    assert counts == {
        'train': 367, 'val': 101, 'test': 233,
        '0001TP': 124, '0006R0': 101, '0016E5': 305, 'Seq05VD': 171,
    }  # fmt: skip
    for stems in found.values():
        assert stems == sorted(stems)
    day, dusk = (
        set(names(domains.find(f'camvid:{split}', root)))
        for split in ('0006R0+0016E5+Seq05VD', '0001TP')
    )
    assert len(day) == 577 and not day & dusk
    for folder in ('train', 'val'):
        inside = [stem for stem in found[folder] if stem.startswith(('0006R0', '0016E5'))]
        assert names(domains.find(f'camvid:{folder}/0006R0+0016E5', root)) == inside
    sample = build('camvid:0001TP', root)[0]['data_samples']
    assert sample.gt_sem_seg.data.shape == (1, 360, 480)


@pytest.mark.parametrize(
    ('domain', 'config'),
    [
        ('cityscapes:val', 'cityscapes_to_gta5'),
        ('camvid:val/0016E5', 'camvid_day_to_dusk'),
    ],
)
def test_sample_of_the_real_pipeline(data, domain, config):
    dataset = build(domain, data, config)
    found = domains.find(domain, data)
    assert len(dataset) == len(found)
    for i, (photo, path) in enumerate(found):
        sample = dataset[i]['data_samples']
        assert (sample.domain, sample.sample_idx) == (domain, i)
        assert (sample.img_path, sample.seg_map_path) == (str(photo), str(path))
        truth = sample.gt_sem_seg.data[0].numpy()
        raw = np.array(Image.open(path))
        by_hand = np.full(raw.shape, 255)
        for raw_id, train_id in enumerate(labels.lut(dataset.space)):
            by_hand[raw == raw_id] = train_id
        np.testing.assert_array_equal(truth, by_hand)
        assert set(np.unique(truth)) <= {*range(19), 255}
        assert len(np.unique(truth)) > 3


def test_photo_is_decoded_as_bgr(data):
    """What `bgr_to_rgb=True` of the preprocessor turns around."""
    (photo, _), *_ = domains.find('gta5:val', data)
    rgb = np.array(Image.open(photo))
    inputs = build('gta5:val', data)[0]['inputs'].numpy()
    np.testing.assert_array_equal(inputs, rgb[..., ::-1].transpose(2, 0, 1))


def test_dataset_names_classes_and_survives_pickling(data):
    dataset = pickle.loads(pickle.dumps(build('gta5', data)))
    assert dataset.domain == 'gta5:val'
    assert dataset.metainfo['classes'] == labels.CLASSES
    assert dataset.metainfo['palette'] == labels.PALETTE.tolist()
    assert len(dataset) == 2


def test_several_domains_behind_one_another(data):
    wanted = ['cityscapes', 'camvid:Seq05VD', 'gta5:val']
    dataset = DATASETS.build(
        dict(
            type='CrossDomainDataset', domains=wanted, data_root=str(data),
            pipeline=pipeline('camvid_day_to_dusk'),
        )
    )  # fmt: skip
    assert dataset.metainfo['domains'] == {
        'cityscapes:val': 2, 'camvid:Seq05VD': 2, 'gta5:val': 2,
    }  # fmt: skip
    assert dataset.metainfo['classes'] == labels.CLASSES
    samples = [dataset[i]['data_samples'] for i in range(len(dataset))]
    assert [s.domain for s in samples] == sorted(
        [s.domain for s in samples], key=list(dataset.metainfo['domains']).index
    )
    assert [s.sample_idx for s in samples] == [0, 1] * 3


@pytest.mark.parametrize('wanted', [['gta5', 'gta5:val'], ['gta5:val', 'camvid', 'gta5:val']])
def test_domain_named_twice_is_refused(data, wanted):
    with pytest.raises(DataError, match='named twice'):
        CrossDomainDataset(wanted, str(data), [])


def test_names_with_spaces(copy):
    new = copy / 'cityscapes' / 'leftImg8bit' / 'val' / 'san jose'
    for folder, suffix in (('leftImg8bit', 'leftImg8bit'), ('gtFine', 'gtFine_labelIds')):
        city = copy / 'cityscapes' / folder / 'val' / 'lindau'
        (city / f'lindau_000000_000019_{suffix}.png').rename(city / f'a photo_{suffix}.png')
        city.rename(city.with_name('san jose'))
    photo, label = domains.find('cityscapes:val', copy)[1]
    assert photo == new / 'a photo_leftImg8bit.png'
    assert label.name == 'a photo_gtFine_labelIds.png'
    assert build('cityscapes:val', copy)[1]['data_samples'].img_path == str(photo)


def test_one_name_in_two_cities_is_two_photos(copy):
    root = copy / 'cityscapes'
    for path in [*root.glob('*/val/*/*_leftImg8bit.png'), *root.glob('*/val/*/*_labelIds.png')]:
        path.rename(path.with_name('x_' + path.name.split('_', 3)[3]))
    found = domains.find('cityscapes:val', copy)
    assert [photo.parent.name for photo, _ in found] == ['frankfurt', 'lindau']
    assert [label.parent.name for _, label in found] == ['frankfurt', 'lindau']


def test_files_of_other_tools_are_no_photos(copy):
    for path in ('gta5/images/Thumbs.db', 'gta5/images/00001_old.png', 'camvid/val/list.txt'):
        (copy / path).touch()
    assert len(domains.find('gta5:val', copy)) == len(domains.find('camvid:val', copy)) == 2


# ------------------------------------------------------------------------ damages


def remove(path: str) -> Callable[[Path], None]:
    return lambda root: (
        [
            shutil.rmtree(found) if found.is_dir() else found.unlink()
            for found in sorted(root.glob(path))
        ]
        or pytest.fail(f'no {path}')
    )


def rewrite(path: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda root: (root / path).write_bytes(change((root / path).read_bytes()))


def redraw(path: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        Image.fromarray(change(np.array(Image.open(root / path)))).save(root / path)

    return damage


def move(old: str, new: str) -> Callable[[Path], None]:
    return lambda root: (root / old).rename(root / new)


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def with_id(raw_id: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(label: np.ndarray) -> np.ndarray:
        label = label.copy()
        label[:2, :3] = raw_id
        return label

    return change


PHOTO = 'leftImg8bit/val/lindau/lindau_000000_000019_leftImg8bit.png'
LABEL = 'gtFine/val/lindau/lindau_000000_000019_gtFine_labelIds.png'
GTA = splits.gta5('val')[1]
STAND_IN = "ibnseg miniature '{root}'"

# domain, damage below the domain's folder, what the message must say ({root}: data root)
DAMAGES: dict[str, tuple[str, Callable[[Path], object], tuple[str, ...]]] = {
    'gta5 without images': (
        'gta5:val', remove('images'), ('{root}/gta5/images: no such folder', STAND_IN)),
    'cityscapes without labels': (
        'cityscapes:val', remove('gtFine'),
        ('{root}/cityscapes/gtFine/val: no such folder', STAND_IN)),
    'cityscapes without val': (
        'cityscapes:val', remove('leftImg8bit/val'),
        ('{root}/cityscapes/leftImg8bit/val: no such folder',)),
    'camvid drive, a folder gone': (
        'camvid:Seq05VD', remove('test'), ('{root}/camvid/test: no such folder',)),
    'gta5 folders empty': (
        'gta5:val', remove('*/*.png'), ("no photo of split 'val'", 'gta5/images/', STAND_IN)),
    'gta5 photo alone': (
        'gta5:val', remove(f'labels/{GTA}'),
        (f'gta5/images/{GTA}: photo without a label', '1 such', 'Unpack the labels again')),
    'gta5 label alone': (
        'gta5:val', remove(f'images/{GTA}'),
        (f'gta5/labels/{GTA}: label file without a photo', '1 such', 'Unpack the photos again')),
    'camvid label as lossy jpeg': (
        'camvid:val', move('valannot/0016E5_f5.png', 'valannot/0016E5_f5.jpg'),
        ('val/0016E5_f5.png', 'without a label')),
    'camvid photo twice': (
        'camvid:val',
        lambda root: shutil.copy(root / 'val/0016E5_f5.png', root / 'val/0016E5_f5.jpg'),
        ('0016E5_f5.jpg', '0016E5_f5.png', 'two files of one name')),
    'label of another size': (
        'gta5:val', redraw(f'labels/{GTA}', lambda a: a[:-1]),
        (f'gta5/labels/{GTA}', f'gta5/images/{GTA}', 'is 128x63', 'is 128x64', '1 of the 2 pairs',
         '--skip-list')),
    'label turned': (
        'cityscapes:val', redraw(LABEL, lambda a: a.T), (LABEL, PHOTO, '64x128', '128x64')),
    'id 77 in cityscapes': (
        'cityscapes:val', redraw(LABEL, with_id(77)),
        (LABEL, '77 (6 px)', "label space 'cityscapes'", "dataset's original label file")),
    'id 254 beside 255': (
        'cityscapes:val', redraw(LABEL, lambda a: np.where(a == 7, 254, 255).astype(np.uint8)),
        (LABEL, '254 (')),
    'label in colour': (
        'cityscapes:val', redraw(LABEL, lambda a: labels.PALETTE[labels.lut('gta5')[a] % 19]),
        (LABEL, 'mode RGB', 'shape (64, 128, 3)', 'one 8-bit channel', 'colour rendering')),
    'label with a broken header': (
        'cityscapes:val', rewrite(LABEL, lambda b: b[:11] + b'\0' + b[12:]),
        (LABEL, 'unreadable label file', 'Unpack these')),
    'label empty': (
        'cityscapes:val', rewrite(LABEL, lambda b: b''), (LABEL, 'unreadable label file')),
    'photo empty': ('cityscapes:val', rewrite(PHOTO, lambda b: b''), (PHOTO, 'Unpack these')),
}  # fmt: skip


def read_all(domain: str, root: Path) -> None:
    dataset = build(domain, root, odd_pairs='refuse')
    for i in range(len(dataset)):
        dataset[i]


@pytest.mark.parametrize('name', DAMAGES)
def test_damage_is_named_with_the_way_out(copy, name):
    domain, damage, expected = DAMAGES[name]
    read_all(domain, copy)  # whole before
    damage(copy / domain.split(':')[0])
    with pytest.raises(DataError) as caught:
        read_all(domain, copy)
    for words in expected:
        assert words.replace('{root}', str(copy)) in str(caught.value)


@pytest.mark.parametrize('name', domains.DOMAINS)
def test_an_absent_dataset_is_told_with_its_layout_source_and_stand_in(tmp_path, name):
    root, row = tmp_path / 'my data', domains.DOMAINS[name]
    with pytest.raises(DataError) as caught:
        domains.find(name, root)
    message, _, command = str(caught.value).partition("ibnseg miniature '")
    assert message.startswith(f'{root / row.folder}: no such folder')
    for words in (*row.tree.splitlines(), row.source, '--data-root'):
        assert words in message
    assert command.startswith(f"{root}' ") and command.split()[-1] in miniature.LAYOUTS


@pytest.mark.parametrize('share', [0.001, 0.1, 0.5, 0.9])
@pytest.mark.parametrize('path', [PHOTO, LABEL])
def test_file_cut_off_anywhere(copy, path, share):
    rewrite(path, lambda b: b[: int(share * len(b))])(copy / 'cityscapes')
    with pytest.raises(DataError, match=path):
        read_all('cityscapes:val', copy)


@pytest.mark.parametrize('path', [PHOTO, LABEL])
def test_damage_in_a_worker_reads_the_same(copy, path):
    """A DataLoader passes errors on as printed traces; the user gets the message."""
    dataset = build('cityscapes:val', copy)
    rewrite(path, half)(copy / 'cityscapes')
    messages = []
    for workers in (0, 1):
        batches = iter(DataLoader(dataset, None, num_workers=workers))
        try:
            list(batches)
        except DataError as error:  # its frames would keep the worker alive for seconds
            messages.append(str(error.with_traceback(None)))
        del batches
    assert messages[0] == messages[1]
    assert path in messages[0] and 'Traceback' not in messages[0]


@pytest.mark.parametrize(
    ('domain', 'expected'),
    [
        ('mars', "unknown domain 'mars'; choose from ('gta5', 'synthia', 'cityscapes', "),
        ('', 'unknown domain'),
        (':val', 'unknown domain'),
        ('GTA5:val', 'unknown domain'),
        ('../gta5:val', 'unknown domain'),
        ('gta5/../cityscapes:val', 'unknown domain'),
        ('gta5:', "no split ''; choose from ('train', 'train-12388', 'val', 'test')"),
        ('gta5:trainval', "gta5 has no split 'trainval'; choose from ('train', "),
        ('gta5:val:val', "no split 'val:val'"),
        ('gta5: val', "no split ' val'"),
        ('cityscapes:', "no split ''; choose from ('train', 'val')"),
        ('cityscapes:test', "cityscapes has no split 'test'; choose from ('train', 'val')"),
        ('cityscapes:../x', "no split '../x'"),
        ('cityscapes:val/lindau', "no split 'val/lindau'"),
        ('cityscapes:*', "no split '*'"),
        *(
            (f'camvid:{split}', f"camvid has no split '{split}'; choose one of ('train', 'val', 't")
            for split in (
                '', '/', '+', 'XYZ', 'Train', 'train/XYZ', 'train/', 'train/+', 'train+val',
                'train+0001TP', 'train/0001TP+', 'train/0001TP+0001TP', '0001TP+XYZ', '+0001TP',
                '0001TP/train', '/0001TP', 'train/val', 'train/0001TP/0001TP', '../x', 'train/..',
                'trainannot', '../camvid/train/0001TP', '0001', '0001TP,0006R0', 'val/0016E5 ',
            )
        ),
    ],
)  # fmt: skip
def test_unknown_name_or_split_is_refused_with_the_choices(data, domain, expected):
    for refuse in (domains.parse, lambda d: domains.find(d, data), lambda d: build(d, data)):
        with pytest.raises(DataError) as caught:
            refuse(domain)
        assert expected in str(caught.value)


# ------------------------------------------------------------------------ augmentation


@pytest.fixture(scope='module')
def training(data) -> DomainDataset:
    with DefaultScope.overwrite_default_scope('mmseg'):
        return build('gta5:train', data, 'miniature_gta5_to_cityscapes', 'train')


def tensors(samples: list[dict]) -> list[tuple]:
    return [
        (s['data_samples'].sample_idx, s['inputs'], s['data_samples'].gt_sem_seg.data)
        for s in samples
    ]


def same(one: tuple, other: tuple) -> bool:
    return one[0] == other[0] and torch.equal(one[1], other[1]) and torch.equal(one[2], other[2])


def drawn(dataset, count: int, workers: int = 0) -> list:
    """The first `count` samples of a loader, two a batch."""
    loader = DataLoader(
        dataset, 2, sampler=PositionSampler(dataset, 5), num_workers=workers,
        collate_fn=pseudo_collate,
    )  # fmt: skip
    samples = []
    for found in islice(loader, count // 2):
        samples += [
            dict(inputs=x, data_samples=s)
            for x, s in zip(found['inputs'], found['data_samples'], strict=True)
        ]
    return tensors(samples)


def test_sample_depends_on_seed_and_position_alone(training):
    (first,) = tensors([training[(5, 7), 1]])
    assert first[1].shape == (3, 128, 256) and first[1].dtype == torch.uint8
    assert first[2].shape == (1, 128, 256) and set(first[2].unique().tolist()) <= {*range(19), 255}
    for disturbance in range(3):
        random.seed(disturbance)
        np.random.seed(disturbance)
        torch.manual_seed(disturbance)
        training[(disturbance, 0), 2]
        assert same(first, *tensors([training[(5, 7), 1]]))


@pytest.mark.parametrize('draw', [random.random, np.random.rand], ids=['random', 'numpy'])
def test_both_generators_of_a_transform_follow_the_position(data, draw):
    def step(results: dict) -> dict:
        return dict(inputs=draw(), data_samples=SegDataSample())

    dataset = DomainDataset('gta5:train', str(data), [step])
    first, again, other = (dataset[(5, n), 1]['inputs'] for n in (7, 7, 8))
    assert first == again != other


@pytest.mark.parametrize('entropy', [(5, 8), (6, 7), (7, 5), (0, 7), (5, 7 + 2**32)], ids=str)
def test_other_positions_and_seeds_differ(training, entropy):
    assert not same(*tensors([training[(5, 7), 1], training[entropy, 1]]))


def test_workers_draw_what_one_process_draws(training):
    one = drawn(training, 8)
    np.random.seed(99)
    two = drawn(training, 8, workers=2)
    assert len(one) == len(two) == 8
    assert all(map(same, one, two))
    assert len({s[1].numpy().tobytes() for s in one}) == 8, 'the crops repeat themselves'


def test_every_epoch_is_a_new_order_of_all():
    sampler = PositionSampler(range(10), seed=3)
    drawn = list(islice(sampler, 40))
    assert [entropy for entropy, _ in drawn] == [(3, n) for n in range(40)]
    epochs = [tuple(i for _, i in drawn[k : k + 10]) for k in range(0, 40, 10)]
    assert len(set(epochs)) == 4
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    in_order = islice(PositionSampler(range(4), 3, shuffle=False), 6)
    assert [i for _, i in in_order] == [0, 1, 2, 3, 0, 1]
    assert list(islice(PositionSampler(range(10), 4), 40)) != drawn
