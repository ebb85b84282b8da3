"""The commands as a user types them, as real processes on a small miniature."""

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ibnseg_tools import report as report_tool
from PIL import Image
from processes import run as command

from ibnseg import disk, domains, miniature, weights
from ibnseg.analysis import shown
from ibnseg.measure import matrices, metric, records
from ibnseg.measure.selection import RULES
from ibnseg.train import checks, resume, settings
from ibnseg.train import test as testing
from ibnseg.train import train as training
from ibnseg.train.config import load_config, parse_options

ROOT = Path(__file__).parents[1]
TINY = [
    'model.backbone.base_channels=8',
    'model.backbone.stem_channels=8',
    'model.decode_head.in_channels=64',
    'model.decode_head.channels=64',
    'train_dataloader.batch_size=2',
    'train_cfg.max_iters=4',
    'train_cfg.val_interval=2',
    'default_hooks.checkpoint.interval=2',
    'default_hooks.checkpoint.keep=9',
]


def run(*words, processes=0, **kwargs):
    """Run tools/<words> and return the finished process."""
    tool = ROOT / 'tools' / words[0]
    if not processes:
        return command(tool, *words[1:], **kwargs)
    torchrun = ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    return command(*torchrun, tool, *words[1:], '--launcher', 'pytorch', fresh=True, **kwargs)


@pytest.fixture(scope='session')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('worlds') / 'data'
    miniature.write(out, train=6, val=7, size=(64, 128), workers=1)
    return out


def train(data, work_dir, *options, config='ibn_b', **kwargs):
    words = ['--data-root', data, '--work-dir', work_dir]
    flags = [word for word in options if word.startswith('--')]
    pairs = [word for word in options if not word.startswith('--')]
    return run(
        'train.py', f'configs/miniature/{config}.py', *words, *flags,
        '--cfg-options', *TINY, *pairs, **kwargs,
    )  # fmt: skip


@pytest.fixture(scope='session')
def trained(data, tmp_path_factory):
    """(work dir, finished process) of one uninterrupted run."""
    work_dir = tmp_path_factory.mktemp('runs') / 'whole'
    return work_dir, train(data, work_dir, fresh=True)


def measure(data, work_dir, *words, options=(), checkpoint=None, **kwargs):
    """Measure the selected checkpoint of a run again, or another.

    Return the run's record and the finished process.
    """
    record = records.read(work_dir / 'ibn_b.record.json')
    done = run(
        'test.py', 'configs/miniature/ibn_b.py',
        checkpoint or work_dir / record.provenance['checkpoint'],
        '--data-root', data, *words, '--cfg-options', *TINY[:4], *options, **kwargs,
    )  # fmt: skip
    return record, done


def test_train_says_what_a_person_needs(trained):
    work_dir, done = trained
    assert done.stderr == ''
    lines = done.stdout.splitlines()
    assert len(lines) < 25, done.stdout
    assert any(line.startswith('train 4/4  loss ') for line in lines)
    assert sum('source validation' in line for line in lines) == 2
    assert 'cityscapes:val' in done.stdout
    for name in ('record', 'checkpoint', 'log'):
        path = next(line.split()[1] for line in lines if line.startswith(f'{name} '))
        assert Path(path).is_file()
    log = next(work_dir.rglob('*.log')).read_text()
    assert 'Iter(train)' in log
    assert not list(work_dir.rglob('*.tmp'))


def test_record_tells_where_its_numbers_come_from(trained):
    work_dir, _ = trained
    record = records.read(work_dir / 'ibn_b.record.json')
    origin = record.provenance
    assert (record.model, record.source, origin['seed']) == ('ibn_b', 'gta5:train', 0)
    assert (origin['selection'], origin['method']) == ('source validation', 'ibn_b')
    assert origin['checkpoint_sha256'] == disk.sha256(work_dir / origin['checkpoint'])
    assert [(m.domain, m.images) for m in record.domains] == [
        ('gta5:val', 7),
        ('cityscapes:val', 7),
    ]
    for measured in record.domains:
        assert 0 < measured.matrix.sum() <= 7 * 64 * 128
    (of,) = (said := origin['training'])['pairs'].values()
    assert (of['pairs'], of['published'], len(of['digest'])) == (6, 12403, 8)
    assert said['settings']['train_cfg.max_iters'] == 4 and said['settings']['world_size'] == 1
    meta = weights.read(work_dir / origin['checkpoint'])['meta']['trained']
    assert said == {key: meta[key] for key in said}


