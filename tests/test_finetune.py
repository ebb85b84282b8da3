"""Fine-tuning on parts of a target; training on several sources. Real processes on a miniature."""

import re
import shutil
from importlib.util import module_from_spec, spec_from_file_location

import numpy as np
import pytest
import torch
from mmengine.config import Config
from test_report import screen, street
from test_tools import ROOT, TINY, run

from ibnseg import disk, miniature, report, weights
from ibnseg.domains import DataError
from ibnseg.measure import records
from ibnseg.report import render
from ibnseg.train.config import load_config, parse_options
from ibnseg.train.runs import finetune, states

CONFIG = 'configs/miniature/ibn_b.py'


def state(path):
    return weights.read(path)['state_dict']


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('worlds') / 'data'
    miniature.write(
        root, ('gta5', 'synthia', 'cityscapes'), train=20, val=3, size=(64, 128), workers=1
    )
    return root


@pytest.fixture(scope='module')
def checkpoint(data, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp('source')
    run('train.py', CONFIG, '--data-root', data, '--work-dir', work_dir, '--cfg-options', *TINY)
    return next(work_dir.glob('best_iter_*.pth'))


def tune(data, checkpoint, work_dir, *words, **kwargs):
    return run(
        'finetune.py', CONFIG, checkpoint, '--data-root', data, '--work-dir', work_dir,
        '--target', 'cityscapes', *words, '--cfg-options', *TINY, **kwargs,
    )  # fmt: skip


@pytest.fixture(scope='module')
def tuned(data, checkpoint, tmp_path_factory):
    """(work dir, finished process) of 10 and 100 %."""
    work_dir = tmp_path_factory.mktemp('tuned')
    return work_dir, tune(data, checkpoint, work_dir, '--fractions', 100, 10)


def record_of(work_dir, part):
    return work_dir / 'ibn_b' / 'cityscapes-train' / part / 'seed-0' / 'ibn_b.record.json'


def test_one_command_one_table(tuned, checkpoint):
    work_dir, done = tuned
    assert done.stderr == ''
    lines = done.stdout.splitlines()
    begun = [line for line in lines if line.startswith('[')]
    assert begun == [
        '[1/2] 10 % of cityscapes:train (2 images), seed 0: begun',
        '[2/2] 100 % of cityscapes:train (20 images), seed 0: begun',
    ]
    assert 'source validation' not in done.stdout
    (row,) = (line for line in lines if line.lstrip().startswith('ibn_b'))
    shown = re.findall(r'\d+\.\d', row)
    for part, number in zip(('10', '100'), shown, strict=True):
        record = records.read(record_of(work_dir, part))
        matrix = record.domains[0].matrix
        union = matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
        iou = np.diag(matrix)[union > 0] / union[union > 0]
        assert f'{100 * iou.mean():.1f}' == number
    text = (work_dir / 'cityscapes-train.md').read_text()
    assert '| 10 % (2 images) | 100 % (20 images) |' in text
    assert text.count('## Fine-tuned') == 2, 'the target and the source'
    assert disk.sha256(checkpoint)[:8] in text


def test_records_say_what_was_fine_tuned(tuned, checkpoint):
    work_dir, _ = tuned
    settings = set()
    for part, fraction, images in (('10', 0.1, 2), ('100', 1.0, 20)):
        record = records.read(record_of(work_dir, part))
        settings.add(record.provenance['fine_tuned'].pop('settings'))
        assert record.source == f'gta5:train -> cityscapes:train {part} %'
        assert record.provenance['fine_tuned'] == dict(
            checkpoint=checkpoint.name, sha256=disk.sha256(checkpoint), source='gta5:train',
            target='cityscapes:train', fraction=fraction, subset_seed=0, images=images,
        )  # fmt: skip
        assert record.provenance['selection'] == 'last'
        assert record.provenance['checkpoint'] == 'iter_4.pth'
        assert [m.domain for m in record.domains] == ['cityscapes:val', 'gta5:val']
    assert len(settings) == 1, 'a fraction is no other setting'


def test_it_begins_with_the_checkpoint(tuned, checkpoint):
    """After a training of next to no learning rate, the weights are those of the checkpoint."""
    work_dir, _ = tuned
    config = Config.fromfile(record_of(work_dir, '10').with_name('finetune.py'))
    assert config.load_from == str(checkpoint)
    assert config.model.backbone.init_cfg is None
    log = next(record_of(work_dir, '10').parent.rglob('*.log')).read_text()
    assert f'{checkpoint}' in log
    before, after = state(checkpoint), state(record_of(work_dir, '10').with_name('iter_4.pth'))
    key = 'backbone.layer1.0.conv1.weight'
    fresh = torch.randn_like(before[key]) * before[key].std()
    assert (after[key] - before[key]).norm() < 0.5 * (after[key] - fresh).norm()


def test_finished_runs_stay_and_interrupted_ones_go_on(tuned, data, checkpoint, tmp_path):
    whole, _ = tuned
    work_dir = shutil.copytree(whole, tmp_path / 'again')
    stays, goes_on = record_of(work_dir, '10'), record_of(work_dir, '100')
    before = stays.read_bytes()
    # As after an interruption between 2 and 4.
    for path in (goes_on, *goes_on.parent.glob('*iter_4.pth')):
        path.unlink()
    done = tune(data, checkpoint, work_dir, '--fractions', 10, 100)
    assert 'images), seed 0: finished before' in done.stdout
    assert 'images), seed 0: continued' in done.stdout
    assert stays.read_bytes() == before
    expected = state(record_of(whole, '100').with_name('iter_4.pth'))
    found = state(goes_on.with_name('iter_4.pth'))
    assert all(torch.equal(expected[key], found[key]) for key in expected)


def test_reports_never_mix_them_up(tuned, checkpoint):
    files, _ = records.find([checkpoint.parent, tuned[0]])
    table = report.tabulate([records.read(file) for file in files], files=files)
    groups = {group.source: (group.home, len(group.rows)) for group in table.groups}
    assert groups == {
        'gta5:train': ('gta5:val', 1),
        'gta5:train -> cityscapes:train 10 %': ('cityscapes:val', 1),
        'gta5:train -> cityscapes:train 100 %': ('cityscapes:val', 1),
    }
    assert 'cityscapes:train 100 %' in ' '.join(screen(table, 60).split())


def here(data, checkpoint, work_dir, capsys, *words):
    """Exit code and stderr of the command, in this process: no run may be begun."""
    path = ROOT / 'tools' / 'finetune.py'
    module = module_from_spec(spec := spec_from_file_location('finetune_tool', path))
    spec.loader.exec_module(module)
    begin = [ROOT / CONFIG, checkpoint, '--data-root', data, '--work-dir', work_dir]
    words = [*begin, '--target', 'cityscapes', *words, '--cfg-options', *TINY]
    code = module.main(list(map(str, words)))
    said = capsys.readouterr()
    assert len(said.out.splitlines()) <= 1 and '[1/' not in said.out
    return code, said.err


@pytest.mark.parametrize(
    ('words', 'expected'),
    [
        (['--fractions', 10, 10], 'one is named twice'),
        (['--fractions', 0], 'fraction is 0'),
        (['--fractions', 150], 'fraction is 1.5'),
        (['--target', 'tokyo'], "unknown domain 'tokyo'"),
        (['--target', 'dark_zurich'], "no split 'train'"),
        (['--target', 'kitti'], "no split 'val'"),
        (['--target', 'bdd100k'], 'no such folder'),
        (['--iterations', 0], 'expected at least 1'),
        (['--fractions', 10, '--iterations', 6], 'of another config; they differ in'),
    ],
)
def test_bad_input(tuned, data, checkpoint, capsys, words, expected):
    code, said = here(data, checkpoint, tuned[0], capsys, *words)
    assert code == 2 and said.startswith('error: ') and expected in said


def test_a_checkpoint_of_another_source(tuned, data, tmp_path, capsys):
    """Fine-tuning goes on from a fine-tuned network only by the config that says so."""
    path = record_of(tuned[0], '10').with_name('iter_4.pth')
    code, said = here(data, path, tmp_path, capsys)
    assert code == 2 and 'was trained on gta5:train -> cityscapes:train 10 %' in said
    code, said = here(data, tmp_path / 'none.pth', tmp_path, capsys)
    assert code == 2 and said.endswith('none.pth: no such checkpoint\n')


# ------------------------------------------------------------------------ without processes


def configured(data, checkpoint, fraction=0.1, **options):
    config = load_config(ROOT / CONFIG, data_root=str(data), options=parse_options(TINY))
    begin = finetune.start(config, checkpoint)
    return finetune.configure(config, begin, 'cityscapes', fraction, **options)


def test_the_schedule_is_stretched(data, checkpoint):
    before = load_config(ROOT / CONFIG)
    config = load_config(ROOT / CONFIG, data_root=str(data))
    begin = finetune.start(config, checkpoint)
    config = finetune.configure(config, begin, 'cityscapes', 0.5, iterations=240)
    assert config.train_cfg.max_iters == 240 == 2 * before.train_cfg.max_iters
    assert [(s.begin, s.end) for s in config.param_scheduler] == [
        (2 * s.begin, 2 * s.end) for s in before.param_scheduler
    ]


def test_other_subsets_have_another_name(data, checkpoint):
    config = configured(data, checkpoint, subset_seed=3)
    assert config.source == 'gta5:train -> cityscapes:train 10 % (subset 3)'
    assert config.train_dataloader.dataset.subset_seed == 3


def test_a_folder_of_another_fine_tuning_is_refused(tuned, data, checkpoint):
    config = configured(data, checkpoint)
    run = finetune.planned(config, 0, tuned[0])
    assert (run.state, run.record) == (states.FINISHED, record_of(tuned[0], '10'))
    assert finetune.planned(config, 1, tuned[0]).state == states.NEW
    other = configured(data, checkpoint, iterations=240)
    with pytest.raises(ValueError, match='finished run of another config; they differ in'):
        finetune.planned(other, 0, tuned[0])


def test_targets():
    assert finetune.splits('cityscapes') == ('cityscapes:train', 'cityscapes:val')
    assert finetune.splits('acdc:train/fog') == ('acdc:train/fog', 'acdc:val')
    with pytest.raises(DataError, match="no split 'val'"):
        finetune.splits('kitti:train')


def fake(model, percent, seed, correct, domain='cityscapes', images=5, digest='', **changes):
    """A record of `correct` of 100 pixels right; `digest`: of the pairs there were."""
    matrix = np.zeros((19, 19), np.int64)
    matrix[0, :2] = correct, 100 - correct
    one = street(model, seed, domain, matrix, images=images)
    facts = dict(source='gta5:train', target='cityscapes:train', sha256='ab' * 32)
    facts |= dict(fraction=percent / 100, subset_seed=0, images=percent) | changes
    one.provenance['fine_tuned'] = facts
    if digest:
        one.provenance['training'] = dict(pairs={'cityscapes:train': dict(digest=digest)})
    return one


def test_rows_are_models_columns_are_fractions():
    found = [fake(model, percent, seed, 40 + percent // 10 + seed)
             for model in ('ibn_a', 'bn') for percent in (100, 10) for seed in (0, 2)]  # fmt: skip
    found.append(street('bn', domain='cityscapes'))
    found.append(fake('z', 20, 0, 50))
    section = finetune.tabulate(found, 'cityscapes:train', 'cityscapes:val')
    # One class right in 41 of 100 is an IoU of 41 %, of 43 at seed 2; the other's IoU is 0.
    text = render.markdown([section])
    assert '| 10 % (10 images) | 20 % (20 images) | 100 % (100 images) |' in text
    numbers = '| abababab | gta5:train | 21.0 ± 0.7 (n=2) | n/a | 25.5 ± 0.7 (n=2) |\n'
    missing = '| z | abababab | gta5:train | n/a | 25.0 | n/a |\n'
    assert text.endswith(f'| bn {numbers}| ibn_a {numbers}{missing}')
    assert 'protocol ' + found[0].domains[0].protocol_hash in text


def test_columns_are_of_the_same_pairs():
    found = [fake('a', 100, 0, 40), fake('b', 100, 0, 50, digest='12ab')]
    found.append(fake('c', 100, 0, 60))
    found[2].provenance['fine_tuned']['images'] = 7
    text = render.markdown([finetune.tabulate(found, 'cityscapes:train', 'cityscapes:val')])
    header = '100 % (7 images) | 100 % (100 images, unknown) | 100 % (100 images, 12ab)'
    assert header in text
    assert '| b | abababab | gta5:train | n/a | n/a | 25.0 |' in text


@pytest.mark.parametrize(
    ('found', 'message'),
    [
        ([fake('a', 10, 0, 50, target='idd:train')], 'no record of fine-tuning on cityscapes'),
        ([fake('a', 10, 0, 50, domain='idd')], 'measured on cityscapes:val'),
        ([fake('a', 10, 0, 50), fake('a', 10, 0, 60)], 'two records of a on 10 %'),
        ([fake('a', 10, 0, 50), fake('a', 20, 0, 60, settings='1')], 'a were .* by other settings'),
        ([fake('a', 10, 0, 50), fake('b', 10, 0, 50, images=6)], 'can not be compared'),
    ],
)
def test_what_cannot_be_compared_is_refused(found, message):
    with pytest.raises(ValueError, match=message):
        finetune.tabulate(found, 'cityscapes:train', 'cityscapes:val')


# ------------------------------------------------------------------------ several sources


def test_two_sources_train_and_say_so(data, tmp_path):
    config = 'configs/miniature/ibn_b_gta5synthia_to_cityscapes.py'
    words = ['--data-root', data, '--work-dir', tmp_path, '--cfg-options', *TINY]
    done = run('train.py', config, *words)
    source = 'gta5:train+synthia:train (equal)'
    assert f'Trained on {source}' in done.stdout
    record = records.read(tmp_path / 'ibn_b.record.json')
    assert record.source == source
    assert record.provenance['shares'] == {'gta5:train': 0.5, 'synthia:train': 0.5}
    assert record.provenance['selection'] == 'source validation'
    assert [m.domain for m in record.domains] == ['gta5:val', 'synthia:val', 'cityscapes:val']
    assert weights.read(tmp_path / 'iter_4.pth')['meta']['trained']['source'] == source


def test_a_source_that_is_not_what_is_trained_on(data, tmp_path):
    done = run(
        'train.py', CONFIG, '--data-root', data, '--work-dir', tmp_path, '--cfg-options', *TINY,
        'train_dataloader.dataset.domain=cityscapes:train', code=2,
    )  # fmt: skip
    assert 'says source gta5:train, its train_dataloader reads cityscapes:train' in done.stderr


def test_two_processes_train_by_classes(data, tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    config = 'configs/miniature/ibn_b_gta5synthia_to_cityscapes.py'
    done = run(
        'train.py', config, '--data-root', data, '--work-dir', tmp_path / 'run', '--cfg-options',
        *TINY, 'mixing=proportional', 'train_dataloader.dataset.mixing=proportional',
        'train_dataloader.sampler.type=RareClassSampler',
        'train_dataloader.sampler.min_pixels=1', 'train_dataloader.batch_size=1', processes=2,
    )  # fmt: skip
    assert 'Traceback' not in done.stderr
    assert list((tmp_path / 'cache').rglob('classes/*')), 'counted, and kept'
    record = records.read(tmp_path / 'run' / 'ibn_b.record.json')
    assert record.source == 'gta5:train+synthia:train'
