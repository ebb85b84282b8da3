"""Intervals, paired comparisons and worst images in every form of a report."""

import csv
import io
import json
import re

import numpy as np
import pytest
from test_report import CLASSES, STRUCTURES, screen

from ibnseg import report
from ibnseg.measure import bootstrap, matrices, records, reliability
from ibnseg.measure.confusion import score
from ibnseg.measure.matrices import Images
from ibnseg.measure.protocols import protocol_hash
from ibnseg.measure.records import Measurement, Record, RecordError
from ibnseg.report import certainty, render

KEYS = tuple(f'camvid/test/{i}.png' for i in range(6))
EVIL = '<script>alert(1)</script>|`*[x](javascript:y)\x1b[31m'


def drawn(model: int, seed: int, number: int = 6) -> np.ndarray:
    """Images of one truth for all; a model with a higher number has more right."""
    truth = np.random.default_rng(0).integers(50, 90, (number, 3))
    wrong = np.random.default_rng([model, seed]).integers(10, 30, (number, 3)) - 4 * model
    counts = np.zeros((number, 3, 3), np.int64)
    for c in range(3):
        counts[:, c, c] = truth[:, c] - wrong[:, c]
        counts[:, c, (c + 1) % 3] = wrong[:, c]
    return counts


def write(
    folder, name, model, seed, domain='camvid:0001TP', keys=KEYS, files=True, lr=None, **protocol
):
    """Write a record and its images; returns the record's path."""
    content = dict(name='native', images=len(keys), mode='whole', classes=[0, 1, 2], **protocol)
    packed = Images.pack(drawn(model, seed, len(keys)), keys)
    measured = Measurement(domain, len(keys), content, protocol_hash(content), packed.total())
    origin = dict(seed=seed, selection='source validation', checkpoint_sha256=f'{name}{seed}')
    if lr:
        origin |= dict(training=dict(pairs={}, settings=dict(lr=lr)), checkpoint_sha256=str(lr))
    record = Record(name, 'camvid:train', CLASSES, origin, [measured])
    file = f'{abs(hash((name, lr, str(protocol))))}-{seed}.record.json'
    path = records.write(record, folder / file)
    if files:
        matrices.write(path, record, {domain: packed})
    return path


def tabulate(*files, **kwargs):
    return report.tabulate([records.read(file) for file in files], files=files, **kwargs)


def gather(*files, **kwargs):
    return report.gather(tabulate(*files, **kwargs))


def markdown(found, worst=10) -> str:
    return render.markdown(certainty.sections(found, worst))


@pytest.fixture
def files(tmp_path):
    names = enumerate(['resnet50', 'ibn_a'])
    return [write(tmp_path, name, model, seed) for model, name in names for seed in (0, 1, 2)]


def miou(model: int, seed: int) -> float:
    return 100 * score(drawn(model, seed).sum(0)).miou


def test_numbers_by_hand(files):
    found = gather(*files)
    plain, ours = found.alone
    assert (plain.model, ours.model, plain.against) == ('resnet50', 'ibn_a', None)
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
    assert (pair.model, pair.against, pair.seeds) == ('ibn_a', 'resnet50', 3)
    changes = [miou(1, seed) - miou(0, seed) for seed in (0, 1, 2)]
    assert pair.interval.value == pytest.approx(np.mean(changes))
    assert (pair.by_seed.std, pair.by_seed.n) == pytest.approx((np.std(changes, ddof=1), 3))
    assert pair.interval.low > 0 and pair.interval.other_sign == 0


def test_pairs_are_of_common_seeds_or_else_of_means(tmp_path, files):
    alone = write(tmp_path, 'ibn_a', 1, 9)
    (pair,) = gather(*files[:3], files[4], alone).pairs
    assert (pair.seeds, pair.by_seed.n) == (1, 1)
    assert pair.interval.value == pytest.approx(miou(1, 1) - miou(0, 1))
    found = gather(*files[:2], alone)
    (pair,) = found.pairs
    assert pair.by_seed.n == 0
    assert pair.interval.value == pytest.approx(miou(1, 9) - (miou(0, 0) + miou(0, 1)) / 2)
    assert '| n/a |' in markdown(found)


def test_seeds_of_runs_trained_otherwise_are_paired_and_not_mixed(tmp_path):
    kinds = [('bn', 0, 1), ('bn', 0, 2), ('ibn_a', 1, 2)]
    paths = [write(tmp_path, *kind[:2], seed, lr=kind[2]) for kind in kinds for seed in (0, 1)]
    found = gather(*paths)
    assert [(one.model, one.seeds) for one in found.alone] == [
        ('bn (lr 1)', 2),
        ('bn (lr 2)', 2),
        ('ibn_a', 2),
    ]
    pair = found.pairs[-1]
    assert (pair.model, pair.against, pair.by_seed.n) == ('ibn_a', 'bn (lr 2)', 2)
    assert pair.interval.value == pytest.approx(sum(miou(1, s) - miou(0, s) for s in (0, 1)) / 2)
    # Of many rows each is compared with the baseline that was trained alike.
    paths += [write(tmp_path, name, 1, 0, lr=2) for name in ('ibn_b', 'ibn_c')]
    against = {(pair.model, pair.against) for pair in gather(*paths).pairs}
    assert against == {(name, 'bn (lr 2)') for name in ('ibn_a', 'ibn_b', 'ibn_c')}


