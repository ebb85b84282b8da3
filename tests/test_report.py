import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ibnseg import domains, labels, report
from ibnseg.measure import records
from ibnseg.measure.confusion import score
from ibnseg.measure.protocols import protocol_hash
from ibnseg.measure.records import Measurement, Record

ROOT = Path(__file__).parents[1]
CLASSES = ['road', 'car', 'sky']


def matrix(right: int, wrong: int = 0) -> np.ndarray:
    """Each class has `right` pixels right and `wrong` taken for the next: IoU r / (r + 2w)."""
    return (right * np.eye(3) + wrong * np.roll(np.eye(3), 1, 1)).astype(np.int64)


def measure(domain, counts, classes=(0, 1, 2), digest=None, **protocol) -> Measurement:
    protocol = dict(name='native', images=4, photo=None, mode='whole', space='x', **protocol)
    protocol['classes'] = list(classes)
    return Measurement(domain, 4, protocol, digest or protocol_hash(protocol), counts)


def record(model='bn', seed=0, home=(6, 2), away=(2, 4), source='gta5:train', rule=None, **more):
    origin = dict(
        seed=seed,
        checkpoint='best.pth',
        checkpoint_sha256=f'{model}{seed}{rule}'.encode('utf-8', 'replace').hex().ljust(64, '0'),
        selection=rule or 'source validation',
        commit='0123456789abcdef0123456789abcdef01234567-dirty',
    )
    domains = [measure('cityscapes:val', matrix(*away)), measure('gta5:val', matrix(*home))]
    return Record(model, source, CLASSES, origin | more, domains)


def screen(table, width=80) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(report.terminal(table))
    return console.file.getvalue()


def lines(table) -> list[dict]:
    return list(csv.DictReader(io.StringIO(report.csv(table))))


def page(table) -> str:
    return report.html(report.markdown(table))


OUTPUTS = {
    'markdown': report.markdown,
    'html': page,
    'csv': report.csv,
    'json': report.to_json,
    'terminal': screen,
}


# Numbers, by hand. (6, 2): 60 %, (2, 4): 20 %, (4, 3): 40 %, (1, 0): 100 %.


def test_numbers_of_one_source():
    table = report.tabulate([record('ibn_a', home=(1, 0), away=(4, 3)), record('bn')])
    (group,) = table.groups
    assert (group.source, group.home) == ('gta5:train', 'gta5:val')
    assert group.domains == ['gta5:val', 'cityscapes:val']
    plain, ours = group.rows
    assert (table.baseline, plain.model, ours.model) == ('bn', 'bn', 'ibn_a')
    cell = ours.cells['cityscapes:val']
    assert cell.miou.mean == pytest.approx(40)
    assert cell.accuracy.mean == pytest.approx(100 * 4 / 7)
    assert cell.gap.mean == pytest.approx(-60)
    assert cell.delta == pytest.approx(20)
    assert [iou.mean for iou in cell.iou.values()] == pytest.approx([40, 40, 40])
    assert cell.counted == [(3, 3)]
    assert (cell.best, plain.cells['cityscapes:val'].best) == (True, False)
    assert ours.cells['gta5:val'].gap is None
    assert ours.cells['gta5:val'].delta == pytest.approx(40)
    assert plain.cells['cityscapes:val'].delta is None
    assert np.isnan(cell.miou.std)


def test_seeds_are_one_row_with_the_sample_deviation():
    runs = [record(seed=s, away=away) for s, away in enumerate([(2, 4), (4, 3), (6, 2)])]
    (row,) = report.tabulate(runs).rows
    cell = row.cells['cityscapes:val']
    assert (cell.miou.mean, cell.miou.std, cell.miou.n) == pytest.approx((40, 20, 3))
    assert (cell.gap.mean, cell.gap.std, cell.gap.n) == pytest.approx((-20, 20, 3))
    assert row.cells['gta5:val'].miou.std == pytest.approx(0)
    assert '40.0 ± 20.0' in report.markdown(report.tabulate(runs))
    assert '±' not in report.markdown(report.tabulate(runs[:1])).partition('##')[2]
    assert [line['seed'] for line in lines(report.tabulate(runs))].count('2') == 2 * 5


