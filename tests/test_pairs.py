"""Which pairs of a split are used: those that fit, named by what they share."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mmengine.registry import DefaultScope
from PIL import Image

from ibnseg import domains, miniature
from ibnseg.domains import DataError, pairs
from ibnseg.measure import from_files
from ibnseg.pipeline.dataset import CrossDomainDataset, DomainDataset
from ibnseg.train import checks
from ibnseg.train import test as testing
from ibnseg.train.config import load_config

WORLDS = ('gta5', 'bdd100k', 'mapillary', 'idd', 'kitti')
STEPS = [dict(type='LoadPhoto'), dict(type='LoadLabels'), dict(type='PackSegInputs')]


@pytest.fixture(scope='module')
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('drawn')
    miniature.write(root, WORLDS, train=4, val=3, size=(64, 128), workers=1)
    return root


@pytest.fixture
def root(drawn, tmp_path) -> Path:
    return shutil.copytree(drawn, tmp_path / 'data')


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def scale(path: Path) -> None:
    image = Image.open(path)
    image.resize((60, 30), 0).save(path)


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path) -> None:
    """Damage within: head and end stay."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b'\n\nof another tool')


def turn(path: Path) -> None:
    image = Image.open(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)


# ------------------------------------------------------------------------ what fits


@pytest.mark.parametrize('which', [0, 1], ids=['photo', 'label'])
@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (lambda path: path.write_bytes(b''), 'unreadable'),
        (lambda path: path.write_text('version https://git-lfs.github.com/spec/v1'), 'unreadable'),
        (cut, 'unreadable'),
        (scale, 'label is {}, its photo'),
    ],
    ids=['empty', 'text', 'cut off', 'scaled'],
)
@pytest.mark.parametrize('domain', ['gta5:train', 'bdd100k:val', 'mapillary', 'idd', 'idd_level3'])
def test_a_pair_that_does_not_fit_is_left_out_or_refused(root, domain, damage, words, which):
    before = domains.use(domain, root)
    odd = before.pairs[1]
    if odd[which].suffix == '.json' and damage is scale:
        odd[1].write_text(odd[1].read_text().replace('128', '60', 1))
    else:
        damage(odd[which])
    used = domains.use(domain, root)
    assert used.pairs == [pair for pair in before.pairs if pair != odd]
    assert used.keys == before.keys[:1] + before.keys[2:]
    assert [*used.odd] == [odd] and not used.skipped
    (wrong,) = map(str, used.odd.values())
    assert words.split('{}')[0] in wrong and str(odd[which]) in wrong
    assert used.part == used.digest != before.digest
    note = used.note()
    assert f'1 of {len(before.pairs)} pairs left out' in note and str(odd[which]) in note
    assert f'ibnseg audit {used.domain}' in note and '--skip-list' in note
    assert '12388' not in note
    with pytest.raises(DataError, match='--skip-list') as caught:
        domains.use(domain, root, odd_pairs='refuse')
    assert str(odd[which]) in str(caught.value)


@pytest.mark.parametrize(
    ('domain', 'change', 'which'),
    [
        ('gta5:train', append, 0), ('gta5:train', append, 1), ('bdd100k', append, 0),
        ('gta5:train', turn, 0), ('bdd100k', turn, 0),
    ],
)  # fmt: skip
def test_what_reads_as_it_should_fits(root, domain, change, which):
    """Bytes behind the end do no harm; a photo is turned by its EXIF tag as it is read."""
    before = domains.use(domain, root)
    change(before.pairs[0][which])
    assert domains.use(domain, root, odd_pairs='refuse') == before


def test_three_are_named_and_the_rest_counted(root):
    for _, label in domains.find('gta5:train', root):
        scale(label)
    with pytest.raises(DataError, match=r'\(4 of the 4 pairs of gta5:train do not fit\)'):
        domains.use('gta5:train', root)
    more = replace(domains.use('gta5', root), odd={(Path(f'{i}'),) * 2: f'x{i}' for i in range(5)})
    assert '\n  x2\n  and 2 more\n' in more.note() and 'x3' not in more.note()
    assert domains.use('gta5', root).note() == ''
    with pytest.raises(DataError, match=r"choose from \('leave_out', 'refuse'\)"):
        domains.use('gta5', root, odd_pairs='skip')


