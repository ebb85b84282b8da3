"""`check-claim`: each kind of error planted in random tables and records; clean ones stay clean."""

import json
from pathlib import Path

import numpy as np
import pytest
from ibnseg_tools import check_claim as tool

from ibnseg.measure import matrices, power, records
from ibnseg.measure.matrices import Images
from ibnseg.measure.power import Difference
from ibnseg.measure.protocols import protocol_hash
from ibnseg.measure.records import Measurement, Record
from ibnseg.report import claims

SEEDS = range(30)
POSSIBLE = ('with 80 % power.', 'would show a difference of this size.', 'no difference to show.')
TABLE_KINDS = ('average', 'protocol', 'selection', 'seeds')


def table(seed: int, plant: str = '') -> tuple[str, str]:
    """Return a random table of runs, clean or with one error, and where the error is."""
    rng = np.random.default_rng(seed)
    digits, runs, domains = rng.integers(1, 3), rng.integers(3, 6), rng.integers(2, 5)
    names = [['cityscapes', 'bdd100k', 'mapillary', 'acdc'][i] for i in range(domains)]
    models = [f'model{i}' for i in range(rng.integers(2, 5))]
    best = rng.permutation(len(models)) * rng.uniform(6, 9)  # they differ by that at least
    values = rng.uniform(20, 50, domains) + best[:, None, None]
    values = values + rng.normal(0, 0.15, (len(models), runs, domains))
    if plant == 'seeds':  # as good as the baseline, by now one and now the other
        wobble = np.resize([0.8, -0.8], runs) - np.resize([0.8, -0.8], runs).mean()
        values[-1] = values[0] + wobble[:, None] + rng.normal(0, 0.05)
    victim = (len(models) - 1, int(rng.integers(runs)))
    lines = ['Method,trained on,seed,selection,protocol,' + ','.join(names) + ',average']
    for i, model in enumerate(models):
        for run in range(runs):
            hit = (i, run) == victim
            average = values[i, run].mean() + (plant == 'average') * hit * rng.choice([-1, 1]) * 0.5
            rule = 'target oracle' if plant == 'selection' and hit else 'source validation'
            protocol = 'rein-half' if plant == 'protocol' and hit else 'robustnet-1536'
            cells = [f'{value:.{digits}f}' for value in (*values[i, run], average)]
            lines.append(','.join([model, 'gta5', str(run), rule, protocol, *cells]))
    where = f'line {2 + victim[0] * runs + victim[1]} ({models[-1]}, seed {victim[1]})'
    return '\n'.join(lines) + '\n', where


def check(tmp_path, text: str, **options) -> claims.Claims:
    path = tmp_path / 'table.csv'
    path.write_text(text, encoding='utf-8')
    return claims.check([path], **options)


@pytest.mark.parametrize('seed', SEEDS)
def test_nothing_is_invented_on_a_clean_table(tmp_path, seed):
    found = check(tmp_path, table(seed)[0])
    assert (found.findings, found.notes) == ([], [])


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize('kind', TABLE_KINDS)
def test_a_planted_error_is_found_and_nothing_else(tmp_path, kind, seed):
    text, where = table(seed, kind)
    found = check(tmp_path, text)
    assert {one.kind for one in found.findings} == {kind}
    if kind in ('average', 'selection'):
        assert [one.where.partition(', column')[0] for one in found.findings] == [where]
    elif kind == 'protocol':
        (one,) = found.findings
        assert f'rein-half in line {where.split()[1]}' in one.what
    else:
        domains = text.partition('\n')[0].count(',') - 5
        assert len(found.findings) == domains
        assert all(one.what.endswith(POSSIBLE) for one in found.findings)