def test_what_is_in_neither_truth_nor_prediction_is_not_counted():
    some = matrix(4, 0)
    some[2] = some[:, 2] = 0
    one = record()
    one.domains = [measure('camvid:val', some), measure('gta5:val', matrix(1))]
    table = report.tabulate([one])
    cell = table.rows[0].cells['camvid:val']
    assert cell.counted == [(2, 3)]
    assert cell.miou.mean == pytest.approx(100)
    text = report.markdown(table)
    assert '| sky | n/a |' in text
    assert '2 of 3' in text
    assert '2 of 3 classes on camvid:val' in screen(table, 200)


def test_only_the_classes_of_the_protocol_count():
    counts = np.array([[8, 0, 2], [0, 0, 0], [0, 0, 0]], np.int64)
    one = record()
    one.domains = [measure('camvid:val', counts, classes=(0, 1))]
    cell = report.tabulate([one]).rows[0].cells['camvid:val']
    assert (cell.miou.mean, cell.counted) == (pytest.approx(80), [(1, 2)])
    assert set(cell.iou) == {0, 1}


def test_nothing_counted_is_not_a_number():
    one = record(home=(0, 0), away=(0, 0))
    table = report.tabulate([one, record('ibn_a')], baseline='bn')
    assert '| bn | 1 | n/a | n/a | n/a |' in report.markdown(table)
    assert 'n/a' in screen(table)
    assert ' nan' not in ''.join(write(table) for write in OUTPUTS.values()).lower()
    assert lines(table)[0]['percent'] == ''
    content = json.loads(report.to_json(table), parse_constant=pytest.fail)
    assert content['rows'][0]['domains']['gta5:val']['miou']['mean'] is None


def test_counts_near_the_end_of_int64_do_not_overflow():
    one = record()
    one.domains = [measure('gta5:val', np.full((3, 3), 2**62, np.int64))]
    assert report.tabulate([one]).rows[0].cells['gta5:val'].miou.mean == pytest.approx(20)


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


def test_without_a_measurement_at_home_there_is_no_gap():
    one = record()
    one.domains = one.domains[:1]
    table = report.tabulate([one])
    assert table.groups[0].home is None
    assert table.rows[0].cells['cityscapes:val'].gap is None
    assert screen(table)
    assert report.markdown(table)


def test_a_split_not_trained_on_is_home():
    one = record()
    one.domains.insert(0, measure('gta5:train', matrix(1)))
    assert report.tabulate([one]).groups[0].home == 'gta5:val'


@pytest.mark.parametrize(
    ('models', 'expected'),
    [
        (['ibn_a', 'bn'], 'bn'),
        (['ibn_resnet50', 'resnet50'], 'resnet50'),
        (['resnet50-ibn-a', 'plain'], 'plain'),
        (['r50-ibn-b', 'r50-bn'], 'r50-bn'),
        (['ibn_b', 'ibn_a'], 'ibn_b'),
    ],
)
def test_baseline_is_the_plain_model(models, expected):
    assert report.tabulate([record(model) for model in models]).baseline == expected
    assert report.tabulate([record(model) for model in models], models[0]).baseline == models[0]


def test_baseline_by_its_placement():
    runs = [record('alpha'), record('beta', placement='bn')]
    assert report.tabulate(runs).baseline == 'beta'


def test_unknown_baseline_is_refused_with_the_choice():
    with pytest.raises(ValueError, match=r"'vgg'.*'bn', 'ibn_a'"):
        report.tabulate([record('bn'), record('ibn_a')], 'vgg')


@pytest.mark.parametrize('output', OUTPUTS)
def test_an_oracle_is_marked_and_never_best(output):
    runs = [
        record('bn'),
        record('ibn_a', away=(4, 3)),
        record('ibn_a', away=(1, 0), rule='target oracle'),
    ]
    table = report.tabulate(runs)
    assert [row.cells['cityscapes:val'].best for row in table.rows] == [False, True, False]
    assert table.rows[2].cells['cityscapes:val'].miou.n == 1
    assert 'target oracle' in OUTPUTS[output](table)
    if output == 'csv':
        marked = {(line['model'], line['selected_by'], line['oracle']) for line in lines(table)}
        assert ('ibn_a', 'target oracle', 'yes') in marked
        assert ('ibn_a', 'source validation', 'no') in marked
    if output == 'markdown':
        for part in OUTPUTS[output](table).partition('## Notes')[0].split('\n#')[3:]:
            assert 'ibn_a (target oracle)' in part