def test_sizes_are_remembered_until_a_file_changes(root, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(pairs, '_FEW', 0)
    read = pairs._size
    looked = []
    monkeypatch.setattr(pairs, '_size', lambda path: looked.append(path) or read(path))
    whole = domains.use('gta5:train', root)
    assert len(looked) == 8
    assert domains.use('gta5:train', root) == whole and len(looked) == 8
    label = whole.pairs[2][1]
    kept = label.read_bytes()
    label.write_bytes(b'')
    for times in (1, 2):  # what can't be read may be readable next time, by other rights
        assert len(domains.use('gta5:train', root).odd) == 1 and looked[8:] == [label] * times
    label.write_bytes(kept)
    assert domains.use('gta5:train', root) == whole
    (tmp_path / 'cache/ibnseg/sizes/gta5.json').write_text('{}')
    assert domains.use('gta5:train', root) == whole


# ------------------------------------------------------------------------ which pairs these are


def test_halves_differ_and_a_full_set_needs_no_digits(root, monkeypatch):
    whole = domains.use('gta5:train', root)
    assert whole.summary() == dict(pairs=4, published=12403, digest=whole.digest)
    digests = {whole.digest}
    for pair in whole.pairs[:2]:
        for file in pair:
            file.rename(root / file.name)
        digests.add(domains.use('gta5:train', root).digest)
    assert len(digests) == 3
    row = replace(domains.DOMAINS['gta5'], splits={'train': 2, 'val': 3})
    monkeypatch.setitem(domains.DOMAINS, 'gta5', row)
    assert domains.use('gta5:train', root).part is None


def test_layouts_do_not_matter(root):
    """The older download of BDD100K, and GTA5's photos elsewhere."""
    before = domains.use('bdd100k', root)
    old = root / 'old' / 'bdd100k' / 'seg'
    for kind, suffix in (('images', '.jpg'), ('labels', '_train_id.png')):
        (old / kind / 'val').mkdir(parents=True)
        for pair in before.pairs:
            file = pair[kind == 'labels']
            shutil.copy(file, old / kind / 'val' / f'{file.stem}{suffix}')
    after = domains.use('bdd100k', root / 'old')
    assert after.digest == before.digest and after.pairs != before.pairs


def listed(root: Path, *lines: str) -> list[Path]:
    path = root / 'skip.txt'
    path.write_text('\n'.join(lines))
    return [path]


def test_a_list_that_removes_no_pair_changes_nothing(root, monkeypatch):
    row = replace(domains.DOMAINS['kitti'], splits={'train': 4})
    monkeypatch.setitem(domains.DOMAINS, 'kitti', row)
    before = domains.use('kitti', root)
    assert before.part is None
    photo = before.pairs[0][0]
    alone = shutil.copy(photo, photo.with_name('000099_11.png'))
    lists = listed(root, f'kitti/training/image_2/{alone.name}')
    assert domains.use('kitti', root, lists) == before
    lists = listed(root, f'kitti/training/image_2/{alone.name}', f'kitti/{below(root, photo)}')
    after = domains.use('kitti', root, lists)
    assert (len(after.pairs), after.skipped, after.part) == (3, 1, after.digest)


def below(root: Path, photo: Path) -> str:
    return '/'.join(photo.relative_to(root).parts[1:])


@pytest.mark.parametrize(
    ('named', 'read', 'counts'),
    [
        ('mapillary', 'mapillary_rich', True), ('mapillary_rich', 'mapillary', True),
        ('idd', 'idd_level3', True), ('idd_level3', 'idd', True),
        ('bdd100k', 'bdd100k_drivable', False),
    ],
)  # fmt: skip
def test_a_list_counts_wherever_the_photo_is_read(root, named, read, counts):
    before = domains.use(read, root)
    photo, _ = domains.use(named, root).pairs[0]
    after = domains.use(read, root, listed(root, f'{named}/{below(root, photo)}  # ids'))
    assert after.skipped == counts and after.pairs == before.pairs[counts:]


def config(root: Path, **words):
    path = Path(__file__).parents[1] / 'configs/miniature/ibn_b.py'
    found = load_config(path, data_root=str(root), **words)
    found.test_dataloader.dataset.domains = ['gta5:val', 'mapillary', 'mapillary_rich']
    return found


def test_the_protocol_is_of_the_pairs_that_are_measured(root, capsys):
    whole = checks.plan_measurement(config(root))
    assert 'mapillary:val: 3 pairs, published are 2,000' in capsys.readouterr().out
    scale(domains.find('mapillary', root)[0][1])
    plan = checks.plan_measurement(config(root))
    out = capsys.readouterr().out
    assert out.count('1 of 3 pairs left out') == 2, 'once a domain'
    assert [one.images for one in plan.values()] == [3, 2, 2]
    same = {name: one.hash == whole[name].hash for name, one in plan.items()}
    assert same == {'gta5:val': True, 'mapillary:val': False, 'mapillary_rich:val': False}
    assert plan['mapillary:val'].pairs == domains.use('mapillary', root).digest
    checks.plan_measurement(config(root))
    assert 'left out' not in capsys.readouterr().out, 'once'
    with pytest.raises(DataError, match='do not fit'):
        checks.plan_measurement(config(root, options=dict(odd_pairs='refuse')))
    # Mended between the plan and the measurement.
    with pytest.raises(ValueError, match=r'3 pairs were found before the run, 2 are there'):
        testing._check_pairs({name: domains.use(name, root) for name in plan}, whole)


def test_scoring_leaves_the_same_pairs_out(root, tmp_path):
    """Predictions of pairs that do not fit may be there."""
    truth = domains.find('gta5', root)
    folder = tmp_path / 'found'
    folder.mkdir()
    for photo, _ in truth:
        Image.fromarray(np.zeros((64, 128), np.uint8)).save(folder / photo.name)
    whole, _ = from_files.measure('gta5', folder, root, name='x')
    scale(truth[1][1])
    less, packed = from_files.measure('gta5', folder, root, name='x')
    (found,) = less.domains
    assert found.images == 2 and found.protocol['pairs'] == domains.use('gta5', root).digest
    assert [Path(key).name for key in packed['gta5:val'].keys] == [truth[i][0].name for i in (0, 2)]
    with pytest.raises(ValueError, match=r'measured on 3 pairs .* here are 2 pairs'):
        from_files.measure('gta5', folder, root, name='x', like=whole)


# ------------------------------------------------------------------------ damage within


def training(root: Path, **words) -> DomainDataset:
    return DomainDataset(['gta5:train', 'bdd100k:train'], str(root), STEPS, **words)


def drawn_at(dataset: DomainDataset, position: int, index: int):
    return dataset[(7, position), index]['data_samples']


@pytest.mark.parametrize('which', [0, 1], ids=['photo', 'label'])
def test_training_draws_another_sample_for_a_damaged_one(root, which):
    """It follows from the position alone, comes from the same domain, and says why."""
    pair = domains.find('gta5:train', root)[1]
    flip(pair[which])
    dataset = training(root)
    assert len(dataset) == 8, 'head and end are whole'
    samples = [drawn_at(dataset, position, 1) for position in range(12)]
    for sample in samples:
        assert sample.img_path != str(pair[0]) and sample.domain == 'gta5:train'
        ((name, why),) = sample.replaced.items()
        assert name == f'gta5/images/{pair[0].name}' and str(pair[which]) in why
    assert len({sample.img_path for sample in samples}) == 3
    again = [drawn_at(training(root), position, 1).img_path for position in range(12)]
    assert again == [sample.img_path for sample in samples]
    assert 'replaced' not in drawn_at(dataset, 0, 0) and 'replaced' not in drawn_at(dataset, 0, 5)


def test_damage_is_an_error_where_it_is_refused_measured_or_of_another_kind(root):
    photo, label = domains.find('gta5:train', root)[1]
    kept = photo.read_bytes()
    flip(photo)
    for dataset in (
        training(root, odd_pairs='refuse'),
        training(root, test_mode=True),
        CrossDomainDataset(['gta5:train'], str(root)),
    ):
        with pytest.raises(DataError, match=f'{photo}.*--skip-list'):
            dataset[1] if isinstance(dataset, CrossDomainDataset) else drawn_at(dataset, 0, 1)
    photo.write_bytes(kept)
    Image.fromarray(np.full((64, 128), 77, np.uint8)).save(label)
    with pytest.raises(DataError, match='ids 77'):  # says what labels mean: never stepped over
        drawn_at(training(root), 0, 1)


def test_a_folder_of_damage_ends_the_training(root):
    dataset = training(root)
    for photo, _ in domains.find('gta5:train', root):
        flip(photo)
    with pytest.raises(DataError, match='could not be read'):
        drawn_at(dataset, 0, 1)