@pytest.mark.parametrize(
    ('text', 'kinds'),
    [
        ('model;cityscapes;bdd100k;avg\na;36,60 %;30,00 %;33,30 %\n', []),
        ('model;cityscapes;bdd100k;avg\na;36,60 %;30,00 %;33,40 %\n', ['average']),
        ('model,cityscapes,bdd100k,avg\na,"36,6","30,0","33,3"\n', []),
        ('model\tcityscapes\tbdd100k\tAverage\na\t36.6\t-\t36.6\n', ['average']),
        ('model,cityscapes,acdc,average of acdc\na,36.6,30,30\n', []),
        ('model,a,b,c,average of a+c\nx,10,20,40,25.0\n', []),
        ('model,a,b,c,average of a+c\nx,10,20,40,23.3\n', ['average']),
        ('model,seeds,c\na,3,30.0 ± 0.2\nb,3,36.0 ± 0.3\n', []),
        ('model,seeds,c\na,3,30.0 ± 0.9\nb,3,30.5 ± 0.8\n', ['seeds']),
        ('model,runs,c,c std\na,3,30.0,0.9\nb,3,30.5,0.8\n', ['seeds']),
        ('model,seed,c\na,0,30.0\nb,0,36.0\n', ['seeds']),
        ('model,selection,c\na,best on cityscapes,3\n', []),
        ('model,selection,cityscapes\na,best on Cityscapes,3\n', ['selection']),
        ('model,selection,c\na,"last, not chosen on the target",3\n', []),
        ('model,selection,c\na,target-oracle,3\n', ['selection']),
        ('model,source,selection,cityscapes,bdd100k\na,cityscapes,cityscapes:val,3,4\n', []),
        ('model,protocol,c\na,x,3\nb,,4\n', ['protocol']),
        ('model,protocol,c,d\na,x,3,\nb,y,,4\n', []),
        ('\ufeffmodel,c\n\na,3\n', []),
    ],
)
def test_forms_of_a_table(tmp_path, text, kinds):
    assert [one.kind for one in check(tmp_path, text).findings] == kinds


def test_what_was_not_checked_is_said(tmp_path):
    found = check(tmp_path, 'model,c\na,30.0\nb,36.0\n')
    assert not found.findings
    assert 'Differences not checked, 1 (b - a on c' in found.notes[0]


def test_a_dataset_that_was_trained_on_is_no_claim(tmp_path):
    text = (
        'model,source,seed,gta5,c\na,gta5,0,60,30\na,gta5,1,61,30\nb,gta5,0,60,40\nb,gta5,1,60,41\n'
    )
    assert not check(tmp_path, text).findings


def test_the_baseline_is_chosen(tmp_path):
    text, _ = table(0)
    assert not check(tmp_path, text, baseline='model1').findings
    with pytest.raises(ValueError, match=r"'model9' \(did you mean"):
        check(tmp_path, text, baseline='model9')


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'no table'),
        ('model,c\n', 'no table'),
        ('a,b\n1,2\n', 'expected model'),
        ('model,seed\na,1\n', 'one column a domain'),
        ('model,c\na,x\n', "line 2, column 'c': 'x' is no number"),
        ('model,c\na,120\n', 'not between 0 and 100'),
        ('model,c\na,36,6\n', 'line 2 has 3 cells, the header 2; quote'),
        ('model,c\na,3\na,4\n', 'lines 2 and 3 are of one model and seed'),
        ('model,c\n,3\n', 'names no model'),
        ('model,c,c\na,3,4\n', "two columns say 'c'"),
        ('model,c,average of d\na,3,4\n', "no column 'd'"),
        ('model,c,d std\na,3,4\n', "no column 'd'"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path, capsys, text, said):
    path = tmp_path / 'table.csv'
    path.write_text(text)
    assert tool.main([str(path)]) == 2
    message = capsys.readouterr().err
    assert said in message and str(path) in message


