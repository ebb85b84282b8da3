"""Which checkpoint a picture shows."""

import pytest
import torch

from ibnseg import disk
from ibnseg.analysis.shown import selected
from ibnseg.measure import records


@pytest.fixture
def run(tmp_path):
    """A work dir with a last and a best checkpoint."""
    for name in ('iter_4.pth', 'best_iter_2.pth'):
        torch.save(dict(meta=dict(name=name), state_dict={}), tmp_path / name)
    (tmp_path / 'config.py').write_text('model = dict()\n')
    return tmp_path


def record(run, checkpoint: str) -> None:
    facts = dict(checkpoint=checkpoint, checkpoint_sha256=disk.sha256(run / checkpoint))
    records.write(records.Record('x', 'gta5:train', ['road'], facts), run / 'x.record.json')


@pytest.mark.parametrize('checkpoint', ['iter_4.pth', 'best_iter_2.pth'])
def test_it_is_the_one_that_the_record_is_of(run, checkpoint):
    record(run, checkpoint)
    assert selected(run) == run / checkpoint


@pytest.mark.parametrize(('select', 'name'), [('last', 'iter_4'), ('source', 'best_iter_2')])
def test_without_a_record_it_is_the_one_that_the_rule_selects(run, select, name):
    (run / 'config.py').write_text(f'select = {select!r}\n')
    assert selected(run) == run / f'{name}.pth'


def test_another_file_than_the_one_measured_is_refused(run):
    record(run, 'iter_4.pth')
    torch.save(dict(state_dict={}), run / 'iter_4.pth')
    with pytest.raises(ValueError, match=r'iter_4.pth is not the file that .*Measure it again'):
        selected(run)
    (run / 'iter_4.pth').unlink()
    with pytest.raises(FileNotFoundError, match=r'iter_4.pth: no such file'):
        selected(run)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match='no run of ibnseg train'):
        selected(tmp_path)
