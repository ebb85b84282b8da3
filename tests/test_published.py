"""The list of published results: its arithmetic, its formats, and own records among them."""

import csv
import io
import json
import re
from decimal import Decimal

import numpy as np
import pytest
from ibnseg_tools import published as tool

from ibnseg import domains, labels, report
from ibnseg.measure import records
from ibnseg.measure.protocols import SETTINGS, describe
from ibnseg.measure.records import Measurement, Record
from ibnseg.report import published, render
from ibnseg.report.printed import Printed, follows

EVERY = published.load()
CLASSES = list(labels.CLASSES)


def words(found) -> str:
    return render.markdown(found)


def test_forty_rows_at_least_that_say_where_they_stand():
    assert len(EVERY) >= 40
    for one in EVERY:
        assert one.where and one.miou and one.sources and one.method and one.backbone
        on_github = r'https://github\.com/[\w.-]+/[\w.-]+/blob/[0-9a-f]{40}/\S+'
        assert re.fullmatch(on_github + r'|https://huggingface\.co/\S+', one.address)


def test_names_are_those_of_ibnseg():
    for one in EVERY:
        assert one.protocol in (None, *SETTINGS)
        for domain in (*one.miou, *one.average_of):
            dataset, split = domain.partition(':')[::2]
            assert dataset.partition('/')[0] in domains.DOMAINS
            assert split in ('', 'val', 'test')
        assert {source.partition(':')[0] for source in one.sources} <= {
            *domains.DOMAINS,
            'urbansyn',
        }


def test_no_row_stands_there_twice():
    facts = [(one.address, one.where, one.method, one.backbone, str(one.miou)) for one in EVERY]
    assert len(set(facts)) == len(facts)


@pytest.mark.parametrize('one', [one for one in EVERY if one.average], ids=lambda one: one.method)
def test_a_printed_average_follows_from_its_columns_or_says_that_it_does_not(one):
    assert published.arithmetic(one) is one.average_follows


def test_some_averages_do_not_follow_and_one_cannot_be_checked():
    found = {one.average_follows for one in EVERY if one.average}
    assert found == {True, False, None}


@pytest.mark.parametrize(
    ('text', 'value', 'spread'),
    [('36.6', '36.6', None), (' 36,60 % ', '36.60', None), ('36.6 ± 0,25', '36.6', '0.25'),
     ('36.6% +/- 0.2 %', '36.6', '0.2'), ('100', '100', None), ('0', '0', None)],
)  # fmt: skip
def test_numbers_as_people_print_them(text, value, spread):
    expected = Printed(Decimal(value), None if spread is None else Decimal(spread))
    assert Printed.read(text) == expected


@pytest.mark.parametrize('text', ['', '-', '–', 'n/a', ' NaN '])
def test_cells_without_a_number(text):
    assert Printed.read(text) is None


@pytest.mark.parametrize('text', ['101', '-3', '1.234,5', '36.6a', '**36.6**', 'ibn', '1e1'])
def test_other_text_is_no_number(text):
    with pytest.raises(ValueError, match='percent'):
        Printed.read(text)


def test_rounding_explains_so_much_and_no_more():
    columns = [Printed.read(text) for text in ('10.05', '20.05')]  # mean 15.05
    assert follows(Printed.read('15.0'), columns) and follows(Printed.read('15.1'), columns)
    assert not follows(Printed.read('15.2'), columns)
    assert not follows(Printed.read('15.07'), columns)


def test_filters():
    found = published.select(EVERY, sources=['gta5', 'synthia'], backbones=['resnet50'])
    assert found and all({'gta5', 'synthia'} <= one.datasets for one in found)
    assert {one.backbone for one in found} == {'ResNet-50'}
    assert all('acdc' in str(one.miou) for one in published.select(EVERY, targets=['acdc']))
    with pytest.raises(ValueError, match=r"target 'citiscapes'.*did you mean 'cityscapes'"):
        published.select(EVERY, targets=['citiscapes'])


