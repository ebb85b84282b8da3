"""Photos and videos of one's own: `ibnseg.load`, and `ibnseg predict` as a user types it."""

import io
import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from documented import blocks
from ibnseg_tools import predict as tool
from mmengine.registry import DefaultScope
from mmseg.apis import init_model
from mmseg.registry import DATASETS
from PIL import Image

import ibnseg
from ibnseg import miniature
from ibnseg.inference import files, video
from ibnseg.measure.predict import Predictor
from ibnseg.measure.predictions import read_prediction

ROOT = Path(__file__).parents[1]


def make_run(folder, seed=0, name='ibn'):
    """A work dir as `ibnseg train` leaves it, of a tiny network that was never trained."""
    base = ROOT / 'configs' / '_base_'
    names = ('models/fcn_ibn_r18', 'datasets/miniature_gta5_to_cityscapes', 'default_runtime',
             'schedules/miniature')  # fmt: skip
    folder.mkdir()
    (folder / 'config.py').write_text(
        f'_base_ = {[f"{base}/{one}.py" for one in names]}\nmodel_name = {name!r}\n'
        'model = dict(backbone=dict(base_channels=8, stem_channels=8),'
        'decode_head=dict(in_channels=64, channels=64))'
    )
    torch.manual_seed(seed)
    model = init_model(str(folder / 'config.py'), device='cpu')
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'iter_120.pth')
    return folder


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp('run') / 'run')


@pytest.fixture(scope='module')
def model(run):
    return ibnseg.load(run)