def test_files_that_are_no_table(tmp_path, capsys):
    (tmp_path / 'a.csv').write_bytes(b'\xff\xfe\x00model')
    (tmp_path / 'b.csv').write_bytes(b'model,c\n' + b'a' * 5 * 2**20)
    for name, said in (('a.csv', 'not UTF-8'), ('b.csv', 'larger than'), ('c.csv', 'No such file')):
        assert tool.main([str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err


def test_exit_codes_and_formats(tmp_path, capsys):
    path = tmp_path / 'table.csv'
    path.write_text(table(1)[0])
    assert tool.main([str(path)]) == 0
    assert 'Nothing found' in capsys.readouterr().out
    path.write_text(table(1, 'average')[0])
    assert tool.main([str(path), '--format', 'json']) == 1
    (one,) = json.loads(capsys.readouterr().out)['findings']
    assert one['kind'] == 'average' and 'its columns have the mean' in one['what']
    assert tool.main([str(path), '--format', 'markdown']) == 1
    assert '1 finding' in capsys.readouterr().out
    assert tool.main([str(path), str(path)]) == 2


def test_the_example_in_the_docs_is_clean(tmp_path):
    docs = (Path(__file__).parents[1] / 'docs' / 'claims.md').read_text()
    example = docs.split('```')[-2].lstrip()
    assert [one.kind for one in check(tmp_path, example).findings] == []


def test_every_kind_is_in_the_docs():
    docs = (Path(__file__).parents[1] / 'docs' / 'claims.md').read_text()
    assert all(f'| `{kind}` |' in docs for kind in claims.KINDS)


def test_hostile_names_stay_text(tmp_path, capsys):
    path = tmp_path / 'table.csv'
    path.write_text('model,c,average\n[red]<b>\x1b[31m\u202e,3,9\n')
    for form in ('terminal', 'markdown', 'json'):
        assert tool.main([str(path), '--format', form]) == 1
        shown = capsys.readouterr().out
        assert '\x1b' not in shown and '\u202e' not in shown
    assert tool.main([str(path), '--format', 'markdown']) == 1
    assert '<b>' not in capsys.readouterr().out


# Records.

IMAGES, RUNS = 12, 4


def wrong_pixels(rng, model: str, seed: int, plant: str) -> np.ndarray:
    """Wrong pixels of each image and class of a run: the plain network has more."""
    hard = np.random.default_rng(7).integers(20, 40, (IMAGES, 3))
    if model == 'plain':
        return hard + 20
    if plant == 'images':  # a little better in the mean, on every second image only
        return hard + 20 + np.resize([-9, 8], IMAGES)[:, None]
    if plant == 'seeds':  # all photos agree, the runs do not
        return hard + 20 + [-18, -15, 6, 4][seed]
    if plant == 'both':  # either is enough by little
        return hard + 20 + np.resize([-7, 2], IMAGES)[:, None] + [-1, -1, 1, 1][seed]
    return hard + rng.integers(0, 3, (IMAGES, 3))


def write(folder, number: int, plant: str = '') -> list:
    """Write records of two networks and four seeds, with matrices beside them."""
    rng = np.random.default_rng(number)
    keys = tuple(f'val/{i}.png' for i in range(IMAGES))
    paths = []
    for model in ('plain', 'ibn_b'):
        for seed in range(RUNS):
            hit = (model, seed) == ('ibn_b', RUNS - 1)
            content = dict(name='native', images=IMAGES, mode='whole', classes=[0, 1, 2])
            content |= dict(photo=[512, 256]) if plant == 'protocol' and hit else {}
            wrong = wrong_pixels(rng, model, seed, plant)
            counts = np.zeros((IMAGES, 3, 3), np.int64)
            for c in range(3):
                counts[:, c, c], counts[:, c, (c + 1) % 3] = 200 - wrong[:, c], wrong[:, c]
            packed = Images.pack(counts, keys)
            measured = Measurement(
                'cityscapes:val', IMAGES, content, protocol_hash(content), packed.total()
            )
            origin = dict(
                seed=seed,
                selection='target oracle' if plant == 'oracle' else 'source validation',
                validated=['cityscapes:val' if plant == 'validated' and hit else 'gta5:val'],
                checkpoint_sha256=f'{model}{seed}',
            )
            record = Record(model, 'gta5:train', ['a', 'b', 'c'], origin, [measured])
            path = records.write(record, folder / f'{model}{seed}.record.json')
            matrices.write(path, record, {'cityscapes:val': packed})
            paths.append(path)
    return paths


@pytest.mark.parametrize('number', range(5))
def test_nothing_is_invented_on_clean_records(tmp_path, number):
    found = claims.check(write(tmp_path, number), 'plain')
    assert (found.findings, found.notes) == ([], [])


@pytest.mark.parametrize('number', range(3))
@pytest.mark.parametrize(
    ('plant', 'kind', 'said'),
    [
        ('protocol', 'protocol', 'not measured as the others are'),
        ('oracle', 'selection', 'the labels of a target chose'),
        ('validated', 'selection', "'source validation', yet validated on cityscapes:val"),
        ('seeds', 'seeds', 'runs each would show one of this size with 80 % power'),
        ('images', 'images', 'images would show one of this size with 80 % power'),
        ('both', 'both', 'Each alone excludes 0; more of either would do.'),
    ],
)
def test_a_planted_error_in_records_is_found_and_nothing_else(tmp_path, number, plant, kind, said):
    found = claims.check(write(tmp_path, number, plant), 'plain')
    assert {one.kind for one in found.findings} == {kind}
    assert all(said in one.what for one in found.findings)


def test_records_without_images_or_rival_say_so(tmp_path):
    paths = write(tmp_path, 0)
    for path in paths:
        matrices.beside(path).unlink()
    assert 'images were not checked' in claims.check(paths, 'plain').notes[-1]
    assert 'differences were not checked' in claims.check(paths[:RUNS], 'plain').notes[0]


def test_records_that_cannot_be_used(tmp_path, capsys):
    (tmp_path / 'a.record.json').write_text('{}')
    assert tool.main([str(tmp_path)]) == 2
    assert tool.main([str(tmp_path / 'none')]) == 2


# The power formula.


@pytest.mark.parametrize('paired', [True, False])
@pytest.mark.parametrize('effect', [0.6, 1.0, 2.0, 4.0])
def test_the_runs_that_are_needed_agree_with_simulation(effect, paired):
    runs = power.needed(effect, paired)
    if runs > 2:
        assert power.power(effect, runs - 1, paired) < 0.8
    expected = power.power(effect, runs, paired)
    assert expected >= 0.8
    times = 4000
    rng = np.random.default_rng(int(10 * effect) + paired)
    draws = rng.normal(0, 1, (2, times, runs))
    shown = 0
    for other, mine in draws.swapaxes(0, 1):
        if paired:
            found = Difference.of_runs(
                dict(enumerate(mine + effect)), dict.fromkeys(range(runs), 0)
            )
        else:
            sides = [(side.mean(), side.std(ddof=1), runs) for side in (mine + effect, other)]
            found = Difference.of_summaries(*sides)
        shown += found.clear
    tolerance = 4 * np.sqrt(expected * (1 - expected) / times)  # of the simulation itself
    assert abs(shown / times - expected) <= tolerance


def test_without_a_difference_one_in_twenty_is_called_clear():
    times, rng = 4000, np.random.default_rng(0)
    for paired in (True, False):
        assert power.power(0, 5, paired) == pytest.approx(0.05)
        clear = sum(
            Difference.of_runs(
                dict(enumerate(mine)), dict(enumerate(other, 0 if paired else 100))
            ).clear
            for mine, other in rng.normal(30, 1, (times, 2, 5))
        )
        assert abs(clear / times - 0.05) <= 4 * np.sqrt(0.05 * 0.95 / times)


def test_numbers_of_textbooks():
    """Cohen's tables: 64 a group for d = 0.5, 26 for 0.8; 34 pairs for 0.5."""
    assert [power.needed(d, False) for d in (0.5, 0.8)] == [64, 26]
    assert power.needed(0.5, True) == 34
    assert power.needed(0, True) is None and power.needed(0.001, True) is None
    assert power.needed(1e6, False) == 2


def test_images_needed_shrink_the_interval_to_where_it_shows():
    assert power.images_needed(1.0, -1.8, 3.8, 100) == pytest.approx(
        100 * 2.8016**2 * 1.4286**2, 0.01
    )
    assert power.images_needed(0.0, -1, 1, 100) is None
