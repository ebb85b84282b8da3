"""What a person types: the nearest name where one is unknown, and the order where it is turned."""

import importlib
import signal

import mmengine.dist  # noqa: F401
import pytest
from processes import run

from ibnseg import command, domains, ending, labels, miniature, placement, weights
from ibnseg.errors import DataError, Incomplete
from ibnseg.measure import protocols, selection
from ibnseg.text import meant, nearest
from ibnseg.weights import networks


@pytest.mark.parametrize(
    ('name', 'names', 'found'),
    [
        ('citiscapes', domains.DOMAINS, 'cityscapes'),
        ('GTA5', domains.DOMAINS, 'gta5'),
        ('foggy', domains.DOMAINS, 'foggy_cityscapes'),
        ('mars', domains.DOMAINS, None),
        ('', domains.DOMAINS, None),
        (1001, [100, 18], '100'),
    ],
)
def test_nearest_name(name, names, found):
    assert nearest(name, names) == found
    assert meant(name, names) == (f' (did you mean {found!r}?)' if found else '')


@pytest.mark.parametrize(
    ('ask', 'found'),
    [
        (lambda: domains.parse('citiscapes'), 'cityscapes'),
        (lambda: domains.parse('gta5:train-12338'), 'train-12388'),
        (lambda: domains.parse('acdc:fogg'), 'fog'),
        (lambda: domains.parse('camvid:Seq5VD'), 'Seq05VD'),
        (lambda: labels.space('cityscape'), 'cityscapes'),
        (lambda: placement.resolve('ibna'), 'ibn_a'),
        (lambda: placement.Put('IBNN', 'norm1', (1,)), 'IBN'),
        (lambda: placement.Put('IBN', 'norm_1', (1,)), 'norm1'),
        (lambda: selection.find('orcale'), 'oracle'),
        (lambda: protocols.describe('robustnet', 'gta5', 1), 'robustnet-1536'),
        (lambda: protocols.class_set('cityscapes', '119'), '19'),
        (lambda: weights.read('ibn://resnet50_ibna'), 'resnet50_ibn_a'),
        (lambda: networks.network('restnet50_ibn_a'), 'resnet50_ibn_a'),
        (lambda: miniature.write('unused', ['cityscpaes']), 'cityscapes'),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(ask, found):
    with pytest.raises(ValueError) as error:
        ask()
    assert f'(did you mean {found!r}?)' in str(error.value)


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        ('audit data cityscapes', 'type: ibnseg audit cityscapes data'),
        ('score predictions gta5:val', 'type: ibnseg score gta5:val predictions'),
        ('test run/best.pth own.py', 'type: ibnseg test own.py run/best.pth'),
        ('finetune a.pth own.py --target acdc', 'type: ibnseg finetune own.py a.pth'),
        ('run test a.pth own.py', 'type: ibnseg run test own.py a.pth'),
        ('weights convert new.safetensors {file}', 'type: ibnseg weights convert {file} new.saf'),
        ('train {file}', '{file} is no config; expected a file that ends with .py, .json or .yaml'),
    ],
)
def test_arguments_in_the_wrong_order(words, said, tmp_path, capsys):
    file = tmp_path / 'weights.pth'
    file.touch()
    tool, *words = words.format(file=file).split()
    assert importlib.import_module(f'tools.{tool}').main(words) == 2
    assert said.format(file=file) in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        ('train own.py --sede 3', "unrecognized arguments: --sede 3 (did you mean '--seed'?)"),
        ('train own.py --select orcale', "(did you mean 'oracle'?)"),
        ('weights lst', "(did you mean 'list'?)"),
    ],
)
def test_a_mistyped_option_is_answered_with_the_nearest(words, said, capsys):
    tool, *words = words.split()
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f'tools.{tool}').main(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_a_mistyped_command(monkeypatch, capsys):
    cli = importlib.import_module('tools.cli')
    monkeypatch.setattr('sys.argv', ['ibnseg', 'trian'])
    assert cli.main() == 2
    assert "unknown command 'trian' (did you mean 'train'?)" in capsys.readouterr().err


def ended(seconds):
    raise ending.Terminated(signal.SIGTERM)


@pytest.mark.parametrize(
    ('error', 'first', 'said'),
    [
        (DataError('x.png is damaged'), 'ends it', 'error (rank 1): x.png is damaged\n'),
        (Incomplete('camvid:val is not measured'), 'ends it', ''),
        (Incomplete('camvid:val is not measured'), 'goes on', 'error (rank 1): camvid:val is not'),
    ],
)
def test_of_several_ranks_one_says_what_all_know(error, first, said, monkeypatch, capsys):
    """Each says what it alone has read, or what the first rank has not found."""
    monkeypatch.setenv('RANK', '1')
    monkeypatch.setattr('mmengine.dist.is_distributed', lambda: True)
    monkeypatch.setattr(command.time, 'sleep', ended if first == 'ends it' else lambda seconds: 0)

    def job():
        raise error

    assert command.run(job) == getattr(error, 'exit_code', 2)
    found = capsys.readouterr().err
    assert found.startswith(said) and bool(found) == bool(said)


@pytest.mark.parametrize('late', [0, 1], ids='rank {} is late'.format)
def test_what_all_ranks_know_is_said_whoever_ends_first(late, tmp_path):
    """Torchrun ends the others with the first that ends."""
    script = tmp_path / 'script.py'
    script.write_text(
        'import os, time\n'
        'from ibnseg import command\n'
        'def job():\n'
        f"    time.sleep(2 * (os.environ['RANK'] == '{late}'))\n"
        "    raise ValueError('two is not one')\n"
        'raise SystemExit(command.run(job))\n'
    )
    done = run('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', script, code=1)
    assert done.stderr.count('error: two is not one') == 1 and 'rank 1)' not in done.stderr
