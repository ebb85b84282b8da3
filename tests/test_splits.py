import pytest

from ibnseg import splits

COUNTS = {'train': 12403, 'val': 6382, 'test': 6181, 'train-12388': 12388}


@pytest.mark.parametrize(('split', 'count'), COUNTS.items())
def test_official_counts(split, count):
    names = splits.gta5(split)
    assert len(names) == len(set(names)) == count
    assert list(names) == sorted(names)


def test_official_splits_divide_the_data_set():
    parts = [splits.gta5(split) for split in ('train', 'val', 'test')]
    assert sorted(sum(parts, ())) == [f'{n:05d}.png' for n in range(1, 24967)]
    assert set(splits.gta5('train-12388')) < set(splits.gta5('train'))


@pytest.mark.parametrize(
    ('split', 'file'), [('train-12388', 'train'), ('val', 'val'), ('test', 'test')]
)
def test_lists_are_the_published_ones(split, file, shared):
    published = shared('reference', 'splits', f'gta5_{file}.txt').read_text().split()
    assert list(splits.gta5(split)) == sorted(published)


@pytest.mark.parametrize(('split', 'count'), {'train': 6580, 'val': 2820, 'all': 9400}.items())
def test_synthia_counts(split, count):
    names = splits.synthia(split)
    assert len(names) == len(set(names)) == count
    assert list(names) == sorted(names)


def test_synthia_splits_divide_the_data_set():
    assert sorted(splits.synthia('train') + splits.synthia('val')) == list(splits.synthia('all'))
    assert splits.synthia('all')[:2] == ('0000000.png', '0000001.png')


@pytest.mark.parametrize('split', ['train', 'val'])
def test_synthia_lists_are_the_published_ones(split, shared):
    published = shared('reference', 'splits', f'synthia_{split}.txt').read_text().split()
    assert list(splits.synthia(split)) == sorted(published)


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_camvid_split_is_that_of_the_folders(split, shared):
    frames = [path.stem for path in shared('data', 'camvid', split).iterdir()]
    assert frames and {splits.camvid(stem) for stem in frames} == {split}


@pytest.mark.parametrize('stem', ['', 'notes', '0001TP', '0001TP_x', '9999XX_000010', '0001TP_²'])
def test_other_files_are_in_no_camvid_split(stem):
    assert splits.camvid(stem) is None


@pytest.mark.parametrize('split', ['', 'Train', 'test', '../val'])
def test_unknown_synthia_split_names_the_choices(split):
    with pytest.raises(ValueError, match=f"no split '{split}'.*'all'"):
        splits.synthia(split)


@pytest.mark.parametrize('split', ['', 'Train', 'trainval', '../val', 'all'])
def test_unknown_split_names_the_choices(split):
    with pytest.raises(ValueError, match=f"no split '{split}'.*'train-12388'"):
        splits.gta5(split)
