"""A report's gallery and pictures: which photos, whose predictions, what is written."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from ibnseg import domains, miniature
from ibnseg.analysis import choice, gallery, pictures
from ibnseg.analysis.scenes import Album
from ibnseg.measure import from_files, matrices
from ibnseg.report.certainty import Photos
from ibnseg.report.page import gallery as page

DOMAIN = 'cityscapes:val'


def photos(*miou):
    images = [(str(i), np.array(values, float), np.zeros(2)) for i, values in enumerate(miou)]
    return Photos('', 's', DOMAIN, 'p', ['plain', 'ibn'], images)


def test_photos_are_chosen_by_rule():
    one = photos((10, 30), (20, 18), (30, 31), (40, 45), (50, 53), (np.nan, np.nan))
    found = choice.choose(one, 0, each=1)
    # Gains: 20, -2, 1, 5, 3. Means: 20, 19, 30.5, 42.5, 51.5.
    assert found == {
        0: ['most improved'], 4: ['median gain', 'best'], 1: ['most worsened', 'worst'],
        2: ['median'],
    }  # fmt: skip


def test_none_is_called_worsened_that_gained():
    one = photos((10, 30), (20, 28), (30, 31))
    assert 'most worsened' not in str(choice.choose(one, 0))
    one = photos((10, 1), (20, 2), (30, 3))
    assert 'most improved' not in str(choice.choose(one, 0))
    assert not choice.choose(photos((np.nan, np.nan)), 0)


def test_the_baseline_is_found_by_its_model():
    assert choice.baseline_of(['plain (last)', 'ibn'], 'plain') == 0
    assert choice.baseline_of(['ibn', 'plainer'], 'plain') is None
    assert choice.baseline_of(['plain'], 'plain') is None


@pytest.fixture(scope='module')
def foreign(tmp_path_factory):
    """Data, and records of two models whose predictions are files: no network is there."""
    root = tmp_path_factory.mktemp('foreign')
    miniature.write(root / 'data', ('cityscapes',), 1, 5, (64, 128), 0, 1)
    used = domains.use(DOMAIN, root / 'data')
    draws = np.random.default_rng(0)
    for name, wrong in (('resnet', 0.6), ('<b>ibn</b> 🚗', 0.2)):
        folder = root / f'predictions{wrong}'
        folder.mkdir()
        for photo, label in used.pairs:
            truth = domains.read_labels(label, 'cityscapes')
            noise = draws.random(truth.shape) < wrong * draws.random()
            prediction = np.where(noise | (truth == 255), 0, truth).astype(np.uint8)
            Image.fromarray(prediction).save(folder / f'{photo.stem}.png')
        record, images = from_files.measure(DOMAIN, folder, root / 'data', name=name)
        (root / 'records').mkdir(exist_ok=True)
        matrices.save(record, images, root / 'records' / f'{wrong}.record.json')
    return root


@pytest.fixture
def album(foreign):
    return Album([foreign / 'records'], foreign / 'data')


def test_the_page_reads_what_is_written(album, foreign, tmp_path):
    number = gallery.write(album, tmp_path, each=1)
    found = page.read(tmp_path / 'gallery')
    assert number == len(found.photos) > 2
    assert found.classes[0] == 'road'
    said = json.loads((tmp_path / 'gallery' / 'gallery.json').read_text())
    for photo in said['domains'][DOMAIN]:
        values = next(miou for key, miou, _ in album.photos[0].images if key == photo['key'])
        names = album.photos[0].models
        expected = {name: pytest.approx(v, abs=0.01) for name, v in zip(names, values, strict=True)}
        assert photo['miou'] == expected
        truth = Image.open(tmp_path / 'gallery' / photo['truth'])
        assert (truth.mode, truth.size) == ('L', (128, 64))


def test_a_photo_is_at_most_640_wide_and_its_maps_with_it(album, tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, 'WIDTH', 16)
    gallery.write(album, tmp_path, each=1)
    sizes = {Image.open(p).size for p in (tmp_path / 'gallery').iterdir() if p.suffix != '.json'}
    assert sizes == {(16, 8)}


def test_a_failure_leaves_the_gallery_before(album, foreign, tmp_path):
    gallery.write(album, tmp_path, each=1)
    before = (tmp_path / 'gallery' / 'gallery.json').read_bytes()
    broken = Album([foreign / 'records'], foreign / 'data')
    broken._sources = dict.fromkeys(sorted((foreign / 'records').glob('*.json')), lambda *_: [])
    with pytest.raises(ValueError):
        gallery.write(broken, tmp_path, each=1)
    assert (tmp_path / 'gallery' / 'gallery.json').read_bytes() == before
    assert not list(tmp_path.glob('.gallery*'))
    gallery.write(album, tmp_path, each=2)  # and it can be replaced
    assert (tmp_path / 'gallery' / 'gallery.json').read_bytes() != before


def test_a_folder_that_is_no_gallery_is_kept(album, tmp_path):
    (tmp_path / 'gallery').mkdir()
    (tmp_path / 'gallery' / 'mine.txt').write_text('x')
    with pytest.raises(FileExistsError, match='holds no gallery'):
        gallery.write(album, tmp_path, each=1)
    assert (tmp_path / 'gallery' / 'mine.txt').is_file()


def test_other_predictions_than_those_measured_are_refused(foreign, tmp_path):
    shutil.copytree(foreign / 'records', tmp_path / 'records')
    album = Album([tmp_path / 'records'], foreign / 'data')
    shape = (64, 128)

    def elsewhere(domain, keys):
        return [np.full(shape, 5, np.uint8) for _ in keys]

    album._sources = dict.fromkeys(sorted((tmp_path / 'records').glob('*.json')), elsewhere)
    with pytest.raises(ValueError, match=r'predicted otherwise .* --save-predictions'):
        gallery.write(album, tmp_path, each=1)


def test_a_picture_takes_names_as_reports_show_them(album, tmp_path):
    key = album.photos[0].images[2][0]
    for image in (key, key.rsplit('/')[-1], key.rsplit('/')[-1].split('_left')[0]):
        (said,) = pictures.panel(album, tmp_path / 'p.png', 'cityscapes', image)
        assert said == key
    assert len(pictures.panel(album, tmp_path / 'p.png', DOMAIN)) == 3
    with pytest.raises(ValueError, match=r'images\.csv'):
        pictures.panel(album, tmp_path / 'p.png', DOMAIN, 'nothing')
    with pytest.raises(ValueError, match='images 0 to 4'):
        pictures.panel(album, tmp_path / 'p.png', DOMAIN, '5')
    with pytest.raises(ValueError, match='not among the records'):
        pictures.panel(album, tmp_path / 'p.png', 'gta5')


def test_models_are_named_as_in_reports(foreign):
    one = Album([foreign / 'records'], foreign / 'data', models=['<b>ibn</b> 🚗'])
    assert one.photos[0].models == ['<b>ibn</b> 🚗']
    with pytest.raises(ValueError, match=r"no model 'resnt'.*did you mean 'resnet'"):
        Album([foreign / 'records'], foreign / 'data', models=['resnt'])


def test_without_matrices_there_is_nothing_to_choose_by(foreign, tmp_path):
    for path in (foreign / 'records').glob('*.json'):
        shutil.copy(path, tmp_path)
    with pytest.raises(ValueError, match=r'no per-image matrices \(\*\.images\.npz\)'):
        Album([tmp_path], foreign / 'data')
