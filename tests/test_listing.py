"""Which files of a dataset are its pairs, whatever lies beside them; over every row, by names."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from ibnseg import audit, domains, miniature
from ibnseg.domains import DOMAINS, DataError

SIZE = 64, 128
CONVERTED = ('_labelTrainIds.png', '_color.png', '_instanceIds.png', '_train_id.png',
             '_labelIds.png', '_mask.png', '_gtFine_polygons.json', '_gtFine_labelTrainIds.png',
             '_gt_labelColor.png')  # fmt: skip


@pytest.fixture(scope='module')
def drawn(tmp_path_factory) -> Path:
    """A data root with the names of every dataset's files, four a split; the files are empty."""
    root = tmp_path_factory.mktemp('drawn')
    photo, label = np.zeros((*SIZE, 3), np.uint8), np.full(SIZE, 7, np.uint8)
    for folder, layout in miniature.LAYOUTS.items():
        for frame in miniature.sets._frames(folder, 4, 4, SIZE, 0):
            for name in layout.files(frame, photo, label):
                path = root / folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    return root


@pytest.fixture(params=DOMAINS)
def name(request) -> str:
    return request.param


@pytest.fixture
def root(drawn, tmp_path, monkeypatch, name) -> Path:
    """A copy to change, of one dataset."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    folder = DOMAINS[name].folder
    shutil.copytree(drawn / folder, tmp_path / 'data' / folder)
    return tmp_path / 'data'


def keys(name: str, root: Path) -> list[str]:
    return list(domains.table.by_key(name, root)[0])


def kinds(name: str, root: Path) -> dict[Path, str]:
    """Files that the audit says to be foreign or misnamed."""
    findings = audit.audit(name, root, workers=1).findings
    return {f.file: f.kind for f in findings if f.kind in ('foreign', 'misnamed')}


def error(name: str, root: Path) -> str:
    with pytest.raises(DataError) as caught:
        domains.find(name, root)
    assert 'emove' not in str(caught.value), 'no advice to destroy'
    return str(caught.value)


def end(name: str, which: int) -> str:
    """What follows the key in a file's name, e.g. '_gtFine_labelIds'."""
    row, split = domains.parse(name)
    layout = row.layouts(Path(), split)[0]
    return (layout.photos, layout.truth)[which][0].around[1]


def made(label: Path, name: str, suffix: str) -> Path:
    return label.with_name(label.stem.removesuffix(end(name, 1)) + suffix)


# ------------------------------------------------------------------------ suffixes


def capital(suffix: str) -> str:
    return suffix[0] + suffix[1:].capitalize()


def other_spelling(suffix: str) -> str:
    return suffix.replace('jpg', 'jpeg')


def loud_other_spelling(suffix: str) -> str:
    return other_spelling(suffix).upper()


@pytest.mark.parametrize('spell', [str.upper, capital, other_spelling, loud_other_spelling])
def test_suffixes_in_any_case(root, name, spell):
    before, pairs = keys(name, root), domains.find(name, root)
    for path in {path for pair in pairs[1:] for path in pair}:
        path.rename(path.with_suffix(spell(path.suffix)))
    assert keys(name, root) == before
    assert kinds(name, root) == {}


def test_names_that_differ_only_in_case_are_one_name(root, name):
    photo, _ = domains.find(name, root)[0]
    twin = photo.with_suffix(photo.suffix.upper())
    twin.touch()
    message = error(name, root)
    assert str(photo) in message and str(twin) in message and 'two files of one name' in message


# ------------------------------------------------------------------------ what lies beside


def test_files_of_systems_and_viewers_are_passed_over(root, name):
    before = domains.find(name, root)
    for path in {path for pair in before for path in pair}:
        path.with_name(f'._{path.name}').touch()
        for other in ('Thumbs.db', 'desktop.ini', '.DS_Store', f'.{path.name}.crdownload'):
            path.with_name(other).touch()
        for folder in ('__MACOSX', '.ipynb_checkpoints', '@eaDir'):
            path.with_name(folder).mkdir(exist_ok=True)
            (path.with_name(folder) / path.name).touch()
    assert domains.find(name, root) == before
    assert kinds(name, root) == {}