def test_checkpoint_is_selected_on_the_source(trained):
    work_dir, _ = trained
    (best,) = work_dir.glob('best_iter_*.pth')
    meta = weights.read(best)['meta']
    log = next(work_dir.rglob('*.log')).read_text()
    assert meta['metric'] == 'mIoU'
    assert 0 <= meta['score'] <= 100
    assert log.count('cityscapes:val/mIoU') == 1, 'targets are measured once, at the end'


@pytest.mark.parametrize('option', ['last', 'oracle'])
def test_other_selection_rules(data, tmp_path, option):
    done = train(data, tmp_path, f'--select={option}')
    record = records.read(tmp_path / 'ibn_b.record.json')
    origin, name = record.provenance, RULES[option].name
    assert origin['selection'] == name
    oracle = option == 'oracle'
    assert origin['validated'] == (['cityscapes:val'] if oracle else ['gta5:val'])
    assert origin['checkpoint'].startswith('best_') is oracle
    if not oracle:
        assert origin['checkpoint'] == 'iter_4.pth'
    assert shown.selected(tmp_path) == tmp_path / origin['checkpoint']
    watched = 'target oracle' if oracle else 'source validation'
    assert done.stdout.count(f'{watched} at ') == 2
    assert ('(target oracle)' in done.stdout) is oracle
    assert ('upper bound' in done.stdout) is oracle
    if oracle:
        best = weights.read(tmp_path / origin['checkpoint'])['meta']['score']
        matrix = next(m.matrix for m in record.domains if m.domain == 'cityscapes:val')
        assert 100 * metric.score(matrix).miou == pytest.approx(best)
        again = ['--data-root', data, '--work-dir', tmp_path, '--resume', '--select', 'source']
        words = '--cfg-options', *TINY
        bad('begun with target oracle', 'train.py', 'configs/miniature/ibn_b.py', *again, *words)


@pytest.mark.parametrize('processes', [0, 2])
def test_test_repeats_the_matrices(trained, data, tmp_path, processes):
    out = tmp_path / 'again.record.json'
    words = ['--out', out, '--work-dir', tmp_path, '--domains', 'cityscapes', 'gta5:val']
    record, done = measure(data, trained[0], *words, processes=processes)
    again = records.read(out)
    assert [m.domain for m in again.domains] == ['cityscapes:val', 'gta5:val']
    before = {m.domain: m for m in record.domains}
    for measured in again.domains:
        np.testing.assert_array_equal(measured.matrix, before[measured.domain].matrix)
        assert measured.protocol_hash == before[measured.domain].protocol_hash
    assert again.provenance['selection'] == 'source validation'
    assert again.provenance['training_iterations'] == 4
    assert records.read(trained[0] / 'ibn_b.record.json') == record
    assert done.stdout.count('cityscapes:val') >= 1


