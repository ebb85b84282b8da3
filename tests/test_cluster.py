"""Runs as jobs: `sweep` and `finetune --on`, real processes through submitit."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_finetune import CONFIG
from test_sweep import CONFIGS, ROOT, data, words  # noqa: F401
from test_tools import TINY, run

from ibnseg import disk, weights
from ibnseg.measure import records
from ibnseg.train.runs import cluster, places, states

pytest.importorskip('submitit', reason='submitit is not installed: no jobs to try')
LONG = ['train_cfg.max_iters=60', 'train_cfg.val_interval=60']


def start(data, out, *more, options=(), seeds=(0,)):  # noqa: F811
    command = [sys.executable, 'tools/' + words(data, out, CONFIGS[1], seeds=seeds)[0]]
    command += [*words(data, out, CONFIGS[1], seeds=seeds, options=options)[1:], '--no-gallery']
    return subprocess.Popen(
        [*map(str, command), *more], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT)),
        process_group=0,
    )  # fmt: skip


def trains(folder: Path, process) -> int:
    """Wait until a run's job trains; return the process of the job's task."""
    logs = folder / 'job'
    while not any('train 1/' in log.read_text() for log in logs.glob('*_log.out')):
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)
    holder = disk.holder(logs)
    assert holder.startswith('process ')
    return int(holder.split()[1])


@pytest.fixture(scope='module')
def whole(data, tmp_path_factory):  # noqa: F811
    """Weights of a run without jobs that nothing ended."""
    out = tmp_path_factory.mktemp('whole')
    done = run(*words(data, out, CONFIGS[1], seeds=[0], options=LONG), '--no-gallery')
    assert done.stderr == ''
    return weights.read(out / 'miniature/ibn_b/seed-0/iter_60.pth')['state_dict']


def check_equal(folder: Path, whole: dict) -> None:
    found = weights.read(folder / 'iter_60.pth')['state_dict']
    assert found.keys() == whole.keys()
    assert all(found[key].equal(whole[key]) for key in whole), 'as if nothing had ended it'


def test_a_sweep_of_jobs_is_one_report_and_again_trains_nothing(data, tmp_path):  # noqa: F811
    begin = [*words(data, tmp_path, seeds=[0]), '--on', 'local:2', '--no-gallery']
    done = run(*begin)
    assert done.stderr == ''
    for number, model in enumerate(('resnet18', 'ibn_b'), 1):
        head = f'[{number}/2] configs/miniature/{model}.py, seed 0: '
        assert f'{head}begun as job ' in done.stdout and f'{head}finished\n' in done.stdout
        folder = tmp_path / f'miniature/{model}/seed-0'
        assert records.read(folder / f'{model}.record.json').provenance['seed'] == 0
    page = (tmp_path / 'report' / 'report.md').read_text()
    assert '| resnet18 | 1 |' in page and '| ibn_b | 1 |' in page
    assert run(*begin).stdout.count('finished before') == 2


def test_a_failing_job_is_told_and_the_others_go_on(data, tmp_path):  # noqa: F811
    broken = tmp_path / 'broken.py'
    broken.write_text(
        f"_base_ = '{ROOT}/configs/miniature/ibn_b.py'\n"
        "model = dict(backbone=dict(placement='no such'))\n"
    )
    out = tmp_path / 'out'
    job = ['--on', 'local:1', '--no-gallery']
    done = run(*words(data, out, broken, CONFIGS[1], seeds=[3]), *job, code=1)
    assert f'[1/2] {broken}, seed 3: FAILED: error: ' in done.stdout
    assert "'no such'" in done.stdout and 'Traceback' not in done.stdout + done.stderr
    assert '[2/2] configs/miniature/ibn_b.py, seed 3: finished' in done.stdout
    assert done.stderr.splitlines()[-1].startswith('error: 1 of 2 runs failed')


def test_a_preempted_job_saves_and_is_queued_again(data, tmp_path, whole):  # noqa: F811
    """SIGUSR2 is what submitit has Slurm send before a limit of time or a preemption."""
    sweep = start(data, tmp_path, '--on', 'local:1', options=LONG)
    folder = tmp_path / 'miniature/ibn_b/seed-0'
    os.kill(trains(folder, sweep), signal.SIGUSR2)
    out, error = sweep.communicate()
    assert (sweep.returncode, error) == (0, ''), out
    said = ''.join(log.read_text() for log in (folder / 'job').glob('*_log.*'))
    assert ' is saved: continue from it with --resume' in said and 'Requeued job' in said
    assert len([*(folder / 'job').glob('*_submitted.pkl')]) == 1, 'one job'
    check_equal(folder, whole)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_what_ends_the_command_has_its_jobs_save_and_end(data, tmp_path, number, whole):  # noqa: F811
    sweep = start(data, tmp_path, '--on', 'local:1', options=LONG)
    folder = tmp_path / 'miniature/ibn_b/seed-0'
    trains(folder, sweep)
    os.killpg(sweep.pid, number) if number == signal.SIGINT else sweep.send_signal(number)
    _, error = sweep.communicate()  # the pipe closes when all have ended
    what = {signal.SIGINT: 'interrupted', signal.SIGTERM: 'terminated'}[number]
    assert (sweep.returncode, error) == (128 + number, f'{what}; the same command continues\n')
    assert disk.holder(folder) == disk.holder(folder / 'job') == ''
    saved = [*folder.glob('iter_*.pth')]
    assert saved and not (folder / 'ibn_b.record.json').exists()
    if number == signal.SIGTERM:
        again = words(data, tmp_path, CONFIGS[1], seeds=[0], options=LONG)
        assert ': continued as job ' in run(*again, '--on', 'local:1').stdout
        check_equal(folder, whole)


def test_a_second_sweep_waits_for_the_job_of_a_killed_one(data, tmp_path, whole):  # noqa: F811
    sweep = start(data, tmp_path, '--on', 'local:1', options=LONG)
    folder = tmp_path / 'miniature/ibn_b/seed-0'
    job = trains(folder, sweep)
    sweep.kill()
    sweep.wait()
    done = run(*words(data, tmp_path, CONFIGS[1], seeds=[0], options=LONG), '--on', 'local:1')
    assert f'seed 0: waited for, process {job} on ' in done.stdout
    assert 'seed 0: finished' in done.stdout and ' as job ' not in done.stdout
    assert len([*folder.glob('2*_*')]) == 1, 'trained once'
    check_equal(folder, whole)


def test_a_job_that_starts_twice_trains_once(data, tmp_path):  # noqa: F811
    run(*words(data, tmp_path, CONFIGS[1], seeds=[0]), '--no-gallery')
    record = tmp_path / 'miniature/ibn_b/seed-0/ibn_b.record.json'
    planned = states.Planned('c', 'x', 0, record.parent, record, states.NEW, 'note')
    before = record.stat().st_mtime_ns
    code = (
        'import pickle, sys; job = pickle.load(open(sys.argv[1], "rb"))\n'
        'job()  # no training script is there to run'
    )
    pickled = tmp_path / 'job.pkl'
    import cloudpickle

    pickled.write_bytes(cloudpickle.dumps(cluster.Job(planned, 'absent.py', (), 1, None)))
    done = subprocess.run([sys.executable, '-c', code, pickled], cwd=ROOT, capture_output=True)
    assert (done.returncode, record.stat().st_mtime_ns) == (0, before), done.stderr
    with disk.claimed(record.parent / 'job'):
        record.unlink()
        done = subprocess.run([sys.executable, '-c', code, pickled], cwd=ROOT, capture_output=True)
    assert done.returncode == 2 and b'writes a run here' in done.stderr


def test_fine_tuning_by_jobs(data, tmp_path):  # noqa: F811
    source = tmp_path / 'source'
    run('train.py', CONFIG, '--data-root', data, '--work-dir', source, '--cfg-options', *TINY)
    tune = ['finetune.py', CONFIG, next(source.glob('best_iter_*.pth')), '--data-root', data,
            '--work-dir', tmp_path / 'tuned', '--target', 'cityscapes', '--fractions', '50',
            '100', '--on', 'local:2', '--cfg-options', *TINY]  # fmt: skip
    done = run(*tune)
    assert done.stdout.count(' as job ') == done.stdout.count(': finished') == 2
    table = (tmp_path / 'tuned/cityscapes-train.md').read_text()
    assert '50 % (2 images)' in table and '100 % (4 images)' in table
    assert run(*tune).stdout.count('finished before') == 2


# ------------------------------------------------------------------------ options


def place(*given: str):
    import argparse

    p = argparse.ArgumentParser()
    places.add_options(p)
    return places.place(p.parse_args(given))


def test_options_become_a_place():
    assert place() is None
    assert place('--on', 'local:3') == ('local', 3, None, None, {})
    words = ['--on', 'slurm:8', '--gpus', '2', '--time', '1-02:00:01', '--slurm', 'partition=a b']
    words += ['--slurm', 'mem=32G', 'exclusive', 'mail_type=END']
    options = {'partition': 'a b', 'mem': '32G', 'exclusive': True, 'mail-type': 'END'}
    assert place(*words) == ('slurm', 8, 2, 26 * 60 + 1, options)


TIMES = {'90': 90, '90:30': 91, '2:00:00': 120, '1-0': 1440, '1-12:30': 2190, '0:00:01': 1}


@pytest.mark.parametrize('text', TIMES)
def test_a_time_is_read_as_slurm_reads_it(text):
    assert places.minutes(text) == TIMES[text]


@pytest.mark.parametrize(
    ('given', 'says'),
    [
        ('--on local', 'local:N'),
        ('--on local:0', 'local:N'),
        ('--on pbs', 'slurm:N'),
        ('--on slurm --time soon', 'expected minutes'),
        ('--on slurm --time 0', 'more than nothing'),
        ('--on slurm --gpus -1', 'a number of GPUs'),
        ('--on slurm --slurm nodes=2', 'one task of one node'),
        ('--on slurm --slurm --mem=3', 'expected'),
        ('--time 90', '--time goes with --on'),
        ('--slurm mem=3G', '--slurm goes with --on'),
        ('--on local:2 --slurm mem=3G', 'goes with --on slurm'),
    ],
)
def test_options_that_say_nothing_are_refused(given, says, tmp_path):
    done = run('sweep.py', 'miniature/ibn_b', '--work-dir', tmp_path, *given.split(), code=2)
    assert says in done.stderr and done.stdout == ''
    assert 'Traceback' not in done.stderr


def test_a_line_in_an_option_of_sbatch_is_refused():
    with pytest.raises(SystemExit):
        place('--on', 'slurm', '--slurm', 'comment=a\nrm -rf b')


def test_jobs_of_one_machine_have_gpus_of_their_own(monkeypatch):
    monkeypatch.setattr(cluster, 'gpus_visible', lambda: 4)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    assert cluster.devices(place('--on', 'local:4')) == ['0', '1', '2', '3']
    assert cluster.devices(place('--on', 'local:2', '--gpus', '2')) == ['0,1', '2,3']
    assert cluster.devices(place('--on', 'local:6', '--gpus', '0')) == [None] * 6
    with pytest.raises(ValueError, match='needs 6; this machine shows 4'):
        cluster.devices(place('--on', 'local:3', '--gpus', '2'))
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '2,3,5,7')
    assert cluster.devices(place('--on', 'local:2', '--gpus', '2')) == ['2,3', '5,7']
    monkeypatch.setattr(cluster, 'gpus_visible', lambda: 0)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    assert cluster.devices(place('--on', 'local:2')) == ['', '']


# ------------------------------------------------------------------------ Slurm


def test_without_slurm_one_line_says_so(data, tmp_path):  # noqa: F811
    begin = [*words(data, tmp_path, CONFIGS[1], seeds=[0]), '--on', 'slurm']
    done = run(*begin, code=2, PATH=str(tmp_path))
    assert done.stderr.startswith('error: --on slurm: this machine has no sbatch. ')
    assert len(done.stderr.splitlines()) == 1


def slurm(*given: str) -> str:
    return subprocess.run(given, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def on_slurm():
    """Options for a real Slurm of this machine that takes jobs; skips where there is none."""
    if not shutil.which('sinfo') or subprocess.run(['sinfo'], capture_output=True).returncode:
        pytest.skip('no Slurm answers on this machine')
    return ['--on', 'slurm', '--gpus', '0']


def test_slurm_trains_queues_again_and_is_waited_for(data, tmp_path, on_slurm, whole):  # noqa: F811
    sweep = start(data, tmp_path, *on_slurm, options=LONG)
    folder = tmp_path / 'miniature/ibn_b/seed-0'
    trains(folder, sweep)
    sweep.send_signal(signal.SIGTERM)
    _, error = sweep.communicate()
    (script,) = (folder / 'job').glob('*_submission.sh')
    job = script.name.partition('_')[0]
    assert error.startswith(f'jobs that go on in Slurm: {job}. The same command waits for them;')
    assert sweep.returncode == 143 and error.endswith('terminated; the same command continues\n')
    slurm('scancel', '--signal=USR2', job)  # as at a limit of time
    while (
        state := slurm('squeue', '--noheader', '--jobs', job, '--format=%T').strip()
    ) == 'RUNNING':
        time.sleep(0.2)
    assert state in ('PENDING', 'COMPLETING')
    second = start(data, tmp_path, *on_slurm, options=LONG)
    out, error = second.communicate()
    assert (second.returncode, error) == (0, ''), out
    assert f'seed 0: waited for, job {job} has it' in out and 'seed 0: finished' in out
    check_equal(folder, whole)


def test_slurm_says_why_it_takes_no_job(data, tmp_path, on_slurm):  # noqa: F811
    begin = [*words(data, tmp_path, CONFIGS[1], seeds=[0]), *on_slurm]
    done = run(*begin, '--slurm', 'partition=absent', code=2)
    assert done.stderr.startswith('error: Slurm takes no job: ')
    assert 'Invalid partition' in done.stderr and len(done.stderr.splitlines()) == 1