def test_converted_labels_beside_the_originals_are_passed_over(root, name):
    before = domains.find(name, root)
    for _, label in before:
        for suffix in CONVERTED:
            made(label, name, suffix).touch()
    assert domains.find(name, root) == before
    assert kinds(name, root) == {}


@pytest.mark.parametrize('suffix', CONVERTED)
def test_converted_labels_alone_are_named(root, name, suffix):
    if suffix.startswith(end(name, 1)) and end(name, 1):
        return  # the layout's own
    for _, label in dict.fromkeys(domains.find(name, root)):
        if label.exists():
            label.rename(made(label, name, suffix))
    for extra in root.rglob('*_gtFine_*'):  # cityscapes' and idd's own further files
        if not extra.name.endswith(suffix):
            extra.unlink()
    message = error(name, root)
    assert 'only converted label files are there' in message
    assert re.search(rf'{re.escape(suffix)}[,)]', message) and 'expected' in message


@pytest.mark.parametrize('which', [0, 1])
def test_the_partner_under_another_name_is_named(root, name, which):
    for change in (
        lambda path: path.with_suffix('.webp'),
        lambda path: path.with_suffix('.webp.part'),
        lambda path: path.with_name(f'copy of {path.name}'),
        lambda path: path.with_name(f'{path.stem} (1){path.suffix}'),
    ):
        pair = domains.find(name, root)[0]
        path = pair[which]
        moved = change(path)
        path.rename(moved)
        message = error(name, root)
        moved.rename(path)
        assert str(moved) in message and (str(path) in message or str(pair[1 - which]) in message)
        assert '--skip-list' in message


@pytest.mark.parametrize('which', [0, 1])
def test_a_file_without_a_partner(root, name, which):
    gone, left = domains.find(name, root)[0][which], domains.find(name, root)[0][1 - which]
    gone.unlink()
    message = error(name, root)
    assert message.startswith(f'{left}: {("label file", "photo")[which]} without a ')
    assert f'expected {gone}' in message and '--skip-list' in message
    alone = [f for f in audit.audit(name, root, workers=1).findings if f.kind.endswith('-alone')]
    assert left in [f.file for f in alone] and all('expected' in f.detail for f in alone)


def test_a_pair_that_no_rule_takes_is_refused(root, name):
    pairs = domains.find(name, root)
    photo, label = pairs[0]
    moved = photo.with_suffix('.bmp'), label.with_suffix('.tif')
    photo.rename(moved[0])
    label.rename(moved[1])
    if name == 'foggy_cityscapes':
        for other in photo.parent.glob(f'{photo.name[:20]}*.png'):
            other.unlink()  # of the other densities
    message = error(name, root)
    assert all(str(path) in message for path in moved) and 'Rename both' in message
    assert kinds(name, root)[moved[0]] == 'misnamed'
    skip_list = root / 'skip.txt'
    audit.audit(name, root, workers=1).write_skip_list(skip_list)
    (line,) = [line for line in skip_list.read_text().splitlines() if moved[0].name in line]
    skip_list.write_text(line)  # the others are empty files
    assert domains.find(name, root, [skip_list]) == pairs[1:]


def test_foreign_files_are_named_by_the_audit(root, name):
    pairs = domains.find(name, root)
    photo, label = pairs[0]  # by other names: of one name they would be a pair
    foreign = [photo.with_name(other) for other in ('notes.txt', 'cover.gif', 'old')]
    foreign += [label.with_name(other) for other in ('notes.txt', 'legend.gif', 'older')]
    for path in foreign:
        path.mkdir() if path.name.startswith('old') else path.touch()
    foreign.append(photo.with_name('another.webp'))
    foreign[-1].touch()
    assert domains.find(name, root) == pairs
    for one in (name, f'{name}:{domains.parse(name)[1]}'):
        found = kinds(one, root)
        assert found.keys() == set(foreign)


# ------------------------------------------------------------------------ several layouts


