"""Files of the right form with odd contents: named, bounded, and harmless on a terminal."""

import ast
import copy
import json
from pathlib import Path

import pytest
import torch
from ibnseg_tools import weights as weights_tool
from mmengine.config import ConfigDict
from test_matrices import example

from ibnseg import domains, text, weights
from ibnseg.errors import DataError
from ibnseg.measure import records
from ibnseg.measure.records import RecordError
from ibnseg.train import checkpoint

ROOT = Path(__file__).parents[1]
ODD = '\x1b[31mred\x07\u202e'

# ------------------------------------------------------------------------ checkpoints


def content() -> dict:
    trained = dict(source='gta5:train', settings={}, pairs={'gta5:train': dict(digest='x')})
    return dict(
        meta=dict(iter=4, epoch=0, seed=0, trained=trained, threads=torch.get_num_threads()),
        state_dict={'backbone.conv1.weight': torch.ones(2, 3)},
        optimizer={},
        message_hub={},
        param_schedulers=[],
    )


def put(*path_and_value):
    *path, value = path_and_value

    def change(found: dict) -> None:
        for key in path[:-1]:
            found = found[key]
        if value is ...:
            del found[path[-1]]
        else:
            found[path[-1]] = value

    return change


#: What is wrong -> (the change, what is said of it).
READ = {
    'meta a list': (put('meta', [1]), 'meta is a list; expected a dict'),
    'meta a text': (put('meta', 'x'), 'meta is a str; expected a dict'),
    'weights a list': (put('state_dict', [1]), 'state_dict is a list; expected a dict'),
    'no weights': (put('state_dict', None), 'state_dict is a NoneType; expected a dict'),
    'a number as name': (put('state_dict', 3, torch.ones(1)), 'a key is 3; expected a name'),
    'a number at the top': (put(3, torch.ones(1)), 'a key is 3; expected a name'),
    'a long name': (put('state_dict', 'k' * 10**7, 0), 'a name has 10,000,000 characters'),
}
RESUMED = {
    'no meta': (put('meta', ...), 'meta.iter is None; expected a count'),
    'meta None': (put('meta', None), 'meta.iter is None; expected a count'),
    'iteration a text': (put('meta', 'iter', '4'), "meta.iter is '4'; expected a count"),
    'iteration negative': (put('meta', 'iter', -4), 'meta.iter is -4; expected a count'),
    'iteration huge': (put('meta', 'iter', 10**30), 'expected a count'),
    'iteration True': (put('meta', 'iter', True), 'meta.iter is True; expected a count'),
    'no seed': (put('meta', 'seed', ...), 'meta.seed is None; expected a count'),
    'seed odd': (put('meta', 'seed', ODD), 'meta.seed is '),
    'trained a list': (put('meta', 'trained', [1]), 'meta.trained is [1]; expected a dict'),
    'settings a list': (put('meta', 'trained', 'settings', [1]), 'settings is [1]; expected a'),
    'pairs a list': (put('meta', 'trained', 'pairs', [1]), 'pairs is [1]; expected a dict'),
    'pairs numbers': (put('meta', 'trained', 'pairs', {ODD: 3}), 'is 3; expected a dict'),
    'selection a number': (put('meta', 'trained', 'selection', 5), 'selection is 5; expected a'),
    'no optimiser': (put('optimizer', ...), 'optimizer is None; expected a dict'),
    'optimiser a list': (put('optimizer', [1]), 'optimizer is [1]; expected a dict'),
    'no schedules': (put('param_schedulers', ...), 'param_schedulers is None; expected a list'),
    'no hub': (put('message_hub', ...), 'message_hub is None; expected a dict'),
}


@pytest.mark.parametrize('kind', READ)
def test_what_no_checkpoint_is(tmp_path, kind):
    change, said = READ[kind]
    change(found := content())
    torch.save(found, tmp_path / 'x.pth')
    with pytest.raises(ValueError) as error:
        weights.read(tmp_path / 'x.pth')
    assert str(error.value).startswith(f'{tmp_path / "x.pth"}: ') and said in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize('kind', RESUMED)
def test_a_resume_names_what_a_checkpoint_lacks(tmp_path, kind):
    """An optimiser's state that is missing would start from zero, unseen."""
    change, said = RESUMED[kind]
    change(found := content())
    torch.save(found, tmp_path / 'iter_4.pth')
    config = ConfigDict(work_dir=str(tmp_path))
    with pytest.raises(ValueError) as error:
        checkpoint.begin(config, True, None)
    assert str(error.value).startswith(f'{tmp_path / "iter_4.pth"}: ') and said in str(error.value)
    assert 'cannot go on from it' in str(error.value) and len(str(error.value)) < 1000