def test_results_lie_side_by_side_and_a_report_takes_them_all(trained, data, tmp_path, capsys):
    """Train, test again, by another protocol and of another checkpoint: README's own recipe."""
    work_dir = tmp_path / 'run'
    shutil.copytree(trained[0], work_dir)
    (tmp_path / 'empty').mkdir()
    before = (work_dir / 'ibn_b.record.json').read_bytes()
    _, done = measure(data, work_dir, '--domains', 'cityscapes', 'cityscapes:train')
    last = work_dir / 'iter_4.pth'
    measure(data, work_dir, '--protocol', 'hrda-1024', '--domains', 'cityscapes', checkpoint=last)
    measure(data, work_dir, '--domains', 'gta5', checkpoint=last)
    assert (work_dir / 'ibn_b.record.json').read_bytes() == before
    found = sorted((work_dir / 'test').glob('*.record.json'))
    assert len(found) == 3 and all(matrices.beside(path).is_file() for path in found)
    named = r'ibn_b\.(iter_4|best_iter_\d)\.[0-9a-f]{8}\.record\.json'
    assert all(re.fullmatch(named, path.name) for path in found)
    assert f'{found[0]}\n' in done.stdout
    assert shown.selected(work_dir).name.startswith('best_')
    words = [str(work_dir), str(tmp_path / 'empty'), '--out', str(tmp_path / 'report')]
    assert report_tool.main(words) == 0
    said = capsys.readouterr().out
    assert f'passed over, holds no record: {tmp_path / "empty"}' in said
    assert said.count('Trained on gta5:train, protocol native · mIoU') == 1
    assert said.count('Trained on gta5:train, protocol hrda-1024 · mIoU') == 1
    content = json.loads((tmp_path / 'report' / 'report.json').read_text())
    rows = {(row['protocol'], row['selected_by']): row['runs'][0] for row in content['rows']}
    assert len(rows) == len(content['rows']) == 3
    best = rows['native', 'source validation']
    assert [Path(one['file']) for one in best['records']] == [
        work_dir / 'ibn_b.record.json',
        found[0],
    ]
    assert [*best['domains']] == ['cityscapes:val', 'cityscapes:train', 'gta5:val']


@pytest.mark.parametrize('holds', ['another result', 'no record', 'the same'])
def test_test_overwrites_no_other_result(trained, data, tmp_path, monkeypatch, holds):
    checkpoint = next(trained[0].glob('best_iter_*.pth'))
    out = tmp_path / 'x.record.json'
    shutil.copy(trained[0] / 'ibn_b.record.json', out)
    if holds == 'no record':
        out.write_text('mine')
    before = out.read_bytes()
    config = load_config(ROOT / 'configs/miniature/ibn_b.py', data_root=str(data))
    data_of = SimpleNamespace(test_dataloader=SimpleNamespace(dataset=SimpleNamespace(used={})))
    monkeypatch.setattr(testing, 'build', lambda config: data_of)
    monkeypatch.setattr(testing, 'measure', lambda *_, **__: 'measured')
    # Of fewer domains, the others' numbers would be lost.
    domains = ['gta5'] if holds == 'another result' else None
    if holds == 'the same':
        assert testing.test(config, checkpoint, out=out) == 'measured'
    else:
        what = 'the result of ibn_b on gta5:val' if holds == 'another result' else 'something else'
        with pytest.raises(FileExistsError, match=f'x.record.json holds {what}'):
            testing.test(config, checkpoint, out=out, domains=domains)
    assert out.read_bytes() == before


@pytest.mark.parametrize('change', ['', 'seed', 'pairs', 'settings', 'old', 'junk'])
def test_train_overwrites_no_other_result(trained, data, tmp_path, change):
    """The checkpoints of a finished run may be gone, its record is there."""
    options = parse_options(TINY)
    config = load_config(ROOT / 'configs/miniature/ibn_b.py', data_root=data, options=options)
    checks.choose_rule(config, None)
    used = checks.find_pairs(config, 'train_dataloader')
    now = dict(pairs={d: one.summary() for d, one in used.items()}, settings=settings.of(config))
    now['settings']['world_size'] = resume.processes(config)
    record = records.read(trained[0] / 'ibn_b.record.json')
    out, facts = tmp_path / 'ibn_b.record.json', record.provenance
    if change == 'seed':
        facts['seed'] = 1
    elif change == 'old':
        del facts['training']
    elif change == 'pairs':
        facts['training']['pairs']['gta5:train']['digest'] = '0' * 8
    elif change == 'settings':
        facts['training']['settings']['train_cfg.max_iters'] = 8
    records.write(record, out)
    if change == 'junk':
        out.write_text('mine')
    if change:
        with pytest.raises(FileExistsError, match='holds the result of another training'):
            training._check_free(out, config, now)
    else:
        training._check_free(out, config, now)


def test_sliding_inference(trained, data, tmp_path):
    words = ['--out', tmp_path / 'slide.json', '--work-dir', tmp_path, '--domains', 'gta5']
    window = ('mode=slide', 'crop_size=(96,96)', 'stride=(64,64)')
    options = [f'model.test_cfg.{option}' for option in window]
    record, _ = measure(data, trained[0], *words, options=options)
    (slid,) = records.read(tmp_path / 'slide.json').domains
    assert slid.protocol['crop'] == [96, 96]
    assert slid.protocol_hash != record.domains[0].protocol_hash
    assert slid.matrix.sum() == record.domains[0].matrix.sum()


