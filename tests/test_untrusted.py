"""A file that a run reads never runs code, whichever key of the config leads to it."""

import pickle

import mmengine
import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint_with_prefix, load_checkpoint
from mmseg.models.losses.utils import get_class_weight

from ibnseg import weights
from ibnseg.train.config import load_config
from ibnseg.train.runner import build
from ibnseg.train.untrusted import read_safely

MINI = 'configs/miniature/ibn_b.py'


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return exec, (f'open({str(self.mark)!r}, "w").close()',)


@pytest.fixture
def mark(tmp_path):
    return tmp_path / 'it ran'


def planted(path, mark):
    torch.save(dict(state_dict=dict(weight=torch.ones(1)), extra=Payload(mark)), path)
    return str(path)


@pytest.fixture
def made(tmp_path, request):
    """Build the runner of a miniature config into which a test lays a weight file."""

    def make(**changes):
        config = load_config(request.config.rootpath / MINI, work_dir=str(tmp_path / 'run'))
        config.merge_from_dict(changes)
        return build(config)

    return make


@pytest.mark.parametrize('kind', ['Pretrained', 'mmengine.Pretrained'])
@pytest.mark.parametrize('part', ['', '.backbone', '.decode_head', '.auxiliary_head'])
def test_init_cfg_of_any_module(made, tmp_path, mark, part, kind):
    init = dict(type=kind, checkpoint=planted(tmp_path / 'x.pth', mark))
    if part == '.auxiliary_head':
        changes = {f'model{part}': dict(type='FCNHead', in_channels=32, channels=8, in_index=2)}
        changes[f'model{part}'] |= dict(num_classes=19, init_cfg=init)
    else:
        changes = {f'model{part}.init_cfg': init}
    runner = made(**changes)
    with pytest.raises(ValueError, match='to read that is to run code'), read_safely():
        runner.model.init_weights()
    assert not mark.exists()


READERS = {
    'a checkpoint of the run': lambda path, runner: runner.load_checkpoint(path),
    'an EMA, a teacher': lambda path, runner: load_checkpoint(runner.model, path),
    'a part of a checkpoint': lambda path, runner: _load_checkpoint_with_prefix('x', path),
    'a file address': lambda path, runner: CheckpointLoader.load_checkpoint(path),
    'torch': lambda path, runner: torch.load(path, weights_only=False),
    'the hub': lambda path, runner: weights.read(path),
}


@pytest.mark.parametrize('reader', READERS)
def test_every_reader_of_weights(made, tmp_path, mark, reader):
    path, runner = planted(tmp_path / 'x.pth', mark), made()
    refused = pytest.raises((ValueError, pickle.UnpicklingError), match=r'exec|run code')
    with refused, read_safely():
        READERS[reader](path, runner)
    assert not mark.exists()


@pytest.mark.parametrize('end', ['pkl', 'pickle', 'yaml', 'yml'])
def test_other_files_of_a_config(made, tmp_path, mark, end):
    path = tmp_path / f'weights.{end}'
    if end.startswith('p'):
        path.write_bytes(pickle.dumps(Payload(mark)))
    else:
        path.write_text(f'!!python/object/apply:pathlib.Path.touch [{mark}]')
    with pytest.raises(Exception, match=r'a pickle, which runs code|could not determine a con'):
        made(**{'model.decode_head.loss_decode.class_weight': str(path)})
    assert not mark.exists()
    if end.startswith('y'):
        path.write_text('[1.0, 2.0]')
        with read_safely():
            assert get_class_weight(str(path)) == [1.0, 2.0]


@pytest.mark.parametrize('job', ['train', 'test'])
def test_while_a_run_lasts_and_no_longer(made, tmp_path, mark, job, monkeypatch):
    path, runner = planted(tmp_path / 'x.pth', mark), made()

    def read(self):
        return torch.load(path, weights_only=False)

    monkeypatch.setattr(mmengine.runner.Runner, job, read)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with pytest.raises(pickle.UnpicklingError):
        getattr(runner, job)()
    assert not mark.exists()
    read(runner)
    assert mark.exists(), 'the payload is a real one'


@pytest.mark.parametrize('at', [0.3, 0.6, 0.9])
def test_a_flipped_bit_is_found(tmp_path, at):
    path = tmp_path / 'x.pth'
    torch.save(dict(state_dict={f'k{i}': torch.randn(500) for i in range(9)}), path)
    content = bytearray(path.read_bytes())
    # Within the numbers of a tensor: only a checksum tells.
    inside = content.index(b'/data/' + str(int(9 * at)).encode()) + 500
    content[inside] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r'x\.pth: not a readable .* does not fit its checksum'):
        weights.read(path)