def test_formats_hold_the_same_numbers(capsys):
    options = ['--source', 'gta5', '--backbone', 'resnet-101', '--format']
    assert tool.main([*options, 'json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert {'method': 'ISW', 'seeds': 3, 'measured_here': False}.items() <= found[2].items()
    assert found[2]['miou']['cityscapes:val'] == '37.09'
    assert tool.main([*options, 'csv']) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [line['miou'] for line in lines] == [n for one in found for n in one['miou'].values()]
    for form in ('markdown', 'terminal'):
        assert tool.main([*options, form]) == 0
        shown = capsys.readouterr().out
        assert '37.09' in shown and published.MARK in shown


def record(model, seed, setting, right, source='gta5:train', rule='source validation', **other):
    protocol = describe(setting, 'cityscapes', 500).content() | other
    protocol = json.loads(json.dumps(protocol))
    matrix = np.full((19, 19), (100 - right) // 18 + 1) + np.diag([50 * right] * 19)
    measured = Measurement('cityscapes:val', 500, protocol, records.protocol_hash(protocol), matrix)
    origin = dict(seed=seed, selection=rule, checkpoint_sha256=f'{model}{seed}{setting}')
    return Record(model, source, CLASSES, origin, [measured])


def ranks(*own):
    text = words(published.among(report.tabulate(own), EVERY))
    cells = [[c.strip(' *') for c in line.split('|')[1:-1]] for line in text.splitlines()]
    return {line[0]: line for line in cells if len(line) == 6}, text


def test_own_records_of_the_same_protocol_are_ranked():
    found, _ = ranks(record('mine', 0, 'robustnet-1536', 90))
    assert [found[name][3] for name in ('mine', 'ISW', "IBN-Net (RobustNet's)")] == ['1', '2', '3']
    assert 'published, not measured here; selection: not stated' in found['ISW'][2]
    assert found['SAN-SAW (reprinted)'][2:4] == [
        'published, not measured here; protocol not stated', 'n/a',
    ]  # fmt: skip


@pytest.mark.parametrize(
    'own',
    [record('mine', 0, 'native', 90, photo=[1024, 512], keep_ratio=True),
     record('mine', 0, 'robustnet-1536', 90, classes=list(range(13))),
     record('mine', 0, 'robustnet-1536', 90, pairs='12345678')],
    ids=['test size', 'classes', 'images'],
)  # fmt: skip
def test_another_protocol_is_not_ranked(own):
    found, _ = ranks(own)
    assert found['ISW'][2].endswith('another protocol (robustnet-1536)')
    assert found['ISW'][3] == 'n/a'


def test_an_oracle_is_not_ranked():
    found, _ = ranks(record('mine', 0, 'robustnet-1536', 90, rule='target oracle'))
    assert found['mine (target oracle)'][2:4] == ['selected on the target', 'n/a']
    assert found['ISW'][3] == '1'


def test_a_stated_selection_rule_counts():
    stated = [vars(one) | dict(selection='last') for one in EVERY if one.method == 'ISW']
    table = report.tabulate([record('mine', 0, 'robustnet-1536', 90)])
    text = words(published.among(table, [published.Result(**one) for one in stated]))
    assert 'another selection rule (last)' in text


def test_other_sources_are_not_beside_it():
    found, text = ranks(record('mine', 0, 'robustnet-1536', 90, source='camvid:train'))
    assert not found and 'No published result' in text


def test_hostile_names_stay_text(tmp_path, capsys):
    own = record('<script>\x1b[31m|x', 0, 'robustnet-1536', 90)
    path = records.write(own, tmp_path / 'a.record.json')
    assert tool.main([str(path), '--format', 'markdown']) == 0
    shown = capsys.readouterr().out
    assert '\x1b' not in shown and '<script>' not in shown
    assert tool.main([str(path)]) == 0
    assert '\x1b' not in capsys.readouterr().out


def test_a_ranking_has_no_csv(tmp_path, capsys):
    path = records.write(record('mine', 0, 'robustnet-1536', 90), tmp_path / 'a.record.json')
    assert tool.main([str(path), '--format', 'csv']) == 2
    assert 'terminal or markdown' in capsys.readouterr().err
