import pytest

from ibnseg import splits

COUNTS = {
    splits.gta5: {'train': 12403, 'val': 6382, 'test': 6181, 'train-12388': 12388},
    splits.synthia: {'train': 6580, 'val': 2820, 'all': 9400},
}
CASES = [(names, split, count) for names, of in COUNTS.items() for split, count in of.items()]


@pytest.mark.parametrize(('names', 'split', 'count'), CASES)
def test_published_counts(names, split, count):
    found = names(split)
    assert len(found) == len(set(found)) == count
    assert list(found) == sorted(found)


def test_splits_divide_the_data_set():
    parts = [splits.gta5(split) for split in ('train', 'val', 'test')]
    assert sorted(sum(parts, ())) == [f'{n:05d}.png' for n in range(1, 24967)]
    assert set(splits.gta5('train-12388')) < set(splits.gta5('train'))
    every = sorted(splits.synthia('train') + splits.synthia('val'))
    assert every == list(splits.synthia('all')) == [f'{n:07d}.png' for n in range(9400)]


@pytest.mark.parametrize(
    ('names', 'split', 'file'),
    [
        (splits.gta5, 'train-12388', 'gta5_train'),
        (splits.gta5, 'val', 'gta5_val'),
        (splits.gta5, 'test', 'gta5_test'),
        (splits.synthia, 'train', 'synthia_train'),
        (splits.synthia, 'val', 'synthia_val'),
    ],
)
def test_lists_are_the_published_ones(names, split, file, shared):
    published = shared('reference', 'splits', f'{file}.txt').read_text().split()
    assert list(names(split)) == sorted(published)


@pytest.mark.parametrize('split', ['train', 'val', 'test'])
def test_camvid_split_is_that_of_the_folders(split, shared):
    frames = [path.stem for path in shared('data', 'camvid', split).iterdir()]
    assert frames and {splits.camvid(stem) for stem in frames} == {split}


@pytest.mark.parametrize('stem', ['', 'notes', '0001TP', '0001TP_x', '9999XX_000010', '0001TP_²'])
def test_other_files_are_in_no_camvid_split(stem):
    assert splits.camvid(stem) is None


@pytest.mark.parametrize('split', ['', 'Train', 'trainval', '../val'])
@pytest.mark.parametrize(
    ('names', 'choice'), [(splits.gta5, 'train-12388'), (splits.synthia, 'all')]
)
def test_unknown_split_names_the_choices(names, choice, split):
    with pytest.raises(ValueError, match=f"no split '{split}'.*'{choice}'"):
        names(split)
