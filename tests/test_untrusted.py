"""A file that a run reads never runs code, whichever key of the config leads to it."""

import io
import multiprocessing
import os
import pickle
import threading

import mmengine
import numpy as np
import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint_with_prefix, load_checkpoint
from mmseg.models.losses.utils import get_class_weight

from ibnseg import weights
from ibnseg.train import plainfiles
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


def in_numpy(mark):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload(mark)], object), allow_pickle=True)
    return buffer.getvalue()


def by_mmseg(data, backend):
    from mmseg.utils.io import datafrombytes

    return datafrombytes(data, backend)


#: Libraries that unpickle what they are given, whatever the file's name: a reader of a config's
#: pipeline (`decode_backend='pickle'`), MMPretrain's CIFAR, MMDetection's OpenImages.
UNPICKLERS = {
    'biomedical photos': lambda mark: by_mmseg(pickle.dumps(Payload(mark)), 'pickle'),
    'biomedical photos as arrays': lambda mark: by_mmseg(in_numpy(mark), 'numpy'),
    'arrays of objects': lambda mark: np.load(io.BytesIO(in_numpy(mark)), allow_pickle=True),
    'plain pickle': lambda mark: pickle.loads(pickle.dumps(Payload(mark))),
    'a file': lambda mark: pickle.load(io.BytesIO(pickle.dumps(Payload(mark)))),
    'without C': lambda mark: pickle._loads(pickle.dumps(Payload(mark))),
}


@pytest.mark.parametrize('reader', UNPICKLERS)
def test_no_library_unpickles_in_a_run(mark, reader):
    refused = pytest.raises(ValueError, match=r'reads a pickle that asks for|allow_pickle=False')
    with refused, read_safely():
        UNPICKLERS[reader](mark)
    assert not mark.exists()
    assert pickle.loads(pickle.dumps(dict(a=[1, 'x', None]))) == dict(a=[1, 'x', None])
    if reader != 'biomedical photos as arrays':
        UNPICKLERS[reader](mark)
        assert mark.exists(), 'the payload is a real one'


class Planted(torch.utils.data.Dataset):
    """Its file is a pickle, read in a data-loading process."""

    def __init__(self, path):
        self.path = path

    def __len__(self):
        return 2

    def __getitem__(self, index):
        with open(self.path, 'rb') as file:
            return pickle.load(file)


@pytest.mark.parametrize('start', ['fork', 'spawn'])
def test_in_data_loading_processes(tmp_path, mark, start):
    (tmp_path / 'x.pkl').write_bytes(pickle.dumps(Payload(mark)))
    from ibnseg.train.runner import SegRunner

    given = dict(
        dataset=Planted(tmp_path / 'x.pkl'), batch_size=1, num_workers=1, collate_fn=lambda x: x,
        multiprocessing_context=start, sampler=dict(type='DefaultSampler', shuffle=False),
    )  # fmt: skip
    if start == 'spawn':
        given['collate_fn'] = list
    with read_safely(), pytest.raises(ValueError, match='reads a pickle that asks for'):
        next(iter(SegRunner.build_dataloader(given)))
    assert not mark.exists()


def test_what_processes_of_a_run_send_each_other_still_passes():
    context = multiprocessing.get_context('fork')
    with read_safely():
        here, there = context.Pipe()
        there.send([np.ones(3)])
        assert here.recv()[0].sum() == 3
        held = dict(a=np.ones(2))
        dataset = mmengine.dataset.BaseDataset(lazy_init=True)
        dataset.load_data_list = lambda: [held]
        dataset.full_init()
        assert dataset.get_data_info(0)['a'].sum() == 2


def test_a_yaml_config_builds_no_objects(tmp_path, mark):
    path = tmp_path / 'x.yaml'
    path.write_text(f'model: !!python/object/apply:pathlib.Path.touch [{mark}]\n')
    with pytest.raises(ValueError, match=r'x\.yaml: cannot be read \(ConstructorError'):
        load_config(path)
    assert not mark.exists()


def test_threads_share_one_guard(mark):
    """Of two that read at once, the first to end leaves the other guarded; the last restores."""
    before = dict(os.environ), dict(CheckpointLoader._schemes), dict(plainfiles.file_handlers)
    entered, leave = threading.Event(), threading.Event()

    def first():
        with read_safely():
            entered.set()
            leave.wait()

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait()
    with read_safely():
        leave.set()
        thread.join()
        with pytest.raises(ValueError, match='reads a pickle'):
            pickle.loads(pickle.dumps(Payload(mark)))
    after = dict(os.environ), dict(CheckpointLoader._schemes), dict(plainfiles.file_handlers)
    assert before == after


def test_an_opened_network_reads_no_pickles(tmp_path, mark, request):
    """`ibnseg.load` and `analyze` build a network of a config outside of a run."""
    from ibnseg.inference.model import Model

    (tmp_path / 'x.pkl').write_bytes(pickle.dumps(Payload(mark)))
    config = load_config(request.config.rootpath / MINI)
    config.model.decode_head.loss_decode.class_weight = str(tmp_path / 'x.pkl')
    torch.save(dict(state_dict={}), tmp_path / 'x.pth')
    with pytest.raises(Exception, match='a pickle, which runs code'):
        Model(config, tmp_path / 'x.pth')
    assert not mark.exists()