def test_each_protocol_has_its_own_intervals(tmp_path):
    """Both records hold one domain, with other predictions."""
    native = write(tmp_path, 'bn', 0, 0)
    other = write(tmp_path, 'bn', 1, 0, photo=[4, 2])
    table = tabulate(native, other)
    found = report.gather(table)
    values = {one.protocol: one.interval.value for one in found.alone}
    hashes = [records.read(path).domains[0].protocol_hash for path in (native, other)]
    assert values == dict(zip(hashes, map(pytest.approx, (miou(0, 0), miou(1, 0))), strict=True))
    assert [markdown(found).count(f', protocol {name}') for name in ('native', 'x')] == [4, 0]
    for name in ('statistics.csv', 'images.csv'):
        lines = csv.DictReader(io.StringIO(report.texts(table, found)[name]))
        assert {line['protocol'] for line in lines} == {*hashes}


def test_worst_images_come_first(files):
    found = gather(*files)
    (photos,) = found.photos
    scored = [[[score(one) for one in drawn(m, s)] for s in (0, 1, 2)] for m in (0, 1)]
    miou = 100 * np.array([[[one.miou for one in run] for run in runs] for runs in scored]).mean(1)
    right = [[[one.accuracy for one in run] for run in runs] for runs in scored]
    order = np.argsort(miou.mean(0))
    keys, shown, accuracy = zip(*photos.images, strict=True)
    assert (keys, photos.models) == (tuple(KEYS[i] for i in order), ['resnet50', 'ibn_a'])
    np.testing.assert_allclose(shown, miou.T[order])
    np.testing.assert_allclose(accuracy, 100 * np.array(right).mean(1).T[order])
    assert [markdown(found, most).count('| camvid/test/') for most in (0, 2)] == [0, 2]


def test_no_images_no_intervals(tmp_path):
    table = tabulate(write(tmp_path, 'bn', 0, 0, files=False))
    assert report.gather(table) is None
    made = report.texts(table)
    assert len(made) == 5 and 'statistics' not in json.loads(made['report.json'])
    assert gather(write(tmp_path, 'one', 0, 0, keys=KEYS[:1])) is None


@pytest.mark.parametrize(
    'change',
    [dict(files=False), dict(keys=tuple('abcdef')), dict(photo=[4, 2])],
    ids=['no images', 'other photos', 'another protocol'],
)
def test_what_cannot_be_paired_is_left_out_and_told(tmp_path, files, change):
    found = gather(*files, write(tmp_path, 'other', 1, 0, **change), mixed=True)
    assert {one.model for one in found.alone} == {'resnet50', 'ibn_a'}
    (note,) = found.notes
    assert note.startswith('other on camvid:0001TP: 1 of 1 runs left out')
    assert note in markdown(found)


def test_a_damaged_file_is_an_error_not_a_gap(files):
    matrices.beside(files[0]).write_bytes(b'no zip')
    with pytest.raises(RecordError, match=str(matrices.beside(files[0]))):
        gather(*files)


def test_of_many_models_each_is_compared_with_the_baseline(tmp_path):
    paths = [write(tmp_path, name, i, 0) for i, name in enumerate(['a', 'b', 'c', 'd', 'plain'])]
    assert [pair.against for pair in gather(*paths).pairs] == ['plain'] * 4
    assert len(gather(*paths[1:]).pairs) == 6


def test_strangers_text_does_nothing(tmp_path):
    def made(evil, folder):
        keys = (evil, '=HYPERLINK("x")', *KEYS[2:])
        names = ('bn', '@' + evil)
        paths = [write(folder, name, 0, 0, 'camvid:' + evil, keys) for name in names]
        return (table := tabulate(*paths)), report.gather(table)

    evil, calm = made(EVIL, tmp_path / 'evil'), made('calm', tmp_path / 'calm')
    made, expected = report.texts(*evil), report.texts(*calm)
    for name, structure in STRUCTURES.items():
        assert structure(made[f'report.{name}']) == structure(expected[f'report.{name}'])
    assert not [text for text in (*made.values(), screen(evil[0], 100, evil[1])) if '\x1b' in text]
    for name in ('statistics.csv', 'images.csv'):
        for line in csv.reader(io.StringIO(made[name])):
            assert not [cell for cell in line if cell.startswith(('=', '@'))]