def test_published_protocol(trained, data, tmp_path):
    words = ['--out', tmp_path / 'hrda.json', '--work-dir', tmp_path, '--protocol', 'hrda-1024']
    more = ['--domains', 'cityscapes', '--classes', '16']
    record, done = measure(data, trained[0], *words, *more)
    (measured,) = records.read(tmp_path / 'hrda.json').domains
    assert measured.protocol['name'] == 'hrda-1024'
    assert (measured.protocol['photo'], measured.protocol['mode']) == ([1024, 512], 'whole')
    assert len(measured.classes) == 16
    assert f'hrda-1024 {measured.protocol_hash}' in done.stdout
    before = record.domains[1]
    assert measured.matrix.sum() == before.matrix.sum(), 'labels keep their size'
    _, done = measure(data, trained[0], *words, code=2)
    assert "says nothing of 'gta5'" in done.stderr


def test_a_skip_list_is_named_in_the_record(trained, data, tmp_path):
    skip_list, out = tmp_path / 'skip.txt', tmp_path / 'less.record.json'
    photo, _ = domains.find('cityscapes:val', data)[0]
    skip_list.write_text(f'cityscapes/{photo.relative_to(data / "cityscapes").as_posix()}\n')
    words = ['--out', out, '--work-dir', tmp_path, '--skip-list', skip_list]
    record, _ = measure(data, trained[0], *words)
    assert record.provenance['skip'] == dict(lists=[], pairs={}, trained={})
    less = records.read(out)
    named = [dict(file=str(skip_list), sha256=disk.sha256(skip_list))]
    assert less.provenance['skip'] == dict(lists=named, pairs={'cityscapes:val': 1}, trained={})
    (gta5, cityscapes), (_, before) = less.domains, record.domains
    assert (gta5.images, cityscapes.images) == (7, 6)
    assert gta5.protocol_hash == record.domains[0].protocol_hash
    assert cityscapes.protocol_hash != before.protocol_hash
    np.testing.assert_array_less(cityscapes.matrix - 1, before.matrix)
    packed, whole = (
        matrices.read(path, one)['cityscapes:val']
        for path, one in ((out, less), (trained[0] / 'ibn_b.record.json', record))
    )
    assert packed.keys == whole.keys[1:]
    np.testing.assert_array_equal(packed[0], whole[1])


def test_training_without_the_skipped(data, tmp_path):
    """Begun with --audit and a skip list; going on without the list is refused."""
    pairs = domains.find('gta5:train', data)
    skip_list = tmp_path / 'skip.txt'
    skip_list.write_text(f'gta5/images/{pairs[0][0].name}  # dull\n')
    options = ('--audit', f'--skip-list={skip_list}')
    done = train(data, tmp_path / 'run', *options)
    assert 'audit gta5: 26 files, 0 errors' in done.stdout
    record = records.read(tmp_path / 'run' / 'ibn_b.record.json')
    assert record.provenance['skip']['trained'] == {'gta5:train': 1}
    assert record.provenance['skip']['pairs'] == {}
    config = load_config(ROOT / 'configs/miniature/ibn_b.py', data_root=str(data))
    meta = weights.read(tmp_path / 'run' / 'iter_4.pth')['meta']
    used = checks.find_pairs(config, 'train_dataloader')
    now = dict(pairs={d: one.summary() for d, one in used.items()}, settings={})
    with pytest.raises(ValueError, match='the same files and the same --skip-list'):
        resume.check(config, Path('iter_4.pth'), meta, now)


