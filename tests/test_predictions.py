"""Predictions as files, against loops over pixels and the Cityscapes benchmark's own scorer."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from PIL import Image
from test_tools import ROOT, TINY, run

from ibnseg import command, domains, labels, miniature, report
from ibnseg.domains import DataError
from ibnseg.measure import from_files, matrices, predictions, protocols, records
from ibnseg.measure.confusion import score as scores_of
from ibnseg.train.config import load_config, parse_options

NAMES = {name: ':'.join((name, domains.parse(name)[1])) for name in domains.DOMAINS}


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data')
    miniature.write(root, tuple(miniature.LAYOUTS), train=2, val=4, size=(64, 128), workers=1)
    return root


def draw(domain: str, data: Path, seed: int = 0) -> list[np.ndarray]:
    """A prediction an image: two thirds right, the rest any class that the labels can name."""
    row, _ = domains.parse(domain)
    rng = np.random.default_rng(seed)
    classes = np.array(labels.class_ids(row.space), np.uint8)
    out = []
    for _, truth in domains.find(domain, data):
        right = domains.read_labels(truth, row.space)
        guess = rng.choice(classes, right.shape)
        out.append(np.where((right != 255) & (rng.random(right.shape) < 0.7), right, guess))
    return out


def save(folder: Path, drawn: list[np.ndarray], names: list[str]) -> Path:
    for prediction, name in zip(drawn, names, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(prediction).save(path)
    return folder


def own_names(domain: str, data: Path) -> list[str]:
    return [str(predictions.place(domain, key)) for key in predictions.photo_keys(domain, data)]


def by_loop(domain: str, data: Path, drawn: list[np.ndarray]) -> np.ndarray:
    """Count pixels by the names of their raw ids."""
    row, _ = domains.parse(domain)
    space = labels.space(row.space)
    classes = space.task.classes
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    for (_, truth), prediction in zip(domains.find(domain, data), drawn, strict=True):
        raw = domains.read_raw(truth, row.space)
        for label, guess in zip(raw.ravel().tolist(), prediction.ravel().tolist(), strict=True):
            name = space.names[label] if label < len(space.names) else None
            for number, of_class in enumerate(classes):
                if name in space.groups.get(of_class, ()):
                    matrix[number, guess] += 1
    return matrix


@pytest.mark.parametrize('domain', NAMES.values(), ids=NAMES)
def test_every_domain_is_scored_as_a_loop_over_pixels(data, tmp_path, capsys, domain):
    drawn = draw(domain, data)
    folder = save(tmp_path / 'p', drawn, own_names(domain, data))
    command.say_once.cache_clear()
    record, packed = from_files.measure(domain, folder, data, name='x')
    (measured,) = record.domains
    row, split = domains.parse(domain)
    count = f'{domain}: {len(drawn)} pairs, published are {row.splits[split]:,}'
    assert capsys.readouterr().out.splitlines() == [count]
    expected = by_loop(domain, data, drawn)
    np.testing.assert_array_equal(measured.matrix, expected)
    assert (measured.domain, measured.images) == (domain, len(drawn))
    ious = [
        expected[c, c] / union if (union := expected[c].sum() + expected[:, c].sum()
                                   - expected[c, c]) else np.nan
        for c in measured.classes
    ]  # fmt: skip
    found = scores_of(measured.matrix, measured.classes)
    np.testing.assert_allclose(found.iou, ious, rtol=1e-12)
    assert 0.2 < found.miou < 0.95 and found.counted > 1
    np.testing.assert_array_equal(packed[domain].total(), expected)
    assert packed[domain].keys == predictions.photo_keys(domain, data)
    space = domains.parse(domain)[0].space
    assert (measured.raw is not None) == bool(labels.maps(space))
    if measured.raw is not None:
        np.testing.assert_array_equal(labels.fold(measured.raw, space), expected)
    to_raw = np.zeros(256, np.uint8)
    for number in labels.class_ids(space):
        to_raw[number] = labels.raw_id(space, labels.task(space).classes[number])
    save(folder, [to_raw[p] for p in drawn], own_names(domain, data))
    by_raw, _ = from_files.measure(domain, folder, data, name='x', ids='raw')
    np.testing.assert_array_equal(by_raw.domains[0].matrix, expected)
    assert by_raw.provenance['scored']['ids'] == 'raw'


@pytest.mark.parametrize('domain', ['cityscapes:val', 'cityscapes:train', 'foggy_cityscapes'])
def test_score_is_the_benchmarks(data, tmp_path, capsys, domain):
    """cityscapesscripts on the label files of the miniature and predictions of labelIds."""
    scorer = pytest.importorskip(
        'cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling',
        reason='cityscapesscripts is not installed: no official scorer to compare with',
    )
    drawn = [labels.CITYSCAPES_IDS[p] for p in draw(domain, data, seed=1)]
    pairs = domains.find(domain, data)
    folder = save(tmp_path / 'p', drawn, [photo.name for photo, _ in pairs])
    args = scorer.CArgs()
    vars(args).update(vars(scorer.args))
    args.evalInstLevelScore = args.JSONOutput = False
    args.quiet = True
    files = [str(folder / photo.name) for photo, _ in pairs]
    official = scorer.evaluateImgLists(files, [str(truth) for _, truth in pairs], args)
    capsys.readouterr()
    record, _ = from_files.measure(domain, folder, data, name='x', ids='cityscapes')
    found = scores_of(record.domains[0].matrix)
    ious = [official['classScores'][name] for name in labels.CLASSES]
    np.testing.assert_allclose(found.iou, ious, equal_nan=True, rtol=0, atol=1e-9)
    assert found.miou == pytest.approx(official['averageScoreClasses'], abs=1e-9)


# ------------------------------------------------------------------------ which file is whose

DOMAIN = 'cityscapes:val'
KEYS = [f'cityscapes/leftImg8bit/val/{name}_leftImg8bit.png' for name in ('a/a_0', 'b/b_1')]
TRUTHS = ['a_0_gtFine_labelIds', 'b_1_gtFine_labelIds']
RIGHT = {
    'as saved here': [key.removeprefix('cityscapes/') for key in KEYS],
    'below the data root': KEYS,
    'by name': ['b_1_leftImg8bit.png', 'x/y/a_0_leftImg8bit.png'],
    'by the name of the label': ['a_0_gtFine_labelIds.png', 'b_1_gtFine_labelIds.png'],
    'by the frame': ['a_0.png', 'b/b_1_pred.png'],
    'by the frame and more': ['a_0_leftImg8bit_pred.PNG', 'x/pred_b_1.my-model.png', '._b_1.png'],
}  # fmt: skip
WRONG = {
    'none': ([], 'a_0_leftImg8bit.png: no prediction (2 of 2 photos'),
    'one missing': (RIGHT['by name'][:1], 'a_0_leftImg8bit.png: no prediction (1 of 2 photos'),
    'one more': ([*KEYS, 'c.png'], 'c.png: a prediction for no photo (1 such'),
    'two of a name': (
        ['x/a_0_leftImg8bit.png', 'y/a_0_leftImg8bit.png', 'b_1_leftImg8bit.png'],
        '2 predictions have its name',
    ),
    'both names': (['a_0_leftImg8bit.png', *RIGHT['by the name of the label']], '2 predictions'),
    'a rendering beside': (['a_0_pred.png', 'a_0_color.png', 'b_1.png'], '2 predictions'),
    'two frames': (['x_a_0_b_1.png', 'a_0.png', 'b_1.png'], 'a prediction for no photo'),
    'another frame': (['a_01.png', 'b_1.png'], 'a_0_leftImg8bit.png: no prediction (1 of 2'),
    'other suffixes': (['a_0_leftImg8bit.jpg', 'b_1_leftImg8bit.npy'], 'among the 0 PNGs'),
}


def touch(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize('kind', RIGHT)
def test_predictions_are_found(tmp_path, kind):
    touch(tmp_path, [*RIGHT[kind], 'notes.txt'])
    found = predictions.match(KEYS, TRUTHS, tmp_path)
    assert ['a_0' in found[0].stem, 'b_1' in found[1].stem, len(found)] == [True, True, 2]
    other = [f'{key.removesuffix("png")}jpg' for key in KEYS]
    assert predictions.match(other, TRUTHS, tmp_path) == found, "the photo's suffix is no matter"


@pytest.mark.parametrize('kind', WRONG)
def test_predictions_that_do_not_fit_are_named(tmp_path, kind):
    names, says = WRONG[kind]
    touch(tmp_path, names)
    with pytest.raises(DataError) as caught:
        predictions.match(KEYS, TRUTHS, tmp_path)
    assert says in str(caught.value) and '\n' not in str(caught.value)


def test_photos_of_one_name_need_the_path(tmp_path):
    """As the drives of IDD and KITTI number their frames anew."""
    keys = ['idd/leftImg8bit/val/1/frame0.png', 'idd/leftImg8bit/val/2/frame0.png']
    touch(tmp_path, ['frame0.png'])
    with pytest.raises(DataError, match=r'could be for .*val/1/frame0.* and for .*val/2/frame0'):
        predictions.match(keys, ['x', 'y'], tmp_path)
    (tmp_path / 'frame0.png').unlink()
    touch(tmp_path, [f'leftImg8bit/val/{drive}/frame0.png' for drive in '12'])
    assert [path.parent.name for path in predictions.match(keys, ['x', 'y'], tmp_path)] == [
        '1',
        '2',
    ]


#: What the benchmarks' own tools and servers call a prediction, after where that is said; those of
#: one number in several drives lie in the drive's folder.
OFFICIAL = {
    'cityscapes:val': ['{frame}_pred.png', '{frame}.png'],  # evalPixelLevelSemanticLabeling.py
    'foggy_cityscapes:val': ['{frame}_pred.png'],
    'acdc:val': ['{frame}.png', '{photo}.png', '{frame}_pred.png'],
    'dark_zurich:val': ['{frame}.png', '{photo}.png'],
    'kitti:train': ['{photo}.png'],  # devkit_semantics: names as the photos'
    'bdd100k:val': ['{photo}.png', '{photo}_train_id.png'],  # doc.bdd100k.com, both downloads
    'mapillary:val': ['{photo}.png'],
    'gta5:val': ['{photo}.png'],
    'synthia:val': ['{photo}.png'],
    'idd:val': ['{drive}/{frame}_gtFine_labellevel3Ids.png', '{drive}/{frame}_gtFine_labelids.png'],
    'camvid32:val': ['{photo}.png', '{photo}_L.png'],
    'bdd100k_drivable:val': ['{photo}.png', '{photo}_drivable_id.png'],
}


@pytest.mark.parametrize(('domain', 'form'), [(d, one) for d in OFFICIAL for one in OFFICIAL[d]])
def test_the_benchmarks_file_names_are_taken(data, tmp_path, domain, form):
    pairs = domains.find(domain, data)
    suffix = r'_(leftImg8bit.*|rgb_anon)$'
    names = [
        form.format(frame=re.sub(suffix, '', p.stem), photo=p.stem, drive=p.parent.name)
        for p, _ in pairs
    ]
    touch(tmp_path, names)
    keys = predictions.photo_keys(domain, data)
    found = predictions.match(keys, [truth.stem for _, truth in pairs], tmp_path)
    assert found == [tmp_path / name for name in names]


def test_drives_that_share_a_frame_need_their_folder(tmp_path):
    keys = [f'idd/leftImg8bit/val/{drive}/7_leftImg8bit.png' for drive in '12']
    touch(tmp_path, ['1/7_pred.png', '2/7_pred.png'])
    found = predictions.match(keys, ['7_gtFine_polygons'] * 2, tmp_path)
    assert [path.parent.name for path in found] == ['1', '2']


@pytest.mark.parametrize(
    ('domain', 'values', 'ids', 'hint'),
    [
        ('acdc:val', [7, 11, 33], 'train', '--ids cityscapes'),
        ('cityscapes:val', [7, 11, 33], 'train', '--ids raw'),
        ('cityscapes:val', [0, 18], 'cityscapes', '--ids train'),
        ('bdd100k:val', [0, 18], 'cityscapes', '--ids train'),
        ('cityscapes:val', [7, 99], 'train', ''),
    ],
)
def test_the_hint_fits_the_values(data, tmp_path, domain, values, ids, hint):
    drawn = [np.resize(np.uint8(values), (64, 128)) for _ in domains.find(domain, data)]
    save(tmp_path, drawn, own_names(domain, data))
    with pytest.raises(DataError, match='none of the 19 classes') as caught:
        from_files.measure(domain, tmp_path, data, name='x', ids=ids)
    assert str(caught.value).partition('needs a class.')[2].endswith(hint)
    assert str(caught.value).count('fit --ids') == bool(hint)


# ------------------------------------------------------------------------ what is in a file


@pytest.fixture
def saved(data, tmp_path) -> tuple[Path, list[Path]]:
    """(folder, files) of the predictions for a domain, as another tool may have written them."""
    names = [f'{Path(key).stem}.png' for key in predictions.photo_keys(DOMAIN, data)]
    folder = save(tmp_path / 'theirs', draw(DOMAIN, data), names)
    return folder, [folder / name for name in names]


DAMAGE = {
    'scaled': (
        lambda image: image.resize((64, 32), Image.Resampling.NEAREST),
        '64x32, its label .*nearest neighbour',
    ),
    'coloured': (
        lambda image: Image.fromarray(labels.PALETTE[np.asarray(image)]),
        'mode RGB.*colour rendering',
    ),
    'raw ids': (
        lambda image: Image.fromarray(labels.CITYSCAPES_IDS[np.asarray(image)]),
        'none of the 19 classes.*--ids raw',
    ),
    '16 bits': (
        lambda image: Image.fromarray(np.asarray(image).astype(np.uint16)),
        'mode I;16.*one 8-bit channel',
    ),
    'JPEG': (None, 'JPEG data; expected PNG, which keeps ids'),
    'cut': (None, 'unreadable prediction.*Write it again'),
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_what_cannot_be_scored_is_named(data, saved, damage):
    folder, files = saved
    change, says = DAMAGE[damage]
    if damage == 'JPEG':
        Image.open(files[1]).convert('L').save(files[1], 'JPEG')
    elif change:
        change(Image.open(files[1])).save(files[1])
    else:
        files[1].write_bytes(files[1].read_bytes()[:-200])
    with pytest.raises(DataError, match=says) as caught:
        from_files.measure(DOMAIN, folder, data, name='x')
    assert str(caught.value).startswith(f'{files[1]}: ') and '\n' not in str(caught.value)


def test_only_where_the_truth_is_a_class_a_class_is_needed(data, saved):
    folder, files = saved
    before, _ = from_files.measure(DOMAIN, folder, data, name='x')
    for file, (_, truth) in zip(files, domains.find(DOMAIN, data), strict=True):
        prediction = np.array(Image.open(file))
        ignored = domains.read_labels(truth, 'cityscapes') == 255
        assert ignored.any()
        prediction[ignored] = 255
        Image.fromarray(prediction).save(file)
    after, _ = from_files.measure(DOMAIN, folder, data, name='x')
    np.testing.assert_array_equal(before.domains[0].matrix, after.domains[0].matrix)
    shas = [record.provenance['scored']['sha256'] for record in (before, after)]
    assert shas[0] != shas[1], 'the files are told apart'


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (dict(name=None), 'give --name'),
        (dict(ids='train ids'), "--ids train ids: choose 'train', 'raw'"),
        (dict(ids='bdd100k-drivable'), '--ids bdd100k-drivable: choose'),
        (dict(folder='absent'), 'absent: no such folder'),
    ],
)
def test_bad_words(data, saved, tmp_path, change, says):
    given = dict(name='x') | change
    folder = tmp_path / given.pop('folder', 'theirs')
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        from_files.measure(DOMAIN, folder, data, **given)


# ------------------------------------------------------------------------ the round trip


@pytest.fixture(scope='module')
def tested(data, tmp_path_factory):
    """(folder, config words) of `test --save-predictions` in two processes."""
    out = tmp_path_factory.mktemp('tested')
    config = load_config(
        ROOT / 'configs/miniature/ibn_b.py', data_root=str(data), options=parse_options(TINY)
    )
    config.model.backbone.init_cfg = None
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        network = MODELS.build(config.model)
    torch.save(dict(state_dict=network.state_dict()), out / 'x.pth')
    run(
        'test.py', 'configs/miniature/ibn_b.py', out / 'x.pth', '--data-root', data,
        '--work-dir', out, '--out', out / 'x.record.json', '--save-predictions', out / 'saved',
        '--domains', *('gta5', 'cityscapes', 'idd', 'camvid:0001TP'), '--cfg-options', *TINY[:4],
        processes=2,
    )  # fmt: skip
    return out


def test_saved_predictions_keep_domain_and_path(tested, data):
    measured = records.read(tested / 'x.record.json').domains
    found = {str(path.relative_to(tested / 'saved')) for path in (tested / 'saved').rglob('*.png')}
    expected = {
        f'{m.domain.replace(":", "/")}/{Path(*Path(key).parts[1:]).with_suffix(".png")}'
        for m in measured
        for key in predictions.photo_keys(m.domain, data)
    }
    assert found == expected and len(found) == sum(m.images for m in measured)
    assert not list((tested / 'saved').rglob('.*')), 'no temporary file is left'
    path = tested / 'saved/gta5/val' / predictions.photo_keys('gta5', data)[0].removeprefix('gta5/')
    with Image.open(path) as image:
        assert (image.mode, image.size) == ('P', (128, 64))
        assert image.getpalette()[:57] == labels.PALETTE.ravel().tolist()
    assert path.read_bytes()[24] == 8, 'bits a pixel'


@pytest.mark.parametrize('domain', ['gta5:val', 'cityscapes:val', 'idd:val', 'camvid:0001TP'])
def test_saved_predictions_score_as_the_evaluation(tested, data, domain):
    before = records.read(tested / 'x.record.json')
    record, packed = from_files.measure(domain, tested / 'saved', data)
    (expected,) = (m for m in before.domains if m.domain == domain)
    (found,) = record.domains
    np.testing.assert_array_equal(found.matrix, expected.matrix)
    assert found.protocol_hash == expected.protocol_hash
    assert (record.model, record.source) == (before.model, before.source)
    assert record.provenance['checkpoint_sha256'] == before.provenance['checkpoint_sha256']
    assert record.provenance['scored']['folder'].startswith(str(tested / 'saved'))
    whole = matrices.read(tested / 'x.record.json', before)[domain]
    assert whole.keys == packed[domain].keys
    for part in ('starts', 'cells', 'counts'):
        np.testing.assert_array_equal(getattr(whole, part), getattr(packed[domain], part))


def test_one_bad_pair_costs_its_own_domain_only_and_the_command_goes_on(tested, data, tmp_path):
    shutil.copytree(data, tmp_path / 'data')
    _, bad = domains.find('cityscapes', tmp_path / 'data')[1]
    whole = bad.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255  # within: from outside it looks whole
    bad.write_bytes(damaged)
    out, saved = tmp_path / 'x.record.json', tmp_path / 'saved'
    words = [
        'test.py', 'configs/miniature/ibn_b.py', tested / 'x.pth', '--data-root', tmp_path / 'data',
        '--work-dir', tmp_path, '--out', out, '--save-predictions', saved,
        '--domains', 'gta5', 'cityscapes', '--cfg-options', *TINY[:4],
        'test_dataloader.batch_size=3',
    ]  # fmt: skip
    done = run(*words, code=1)
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f'error: cityscapes:val is not measured, 1 of its pairs cannot be read: {bad}'
    )
    assert f'{out} holds the others (gta5:val)' in line
    before = {m.domain: m for m in records.read(tested / 'x.record.json').domains}
    record = records.read(out)
    assert [m.domain for m in record.domains] == ['gta5:val']
    assert list(record.provenance['unmeasured']) == ['cityscapes:val']
    np.testing.assert_array_equal(record.domains[0].matrix, before['gta5:val'].matrix)
    files = {path: path.stat().st_mtime_ns for path in saved.rglob('*.*')}
    assert len(files) == 7 and not (saved / predictions.MANIFEST).exists()

    bad.write_bytes(whole)
    run(*words)
    record = records.read(out)
    assert 'unmeasured' not in record.provenance
    for measured in record.domains:
        np.testing.assert_array_equal(measured.matrix, before[measured.domain].matrix)
        from_files.measure(measured.domain, saved, tmp_path / 'data')
    assert {path: path.stat().st_mtime_ns for path in files} == files, 'kept'


def test_only_the_same_predictions_are_continued(data, tmp_path):
    def saver(mark: str) -> predictions.Saver:
        return predictions.Saver(tmp_path / 'p', {DOMAIN: mark}, data)

    drawn = draw(DOMAIN, data)
    saver('a')(DOMAIN, 2, drawn[2])
    (tmp_path / 'p' / '.left.png.x1').touch()  # by a killed process
    again = saver('a')
    np.testing.assert_array_equal(again.kept(DOMAIN, 2, (64, 128)), drawn[2])
    assert again.kept(DOMAIN, 1, (64, 128)) is None
    assert again.kept(DOMAIN, 2, (32, 128)) is None, 'another label file now'
    with pytest.raises(FileExistsError, match=r'exists already.*never mix'):
        saver('another checkpoint')
    (file,) = (tmp_path / 'p').rglob('[!.]*.png')
    Image.open(file).save(file)
    with pytest.raises(FileExistsError, match=re.escape(str(file))):
        saver('a')


def test_changed_predictions_are_not_the_checkpoints(tested, data, tmp_path):
    shutil.copytree(tested / 'saved', tmp_path / 'saved')
    file = next((tmp_path / 'saved/gta5').rglob('*.png'))
    file.write_bytes(predictions.encode(np.zeros((64, 128), np.uint8), labels.PALETTE))
    with pytest.raises(ValueError, match=r'predictions\.json.*--name'):
        from_files.measure('gta5', tmp_path / 'saved', data)
    (tmp_path / 'saved' / 'predictions.json').unlink()
    record, _ = from_files.measure('gta5', tmp_path / 'saved', data, name='post-processed')
    assert record.provenance['selection'] == 'scored from files'
    assert record.domains[0].protocol['name'] == 'files'


def test_a_folder_with_something_in_it_is_not_written_to(tested, data):
    before = {path: path.stat().st_mtime_ns for path in (tested / 'saved').rglob('*')}
    done = run(
        'test.py', 'configs/miniature/ibn_b.py', tested / 'x.pth', '--data-root', data,
        '--work-dir', tested, '--save-predictions', tested / 'saved', code=2,
    )  # fmt: skip
    assert done.stderr.startswith(f'error: --save-predictions {tested / "saved"}: exists already')
    assert before == {path: path.stat().st_mtime_ns for path in (tested / 'saved').rglob('*')}


def test_two_photos_never_share_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, 'photo_keys', lambda *_: ['gta5/a/1.png', 'gta5/a/1.jpg'])
    with pytest.raises(ValueError, match=r'gta5/a/1.png and gta5/a/1.jpg would share .*1.png'):
        predictions.Saver(tmp_path / 'p', {'gta5:val': ''}, 'data')


def test_splits_have_folders_of_their_own():
    folders = [
        predictions.place(f'camvid:{s}') for s in ('train', 'train/0006R0', '0006R0', 'test')
    ]
    assert len(set(folders)) == 4
    assert not any(a in b.parents for a in folders for b in folders)


def test_anothers_predictions_stand_beside_ours(tested, data, saved, tmp_path):
    """A stranger's model on two domains is one row; its protocol is not ours unless we say so."""
    folders = {DOMAIN: saved[0]}
    folders['gta5'] = save(tmp_path / 'gta', draw('gta5', data), own_names('gta5', data))
    ours = tested / 'x.record.json'
    files = [tmp_path / 'one.record.json', tmp_path / 'two.record.json', ours]

    def read(like: records.Record | None) -> list[records.Record]:
        for (domain, folder), out in zip(folders.items(), files, strict=False):
            given = dict(name='theirs', source='gta5:train', like=like)
            matrices.save(*from_files.measure(domain, folder, data, **given), out)
        return [records.read(file) for file in files]

    found = read(None)
    with pytest.raises(ValueError, match=r'measured by protocol .*--mixed'):
        report.tabulate(found, files=files)
    page = report.texts(report.tabulate(found, mixed=True, files=files))['report.md']
    assert '†' in page and 'scored from files' in page and 'whose geometry is not known' in page
    assert page.count('| theirs | 1 |') == 1

    table = report.tabulate(read(records.read(ours)), files=files)
    assert '†' not in report.texts(table)['report.md']
    pairs = {(one.domain, one.model, one.against) for one in report.gather(table).pairs}
    assert {domain for domain, *_ in pairs} == {'gta5:val', 'cityscapes:val'}
    with pytest.raises(ValueError, match=r'--like: the record of theirs holds no gta5:val'):
        like = records.read(files[0])
        from_files.measure('gta5', folders['gta5'], data, name='x', like=like)