def test_every_form_says_the_same(files):
    table = tabulate(*files)
    found = report.gather(table)
    pair = found.pairs[0].interval
    change = f'{pair.value:+.1f}', f'{pair.low:+.1f} to {pair.high:+.1f}', '0.0 %'
    made = report.texts(table, found)
    assert len(made) == 7
    assert f'| {" | ".join(change)} |' in made['report.md']
    assert ''.join(f'<td class="n">{word}</td>' for word in change) in made['report.html']
    assert f'{change[0]} & {change[1]} & 0.0 \\% &' in made['report.tex']
    shown = screen(table, 80, found)
    assert change[1] in shown and 'ibn_a - resnet50' in shown and '…' not in shown
    lines = list(csv.DictReader(io.StringIO(made['statistics.csv'])))
    assert [line['against'] for line in lines] == ['', '', 'resnet50']
    assert (lines[2]['value'], lines[2]['other_sign']) == (f'{pair.value:.2f}', '0.0000')
    assert made['images.csv'].count('\n') == 1 + 12
    content = json.loads(made['report.json'], parse_constant=pytest.fail)
    assert content['statistics']['pairs'][0]['interval']['value'] == pytest.approx(pair.value)


def with_doubts(file) -> None:
    """Write histograms beside a record: its wrong pixels are less confident than right ones."""
    record = records.read(file)
    images = matrices.read(file, record)
    found = {}
    for domain, of in images.items():
        counts = np.zeros((len(of), 2, reliability.BINS), np.uint32)
        doubts = np.zeros((len(of), 15))
        for i in range(len(of)):
            right = np.trace(of[i])
            pixels = np.repeat([0.05, 0.5], [right, of[i].sum() - right])
            counts[i], doubts[i] = reliability.histogram(pixels, pixels < 0.1)
        found[domain] = reliability.Reliability(counts, doubts, of.keys)
    reliability.write(file, record, found)


def test_reliability_is_a_section_where_it_was_measured(files):
    assert 'Reliability on' not in markdown(gather(*files))
    for file in files:
        with_doubts(file)
    text = markdown(gather(*files), worst=0)
    title, _, rest = text.partition('## Reliability on camvid:0001TP')
    assert title and 'AUROC' in rest
    lines = {line.split(' | ')[0]: line for line in rest.splitlines() if line.startswith('| ')}
    assert list(lines)[2:] == ['| resnet50', '| ibn_a', '| ibn_a - resnet50']
    cells = lines['| ibn_a - resnet50'].strip('| ').split(' | ')
    assert cells[1] == '3' and cells[3:5] == ['+0.0 (+0.0 to +0.0)'] * 2, 'AUROC 100 and FPR 0'
    counts = np.stack([drawn(model, seed).sum(0) for model in (0, 1) for seed in (0, 1, 2)])
    share = np.trace(counts, axis1=1, axis2=2) / counts.sum((1, 2))
    aurc = (1 - share + share * np.log(share)).reshape(2, 3).mean(1)
    assert cells[5].startswith(f'{100 * (aurc[1] - aurc[0]):+.1f} ('), 'of the mean over the seeds'
    reliability.beside(files[0]).write_bytes(b'broken')
    with pytest.raises(RecordError, match='evaluate again with --reliability'):
        gather(*files)
    for file in files[:3]:
        reliability.beside(file).unlink()
    assert len(gather(*files).reliability[0].grid.rows) == 1, 'of those that have it'


def test_of_hundreds_of_domains_a_terminal_shows_some_and_says_so(tmp_path):
    from dataclasses import replace

    path = write(tmp_path, 'a', 0, 0)
    record = records.read(path)
    (one,) = record.domains
    many = [replace(one, domain=f'camvid:{i}') for i in range(100)]
    images = matrices.read(path, record)[one.domain]
    path.unlink()
    matrices.save(replace(record, domains=many), {d.domain: images for d in many}, path)
    table, found = tabulate(path), gather(path)
    shown = screen(table, found=found)
    assert '142 tables of other domains are in the files of' in shown
    assert shown.count('Certainty of mIoU on') == 59
    assert report.texts(table, found)['report.md'].count('Certainty of mIoU on') == 100


def test_worst_images_of_many_models_are_for_the_files(tmp_path):
    paths = [write(tmp_path, f'a_long_name_{i}', 0, 0) for i in range(7)]
    shown = screen(tabulate(*paths[:6]), found=gather(*paths[:6]))
    pieces = re.findall(r'^image \(.*?(?:\n\n|\Z)', shown, re.MULTILINE | re.DOTALL)
    assert len(pieces) > 1 and all('camvid/test/3.png' in piece for piece in pieces)
    for i in range(6):
        assert sum(f' a_long_name_{i}' in piece for piece in pieces) == 1
    table, found = tabulate(*paths), gather(*paths)
    assert 'Worst images' not in screen(table, found=found)
    assert 'Worst images' in report.texts(table, found)['report.md']
