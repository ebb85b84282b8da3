"""Intervals, paired comparisons and worst images in every form of a report."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from ibnseg import report
from ibnseg.measure import bootstrap, matrices, records
from ibnseg.measure.confusion import score
from ibnseg.measure.matrices import Images
from ibnseg.measure.protocols import protocol_hash
from ibnseg.measure.records import Measurement, Record, RecordError

CLASSES = ['road', 'car', 'sky']
KEYS = tuple(f'camvid/test/{i}.png' for i in range(6))
EVIL = '<script>alert(1)</script>|`*[x](javascript:y)\x1b[31m'


def drawn(model: int, seed: int, number: int = 6) -> np.ndarray:
    """Images of one truth for all; a model with a higher number has more right."""
    truth = np.random.default_rng(0).integers(50, 90, (number, 3))
    rng = np.random.default_rng([model, seed])
    wrong = rng.integers(10, 30, (number, 3)) - 4 * model
    counts = np.zeros((number, 3, 3), np.int64)
    for c in range(3):
        counts[:, c, c] = truth[:, c] - wrong[:, c]
        counts[:, c, (c + 1) % 3] = wrong[:, c]
    return counts


def write(folder, name, model, seed, domains=('camvid:0001TP',), keys=KEYS, files=True, **protocol):
    """Write a record and its images; returns the record's path."""
    content = dict(name='native', images=len(keys), mode='whole', classes=[0, 1, 2], **protocol)
    packed = {d: Images.pack(drawn(model, seed, len(keys)), keys) for d in domains}
    measured = [
        Measurement(d, len(keys), content, protocol_hash(content), some.total())
        for d, some in packed.items()
    ]
    origin = dict(seed=seed, selection='source validation', checkpoint_sha256=f'{name}{seed}')
    record = Record(name, 'camvid:train', CLASSES, origin, measured)
    path = records.write(record, folder / f'{abs(hash(name))}-{seed}.record.json')
    if files:
        matrices.write(path, record, packed)
    return path


def tabulate(*files, **kwargs):
    return report.tabulate([records.read(file) for file in files], files=files, **kwargs)


@pytest.fixture
def files(tmp_path):
    return [
        write(tmp_path, name, model, seed)
        for model, name in enumerate(['bn', 'ibn_a'])
        for seed in (0, 1, 2)
    ]


def miou(model: int, seed: int) -> float:
    return 100 * score(drawn(model, seed).sum(0)).miou


def test_numbers_by_hand(files):
    found = report.gather(tabulate(*files))
    plain, ours = found.alone
    assert (plain.model, ours.model, plain.against) == ('bn', 'ibn_a', None)
    assert (plain.images, plain.seeds) == (6, 3)
    for model, one in enumerate((plain, ours)):
        values = [miou(model, seed) for seed in (0, 1, 2)]
        assert one.interval.value == one.by_seed.mean == pytest.approx(np.mean(values))
        assert one.by_seed.std == pytest.approx(np.std(values, ddof=1))
        total = np.zeros(bootstrap.TIMES)
        for seed in (0, 1, 2):
            margins = Images.pack(drawn(model, seed)).margins()
            total += bootstrap.resample(margins[None], range(3)).drawn[:, 0] / 3
        limits = np.quantile(100 * total, [0.025, 0.975])
        assert (one.interval.low, one.interval.high) == pytest.approx(tuple(limits))
    (pair,) = found.pairs
    assert (pair.model, pair.against, pair.seeds) == ('ibn_a', 'bn', 3)
    changes = [miou(1, seed) - miou(0, seed) for seed in (0, 1, 2)]
    assert pair.interval.value == pytest.approx(np.mean(changes))
    assert (pair.by_seed.std, pair.by_seed.n) == pytest.approx((np.std(changes, ddof=1), 3))
    assert pair.interval.low > 0 and pair.interval.other_sign == 0


def test_pairs_are_of_common_seeds(tmp_path, files):
    found = report.gather(tabulate(*files[:3], files[4], write(tmp_path, 'ibn_a', 1, 9)))
    (pair,) = found.pairs
    assert (pair.seeds, pair.by_seed.n) == (1, 1)
    assert pair.interval.value == pytest.approx(miou(1, 1) - miou(0, 1))


def test_without_common_seeds_means_are_compared(tmp_path, files):
    found = report.gather(tabulate(*files[:2], write(tmp_path, 'ibn_a', 1, 9)))
    (pair,) = found.pairs
    assert pair.by_seed.n == 0
    assert pair.interval.value == pytest.approx(miou(1, 9) - (miou(0, 0) + miou(0, 1)) / 2)
    assert '| n/a |' in report.statistics.markdown(found)


def test_worst_images_come_first(files):
    found = report.gather(tabulate(*files))
    expected = {}
    for i, key in enumerate(KEYS):
        values = [score(drawn(m, s)[i]).miou for m in (0, 1) for s in (0, 1, 2)]
        expected[key] = 100 * np.mean(values)
    assert [photo.key for photo in found.photos] == sorted(expected, key=expected.get)
    worst = found.photos[0]
    i = KEYS.index(worst.key)
    of_bn = [score(drawn(0, seed)[i]) for seed in (0, 1, 2)]
    assert worst.miou['bn'] == pytest.approx(100 * np.mean([one.miou for one in of_bn]))
    assert worst.accuracy['bn'] == pytest.approx(100 * np.mean([one.accuracy for one in of_bn]))
    assert [len(photos) for photos in found.worst(2)] == [2]


