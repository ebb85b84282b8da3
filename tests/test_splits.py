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


@pytest.mark.parametrize('split', ['', 'Train', 'trainval', '../val', 'all'])
def test_unknown_split_names_the_choices(split):
    with pytest.raises(ValueError, match=f"no split '{split}'.*'train-12388'"):
        splits.gta5(split)