def test_a_long_name_does_not_hide_the_oracle():
    table = report.tabulate([record('x' * 300, rule='target oracle')])
    assert '(target oracle)' in screen(table).partition('Target oracle:')[0]


def test_an_oracle_is_no_baseline_for_others():
    table = report.tabulate([record('bn', rule='target oracle'), record('ibn_a')])
    assert table.rows[1].cells['cityscapes:val'].delta is None


# Protocols.


def mixture() -> list[Record]:
    """The third of three seeds and models was measured by sliding windows."""
    runs = [record('bn'), record('ibn_a', away=(4, 3)), record('ibn_b', away=(6, 2))]
    other = runs[2].domains[0]
    other.protocol |= dict(mode='slide', crop=[5, 5], stride=[3, 3])
    other.protocol_hash = protocol_hash(other.protocol)
    return runs


def test_different_protocols_are_refused_with_both_hashes_files_and_fields():
    usual, _, odd = (run.domains[0].protocol_hash for run in mixture())
    with pytest.raises(ValueError) as caught:
        report.tabulate(mixture(), files=['a.json', 'b.json', 'c.json'])
    for part in (usual, odd, 'a.json', 'c.json', "mode: 'whole' | 'slide'", 'crop'):
        assert part in str(caught.value)
    assert 'b.json' not in str(caught.value)


def test_mixed_numbers_are_marked():
    table = report.tabulate(mixture(), mixed=True)
    *_, odd = table.rows
    cell = odd.cells['cityscapes:val']
    assert (cell.mixed, cell.delta_mixed, cell.gap_mixed, cell.best) == (True, True, True, False)
    assert not odd.cells['gta5:val'].mixed
    assert table.rows[1].cells['cityscapes:val'].best
    assert '| ibn_b | 1 | 60.0 (+0.0) | 60.0† (+40.0†) | +0.0† |' in report.markdown(table)
    assert '60.0†  +40.0†' in screen(table)
    for text in (report.markdown(table), screen(table, 400)):
        assert mixture()[0].domains[0].protocol_hash in text
        assert '† cityscapes:val was measured by' in text
    marked = {line['model'] for line in lines(table) if line['comparable'] == 'no'}
    assert marked == {'ibn_b'}


@pytest.mark.parametrize('mixed', [False, True])
def test_one_hash_for_two_protocols_is_refused(mixed):
    runs = mixture()
    runs[2].domains[0].protocol_hash = runs[0].domains[0].protocol_hash
    with pytest.raises(ValueError, match='one was edited'):
        report.tabulate(runs, mixed=mixed)


def test_a_fresh_record_has_the_protocol_of_the_same_record_read():
    fresh, read = record('bn'), record('ibn_a')
    fresh.domains[0].protocol['classes'] = (0, 1, 2)
    assert len(report.tabulate([fresh, read]).protocols['cityscapes:val']) == 1


@pytest.mark.parametrize('output', ['markdown', 'html', 'csv', 'json', 'terminal'])
def test_every_output_names_protocol_hash_and_denominator(output):
    runs = [record('bn'), record('ibn_a')]
    text = OUTPUTS[output](report.tabulate(runs))
    for one in runs[0].domains:
        assert one.protocol_hash in text
    assert 'native' in text
    denominator = dict(csv=',3,3,4,x,', json='"counted": 3,\n', terminal='3 of 3 classes')
    assert denominator.get(output, '3 of 3') in text


def test_terminal_tells_densities_of_fog_apart():
    fog = [f'foggy_cityscapes:train/{density}' for density in ('0.005', '0.01', '0.02')]
    one = record()
    one.domains[:] = [measure(domain, matrix(6, 2)) for domain in fog]
    text = screen(report.tabulate([one]))
    for domain in fog:
        assert len(re.findall(re.escape(domain) + r'(?![0-9])', text)) == 2  # header and protocol


