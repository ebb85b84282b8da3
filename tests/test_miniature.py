"""Miniature sets: the right content, in two appearances, in the real layouts."""

import json

import cv2
import numpy as np
import pytest
from ibnseg_tools import miniature as tool
from PIL import Image

from ibnseg import miniature
from ibnseg import workers as spread
from ibnseg.labels import CITYSCAPES_IDS, CLASSES, IGNORE, PALETTE, lut, possible, space

SIZE = (96, 192)


@pytest.fixture(scope='module')
def forty():
    """{world: (photos, labels)} of the same forty scenes."""
    pairs = {
        world: [miniature.render(seed, world, SIZE) for seed in range(40)]
        for world in ('gta5', 'cityscapes')
    }
    return {world: tuple(map(np.stack, zip(*rows, strict=True))) for world, rows in pairs.items()}


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp('sets')
    return miniature.write(out, tuple(miniature.LAYOUTS), train=5, val=4, size=SIZE, workers=1)


def files(root):
    return {str(path.relative_to(root)): path.stat().st_mtime_ns
            for path in sorted(root.rglob('*.png'))}  # fmt: skip


@pytest.mark.parametrize('world', miniature.WORLDS)
def test_same_seed_same_pair(world):
    photo, label = miniature.render(3, world, SIZE)
    again, label_again = miniature.render(3, world, SIZE)
    other, _ = miniature.render(4, world, SIZE)
    assert photo.shape == (*SIZE, 3) and photo.dtype == label.dtype == np.uint8
    assert label.shape == SIZE and possible('cityscapes')[label].all()
    assert (photo == again).all() and (label == label_again).all()
    assert (photo != other).any()


def test_worlds_share_content_and_not_appearance(forty):
    (game, labels), (street, street_labels) = forty['gta5'], forty['cityscapes']
    assert (labels == street_labels).all()

    def spread(photos):  # colourfulness and contrast, the mean of the pictures
        photos = photos.astype(float)
        return (photos.max(-1) - photos.min(-1)).mean(), photos.mean(-1).std((1, 2)).mean()

    assert all(g > 1.3 * s for g, s in zip(spread(game), spread(street), strict=True))


@pytest.mark.parametrize('index', range(len(CLASSES)), ids=CLASSES)
def test_every_class_is_common(forty, index):
    _, labels = forty['cityscapes']
    here = (lut('cityscapes')[labels] == index).mean((1, 2))
    assert here.mean() > 0.001
    assert (here > 0).mean() > 0.15


def test_some_pixels_have_no_class(forty):
    _, labels = forty['gta5']
    unmapped = (lut('gta5')[labels] == IGNORE).mean()
    assert 0.005 < unmapped < 0.2
    assert len(set(np.unique(labels)) - set(CITYSCAPES_IDS)) >= 4


def test_no_scene_twice(written):
    scenes = [
        (frame.seed, world)
        for world in written
        for frame in miniature.sets._frames(world, 5, 4, SIZE, 0)
    ]
    of_foggy = {seed for seed, world in scenes if world == 'foggy_cityscapes'}
    assert of_foggy == {seed for seed, world in scenes if world == 'cityscapes'}
    others = [seed for seed, world in scenes if world != 'foggy_cityscapes']
    assert len(set(others)) == len(others)
    found = [*written['gta5'].glob('labels/*'), *written['cityscapes'].rglob('*labelIds.png')]
    assert len({np.array(Image.open(path)).tobytes() for path in found}) == len(found) == 18


@pytest.mark.parametrize('world', miniature.LAYOUTS)
def test_files_are_where_the_layout_says(written, world):
    root, layout = written[world], miniature.LAYOUTS[world]
    assert {path.name for path in root.iterdir()} == {*layout.folders, miniature.RECORD}
    assert set(layout.looks) <= set(miniature.WORLDS)


def test_every_look_is_shown():
    shown = {look for layout in miniature.LAYOUTS.values() for look in layout.looks}
    assert shown == set(miniature.WORLDS)


#: Label file of a folder below the dataset -> Pillow's mode, and OpenCV's depth where it is 16.
ENCODINGS = {
    'gta5/labels/*.png': ('P', np.uint8),
    'cityscapes/leftImg8bit/*/*/*_leftImg8bit.png': ('RGB', np.uint8),
    'cityscapes/gtFine/*/*/*_gtFine_labelIds.png': ('L', np.uint8),
    'cityscapes/gtFine/*/*/*_gtFine_color.png': ('RGB', np.uint8),
    'synthia/GT/LABELS/*.png': ('RGB', np.uint16),
    'bdd100k/labels/sem_seg/masks/*/*.png': ('L', np.uint8),
    'bdd100k/labels/drivable/masks/*/*.png': ('L', np.uint8),
    'bdd100k/images/10k/*/*.jpg': ('RGB', np.uint8),
    'mapillary/*/labels/*.png': ('P', np.uint8),
    'mapillary/*/images/*.jpg': ('RGB', np.uint8),
    'acdc/gt/*/*/*/*_gt_labelTrainIds.png': ('L', np.uint8),
    'kitti/training/semantic/*.png': ('L', np.uint8),
    'camvid/*annot/*.png': ('L', np.uint8),
    'camvid32/LabeledApproved_full/*_L.png': ('RGB', np.uint8),
}


@pytest.mark.parametrize('pattern', ENCODINGS)
def test_encodings(written, pattern):
    mode, depth = ENCODINGS[pattern]
    files = list(written['gta5'].parent.glob(pattern))
    assert len(files) >= 5
    for path in files:
        assert Image.open(path).mode == mode
        assert Image.open(path).format == ('JPEG' if path.suffix == '.jpg' else 'PNG')
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).dtype == depth


