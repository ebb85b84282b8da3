"""Records into tables, in every form of a report."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from ibnseg_tools import report as tool
from markdown_it import MarkdownIt
from rich.console import Console

from ibnseg import domains, labels, report
from ibnseg.measure import records
from ibnseg.measure.confusion import score
from ibnseg.measure.protocols import protocol_hash
from ibnseg.measure.records import Measurement, Record
from ibnseg.report import recount, render
from ibnseg.report.table import fractions

CLASSES = ['road', 'car', 'sky']


def matrix(right: int, wrong: int = 0) -> np.ndarray:
    """Each class has `right` pixels right and `wrong` taken for the next: IoU r / (r + 2w)."""
    return (right * np.eye(3) + wrong * np.roll(np.eye(3), 1, 1)).astype(np.int64)


def measure(domain, counts, classes=(0, 1, 2), digest=None, **protocol) -> Measurement:
    protocol = dict(name='native', images=4, photo=None, mode='whole', space='x', **protocol)
    protocol['classes'] = list(classes)
    return Measurement(domain, 4, protocol, digest or protocol_hash(protocol), counts)


def record(model='bn', seed=0, home=(6, 2), away=(2, 4), source='gta5:train', rule=None, **more):
    """(6, 2): 60 %, (2, 4): 20 %, (4, 3): 40 %, (1, 0): 100 %."""
    origin = dict(
        seed=seed,
        checkpoint='best.pth',
        checkpoint_sha256=f'{model}{seed}{rule}'.encode('utf-8', 'replace').hex().ljust(64, '0'),
        selection=rule or 'source validation',
        commit='0123456789abcdef0123456789abcdef01234567-dirty',
    )
    domains = [measure('cityscapes:val', matrix(*away)), measure('gta5:val', matrix(*home))]
    return Record(model, source, CLASSES, origin | more, domains)


def of(*measured: Measurement) -> Record:
    one = record()
    one.domains = list(measured)
    return one


def screen(table, width=80, found=None) -> str:
    console = Console(width=width, file=io.StringIO())
    report.show(table, found, console)
    return console.file.getvalue()


def lines(table) -> list[dict]:
    return list(csv.DictReader(io.StringIO(report.texts(table)['report.csv'])))


def markdown(table) -> str:
    return report.texts(table)['report.md']


def outputs(table) -> dict[str, str]:
    """Every form of a report, by the ending of its file."""
    files = report.texts(table).items()
    return {name.partition('.')[2]: text for name, text in files} | dict(terminal=screen(table))


def test_a_lost_domain_is_named_in_every_form():
    lost = {
        'camvid:val': 'x\x1b[31m.png: cut off',
        'idd:val': 'y.png: unreadable',
        'bdd100k:val': 3,
    }
    whole = of(measure('idd:val', matrix(1)))  # the same checkpoint, measured again
    for form, text in outputs(report.tabulate([record(unmeasured=lost), whole])).items():
        text = ' '.join(text.split()).replace('{}', '')
        assert 'camvid:val' in text and 'not measured' in text, form
        assert '.png: cut off' in text and '\x1b' not in text and 'unreadable' not in text, form
        assert 'bdd100k' not in text, form


# Numbers, by hand.


def test_numbers_of_one_source():
    runs = [record('ibn_a', home=(1, 0), away=(4, 3)), record('bn')]
    table = report.tabulate(runs)
    (group,) = table.groups
    assert (group.source, group.home) == ('gta5:train', 'gta5:val')
    assert group.domains == ['gta5:val', 'cityscapes:val']
    plain, ours = group.rows
    assert (table.baseline, plain.model, ours.model) == ('bn', 'bn', 'ibn_a')
    cell, home = ours.cells['cityscapes:val'], ours.cells['gta5:val']
    found = cell.miou.mean, cell.accuracy.mean, cell.gap.mean, cell.delta, home.delta
    assert found == pytest.approx((40, 100 * 4 / 7, -60, 20, 40))
    assert [iou.mean for iou in cell.iou.values()] == pytest.approx([40, 40, 40])
    assert (cell.best, plain.cells['cityscapes:val'].best) == (True, False)
    assert home.gap is plain.cells['cityscapes:val'].delta is None
    assert np.isnan(cell.miou.std)
    # Every form names protocol, hash and denominator.
    denominator = dict(csv=',3,3,4,x,', json='"counted": 3,\n', terminal='3 of 3 classes')
    for output, text in outputs(table).items():
        assert all(one.protocol_hash in text for one in runs[0].domains)
        assert 'native' in text and denominator.get(output, '3 of 3') in text


def test_seeds_are_one_row_with_the_sample_deviation():
    runs = [record(seed=s, away=away) for s, away in enumerate([(2, 4), (4, 3), (6, 2)])]
    table = report.tabulate(runs)
    (row,) = table.rows
    cell = row.cells['cityscapes:val']
    assert (cell.miou.mean, cell.miou.std, cell.miou.n) == pytest.approx((40, 20, 3))
    assert (cell.gap.mean, cell.gap.std, cell.gap.n) == pytest.approx((-20, 20, 3))
    made = outputs(table)
    assert '| bn | 3 | 60.0 ± 0.0 | 40.0 ± 20.0 | -20.0 ± 20.0 |' in made['md']
    numbers = r'60.0 $\pm$ 0.0 & 40.0 $\pm$ 20.0 & \textminus{}20.0 $\pm$ 20.0'
    assert rf'bn & 3 & {numbers} \\' in made['tex']
    assert '±' not in markdown(report.tabulate(runs[:1])).partition('##')[2]
    assert [line['seed'] for line in lines(table)].count('2') == 2 * 5


def test_which_classes_count():
    """Those of the protocol that are in truth or prediction."""
    some, alone = np.diag([4, 4, 0]), np.array([[8, 0, 2], [0, 0, 0], [0, 0, 0]])
    table = report.tabulate(
        [of(measure('camvid:val', some), measure('idd:val', alone, classes=(0, 1)))]
    )
    camvid, idd = (table.rows[0].cells[name] for name in ('camvid:val', 'idd:val'))
    assert (camvid.miou.mean, fractions(camvid.scores)) == (pytest.approx(100), '2 of 3')
    assert (idd.miou.mean, fractions(idd.scores)) == (pytest.approx(80), '1 of 2')
    text = markdown(table)
    assert '| sky | n/a |' in text
    assert '| classes counted |  | 2 of 3 | 1 of 2 |' in text
    assert 'idd:val: protocol native' in text and '2 of 3 classes;' in text
    assert '; classes road, car\n' in text
    assert '2 of 3 classes on camvid:val' in screen(table, 200)


def test_nothing_counted_is_not_a_number():
    table = report.tabulate([record(home=(0, 0), away=(0, 0)), record('ibn_a')], baseline='bn')
    made = outputs(table)
    assert '| bn | 1 | n/a |  | n/a |  | n/a |' in made['md']
    assert 'n/a' in made['terminal'] and ' nan' not in ''.join(made.values()).lower()
    assert lines(table)[0]['percent'] == ''
    content = json.loads(made['json'], parse_constant=pytest.fail)
    assert content['rows'][0]['domains']['gta5:val']['miou']['mean'] is None


def test_counts_do_not_overflow():
    table = report.tabulate([of(measure('gta5:val', np.full((3, 3), 2**62, np.int64)))])
    assert table.rows[0].cells['gta5:val'].miou.mean == pytest.approx(20)


def test_each_source_has_its_own_home_and_baseline():
    runs = [
        record('bn'),
        record('bn', source='cityscapes:train', home=(2, 4), away=(1, 0)),
        record('ibn_a', source='cityscapes:train', home=(4, 3), away=(1, 0)),
    ]
    gta, city = report.tabulate(runs).groups
    assert (gta.home, city.home) == ('gta5:val', 'cityscapes:val')
    assert city.domains[0] == 'cityscapes:val'
    cell = city.rows[1].cells['gta5:val']
    assert (cell.gap.mean, cell.delta) == pytest.approx((-60, 20))
    gta5 = [measure(f'gta5:{split}', matrix(1)) for split in ('train', 'val')]
    assert report.tabulate([of(*gta5)]).groups[0].home == 'gta5:val', 'not trained on'
    away = report.tabulate([of(measure('cityscapes:val', matrix(1)))])
    assert away.groups[0].home is None and 'gap' not in screen(away)


@pytest.mark.parametrize(
    ('models', 'expected'),
    [
        (dict(ibn_a={}, bn={}), 'bn'),
        (dict(ibn_resnet50={}, resnet50={}), 'resnet50'),
        ({'resnet50-ibn-a': {}, 'plain': {}}, 'plain'),
        ({'r50-ibn-b': {}, 'r50-bn': {}}, 'r50-bn'),
        (dict(ibn_b={}, ibn_a={}), 'ibn_b'),
        (dict(bn=dict(placement='ibn_a'), beta=dict(placement='bn')), 'beta'),
        (dict(a=dict(method='bn+mixstyle', placement='bn'), b=dict(method='bn')), 'b'),
        (dict(a=dict(placement='bn', fine_tuned=dict(target='x')), b=dict(placement='bn')), 'b'),
    ],
)
def test_baseline_is_plain_by_its_record_or_its_name(models, expected):
    runs = [record(model, **facts) for model, facts in models.items()]
    assert report.tabulate(runs).baseline == expected
    assert report.tabulate(runs, runs[0].model).baseline == runs[0].model


def test_an_oracle_is_marked_and_never_best():
    runs = [record('bn'), record('ibn_a', away=(4, 3))]
    table = report.tabulate([*runs, record('ibn_a', away=(1, 0), rule='target oracle')])
    assert [row.cells['cityscapes:val'].best for row in table.rows] == [False, True, False]
    made = outputs(table)
    best = dict(md='**40.0**', html='<strong>40.0</strong>', tex=r'\textbf{40.0}')
    for output, text in made.items():
        assert 'target oracle' in text and best.get(output, '40.0') in text
    marked = {(line['selected_by'], line['oracle']) for line in lines(table)}
    assert marked == {('target oracle', 'yes'), ('source validation', 'no')}
    for part in made['md'].partition('## Notes')[0].split('\n#')[2:]:
        assert 'ibn_a (target oracle)' in part
    # With a long name, and as the baseline.
    table = report.tabulate([record('bn' * 150, rule='target oracle'), runs[1]], 'bn' * 150)
    assert '(target oracle)' in screen(table).partition('Target oracle:')[0]
    assert table.rows[1].cells['cityscapes:val'].delta is None


# Protocols.


def mixture() -> list[Record]:
    """The third of three models was measured by sliding windows."""
    runs = [record('bn'), record('ibn_a', away=(4, 3)), record('ibn_b', away=(6, 2))]
    other = runs[2].domains[0]
    other.protocol |= dict(mode='slide', crop=[5, 7], stride=[3, 4])
    other.protocol_hash = protocol_hash(other.protocol)
    return runs


def test_different_protocols_are_refused_or_marked():
    usual, _, other = (run.domains[0].protocol_hash for run in mixture())
    with pytest.raises(ValueError) as caught:
        report.tabulate(mixture(), files=['a.json', 'b.json', 'c.json'])
    for part in (usual, other, 'a.json', 'c.json', "mode: 'whole' | 'slide'", 'crop'):
        assert part in str(caught.value)
    table = report.tabulate(mixture(), mixed=True)
    *_, odd = table.rows
    cell = odd.cells['cityscapes:val']
    assert (cell.mixed, cell.delta_mixed, cell.gap_mixed, cell.best) == (True, True, True, False)
    assert not odd.cells['gta5:val'].mixed
    assert table.rows[1].cells['cityscapes:val'].best
    made = outputs(table)
    text = made['md']
    assert '| ibn_b | 1 | 60.0 | +0.0 | 60.0† | +40.0† | +0.0† |' in text
    assert '60.0†  +40.0†' in made['terminal']
    assert r'60.0$\dagger$ & +40.0$\dagger$' in made['tex']
    for shown in (text, screen(table, 400)):
        assert all(part in shown for part in (usual, other, '† cityscapes:val was measured by'))
    assert {line['model'] for line in lines(table) if line['comparable'] == 'no'} == {'ibn_b'}
    # What numbers are of stands below them, how they were measured at the end.
    home = mixture()[0].domains[1].protocol_hash
    assert f'| protocol |  | native {home} |  | native {usual} |  |  |' in text
    assert '| classes counted |  | 3 of 3 |  | 3 of 3 |  |  |' in text
    assert f'| protocol | native {usual} | native {usual} | native {other} |' in text
    line = f'cityscapes:val: protocol native {other}, 4 images, 3 of 3 classes; mode slide; space x'
    assert f'- {line}; crop \\[5, 7\\]; stride \\[3, 4\\]\n' in text


def test_a_fresh_record_has_the_protocol_of_the_same_record_read():
    fresh, read = record('bn'), record('ibn_a')
    fresh.domains[0].protocol['classes'] = (0, 1, 2)  # JSON has lists only
    assert len(report.tabulate([fresh, read]).protocols['cityscapes:val']) == 1


def street(model='bn', seed=0, domain='synthia', matrix=None, **protocol) -> Record:
    """A record of the 19 classes."""
    space = domains.DOMAINS[domain].space
    fields = dict(name='native', domain=domain, split='val', images=4, photo=None, mode='whole')
    fields |= dict(space=space, classes=list(labels.class_ids(space))) | protocol
    if matrix is None:
        matrix = np.random.default_rng([seed, len(model)]).integers(1, 99, (19, 19))
    measured = Measurement(f'{domain}:val', 4, fields, protocol_hash(fields), matrix)
    origin = dict(seed=seed, checkpoint_sha256=f'{model}{seed}')
    return Record(model, 'gta5:train', list(labels.CLASSES), origin, [measured])


@pytest.mark.parametrize('classes', ['19', '16', '13'])
def test_class_sets_from_one_matrix_make_records_comparable(classes):
    one, other = street(), street('ibn_a', classes=list(range(19)))
    with pytest.raises(ValueError, match=r'differ in classes.*count the same \(--classes\)'):
        report.tabulate([one, other])
    table = report.tabulate([one, other], classes=classes)
    cell = table.rows[0].cells['synthia:val']
    expected = 100 * np.mean(score(one.domains[0].matrix).iou[list(cell.iou)])
    assert cell.miou.mean == pytest.approx(expected)
    assert fractions(cell.scores) == f'{classes} of {classes}'
    ((digest, content),) = table.protocols['synthia:val'].items()
    assert content['classes'] == list(cell.iou)
    assert (digest == one.domains[0].protocol_hash) == (classes == '16'), "the record's own"
    assert f'{classes} of 19 classes' in screen(table)


def test_present_classes_are_those_of_the_truth():
    """A class that only a prediction has lowers the mean over 19, and not that over present."""
    matrix = np.diag([5] * 18 + [0])
    matrix[0, 18] = 5
    one = street(domain='gta5', matrix=matrix)
    over_all, present = (
        report.tabulate([one], classes=c).rows[0].cells['gta5:val'] for c in ('19', 'present')
    )
    assert [fractions(cell.scores) for cell in (over_all, present)] == ['19 of 19', '18 of 18']
    assert present.miou.mean == pytest.approx(19 / 18 * over_all.miou.mean)


def mapped(model='bn', seed=0, **protocol) -> Record:
    raw = np.random.default_rng([seed, len(model)]).integers(1, 99, (66, 19))
    one = street(model, seed, 'mapillary', labels.fold(raw, 'mapillary-coarse'), **protocol)
    one.domains[0].raw = raw
    return one


def test_the_other_label_map_follows_from_the_raw_ids():
    runs = [mapped(), mapped('ibn_a'), mapped('ibn_a', 1)]
    table = report.tabulate(runs)
    ((plain, ours),) = recount.relabelled(table.groups[0])
    rich = [100 * score(labels.fold(run.domains[0].raw, 'mapillary-rich')).miou for run in runs[1:]]
    assert (ours['miou_other'].mean, ours['miou_other'].n) == (pytest.approx(np.mean(rich)), 2)
    assert ours['difference'].mean == pytest.approx(np.mean(rich) - ours['miou'].mean)
    assert abs(plain['difference'].mean) > 0.1
    direct = street(domain='mapillary_rich').domains[0]
    assert (plain['domain'], plain['other']) == ('mapillary:val', direct.domain)
    assert plain['protocol_hash'] == direct.protocol_hash, 'as if measured by that map'
    for name, text in outputs(table).items():
        assert direct.protocol_hash in text
        assert ('mapillary\\_rich:val' if name == 'tex' else 'mapillary_rich:val') in text
    assert '| change of road |' in markdown(table)
    ours = (line for line in lines(table) if line['model'] == 'ibn_a' and line['measure'] == 'mIoU')
    found = [float(line['percent']) for line in ours if line['domain'] == 'mapillary_rich:val']
    assert found == pytest.approx(rich, abs=0.01)


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        *((name, name) for name in ('native', 'native-bfloat16', 'files')),
        *((name, f'{name}, relabelled') for name in ('robustnet-1536', 'hrda-2048-bfloat16')),
    ],
)
def test_a_setting_of_one_label_map_is_not_said_to_be_of_the_other(name, expected):
    table = report.tabulate([mapped(name=name)])
    ((one,),) = recount.relabelled(table.groups[0])
    assert one['protocol']['name'] == expected
    assert one['protocol_hash'] == protocol_hash(one['protocol'])
    assert all(expected in text for text in outputs(table).values())
    table = report.tabulate([street(domain='mapillary', name=name)])
    assert not recount.relabelled(table.groups[0]), 'a record without its raw ids'


# Records that don't belong together.


def test_domains_may_be_measured_in_two_sittings_and_differ():
    one, two, other = record(), record(), record('ibn_a')
    one.domains, two.domains = one.domains[:1], two.domains[1:]
    other.domains[0].domain = 'camvid:val'
    table = report.tabulate([one, two, other])
    assert [len(row.runs) for row in table.rows] == [1, 1]
    assert table.groups[0].domains == ['gta5:val', 'cityscapes:val', 'camvid:val']
    assert '| bn | 1 | 60.0 |  | 20.0 | -40.0 | n/a | n/a |' in markdown(table)
    assert '| ibn_a | 1 | 60.0 | +0.0 | n/a | n/a | 20.0 | -40.0 |' in markdown(table)


def test_equal_measurements_of_one_checkpoint_are_one():
    again = record()
    again.domains.append(measure('camvid:val', matrix(4, 3)))
    table = report.tabulate([record(), again, record()], files=['a', 'b', 'c'])
    (run,) = table.rows[0].runs
    assert [origin['file'] for origin in run.origins] == ['a', 'b', 'c']
    assert table.rows[0].cells['cityscapes:val'].miou.n == 1
    assert table.groups[0].domains == ['gta5:val', 'cityscapes:val', 'camvid:val']


def test_several_protocols_of_one_checkpoint_are_a_table_each():
    """Also of the models that were measured by one of them."""
    runs = [record('bn'), record('ibn_a', away=(4, 3))]
    other, wide = record('bn', away=(1, 0)), record('bn', away=(0, 1))
    other.domains = [measure('cityscapes:val', matrix(1, 0), crop=5)]
    for field in (dict(name='hrda-2048'), dict(photo=[8, 4])):
        one = (other if 'name' in field else wide).domains[0]
        one.protocol |= field
        one.protocol_hash = protocol_hash(one.protocol)
    wide.domains = wide.domains[:1]
    table = report.tabulate([*runs, other, wide])
    names = ['native', 'hrda-2048', 'native, photo 8x4']
    assert [group.protocol for group in table.groups] == names
    found = [[r.cells['cityscapes:val'].miou.mean for r in group.rows] for group in table.groups]
    assert found == [pytest.approx([20, 40]), pytest.approx([100]), pytest.approx([0])]
    assert not any(cell.mixed for row in table.rows for cell in row.cells.values())
    for output, text in outputs(table).items():
        assert all(one.domains[0].protocol_hash in text for one in (runs[0], other, wide))
        assert output in ('csv', 'json') or 'protocol hrda-2048' in text
    assert {line['comparable'] for line in lines(table)} == {'yes'}


def trained(pairs=6, digest='a', seed=0, model='bn', more=None, **settings):
    """A record that says how it was trained."""
    settings = {'train_cfg.max_iters': 40, 'model.depth': len(model)} | settings
    of = {'gta5:train': dict(pairs=pairs, published=12, digest=digest)}
    training = dict(pairs=of, settings=settings)
    facts = dict(training=training, training_iterations=settings['train_cfg.max_iters'])
    return record(model, seed, **facts | (more or {}))


OLD = dict(more=dict(training=None))


@pytest.mark.parametrize(
    ('first', 'second', 'names', 'note'),
    [
        (dict(), dict(pairs=3), ['bn (6 of 12 pairs)', 'bn (3 of 12 pairs)'], '6 of 12 (a) | 3 of'),
        (dict(pairs=12), dict(), ['bn (12 pairs)', 'bn (6 of 12 pairs)'], 'pairs of gta5:train'),
        (dict(), dict(digest='b'), None, '6 of 12 (a) | 6 of 12 (b)'),
        (
            {},
            {'train_cfg.max_iters': 80},
            ['bn (max_iters 40)', 'bn (max_iters 80)'],
            'train_cfg.max_iters: 40 | 80',
        ),
        ({'a.lr': 0.1}, {}, ['bn (lr 0.1)', 'bn'], 'a.lr: 0.1 | None'),
        ({}, OLD, ['bn', 'bn (training not recorded)'], 'the others do not say how'),
        (
            dict(more=dict(training=None, rule='last', iteration=20)),
            dict(more=dict(training=None, rule='last', iteration=40)),
            ['bn (iteration 20)', 'bn'],
            'iteration: 20 | last',
        ),
        (dict(x='y' * 99), dict(x='z' * 99), None, f'x: {"y" * 39}'),
    ],
)
def test_runs_trained_otherwise_are_no_seeds_of_one_row(first, second, names, note):
    """Each other as the first: also in the same seed."""
    for seed in (0, 1):
        table = report.tabulate([trained(**first), trained(seed=seed, **second)])
        assert [len(row.runs) for row in table.rows] == [1, 1]
        found = [row.name for row in table.rows]
        assert found == names if names else len(set(found)) == 2
        assert note in table.notes[0]
        made = outputs(table)
        for output in ('md', 'html', 'tex', 'terminal'):
            assert all(row.variant in made[output].replace('\\_', '_') for row in table.rows)
        assert len({(line['pairs'], line['training']) for line in lines(table)}) == 2
        content = json.loads(made['json'])
        assert [row['training']['variant'] for row in content['rows']] == [
            row.variant for row in table.rows
        ]


@pytest.mark.parametrize('kind', [dict(), OLD])
def test_runs_trained_alike_are_seeds(kind):
    table = report.tabulate([trained(seed=seed, **kind) for seed in (0, 1)])
    assert [row.name for row in table.rows] == ['bn'] and not table.notes


def test_a_change_is_against_the_baseline_that_was_trained_alike():
    runs = [trained(pairs=n, seed=s) for n in (6, 3) for s in (0, 1)]
    runs += [trained(pairs=3, model='ibn_a', more=dict(away=(4, 3)))]
    runs[2].domains[0] = measure('cityscapes:val', matrix(6, 2))
    table = report.tabulate(runs)
    *_, half, ours = table.rows
    assert (ours.against, ours.variant) == (half, '')
    assert ours.cells['cityscapes:val'].delta == pytest.approx(40 - (60 + 20) / 2)
    assert len(table.notes) == 1, 'the network is what is compared'
    (note,) = report.tabulate([runs[0], runs[-1]]).notes
    assert note.startswith('ibn_a, trained otherwise than bn: pairs of gta5:train: 3 of 12')


FLIP, PACK = {'type': 'RandomFlip', 'prob': 0.5}, {'type': 'PackSegInputs'}
STYLE = {'type': 'OtherStyle', 'style': 'fourier', 'options.band': 0.01}


@pytest.mark.parametrize(
    ('first', 'second', 'note'),
    [
        ([STYLE, FLIP, PACK], [FLIP, PACK], 'OtherStyle(style=fourier, options.band=0.01) | none'),
        ([FLIP, PACK], [FLIP | {'prob': 0.1}, PACK], 'RandomFlip(prob=0.5) | RandomFlip(prob=0.1)'),
        ([FLIP, FLIP, PACK], [FLIP, PACK], 'RandomFlip(prob=0.5) | none'),
        ([FLIP, PACK], [PACK, FLIP], 'in another order'),
        ([FLIP], [], 'RandomFlip(prob=0.5) | none'),
    ],
)
def test_a_list_is_compared_by_its_parts(first, second, note):
    """A step put in front moves all others, which are the same for all that."""
    runs = []
    for model, steps in (('ibn_a', first), ('bn', second)):
        facts = {f'a.b.{i}.{k}': v for i, step in enumerate(steps) for k, v in step.items()}
        runs.append(trained(model=model, **facts | ({} if steps else {'a.b': []})))
    assert report.tabulate(runs).notes == [f'ibn_a, trained otherwise than bn: a.b: {note}.']


@pytest.mark.parametrize('value', [None, 7, 'x', [1], {'a': 1}, {'a': {'pairs': [], 'b': {}}}])
def test_a_training_of_any_type_is_shown(value):
    kinds = (value, dict(pairs=value, settings=value), dict(pairs={}, settings={'': value}))
    runs = [record(seed=seed, training=kind) for seed, kind in enumerate(kinds)]
    assert all(outputs(report.tabulate(runs)).values())


def sea() -> Record:
    other = record('ibn_a')
    other.classes = ['road', 'car', 'sea']
    return other


@pytest.mark.parametrize(
    ('runs', 'options', 'message'),
    [
        ([], {}, 'no records'),
        (
            [record(), record(checkpoint_sha256='1')],
            dict(files=['a', 'b']),
            r"a and b are both of 'bn'.*seed 0, but of other checkpoints",
        ),
        (
            [record(), record(away=(4, 3))],
            dict(files=['a', 'b']),
            r'a and b measured cityscapes:val with one checkpoint .* other results',
        ),
        ([record(seed=None, checkpoint_sha256=x * 64) for x in '12'], {}, 'seed None'),
        ([record(), sea()], {}, 'training classes'),
        ([of()], {}, 'no domain'),
        ([of(*2 * [measure('gta5:val', matrix(1))])], {}, 'a domain is measured twice'),
        (
            [of(measure('gta5:val', matrix(1), digest='0' * 8, crop=crop)) for crop in (1, 2)],
            dict(files=['a', 'b']),
            r'a and b have the same protocol hash 00000000 but differ in crop: 1 \| 2; one was',
        ),
        ([record('bn'), record('a')], dict(baseline='vgg'), r"'vgg'.*'bn', 'a'"),
        ([record()], dict(classes='16'), "label space 'x' is unknown"),
    ],
)
def test_refused(runs, options, message):
    with pytest.raises(ValueError, match=message):
        report.tabulate(runs, **options)


# Strangers' text.

HOSTILE = {
    'pipe': 'a|b', 'code': '`code` ```', 'html': '<script>alert(1)</script>&amp;"',
    'image': '![x](http://evil.example/x.png)', 'heading': '# a', 'list': '1. - a',
    'lines': 'a\n# b\r\nc\u2028d', 'markup': '[bold red]x[/] [/nothing]',
    'escape': '\x1b[2J\x1b]0;title\x07\x9b31m', 'bidi': 'a\u202eb\u200bc',
    'surrogate': 'a\ud800', 'null': 'a\0b', 'long': 'x' * 5000,
    'formula': '=HYPERLINK("http://evil.example")', 'plus': '+1+1', 'minus': '-1',
    'at': '@SUM(1)', 'tab': '\t=1', 'space': ' =1', 'empty': '',
    'latex': r'\input{x} $a_b^c$ 5 % & # ~ } [2pt] * 街',
}  # fmt: skip


def hostile(text) -> report.Table:
    two = [record(text, seed=0, source=f'{text}:train'), record('bn', source=f'{text}:train')]
    for i, one in enumerate(two):
        one.classes = [text, 'car', 'sky']
        one.provenance |= dict(
            checkpoint=text, checkpoint_sha256=text, commit=text, date=text, selection=text,
            versions={text: text}, training_iterations=i,
        )  # fmt: skip
        one.domains = [measure(f'{text}:val', matrix(2, 1), digest=text)]
        one.domains[0].protocol |= dict(name=text, space=text, photo=text, mode=text, images=text)
    more = record(text, seed=1, source=f'{text}:train', selection=text, training_iterations=7)
    more.classes, more.domains = two[0].classes, two[0].domains  # lengths differ: a note
    return report.tabulate([*two, more])


class Tags(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.seen: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen += [tag, *(f'{tag} {key}' for key, _ in attrs)]


def markdown_tokens(text: str) -> list[str]:
    tokens = MarkdownIt().enable(['table', 'strikethrough']).parse(text)
    inline = {child.type for token in tokens for child in token.children or ()}
    assert inline <= {'text', 'strong_open', 'strong_close', 'text_special', 'softbreak'}
    return [token.type for token in tokens]


def html_elements(text: str) -> list[str]:
    seen = Tags(text).seen
    assert not set(seen) & {'img', 'iframe', 'link'}
    # The link to the main part; JSON and the one script, which the policy knows by its hash.
    assert (seen.count('a'), seen.count('script')) == (1, 2)
    return seen


def latex_commands(text: str) -> list[str]:
    text = text.partition('\n')[2]
    assert text.isascii() and not re.search(r'\\\\\n[\[*]', text)
    literal = r'\\[%&$#_{}]|\\(text(backslash|ascii\w+|less|greater|bar|minus)|ldots)\{\}'
    return re.findall(r'\\(?:[a-z]+|\\)|[&$#^~%_]', re.sub(literal, '', text))


STRUCTURES = dict(md=markdown_tokens, html=html_elements, tex=latex_commands)


@pytest.mark.parametrize('text', HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_do_no_harm(text):
    table = hostile(text)
    made = outputs(table)
    for output in made.values():
        output.encode('utf-8')
        assert not set(output) & set('\x1b\x07\x9b\0\r\t\u202e\u200b\u2028')
    assert all(len(line) <= 80 for line in made['terminal'].splitlines())
    assert text != HOSTILE['markup'] or '[bold red]x[/] [/nothin' in made['terminal']
    calm = outputs(hostile('calm'))
    for name, structure in STRUCTURES.items():
        assert structure(made[name]) == structure(calm[name])
    rows = list(csv.reader(io.StringIO(made['csv'])))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows) == 1 + 3 * 5
    for row in rows[1:]:
        assert not [cell for cell in row if cell.lstrip().startswith(('=', '+', '-', '@'))]
    assert json.loads(made['json'])['classes'][0] == text


def test_negative_numbers_are_numbers_in_csv():
    assert render.csv(report.grid.Grid(['a'], [[-1.5], ['-1.5']])) == "a\n-1.50\n'-1.5\n"


@pytest.mark.parametrize('value', [None, 7, 'x', [1], {'a': 1}, True, float('nan')])
def test_provenance_and_protocol_of_any_type_are_shown(value):
    facts = 'checkpoint checkpoint_sha256 iteration selection seed commit versions date validated'
    one = record()
    more = ('training_iterations', 'placement', 'method')
    one.provenance = dict.fromkeys((*facts.split(), *more), value)
    for measurement in one.domains:
        odd = dict.fromkeys(('name', 'photo', 'mode', 'crop', 'stride', 'space', 'images'), value)
        measurement.protocol |= odd
    made = outputs(report.tabulate([one]))
    assert all(made.values()) and '| unknown |' in made['md']


# Looks.


def three(domains=('gta5:val', 'cityscapes:val')) -> list[Record]:
    runs = [record(m, s, (6, 2 + s), (4, 3 + s)) for m in ('bn', 'ibn_a', 'ibn_b') for s in (0, 1)]
    for one in runs:
        one.domains = [measure(domain, one.domains[0].matrix) for domain in domains]
    return runs


def test_columns_that_do_not_fit_follow_below():
    two = screen(report.tabulate(three()))
    row = next(line for line in two.splitlines() if 'ibn_b' in line)
    assert row.split()[:5] == ['ibn_b', '2', '36.7', '±', '4.7'] and '…' not in two
    single = screen(report.tabulate(three()[::2])).splitlines()
    assert single[1].split() == ['model', 'gta5:val', 'Δ', 'cityscapes:val', 'Δ', 'gap']
    fog = [f'foggy_cityscapes:train/{density}' for density in ('0.005', '0.01', '0.02')]
    shown = [*(f'{name}:val' for name in ('gta5', 'cityscapes', 'camvid', 'bdd100k')), *fog]
    table = report.tabulate(three(shown))
    narrow, wide = screen(table), screen(table, 300)
    assert narrow.count('model ') > wide.count('model ') == 1
    assert '…' not in narrow
    for domain in shown:  # in a header and with its protocol
        columns, _, _ = narrow.partition('In short')
        assert len(re.findall(re.escape(domain) + r'(?![0-9])', columns)) == 2


def test_a_domain_of_joined_splits_leaves_the_models_their_names():
    runs = three(('gta5:val', 'camvid:0001TP+0006R0+0016E5+Seq05VD'))
    for one in runs:
        one.model += '_of_a_long_name'
    shown = screen(report.tabulate(runs), 60)
    assert all(f'\n{one.model} ' in shown for one in runs)
    for part in ('camvid:0001TP+', '0006R0+', '0016E5+', 'Seq05VD'):
        assert re.search(rf' {re.escape(part)} *\n| {part} ', shown), part


# Files and the command.


def test_tool(tmp_path, capsys):
    for index, one in enumerate(three()):
        records.write(one, tmp_path / 'in' / f'{index}.record.json')
    out = tmp_path / 'out'
    assert tool.main([str(tmp_path / 'in'), '--out', str(out), '--baseline', 'ibn_a']) == 0
    printed = capsys.readouterr()
    assert 'change against ibn_a' in printed.out and printed.err == ''
    paths = [out / f'report.{kind}' for kind in ('md', 'csv', 'json', 'html', 'tex')]
    assert printed.out.endswith(''.join(f'{path}\n' for path in paths))
    assert sorted(out.iterdir()) == sorted(paths)
    assert paths[1].read_text().count('\n') == 1 + 6 * 2 * (2 + len(CLASSES))
    content = json.loads(paths[2].read_text())
    assert content['rows'][0]['runs'][0]['domains']['gta5:val']['miou'] == pytest.approx(40)


@pytest.mark.parametrize('bad', ['absent', 'junk', 'mixed', 'baseline', 'out'])
def test_tool_says_one_line_on_bad_input_and_writes_nothing(tmp_path, capsys, bad):
    out, source = tmp_path / 'out', tmp_path / 'in'
    for index, one in enumerate(mixture() if bad == 'mixed' else three()):
        records.write(one, source / f'{index}.record.json')
    if bad == 'junk':
        (source / '9.record.json').write_bytes(b'\x1b\xff')
    if bad == 'out':
        out.write_text('a file')
    arguments = [str(tmp_path / 'none' if bad == 'absent' else source), '--out', str(out)]
    assert tool.main(arguments + ['--baseline', 'vgg'] * (bad == 'baseline')) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err[:7], printed.err.count('\n')) == ('', 'error: ', 1)
    assert not out.is_dir()
    if bad == 'mixed':
        assert tool.main([*arguments, '--mixed']) == 0