def test_protocol_and_denominator_stand_below_the_numbers():
    text = report.markdown(report.tabulate(mixture(), mixed=True))
    usual, _, odd = (run.domains[0].protocol_hash for run in mixture())
    home = mixture()[0].domains[1].protocol_hash
    assert f'| protocol |  | native {home} | native {usual} |  |' in text
    assert '| classes counted |  | 3 of 3 | 3 of 3 |  |' in text
    assert f'| protocol | native {usual} | native {usual} | native {odd} |' in text


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


@pytest.mark.parametrize(('classes', 'count'), [('19', 19), ('16', 16), ('13', 13)])
def test_class_sets_from_one_matrix(classes, count):
    one = street()
    table = report.tabulate([one], classes=classes)
    cell = table.rows[0].cells['synthia:val']
    expected = 100 * np.mean(score(one.domains[0].matrix).iou[list(cell.iou)])
    assert (cell.miou.mean, cell.counted) == (pytest.approx(expected), [(count, count)])
    ((digest, content),) = table.protocols['synthia:val'].items()
    assert content['classes'] == list(cell.iou)
    assert (digest == one.domains[0].protocol_hash) == (classes == '16'), "the record's own"
    assert f'{count} of 19 classes' in screen(table)


def test_present_classes_are_those_of_the_truth():
    """A class that only a prediction has lowers the mean over 19, and not that over present."""
    matrix = np.diag([5] * 18 + [0])
    matrix[0, 18] = 5
    one = street(domain='gta5', matrix=matrix)
    over_all, present = (
        report.tabulate([one], classes=c).rows[0].cells['gta5:val'] for c in ('19', 'present')
    )
    assert (over_all.counted, present.counted) == ([(19, 19)], [(18, 18)])
    assert present.miou.mean == pytest.approx(19 / 18 * over_all.miou.mean)


def test_class_sets_make_records_comparable():
    runs = [street(), street('ibn_a', classes=list(range(19)))]
    with pytest.raises(ValueError, match=r'differ in classes.*count the same \(--classes\)'):
        report.tabulate(runs)
    assert not any(
        row.cells['synthia:val'].mixed for row in report.tabulate(runs, classes='13').rows
    )


def test_class_set_of_an_unknown_space_is_refused():
    with pytest.raises(ValueError, match="label space 'x' is unknown"):
        report.tabulate([record()], classes='16')


def mapped(model='bn', seed=0, **protocol) -> Record:
    raw = np.random.default_rng([seed, len(model)]).integers(1, 99, (66, 19))
    one = street(model, seed, 'mapillary', labels.fold(raw, 'mapillary-coarse'), **protocol)
    one.domains[0].raw = raw
    return one


def test_the_other_label_map_follows_from_the_raw_ids():
    runs = [mapped(), mapped('ibn_a'), mapped('ibn_a', 1)]
    table = report.tabulate(runs)
    plain, ours = report.maps.relabelled(table.groups[0])
    rich = [100 * score(labels.fold(run.domains[0].raw, 'mapillary-rich')).miou for run in runs[1:]]
    assert (ours.after.mean, ours.after.n) == (pytest.approx(np.mean(rich)), 2)
    assert ours.change.mean == pytest.approx(ours.after.mean - ours.before.mean)
    assert abs(plain.change.mean) > 0.1
    direct = street(domain='mapillary_rich').domains[0]
    assert plain.other.domain == direct.domain
    assert plain.other.protocol_hash == direct.protocol_hash, 'as if measured by that map'
    for output in ('markdown', 'html', 'csv', 'terminal', 'json'):
        text = OUTPUTS[output](table)
        assert direct.protocol_hash in text
        assert 'mapillary_rich:val' in text
    assert '### Label maps of mapillary:val' in report.markdown(table)
    found = {
        line['seed']: float(line['percent'])
        for line in lines(table)
        if (line['model'], line['domain'], line['measure'])
        == ('ibn_a', 'mapillary_rich:val', 'mIoU')
    }
    assert list(found.values()) == pytest.approx(rich, abs=0.01)


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        *((name, name) for name in ('native', 'native-bfloat16', 'files')),
        *((name, f'{name}, relabelled') for name in ('robustnet-1536', 'hrda-2048-bfloat16')),
    ],
)
def test_a_setting_of_one_label_map_is_not_said_to_be_of_the_other(name, expected):
    table = report.tabulate([mapped(name=name)])
    (one,) = report.maps.relabelled(table.groups[0])
    assert one.other.protocol['name'] == expected
    assert one.other.protocol_hash == protocol_hash(one.other.protocol)
    for output in ('markdown', 'html', 'csv', 'terminal', 'json'):
        assert expected in OUTPUTS[output](table)