#: domain -> (its documented files, those of its other layout) below the data root
TWO = {
    'bdd100k': lambda root: [
        (path, root / 'bdd100k' / folder / f'{path.stem}{end}{path.suffix}')
        for old, folder, end in (
            ('images/10k/val', 'seg/images/val', ''),
            ('labels/sem_seg/masks/val', 'seg/labels/val', '_train_id'),
        )
        for path in sorted((root / 'bdd100k' / old).iterdir())
    ],
    'mapillary': lambda root: [
        (path, path.parents[1] / 'v1.2' / 'labels' / path.name)
        for path in sorted((root / 'mapillary/validation/labels').iterdir())
    ],
    'foggy_cityscapes': lambda root: [
        (path, root / 'cityscapes' / path.relative_to(root / 'foggy_cityscapes'))
        for path in sorted((root / 'foggy_cityscapes/gtFine/val').rglob('*_labelIds.png'))
    ],
    'camvid': lambda root: [
        (path, path.with_suffix('.jpg')) for path in sorted((root / 'camvid/val').iterdir())
    ],
}


@pytest.fixture(params=TWO)
def two(drawn, tmp_path, request) -> tuple[str, Path, list[tuple[Path, Path]]]:
    """A dataset in two layouts: name, data root, (file of the documented one, of the other)."""
    shutil.copytree(drawn / request.param, tmp_path / request.param)
    files = TWO[request.param](tmp_path)
    for path, copy in files:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    return request.param, tmp_path, files


def used(name: str, root: Path) -> set[Path]:
    return {path for pair in domains.find(name, root) for path in pair}


def test_of_two_complete_layouts_the_documented_one_is_used(two):
    name, root, files = two
    assert used(name, root) >= {path for path, _ in files}


@pytest.mark.parametrize('left', [0, 2])
def test_of_two_layouts_the_complete_one_is_used(two, left):
    name, root, files = two
    if name == 'camvid' and left:
        return  # a frame of two suffixes is named, below
    labels = [path for path, _ in files if path.suffix == '.png']
    for path in labels[left:]:
        path.unlink()
    assert used(name, root) >= {copy for _, copy in files}
    for path, copy in files:  # and the other way round
        if path.suffix == '.png':
            shutil.copy(copy, path)
            copy.unlink()
    assert used(name, root) >= {path for path, _ in files}


def test_two_layouts_of_which_none_is_complete_are_named_with_their_counts(two):
    name, root, files = two
    labels = [pair for pair in files if pair[0].suffix == '.png']
    labels[0][0].unlink()
    for _, copy in labels[1:3]:
        copy.unlink()
    message = error(name, root)
    if name == 'camvid':
        assert 'two files of one name' in message
    else:
        assert '(4 photos, 3 labels)' in message and '(4 photos, 2 labels)' in message


# ------------------------------------------------------------------------ the data root


def test_another_data_root_is_named(root, name):
    """One too deep, one too high, and a folder of another usual name."""
    folder = DOMAINS[name].folder
    deeper = next(path for path in sorted((root / folder).iterdir()) if path.is_dir())
    for given in (root / folder, deeper, root / folder / 'no' / 'such'):
        assert f'give --data-root {root}. ' in error(name, given)
    assert f'give --data-root {root}. ' in error(name, root.parent)
    for other in (folder.upper(), folder.capitalize(), f'{folder}_v1.0', folder.replace('_', '-')):
        if other != folder:
            (root / folder).rename(root / other)
            message = error(name, root)
            assert f'in {root / other}: rename' in message and f'to {folder}' in message
            assert f'in {root / other}: rename' in error(name, root / other)
            (root / other).rename(root / folder)


def test_a_relative_data_root_is_named_relative(root, name, monkeypatch):
    monkeypatch.chdir(root / DOMAINS[name].folder)
    assert f'give --data-root {root}. ' in error(name, Path())
    monkeypatch.chdir(root.parent)
    assert 'give --data-root data. ' in error(name, f'data/{DOMAINS[name].folder}')


def test_a_folder_of_another_spelling_is_named(root, name):
    row, split = domains.parse(name)
    folder = row.layouts(row.root(root), split)[0].truth[0].folder
    first = row.root(root) / folder.relative_to(row.root(root)).parts[0]
    first.rename(first.with_name(first.name.upper() + 's'))
    assert f'(there is {first.with_name(first.name.upper() + "s")})' in error(name, root)