def test_the_number_of_threads_is_kept_and_another_is_said(tmp_path, capsys, monkeypatch):
    torch.save(content(), tmp_path / 'iter_4.pth')
    config = ConfigDict(work_dir=str(tmp_path))
    assert checkpoint.begin(config, True, None)[1]['threads'] == torch.get_num_threads()
    assert capsys.readouterr().out == ''
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 64)
    checkpoint.begin(config, True, None)
    (line,) = capsys.readouterr().out.splitlines()
    assert 'this process has 64: the weights will differ in their last bits' in line


@pytest.mark.parametrize('value', ['x', 3, [1], None])
def test_a_weight_that_is_no_tensor_fits_nothing(value):
    (said,) = weights.misfits({'w': torch.ones(2)}, {'w': value})
    assert said == f'wrong shapes: w is a {type(value).__name__}, expected (2,)'


def test_names_of_tensors_do_nothing_to_a_terminal(tmp_path, capsys):
    found = {'layer1.0.conv1.weight': torch.ones(2, 2, 1, 1), ODD + 'x' * 900: torch.ones(1)}
    torch.save(found, tmp_path / 'x.pth')
    weights_tool.main(['inspect', str(tmp_path / 'x.pth')])
    weights_tool.main(['convert', str(tmp_path / 'x.pth'), str(tmp_path / 'y.safetensors')])
    said = ''.join(capsys.readouterr())
    assert said and not set(ODD) & set('\x1b\x07\u202e') & set(said)


# ------------------------------------------------------------------------ records


def record_json(tmp_path) -> dict:
    record, _ = example()
    return json.loads(records.write(record, tmp_path / 'a.record.json').read_text())


@pytest.mark.parametrize(
    'path',
    [('model',), ('source',), ('classes', 0), ('domains', 0, 'domain'), ('provenance', 'seed')],
)
def test_a_text_of_ten_million_characters(tmp_path, path):
    found = record_json(tmp_path)
    put(*path, 'x' * 10**7)(found)
    (tmp_path / 'a.record.json').write_text(json.dumps(found))
    with pytest.raises(RecordError, match=r'has 10,000,000 characters .* expected 5,000 at most'):
        records.read(tmp_path / 'a.record.json')


def test_a_key_of_ten_million_characters_and_many_domains(tmp_path):
    found = record_json(tmp_path)
    found['provenance']['k' * 10**7] = 1
    (tmp_path / 'a.record.json').write_text(json.dumps(found))
    with pytest.raises(RecordError, match="in 'provenance' has 10,000,000 characters"):
        records.read(tmp_path / 'a.record.json')
    found = record_json(tmp_path)
    one = found['domains'][0]
    found['domains'] = [dict(copy.deepcopy(one), domain=f'gta5:{i}') for i in range(1001)]
    (tmp_path / 'a.record.json').write_text(json.dumps(found))
    with pytest.raises(RecordError, match='1,001 domains; expected 1000 at most'):
        records.read(tmp_path / 'a.record.json')
    found['domains'].pop()
    (tmp_path / 'a.record.json').write_text(json.dumps(found))
    assert len(records.read(tmp_path / 'a.record.json').domains) == 1000


# ------------------------------------------------------------------------ skip lists, prints


@pytest.mark.parametrize(
    'file', ['../gta5/x.png', '/etc/passwd', 'a/../../x.png', '..', '../' * 40 + 'etc/passwd']
)
def test_a_skip_list_names_only_files_below_its_dataset(tmp_path, file):
    path = tmp_path / 'skip.txt'
    path.write_text(f'gta5/{file}  # why\n')
    with pytest.raises(DataError, match=r'line 1: .* names no file below the folder of a domain'):
        domains.skip.read([path], domains.DOMAINS)
    path.write_text('gta5/images/..x.png  # why\n')
    assert domains.skip.read([path], domains.DOMAINS) == {'gta5': frozenset(['images/..x.png'])}


def test_a_line_of_a_stranger_is_cleaned_and_cut(capsys):
    text.tell(ODD + '\nsecond ' + 'x' * 10**6)
    first, second = capsys.readouterr().out.splitlines()
    assert first == '\\x1b[31mred\\x07\\u202e' and len(second) == text.LINE


#: Files that print what no stranger has written, or what is cleaned cell by cell before.
_OWN_WORDS = {
    *(
        'text.py',
        'hub.py',
        'render.py',
        'tools/cli.py',
        'tools/published.py',
        'tools/check_claim.py',
    ),
    'tools/methods.py',
}


def test_everything_printed_passes_one_cleaning_function():
    wrong = []
    for path in [*(ROOT / 'ibnseg').rglob('*.py'), *(ROOT / 'tools').glob('*.py')]:
        name = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            called = isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'print'
            if called and not any(name.endswith(own) for own in _OWN_WORDS):
                wrong.append(f'{name}, line {node.lineno}')
    assert not wrong, wrong