def test_without_raw_ids_nothing_is_said_of_label_maps():
    table = report.tabulate([street(domain='mapillary')])
    assert not list(report.maps.relabelled(table.groups[0]))
    assert 'mapillary_rich' not in ''.join(write(table) for write in OUTPUTS.values())


def test_geometry_of_labels_in_words():
    one = street(
        domain='mapillary', label_scale=0.5, label_height=1536, label_crop=[1536, 1024], label_pad=0
    )
    text = report.markdown(report.tabulate([one]))
    assert 'photos and labels scaled by 0.5; photos and labels scaled to height 1536; ' in text
    assert 'of both the 1024×1536 centre, beyond them the truth is road; photos in' in text


# Records that don't belong together.


def test_no_records():
    with pytest.raises(ValueError, match='no records'):
        report.tabulate([])


def test_one_seed_twice_is_refused():
    with pytest.raises(ValueError, match=r"a\.json and b\.json.*'bn'.*seed 0"):
        report.tabulate([record(), record()], files=['a.json', 'b.json'])


def test_unknown_seeds_are_not_taken_for_seeds():
    runs = [record(seed=None, checkpoint_sha256=digit * 64) for digit in '12']
    with pytest.raises(ValueError, match='seed None'):
        report.tabulate(runs)


def test_one_checkpoint_measured_in_two_sittings_is_one_run():
    one, two = record(), record()
    one.domains, two.domains = one.domains[:1], two.domains[1:]
    (row,) = report.tabulate([one, two]).rows
    assert len(row.runs) == 1
    assert row.cells['cityscapes:val'].gap.mean == pytest.approx(-40)


def test_other_classes_are_refused():
    other = record('ibn_a')
    other.classes = ['road', 'car', 'sea']
    with pytest.raises(ValueError, match='training classes'):
        report.tabulate([record(), other])


def test_a_domain_twice_or_none_is_refused():
    one = record()
    one.domains *= 2
    with pytest.raises(ValueError, match='more than once'):
        report.tabulate([one])
    one.domains = []
    with pytest.raises(ValueError, match='no domain'):
        report.tabulate([one])


def test_models_measured_on_other_domains_stand_in_one_table():
    one = record('ibn_a')
    one.domains[0].domain = 'camvid:val'
    table = report.tabulate([record('bn'), one])
    assert table.groups[0].domains == ['gta5:val', 'cityscapes:val', 'camvid:val']
    assert '| ibn_a | 1 | 60.0 (+0.0) | n/a | n/a | 20.0 | -40.0 |' in report.markdown(table)
    assert screen(table)


# Strangers' text.

HOSTILE = {
    'pipe': 'a|b',
    'code': '`code` ```',
    'html': '<script>alert(1)</script>&amp;',
    'image': '![x](http://evil.example/x.png)',
    'lines': 'a\n# b\r\nc\u2028d',
    'markup': '[bold red]x[/] [/nothing]',
    'escape': '\x1b[2J\x1b]0;title\x07\x9b31m',
    'bidi': 'a\u202eb\u200bc',
    'surrogate': 'a\ud800',
    'null': 'a\0b',
    'long': 'x' * 5000,
    'formula': '=HYPERLINK("http://evil.example")',
    'plus': '+1+1',
    'minus': '-1',
    'at': '@SUM(1)',
    'tab': '\t=1',
    'space': ' =1',
    'empty': '',
}