def test_odd_pairs_never_end_a_training(data, tmp_path):
    """One label scaled, one photo damaged within; another photo of the validation cut off."""
    root = shutil.copytree(data, tmp_path / 'data')
    (_, scaled), (damaged, _), *_ = domains.find('gta5:train', root)
    label = Image.open(scaled)
    label.resize((60, 30), 0).save(scaled)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    cut = domains.find('gta5:val', root)[0][0]
    cut.write_bytes(cut.read_bytes()[:99])
    done = train(root, tmp_path / 'run', processes=2)
    assert 'gta5:train: 5 pairs, published are 12,403' in done.stdout
    assert 'gta5:train: 1 of 6 pairs left out' in done.stdout and str(scaled) in done.stdout
    assert done.stdout.count('gta5:val: 1 of 7 pairs left out') == done.stdout.count(str(cut)) == 1
    assert 1 <= done.stdout.count(f'damaged: {damaged}') <= 2, 'once a rank'
    meta = weights.read(tmp_path / 'run' / 'iter_4.pth')['meta']['trained']
    name = f'gta5/images/{damaged.name}'
    used = domains.use('gta5:train', root)
    assert meta['pairs'] == {'gta5:train': used.summary()} and used.summary()['odd'] == 1
    assert meta['replaced'] == [name]
    record = records.read(tmp_path / 'run' / 'ibn_b.record.json')
    left_out = dict(measured={'gta5:val': 1}, trained={'gta5:train': 1}, replaced=[name])
    assert record.provenance['odd'] == left_out
    assert record.domains[0].images == 6
    assert record.domains[0].protocol['pairs'] == domains.use('gta5:val', root).digest
    out = tmp_path / 'again.record.json'
    _, done = measure(root, tmp_path / 'run', '--out', out, '--domains', 'gta5', code=1)
    assert (
        done.stderr.startswith(f'error: {cut}: unreadable photo') and '--skip-list' in done.stderr
    )
    assert records.read(out).domains[0].protocol_hash == record.domains[0].protocol_hash


def equal(one, other):
    """Whether two runs ended with the same weights."""
    found, expected = (weights.read(run / 'iter_4.pth')['state_dict'] for run in (one, other))
    assert found.keys() == expected.keys()
    return all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize('workers', [0, 2])
def test_resumed_run_ends_with_the_same_weights(trained, data, tmp_path, workers):
    loader = f'train_dataloader.num_workers={workers}'
    # Stopped after 2 of 4: the schedule must not know.
    train(data, tmp_path / 'run', loader)
    (tmp_path / 'run' / 'iter_4.pth').unlink()
    for best in (tmp_path / 'run').glob('best_iter_4.pth'):
        best.unlink()
    train(data, tmp_path / 'run', loader, '--resume')
    assert equal(trained[0], tmp_path / 'run')


def test_resume_passes_over_a_broken_checkpoint(trained, data, tmp_path):
    whole, _ = trained
    for name in ('iter_2.pth', 'iter_4.pth'):
        content = (whole / name).read_bytes()
        (tmp_path / name).write_bytes(content if name == 'iter_2.pth' else content[:5000])
    train(data, tmp_path, '--resume')
    assert equal(whole, tmp_path)


def test_two_processes_train_and_measure(data, tmp_path):
    done = train(data, tmp_path, 'train_dataloader.batch_size=1', processes=2)
    assert sum('train 4/4' in line for line in done.stdout.splitlines()) == 1
    record = records.read(tmp_path / 'ibn_b.record.json')
    assert [m.images for m in record.domains] == [7, 7]


@pytest.mark.slow
def test_compiled_run_has_the_losses_of_a_plain_one(trained, data, tmp_path):
    done = train(data, tmp_path / 'compiled', '--compile')
    losses = [re.findall(r'loss ([0-9.]+)', run.stdout) for run in (trained[1], done)]
    assert len(losses[1]) == 4
    assert np.allclose(*np.float64(losses), atol=0.01)
    assert done.stderr == ''


def test_mixed_precision_and_another_seed(trained, data, tmp_path):
    train(data, tmp_path, '--amp', '--seed=3')
    record = records.read(tmp_path / 'ibn_b.record.json')
    assert record.provenance['seed'] == 3
    assert not equal(trained[0], tmp_path)


def bad(text, *words):
    """The command ends with code 2, one error on stderr, no trace."""
    done = run(*words, code=2)
    assert done.stderr.startswith('error: '), done.stderr
    assert 'Traceback' not in done.stderr
    assert text in done.stderr, done.stderr
    return done.stderr