def test_labels_are_coloured_as_published(written):
    for path in written['gta5'].glob('labels/*.png'):
        colours = np.array(Image.open(path).getpalette('RGB')).reshape(-1, 3)
        assert (colours[CITYSCAPES_IDS] == PALETTE).all()
    for path in written['cityscapes'].glob('gtFine/*/*/*_labelIds.png'):
        classes = lut('cityscapes')[np.array(Image.open(path))]
        colour = np.array(Image.open(str(path).replace('_labelIds', '_color')))
        assert (colour[classes != IGNORE] == PALETTE[classes[classes != IGNORE]]).all()


def test_idd_polygons_are_as_annotated(written):
    for path in written['idd'].rglob('*_gtFine_polygons.json'):
        content = json.loads(path.read_text())
        assert (content['imgHeight'], content['imgWidth']) == SIZE
        assert {item['label'] for item in content['objects']} <= set(space('idd').names)
        corners = np.concatenate([item['polygon'] for item in content['objects']])
        assert (corners >= 0).all() and (corners < SIZE[::-1]).all()


def test_four_conditions_take_turns_and_look_different(written):
    folders = sorted(path.name for path in (written['acdc'] / 'rgb_anon').iterdir())
    assert folders == ['fog', 'night', 'rain', 'snow']

    def brightness(condition):
        return np.mean([miniature.render(n, f'acdc_{condition}', SIZE)[0].mean() for n in range(8)])

    assert brightness('night') < 0.6 * brightness('rain') < brightness('rain') < brightness('snow')


def test_fog_thickens_with_beta():
    def far_contrast(fog):
        photos = [miniature.render(n, 'cityscapes', SIZE, fog=fog)[0] for n in range(8)]
        rows = slice(SIZE[0] // 3, SIZE[0] // 2)  # above the road: what is far away
        return np.mean([photo[rows].astype(float).std() for photo in photos])

    assert far_contrast(0.005) > far_contrast(0.01) > far_contrast(0.02) > 0


def test_drivable_areas_lie_on_the_road(written):
    for seed in range(20):
        areas, label = miniature.drivable(seed, SIZE), miniature.render(seed, 'gta5', SIZE)[1]
        assert areas.shape == SIZE and set(np.unique(areas)) <= {0, 1, 2}
        assert (lut('cityscapes')[label[areas < 2]] == CLASSES.index('road')).all()
        ahead = areas[SIZE[0] * 3 // 4, SIZE[1] // 2 - 20 : SIZE[1] // 2 + 20]
        other = lut('cityscapes')[label[SIZE[0] * 3 // 4, SIZE[1] // 2 - 20 : SIZE[1] // 2 + 20]]
        assert (ahead[other == 0] == 0).mean() > 0.5  # we stand in our own lane
    assert any((miniature.drivable(seed, SIZE) == 1).any() for seed in range(20))


def test_second_run_leaves_files_alone(tmp_path):
    def write(**other):
        settings = {'worlds': ['gta5'], 'train': 2, 'val': 1, 'size': (64, 128), 'workers': 1}
        return files(miniature.write(tmp_path, **settings | other)['gta5'])

    first = write()
    assert write() == first
    (tmp_path / 'gta5' / miniature.RECORD).write_text(json.dumps({'complete': False}))
    partial = write()
    assert partial != first and list(partial) == list(first)
    assert len(write(train=1)) == 4


def test_workers_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(spread, 'FEW', 2)

    def labels(workers):
        root = miniature.write(tmp_path / str(workers), ['gta5'], 8, 1, (64, 128), workers=workers)
        return [path.read_bytes() for path in sorted(root['gta5'].rglob('*.png'))]

    assert labels(1) == labels(2)


def test_foreign_folder_is_refused(tmp_path):
    (tmp_path / 'gta5').mkdir()
    (tmp_path / 'gta5' / 'mine.txt').write_text('precious')
    with pytest.raises(FileExistsError, match=r"gta5 holds \['mine.txt'\].*choose another"):
        miniature.write(tmp_path, train=1, val=1)
    assert (tmp_path / 'gta5' / 'mine.txt').read_text() == 'precious'
    assert not (tmp_path / 'cityscapes').exists()


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'worlds': ['mars']}, "unknown world 'mars'; choose from"),
        ({'train': -1}, 'train=-1 for gta5: expected 0 to 12403'),
        ({'val': 501}, 'val=501 for cityscapes: expected 0 to 500'),
        ({'size': (32, 64)}, r'size \(32, 64\) is too small'),
        ({'seed': -1}, 'seed -1 is negative'),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        miniature.write(tmp_path, **settings)
    assert not any(tmp_path.iterdir())


def test_tool(tmp_path, capsys):
    small = [str(tmp_path), '--train', '2', '--val', '1', '--size', '64x128', '--workers', '1']
    assert tool.main(small) == 0
    shown = capsys.readouterr().out
    assert str(tmp_path / 'gta5') in shown and 'kitti' not in shown
    assert tool.main([*small, '--worlds', 'all']) == 0
    shown = capsys.readouterr().out
    assert all(f'{world}: ' in shown for world in miniature.LAYOUTS)
    assert 'kitti: 2 train pairs of 64x128' in shown
    assert 'camvid: 2 train + 1 val + 1 test pairs' in shown
    assert tool.main([*small, '--worlds', 'mars']) == 2
    assert capsys.readouterr().err.count('\n') == 1