def hostile(text) -> report.Table:
    two = [record(text, seed=0, source=f'{text}:train'), record('bn', source=f'{text}:train')]
    for one in two:
        one.classes = [text, 'car', 'sky']
        one.provenance |= dict(
            checkpoint=text, checkpoint_sha256=text, commit=text, date=text, selection=text,
            versions={text: text},
        )  # fmt: skip
        one.domains = [measure(f'{text}:val', matrix(2, 1), digest=text)]
        one.domains[0].protocol |= dict(name=text, space=text, photo=text, mode=text, images=text)
    return report.tabulate(two)


@pytest.mark.parametrize('text', HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize('output', OUTPUTS)
def test_hostile_names_keep_the_output_whole(output, text):
    made = OUTPUTS[output](hostile(text))
    made.encode('utf-8')
    assert not set(made) & set('\x1b\x07\x9b\0\r\t\u202e\u200b\u2028')


@pytest.mark.parametrize('text', HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_in_markdown(text):
    markdown_it = pytest.importorskip('markdown_it')
    made = report.markdown(hostile(text))
    tokens = markdown_it.MarkdownIt('commonmark').enable(['table', 'strikethrough']).parse(made)
    inline = [child.type for token in tokens for child in token.children or ()]
    assert set(inline) <= {'text', 'strong_open', 'strong_close', 'text_special', 'softbreak'}
    kinds = [token.type for token in tokens]
    assert 'html_block' not in kinds
    assert 'fence' not in kinds
    expected = [token.type for token in markdown_it.MarkdownIt('commonmark').enable('table').parse(
        report.markdown(hostile('calm')))]  # fmt: skip
    assert kinds == expected


class Tags(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.seen: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen |= {tag, *(f'{tag} {key}' for key, _ in attrs)}


@pytest.mark.parametrize('text', HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_in_html(text):
    """A page of the same elements as a harmless one, none of which loads or runs anything."""
    found = Tags(page(hostile(text))).seen
    assert found == Tags(page(hostile('calm'))).seen
    assert not found & {'a', 'img', 'script', 'iframe', 'link'}


@pytest.mark.parametrize('text', HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_in_csv(text):
    table = hostile(text)
    rows = list(csv.reader(io.StringIO(report.csv(table))))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert len(rows) == 1 + 2 * 5
    for row in rows[1:]:
        for cell in row:
            assert not cell.lstrip().startswith(('=', '+', '-', '@'))


def test_numbers_below_zero_stay_numbers_in_csv():
    assert report.flat._text(-1.5) == '-1.50'
    assert report.flat._text('-1.5') == "'-1.5"


@pytest.mark.parametrize('text', HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_in_the_terminal(text):
    made = screen(hostile(text))
    assert all(len(line) <= 80 for line in made.splitlines())
    if text == HOSTILE['markup']:
        assert '[bold red]x[/] [/nothin' in made


@pytest.mark.parametrize('text', HOSTILE.values(), ids=HOSTILE)
def test_hostile_names_in_json_are_kept(text):
    content = json.loads(report.to_json(hostile(text)))
    assert content['classes'][0] == text


@pytest.mark.parametrize('value', [None, 7, 'x', [1], {'a': 1}, True, float('nan')])
def test_provenance_and_protocol_of_any_type_are_shown(value):
    one = record()
    one.provenance = dict.fromkeys(
        [
            *('checkpoint', 'checkpoint_sha256', 'iteration', 'selection', 'seed', 'commit'),
            *('versions', 'date', 'training_iterations', 'placement'),
        ],
        value,
    )
    for measurement in one.domains:
        odd = dict.fromkeys(('name', 'photo', 'mode', 'crop', 'stride', 'space', 'images'), value)
        measurement.protocol |= odd
    table = report.tabulate([one])
    for output in OUTPUTS.values():
        assert output(table)


def test_without_provenance():
    one = record()
    one.provenance = {}
    assert '| unknown |' in report.markdown(report.tabulate([one]))


# Looks.


def three(domains=('gta5:val', 'cityscapes:val')) -> list[Record]:
    runs = [record(m, s, (6, 2 + s), (4, 3 + s)) for m in ('bn', 'ibn_a', 'ibn_b') for s in (0, 1)]
    for one in runs:
        one.domains = [measure(domain, one.domains[0].matrix) for domain in domains]
    return runs


def test_three_models_and_two_domains_fit_80_columns():
    text = screen(report.tabulate(three()))
    assert '…' not in text
    row = next(line for line in text.splitlines() if 'ibn_b' in line)
    assert row.split()[:3] == ['ibn_b', 'n=2', '36.7±4.7']


def test_domains_that_do_not_fit_follow_below():
    domains = [f'{name}:val' for name in ('gta5', 'cityscapes', 'camvid', 'bdd100k', 'mapillary')]
    table = report.tabulate(three(domains))
    narrow, wide = screen(table), screen(table, 200)
    assert narrow.count(' model ') > wide.count(' model ') == 1
    assert '…' not in narrow
    assert all(narrow.count(f' {domain} ') == 1 for domain in domains)


def test_protocols_in_words():
    runs = three()
    for one in runs:
        one.domains[0].protocol |= dict(photo=[1024, 512], keep_ratio=True)
        slide = dict(mode='slide', crop=[512, 1024], stride=[256, 700], classes=[0, 2])
        one.domains[1].protocol |= slide
    text = report.markdown(report.tabulate(runs))
    assert 'photos scaled to 1024×512, keeping their ratio; whole photo at once' in text
    assert 'photos in their own size; sliding windows of 1024×512 every 700×256' in text
    assert '2 of 3 classes: road, sky' in text


# Files and the command.


KINDS = ('md', 'csv', 'json', 'html')


def test_write(tmp_path):
    paths = report.write(three(), tmp_path / 'new')
    assert sorted(tmp_path.glob('new/*')) == sorted(paths)
    assert [path.name for path in paths] == [f'report.{kind}' for kind in KINDS]
    rows = list(csv.DictReader(paths[1].open(encoding='utf-8', newline='')))
    assert len(rows) == 6 * 2 * (2 + len(CLASSES))
    assert (rows[0]['measure'], rows[0]['percent']) == ('mIoU', '40.00')
    content = json.loads(paths[2].read_text())
    assert content['rows'][0]['runs'][0]['domains']['gta5:val']['miou'] == pytest.approx(40)


def test_a_refusal_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match='protocol'):
        report.write(mixture(), tmp_path / 'new')
    assert not (tmp_path / 'new').exists()


@pytest.fixture
def tool():
    from importlib import util

    spec = util.spec_from_file_location('report_tool', ROOT / 'tools' / 'report.py')
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_tool(tool, tmp_path, capsys):
    for index, one in enumerate(three()):
        records.write(one, tmp_path / 'in' / f'{index}.record.json')
    assert tool([str(tmp_path / 'in'), '--out', str(tmp_path / 'out'), '--baseline', 'ibn_a']) == 0
    out, err = capsys.readouterr()
    assert 'change against ibn_a' in out
    assert out.endswith(f'{tmp_path / "out" / "report.html"}\n')
    assert err == ''


@pytest.mark.parametrize('bad', ['absent', 'junk', 'mixed', 'baseline', 'out'])
def test_tool_says_one_line_on_bad_input(tool, tmp_path, capsys, bad):
    out, source = tmp_path / 'out', tmp_path / 'in'
    for index, one in enumerate(mixture() if bad == 'mixed' else three()):
        records.write(one, source / f'{index}.record.json')
    if bad == 'junk':
        (source / '9.record.json').write_bytes(b'\x1b\xff')
    if bad == 'out':
        out.write_text('a file')
    arguments = [str(tmp_path / 'none' if bad == 'absent' else source), '--out', str(out)]
    assert tool(arguments + ['--baseline', 'vgg'] * (bad == 'baseline')) == 2
    printed = capsys.readouterr()
    assert printed.out == ''
    assert printed.err.startswith('error: ')
    assert printed.err.count('\n') == 1
    if bad == 'mixed':
        assert tool([*arguments, '--mixed']) == 0


def test_help_needs_only_the_standard_library():
    command = [sys.executable, '-S', '-I', str(ROOT / 'tools' / 'report.py'), '--help']
    assert (
        '--baseline' in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