def test_no_data_ends_with_instructions(tmp_path):
    message = bad(
        'no such folder (domain gta5:train-12388)',
        'train.py', 'configs/ibn_b_gta5_to_cityscapes.py', '--data-root', tmp_path / 'none',
        '--work-dir', tmp_path / 'run',
    )  # fmt: skip
    for part in ('images/00001.png', 'download', 'ibnseg miniature', '--data-root'):
        assert part in message
    assert not (tmp_path / 'run').exists()


def test_a_resumed_run_keeps_its_seed(data, tmp_path):
    train(data, tmp_path, '--seed=3', 'train_cfg.max_iters=2')
    again = ['--data-root', data, '--work-dir', tmp_path, '--resume']
    config = 'configs/miniature/ibn_b.py'
    bad('trained with seed 3', 'train.py', config, *again, '--seed', 1)
    train(data, tmp_path, '--resume')
    record = records.read(tmp_path / 'ibn_b.record.json')
    assert record.provenance['seed'] == 3
    whole = tmp_path / 'whole'
    train(data, whole, '--seed=3')
    assert equal(whole, tmp_path)


def test_a_config_of_another_source_is_refused(trained, data, tmp_path):
    bad(
        'was trained on gta5:train',
        'test.py', 'configs/miniature/ibn_b.py', trained[0] / 'iter_4.pth', '--data-root', data,
        '--work-dir', tmp_path, '--cfg-options', *TINY[:4], 'source=cityscapes:train',
    )  # fmt: skip


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('placment', ['--cfg-options', 'model.backbone.placment=ibn_a']),
        ('no iter_*.pth', ['--resume']),
        (
            "say 'oracle'",
            ['--select=source', '--cfg-options', 'val_dataloader.dataset.domains=["cityscapes"]'],
        ),
    ],
)
def test_bad_words(data, tmp_path, text, words):
    where = '--data-root', data, '--work-dir', tmp_path
    bad(text, 'train.py', 'configs/miniature/ibn_b.py', *where, *words)


def test_a_run_is_never_overwritten(trained, data):
    config = 'configs/miniature/ibn_b.py'
    bad('--resume', 'train.py', config, '--data-root', data, '--work-dir', trained[0])


class Payload:
    def __reduce__(self):
        return os.mkdir, ('payload-ran',)


@pytest.mark.parametrize('kind', ['hostile', 'truncated', 'other model', 'missing'])
def test_bad_checkpoints(trained, data, tmp_path, kind):
    path = tmp_path / 'given.pth'
    expected = str(path)
    if kind == 'hostile':
        path.write_bytes(pickle.dumps(Payload()))
    elif kind == 'truncated':
        path.write_bytes((trained[0] / 'iter_4.pth').read_bytes()[:5000])
    elif kind == 'other model':
        torch.save(dict(state_dict={'backbone.conv1.weight': torch.zeros(1)}), path)
        expected = 'does not fit'
    done = run(
        'test.py', ROOT / 'configs/miniature/ibn_b.py', path, '--data-root', data,
        '--work-dir', tmp_path, code=2, cwd=tmp_path,
    )  # fmt: skip
    assert expected in done.stderr
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'payload-ran').exists()


TOOLS = ['train', 'test', 'finetune', 'report', 'miniature', 'picture', 'analyze']