def test_labels_that_a_protocol_cuts_are_not_in_files(data, saved):
    protocol = dataclasses.replace(
        protocols.describe('robustnet-1536', 'mapillary', 4), domain='cityscapes'
    )
    content = protocol.content() | dict(classes=list(protocol.classes))
    measured = records.Measurement(DOMAIN, 4, content, protocol.hash, np.zeros((19, 19), np.int64))
    like = records.Record('x', 'gta5:train', list(labels.CLASSES), {}, [measured])
    with pytest.raises(ValueError, match=r'scaled or cut labels \(label_height, label_crop'):
        from_files.measure(DOMAIN, saved[0], data, name='x', like=like)


def test_command_says_where_the_record_is(tested, data):
    done = run('score.py', 'idd', tested / 'saved', '--data-root', data)
    assert done.stderr == ''
    path = tested / 'saved.idd.val.record.json'
    assert str(path) in done.stdout
    record = records.read(path)
    assert matrices.read(path, record)['idd:val'].keys == predictions.photo_keys('idd', data)
    assert report.tabulate([record]).rows[0].model == 'ibn_b'


def test_pairs_of_a_skip_list_are_left_out(data, tmp_path):
    """Saved and scored: each prediction keeps its own photo's name."""
    keys, drawn = predictions.photo_keys(DOMAIN, data), draw(DOMAIN, data)
    skip_list = tmp_path / 'skip.txt'
    skip_list.write_text(f'{keys[1]}\n')
    saver = predictions.Saver(tmp_path / 'saved', {DOMAIN: ''}, data, [skip_list])
    kept = [0, 2, 3]
    for number, i in enumerate(kept):
        saver(DOMAIN, number, drawn[i])
    whole = save(tmp_path / 'whole', drawn, own_names(DOMAIN, data))
    words = dict(name='x', skip_lists=[skip_list])
    record, packed = from_files.measure(DOMAIN, tmp_path / 'saved', data, **words)
    assert packed[DOMAIN].keys == tuple(keys[i] for i in kept)
    (found,) = record.domains
    assert found.images == 3 and found.protocol['pairs']
    _, by_image = from_files.measure(DOMAIN, whole, data, name='x')
    for number, i in enumerate(kept):
        np.testing.assert_array_equal(packed[DOMAIN][number], by_image[DOMAIN][i])
    with pytest.raises(DataError, match=r'no prediction \(1 of 4'):
        from_files.measure(DOMAIN, tmp_path / 'saved', data, name='x')
    with pytest.raises(ValueError, match=r'measured on 3 pairs.*here are 4.*the same --skip-list'):
        from_files.measure(DOMAIN, whole, data, name='x', like=record)