@pytest.fixture(scope='module')
def photo():
    draws = np.random.default_rng(0)
    small = draws.integers(0, 256, (8, 12, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((150, 100), Image.Resampling.BICUBIC))


def save(photo, path, form='PNG', **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo).save(path, form, **options)
    return path


def test_a_file_an_array_and_a_picture_are_one_photo(model, photo, tmp_path):
    path = save(photo, tmp_path / 'a.png')
    one = model(path)
    assert one.labels.shape == (100, 150) and len(np.unique(one.labels)) > 2
    for same in (str(path), photo, Image.fromarray(photo), Image.open(path)):
        np.testing.assert_array_equal(model(same).labels, one.labels)
    np.testing.assert_array_equal(model(photo[..., ::-1], order='bgr').labels, one.labels)
    assert (model(photo[..., ::-1]).labels != one.labels).any()
    np.testing.assert_array_equal(one.photo, photo)
    assert one.confidence is None and one.classes[0] == 'road'


def test_it_is_what_ibnseg_test_predicts(model, tmp_path):
    miniature.write(tmp_path, ('cityscapes',), 1, 2, (64, 128), 0, 1)
    asked = dict(model.config.test_dataloader.dataset, data_root=str(tmp_path))
    asked['domains'] = ['cityscapes:val']
    with DefaultScope.overwrite_default_scope('mmseg'):
        data = DATASETS.build(asked)
    predict = Predictor(model.network)
    for number, key in enumerate(data.used['cityscapes:val'].photos):
        sample = data[number]
        (wanted,) = predict(dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']]))
        found = model(tmp_path / key)
        np.testing.assert_array_equal(found.labels, wanted.pred_sem_seg.data[0].numpy())


def test_a_list_is_a_batch(model, photo):
    other = photo[:50, :60]
    found = model([photo, other, photo])
    for one, given in zip(found, (photo, other, photo), strict=True):
        np.testing.assert_array_equal(one.labels, model(given).labels)
    assert model([]) == []


def test_confidence_is_the_highest_probability(model, photo):
    found = model(photo, confidence=True)
    np.testing.assert_array_equal(found.labels, model(photo).labels)
    assert found.confidence.shape == found.labels.shape
    assert 1 / 19 <= found.confidence.min() < found.confidence.max() <= 1


def test_what_a_prediction_shows(model, photo):
    found = model(photo)
    np.testing.assert_array_equal(found.overlay(1), found.palette[found.labels])
    grey = np.asarray(Image.fromarray(photo).convert('L'))
    np.testing.assert_array_equal(found.overlay(0)[..., 1], grey)
    shares = found.shares()
    assert sum(shares.values()) == pytest.approx(1) and [*shares.values()] == sorted(
        shares.values(), reverse=True
    )
    assert Image.open(io.BytesIO(found._repr_png_())).size == (150, 100)
    with pytest.raises(ValueError, match=r'opacity is 2'):
        found.overlay(2)


def test_a_photo_is_turned_as_its_tag_says(model, photo, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(photo, tmp_path / 'a.png', exif=exif)
    found = model(path)
    assert found.labels.shape == (150, 100)
    np.testing.assert_array_equal(model(Image.open(path)).labels, found.labels)


@pytest.mark.parametrize(
    ('given', 'error', 'words'),
    [
        (np.zeros((4, 4, 3)), ValueError, r'float64, shape \(4, 4, 3\); expected uint8'),
        (np.zeros((1, 4, 4, 3), np.uint8), ValueError, r'Several photos are a list'),
        (np.zeros((0, 4, 3), np.uint8), ValueError, 'no pixels'),
        (torch.zeros(3, 4, 4), TypeError, 'a photo is Tensor'),
        (Image.new('F', (4, 4)), ValueError, 'mode F'),
        ('absent.png', FileNotFoundError, 'absent.png'),
    ],
)
def test_what_is_no_photo_is_refused(model, given, error, words):
    with pytest.raises(error, match=words):
        model(given)


def test_a_run_a_checkpoint_or_a_config_with_one(run, model, photo):
    wanted = model(photo).labels
    for given in ((run / 'iter_120.pth',), (run / 'config.py', run / 'iter_120.pth')):
        np.testing.assert_array_equal(ibnseg.load(*given)(photo).labels, wanted)
    with pytest.raises(ValueError, match='which weights'):
        ibnseg.load(run / 'config.py')
    with pytest.raises(FileNotFoundError, match='no such checkpoint'):
        ibnseg.load(run / 'iter_1.pth')
    with pytest.raises(ValueError, match=r'does not fit the config .*config\.py'):
        ibnseg.load(run, options={'model.decode_head.num_classes': 7})


def test_a_config_of_mmseg_is_taken_with_its_own_classes(run, photo, tmp_path):
    (tmp_path / 'plain.py').write_text(
        "model = dict(type='EncoderDecoder', data_preprocessor=dict(type='SegDataPreProcessor', "
        "mean=[120, 120, 120], std=[60, 60, 60], bgr_to_rgb=True), pretrained='torchvision://none',"
        "backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),"
        "decode_head=dict(type='FCNHead', in_channels=64, channels=8, num_classes=2),"
        "test_cfg=dict(mode='whole'))\n"
        "test_pipeline = [dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64),"
        "keep_ratio=True), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]"
    )
    plain = init_model(str(tmp_path / 'plain.py'), device='cpu')
    meta = dict(dataset_meta=dict(classes=['no', 'yes'], palette=[[1, 2, 3], [4, 5, 6]]))
    torch.save(dict(state_dict=plain.state_dict(), meta=meta), tmp_path / 'a.pth')
    found = ibnseg.load(tmp_path / 'a.pth')(save(photo, tmp_path / 'a.png'))
    assert found.classes == ('no', 'yes') and found.labels.shape == (100, 150)
    assert found.palette.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.fixture
def pictures(photo, tmp_path):
    save(photo, tmp_path / 'in' / 'a.png')
    save(photo[:60], tmp_path / 'in' / 'A.jpg', 'JPEG')
    save(photo, tmp_path / 'in' / 'deep' / 'b.png')
    (tmp_path / 'in' / 'notes.txt').write_text('x')
    (tmp_path / 'in' / '._b.png').write_text('x')
    return tmp_path / 'in'


def test_the_command_writes_maps_overlays_and_confidence(run, model, photo, pictures, tmp_path):
    out = tmp_path / 'out'
    done = subprocess.run(
        [str(Path(sys.executable).with_name('ibnseg')), 'predict', str(run), str(pictures), '--out',
         str(out), '--confidence', '--device', 'cpu'],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ''), done.stderr
    assert f'labels      {out / "labels"}' in done.stdout
    keys = {'a.png', 'A.jpg', 'deep/b'}
    written = {str(file.relative_to(out)) for file in out.rglob('*') if file.is_file()}
    assert written == {'predict.json'} | {
        f'{part}/{key}{end}' for key in keys
        for part, end in (('labels', '.png'), ('overlays', '.jpg'), ('confidence', '.png'))
    }  # fmt: skip
    wanted = model(photo, confidence=True)
    np.testing.assert_array_equal(read_prediction(out / 'labels/deep/b.png'), wanted.labels)
    grey = np.asarray(Image.open(out / 'confidence/deep/b.png'))
    assert np.abs(grey / 255 - wanted.confidence).max() < 0.003
    said = json.loads((out / 'predict.json').read_text())
    assert said['files'].keys() == keys and said['models'][0]['sha256'] == model.sha256
    assert said['files']['A.jpg']['size'] == [150, 60] and said['unread'] == {}


def test_what_cannot_be_read_is_named_and_passed_over(run, pictures, tmp_path, capsys):
    whole = (pictures / 'a.png').read_bytes()
    (pictures / 'cut.png').write_bytes(whole[: len(whole) // 2])
    (pictures / 'text.jpg').write_text('no photo')
    (pictures / 'none.mp4').write_text('no video')
    given = [str(run), str(pictures), '--out', str(tmp_path / 'out')]
    assert tool.main(given) == 1
    said = capsys.readouterr().err
    assert '3 of 6 files could not be read' in said and 'text.jpg: no picture' in said
    assert all(f'{pictures / name}: ' in said for name in ('cut.png', 'text.jpg', 'none.mp4'))
    assert (tmp_path / 'out/labels/deep/b.png').is_file()
    assert not (tmp_path / 'out/labels/cut.png').exists()
    for name in ('cut.png', 'text.jpg', 'none.mp4'):
        (pictures / name).unlink()
    assert tool.main(given) == 0  # mended, into the same folder


def test_several_runs_stand_side_by_side(run, pictures, tmp_path, capsys):
    other = make_run(tmp_path / 'other', seed=1)
    out = tmp_path / 'out'
    assert tool.main([str(run), str(other), str(pictures / 'a.png'), '--out', str(out)]) == 0
    names = [one['name'] for one in json.loads((out / 'predict.json').read_text())['models']]
    assert names == ['ibn-run-iter_120', 'ibn-other-iter_120']
    maps = [read_prediction(out / name / 'labels' / 'a.png') for name in names]
    assert (maps[0] != maps[1]).any()
    assert Image.open(out / 'side_by_side' / 'a.jpg').width > 3 * 600
    assert tool.main([str(run), str(pictures), '--out', str(out)]) == 2
    assert 'predictions of two never mix' in capsys.readouterr().err


def film(photo, path, frames=5, step=4, size=(64, 96)):
    out = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, size[::-1])
    for i in range(frames):
        out.write(np.ascontiguousarray(photo[: size[0], i * step : i * step + size[1], ::-1]))
    out.release()
    return path


def test_a_video_becomes_a_video_with_its_flicker(run, model, photo, tmp_path, capsys):
    path = film(photo, tmp_path / 'drive.avi')
    out = tmp_path / 'out'
    assert tool.main([str(run), str(path), '--out', str(out)]) == 0
    read = [*video.frames(path)]
    assert len(read) == len([*video.frames(out / 'overlays' / 'drive.mp4')]) == 5
    assert video.rate(out / 'overlays' / 'drive.mp4') == pytest.approx(10)
    maps = [model(frame, order='bgr').labels for frame in read]
    for number, labels in enumerate(maps):
        np.testing.assert_array_equal(
            read_prediction(out / 'labels' / 'drive' / f'{number:06}.png'), labels
        )
    changed = np.mean([(a != b).mean() for a, b in itertools.pairwise(maps)])
    said = json.loads((out / 'predict.json').read_text())['files']['drive']
    assert said['frames'] == 5 and said['flicker']['ibn'][0] == pytest.approx(changed)
    assert f'{100 * changed:.1f} % of the pixels change' in capsys.readouterr().out


def test_flicker_along_the_motion_forgives_motion_alone(photo):
    labels = (photo[..., 0] > 128).astype(np.uint8)
    moving, restless = video.Flicker(), video.Flicker()
    for i in range(6):
        part = np.s_[:, i * 5 : i * 5 + 110]
        moving.add(np.ascontiguousarray(photo[part]), np.ascontiguousarray(labels[part]))
        restless.add(photo, (labels + i) % 2)
    in_place, along = moving.shares()
    assert in_place > 0.02 and along < in_place / 3
    assert restless.shares() == (1, 1)
    assert video.Flicker().shares() is None


def test_a_video_that_ends_early_is_kept_and_named(run, photo, tmp_path, capsys, monkeypatch):
    path = film(photo, tmp_path / 'drive.avi')
    monkeypatch.setattr(video, 'length', lambda path: 9)
    out = tmp_path / 'out'
    assert tool.main([str(run), str(path), '--out', str(out)]) == 1
    assert 'ends after 5 of 9 frames' in capsys.readouterr().err
    assert len([*video._read(out / 'overlays' / 'drive.mp4')]) == 5


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['a.py', 'b.jpg'], 'its checkpoint .* has to follow'),
        (['b.jpg'], 'no network among these'),
        (['a.py', 'b.pth'], 'no photo, folder or video'),
        (['a.py', 'b.pth', 'c.jpg'], 'c.jpg: no such photo'),
    ],
)
def test_words_that_do_not_fit_are_explained_at_once(words, said, capsys, tmp_path):
    assert tool.main([*words, '--out', str(tmp_path / 'out')]) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (tmp_path / 'out').exists()


def test_two_files_of_one_prediction_are_refused(photo, tmp_path):
    paths = [save(photo, tmp_path / part / 'a.png') for part in 'xy']
    with pytest.raises(ValueError, match='have one name'):
        files.find(paths, tmp_path / 'out')
    assert [*files.find([tmp_path], tmp_path / 'out')] == ['x/a', 'y/a']
    assert [*files.find([tmp_path], tmp_path / 'x')] == ['y/a']  # nothing of `out`


def test_the_lines_of_the_page_run_as_they_stand(run, photo, tmp_path, monkeypatch):
    (block,) = blocks('predict.md', 'Python')
    save(photo, tmp_path / 'photo.jpg', 'JPEG')
    (tmp_path / 'work_dirs').mkdir()
    (tmp_path / 'work_dirs' / 'ibn_b_gta5_to_cityscapes').symlink_to(run)
    monkeypatch.chdir(tmp_path)
    exec(block, names := {})
    assert names['result'].labels.shape == (100, 150)