@pytest.mark.parametrize('tool', TOOLS)
def test_help_needs_nothing_but_python(tool):
    script = ROOT / 'tools' / f'{tool}.py'
    # -S -I: no site-packages, so an import of torch at the top would fail.
    code = f'import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[1:] = ["--help"]; '
    code += f'runpy.run_path({str(script)!r}, run_name="__main__")'
    done = subprocess.run([sys.executable, '-S', '-I', '-c', code], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith('usage: ')


# ------------------------------------------------------------------------ classes of its own


SMALL_FCN = [
    'model.backbone.init_cfg=None',
    'model.backbone.depth=18',
    'model.backbone.base_channels=4',
    'model.backbone.stem_channels=4',
    'model.decode_head.in_channels=32',
    'model.decode_head.channels=32',
    'model.data_preprocessor.size=(64,128)',
    'train_dataloader.batch_size=2',
    'train_dataloader.num_workers=0',
    'train_dataloader.dataset.pipeline.2.scale=(128,64)',
    'train_dataloader.dataset.pipeline.3.crop_size=(64,128)',
    'val_dataloader.num_workers=0',
    'test_dataloader.num_workers=0',
    'train_cfg.max_iters=2',
    'train_cfg.val_interval=2',
]
DRIVABLE = 'configs/ibn_a_bdd100k_drivable.py'


def test_drivable_areas_train_and_test_with_their_own_classes(tmp_path):
    miniature.write(tmp_path / 'data', ('bdd100k',), 4, 3, (64, 128), workers=1)
    where = ['--data-root', tmp_path / 'data', '--work-dir', tmp_path / 'run']
    done = run('train.py', DRIVABLE, *where, '--cfg-options', *SMALL_FCN)
    assert 'bdd100k_drivable:val' in done.stdout and done.stderr == ''
    record = records.read(tmp_path / 'run' / 'ibn_a.record.json')
    assert record.classes == ['direct', 'alternative', 'background']
    (measured,) = record.domains
    assert measured.matrix.shape == (3, 3) and measured.matrix.sum() == 3 * 64 * 128
    (checkpoint,) = (tmp_path / 'run').glob('best_iter_*.pth')

    options = ['--cfg-options', *SMALL_FCN]
    done = run('test.py', DRIVABLE, checkpoint, *where[:2], '--domains', 'bdd100k_drivable_2018',
               '--out', tmp_path / 'again.json', *options)  # fmt: skip
    (again,) = records.read(tmp_path / 'again.json').domains
    assert (again.matrix == measured.matrix).all(), 'the same areas under other ids'


@pytest.mark.parametrize(
    ('options', 'domains', 'message'),
    [
        ({}, ['bdd100k_drivable', 'cityscapes'], r'their classes differ \(drivable, streets\)'),
        ({}, ['cityscapes'], 'their classes differ'),
        (
            {'model.decode_head.num_classes': 19},
            ['bdd100k_drivable'],
            r'3 classes \(direct, alternative, background\), but model.decode_head tells 19 apart.*'
            'num_classes=3',
        ),
        (
            {'source': 'gta5:train'},
            ['cityscapes'],
            r'19 classes \(road, sidewalk, building, ...\), but model.decode_head tells 3 apart',
        ),
    ],
)
def test_network_of_other_classes_is_one_error(tmp_path, options, domains, message):
    config = load_config(ROOT / DRIVABLE, work_dir=str(tmp_path), options=options)
    (tmp_path / 'x.pth').touch()
    with pytest.raises(ValueError, match=message) as caught:
        testing.test(config, tmp_path / 'x.pth', domains=domains)
    assert '\n' not in str(caught.value)


def test_a_reader_that_left_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    words = ['-c', 'import sys; from tools.cli import main; sys.exit(main())', 'weights', 'list']
    environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONUNBUFFERED='1')
    done = subprocess.run(
        [sys.executable, *words], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, env=environment
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b'')


def test_where_to_write_is_looked_at_before_measuring(tmp_path, monkeypatch):
    def measured(*_):
        pytest.fail('measured before it was known that nothing can be written')

    monkeypatch.setattr(checks, 'plan_measurement', measured)
    (tmp_path / 'file').touch()
    (tmp_path / 'some.pth').touch()
    config = load_config(ROOT / 'configs/miniature/resnet18.py', work_dir=tmp_path / 'run')
    with pytest.raises(OSError, match='file'):
        testing.test(config, tmp_path / 'some.pth', out=tmp_path / 'file' / 'x.record.json')


def test_a_gallery_is_predicted_by_the_checkpoints_of_its_records(data, trained, tmp_path):
    run('gallery.py', trained[0], '--data-root', data, '--out', tmp_path, '--each', '1')
    said = json.loads((tmp_path / 'gallery' / 'gallery.json').read_text())
    assert set(said['domains']) == {'gta5:val', 'cityscapes:val'}
    for photos in said['domains'].values():
        assert [photo['why'] for photo in photos] == ['best', 'median', 'worst']
        assert all(photo['miou'].keys() == {'ibn_b'} for photo in photos)