def test_no_images_no_statistics(tmp_path):
    path = write(tmp_path, 'bn', 0, 0, files=False)
    table = tabulate(path)
    assert report.gather(table) is None
    written = report.write([records.read(path)], tmp_path / 'out')
    assert [file.name for file in written] == [
        'report.md',
        'report.csv',
        'report.json',
        'report.html',
    ]
    assert 'statistics' not in json.loads((tmp_path / 'out/report.json').read_text())


@pytest.mark.parametrize(
    'change',
    [dict(files=False), dict(keys=tuple('abcdef')), dict(photo=[4, 2])],
    ids=['no images', 'other photos', 'another protocol'],
)
def test_what_cannot_be_paired_is_left_out_and_told(tmp_path, files, change):
    other = write(tmp_path, 'other', 1, 0, **change)
    found = report.gather(tabulate(*files, other, mixed=True))
    assert {one.model for one in found.alone} == {'bn', 'ibn_a'}
    (note,) = found.notes
    assert note.startswith('other on camvid:0001TP: 1 of 1 runs left out')
    assert note in report.statistics.markdown(found)


def test_a_damaged_file_is_an_error_not_a_gap(files):
    matrices.beside(files[0]).write_bytes(b'no zip')
    with pytest.raises(RecordError, match=str(matrices.beside(files[0]))):
        report.gather(tabulate(*files))


def test_one_image_has_no_interval(tmp_path):
    found = report.gather(
        tabulate(
            write(tmp_path, 'bn', 0, 0, keys=KEYS[:1]), write(tmp_path, 'a', 1, 0, keys=KEYS[:1])
        )
    )
    assert found is None


def test_of_many_models_each_is_compared_with_the_baseline(tmp_path):
    paths = [write(tmp_path, name, i, 0) for i, name in enumerate(['a', 'b', 'c', 'd', 'plain'])]
    found = report.gather(tabulate(*paths))
    assert {pair.against for pair in found.pairs} == {'plain'} and len(found.pairs) == 4
    four = report.gather(tabulate(*paths[1:]))
    assert len(four.pairs) == 6


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.text = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        assert not [name for name, _ in attributes if name.startswith('on') or name == 'href']

    def handle_data(self, data):
        self.text.append(data)


def test_strangers_text_does_nothing(tmp_path):
    keys = (EVIL, '=HYPERLINK("x")', *KEYS[2:])
    paths = [write(tmp_path, name, 0, 0, domains=('camvid:' + EVIL,), keys=keys) for name in
             ('bn', '@' + EVIL)]  # fmt: skip
    table = tabulate(*paths)
    found = report.gather(table)
    page = Tags(report.html(report.statistics.markdown(found)))
    assert not page.tags & {'script', 'a', 'img', 'iframe'}
    assert EVIL.replace('\x1b', r'\x1b') in ''.join(page.text)
    text = report.statistics.markdown(found)
    assert '<script' not in text and '\x1b' not in text
    assert not re.search(r'(?<!\\)\]\(', text)
    for write_csv in (report.statistics.csv, report.statistics.photos_csv):
        for line in csv.reader(io.StringIO(write_csv(found))):
            assert not [cell for cell in line if cell.startswith(('=', '@', '\x1b'))]
    console = Console(width=100, file=io.StringIO(), force_terminal=False)
    console.print(report.statistics.terminal(found))
    assert '\x1b' not in console.file.getvalue()


def test_every_form_says_the_same(tmp_path, files):
    table = tabulate(*files)
    found = report.gather(table)
    pair = found.pairs[0].interval
    change = f'{pair.value:+.1f}', f'{pair.low:+.1f} to {pair.high:+.1f}', '0.0 %'
    out = tmp_path / 'out'
    written = report.write([records.read(file) for file in files], out, files=files, found=found)
    assert {path.name for path in written} == {
        'report.md', 'report.csv', 'report.json', 'report.html', 'statistics.csv', 'images.csv',
    }  # fmt: skip
    assert '| '.join(('', *(f'{word} ' for word in change))) in (out / 'report.md').read_text()
    page = (out / 'report.html').read_text()
    cells = [f'<td style="text-align:right">{word}</td>' for word in change]
    assert '\n'.join(cells) in page
    console = Console(width=120, file=io.StringIO())
    console.print(report.statistics.terminal(found))
    assert change[1] in console.file.getvalue()
    lines = list(csv.DictReader((out / 'statistics.csv').open()))
    assert [line['against'] for line in lines] == ['', '', 'bn']
    assert (lines[2]['value'], lines[2]['other_sign']) == (f'{pair.value:.2f}', '0.0000')
    assert len(list(csv.DictReader((out / 'images.csv').open()))) == 12
    content = json.loads((out / 'report.json').read_text(), parse_constant=pytest.fail)
    assert content['statistics']['pairs'][0]['interval']['value'] == pytest.approx(pair.value)


def test_names_are_whole_in_eighty_columns(tmp_path):
    names = ('resnet50', 'ibn_a')
    files = [write(tmp_path, name, i, i, domains=('cityscapes:val',)) for i in (0, 1)
             for name in names]  # fmt: skip
    console = Console(width=80, file=io.StringIO())
    console.print(report.statistics.terminal(report.gather(tabulate(*files))))
    comparison = console.file.getvalue().partition('Paired')[2].partition('Worst')[0]
    assert [line.split()[:3] for line in comparison.splitlines() if 'n=2' in line] == [
        ['cityscapes:val', 'ibn_a', 'resnet50']
    ]
