"""`sweep` as a user runs it, on a small miniature; and its plan."""

import base64
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mmengine.config import Config
from test_tools import ROOT, TINY, run

from ibnseg import disk, miniature
from ibnseg.measure import matrices, records
from ibnseg.train.runs import states, sweep

CONFIGS = ('configs/miniature/resnet18.py', 'configs/miniature/ibn_b.py')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    out = tmp_path_factory.mktemp('worlds') / 'data'
    miniature.write(out, train=4, val=3, size=(64, 128), workers=1)
    return out


def words(data, out, *configs, seeds=(0, 1), options=()):
    names = ['sweep.py', *(configs or CONFIGS), '--seeds', *seeds]
    names += ['--data-root', data, '--work-dir', out]
    return [*names, '--cfg-options', *TINY, *options]


@pytest.fixture(scope='module')
def swept(data, tmp_path_factory):
    """(folder, finished process) of two configs, two seeds; one run was interrupted before."""
    out = tmp_path_factory.mktemp('sweep') / 'out'
    run(*words(data, out, CONFIGS[1], seeds=[1]))
    begun = out / 'miniature/ibn_b/seed-1'
    for path in (begun / 'iter_4.pth', begun / 'best_iter_4.pth', begun / 'ibn_b.record.json'):
        path.unlink(missing_ok=True)
    return out, run(*words(data, out))


def test_every_run_is_there_and_in_one_report(swept):
    out, done = swept
    assert done.stderr == ''
    said = [line for line in done.stdout.splitlines() if line.startswith('[')]
    assert said == [
        '[1/4] configs/miniature/resnet18.py, seed 0: begun',
        '[2/4] configs/miniature/resnet18.py, seed 1: begun',
        '[3/4] configs/miniature/ibn_b.py, seed 0: begun',
        '[4/4] configs/miniature/ibn_b.py, seed 1: continued',
    ]
    for model in ('resnet18', 'ibn_b'):
        for seed in (0, 1):
            path = out / f'miniature/{model}/seed-{seed}/{model}.record.json'
            record = records.read(path)
            assert (record.model, record.provenance['seed']) == (model, seed)
            found = matrices.read(path, record)
            assert {name: len(some) for name, some in found.items()} == {
                'gta5:val': 3, 'cityscapes:val': 3,
            }  # fmt: skip
    truth = base64.b64encode((out / 'report/gallery/0000-truth.png').read_bytes()).decode()
    assert truth in (out / 'report' / 'report.html').read_text()
    page = (out / 'report' / 'report.md').read_text()
    assert '| resnet18 | 2 |' in page and '| ibn_b | 2 |' in page
    assert '| ibn_b - resnet18 | not clear | 2 |' in page
    for name in ('report.json', 'statistics.csv', 'report.html', 'images.csv'):
        assert (out / 'report' / name).is_file()


def test_again_runs_nothing(swept, data):
    out, _ = swept
    before = {path: path.stat().st_mtime_ns for path in out.rglob('*.pth')}
    done = run(*words(data, out))
    assert done.stdout.count('finished before') == 4
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob('*.pth')}


def test_another_config_in_the_same_folder_is_refused(swept, data):
    out, _ = swept
    options = ['train_cfg.max_iters=6']
    done = run(*words(data, out, options=options), code=2)
    assert done.stderr.startswith('error: ') and 'train_cfg' in done.stderr
    assert str(out / 'miniature/resnet18/seed-0') in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_failing_run_is_told_and_the_others_go_on(data, tmp_path):
    broken = tmp_path / 'broken.py'
    broken.write_text(
        f"_base_ = '{ROOT}/configs/miniature/ibn_b.py'\n"
        "model = dict(backbone=dict(placement='no such'))\n"
    )
    out = tmp_path / 'out'
    options = ['train_cfg.max_iters=2']
    done = run(*words(data, out, broken, CONFIGS[1], seeds=[3], options=options), code=1)
    assert f'[1/2] {broken}, seed 3: FAILED, exit code 2' in done.stdout
    assert 'no such' in done.stderr, "the run's own error"
    assert done.stderr.splitlines()[-1].startswith('error: 1 of 2 runs failed')
    assert 'Traceback' not in done.stderr
    assert (out / 'miniature/ibn_b/seed-3/ibn_b.record.json').is_file()
    assert '| ibn_b | 1 |' in (out / 'report/report.md').read_text()


def test_a_folder_that_another_process_writes_to_is_refused(data, tmp_path):
    with disk.claimed(tmp_path / 'miniature/ibn_b/seed-3'):
        done = run(*words(data, tmp_path, CONFIGS[1], seeds=[3]), code=1)
    assert 'writes a run here' in done.stderr and 'FAILED, exit code 2' in done.stdout
    assert not (tmp_path / 'miniature/ibn_b/seed-3/ibn_b.record.json').exists()
    with disk.claimed(tmp_path):
        done = run(*words(data, tmp_path, CONFIGS[1], seeds=[3]), code=2)
    assert done.stderr.startswith(f'error: {tmp_path}: process ') and done.stdout == ''


def planned(folder: Path, state: str) -> states.Planned:
    return states.Planned('c.py', 'x', 3, folder, folder / 'x.record.json', state, 'sweep.config')


@pytest.mark.parametrize('state', [states.NEW, states.BEGUN])
def test_a_run_is_given_its_seed_its_folder_and_its_place(tmp_path, state):
    script = tmp_path / 'train.py'
    script.write_text(
        f"import sys; open({str(tmp_path / 'said')!r}, 'w').write(' '.join(sys.argv[1:]))"
    )
    assert states.begin(planned(tmp_path, state), script, ['--amp']) == 0
    said = (tmp_path / 'said').read_text()
    expected = f'c.py --work-dir {tmp_path} --seed 3 --no-table --amp'
    assert said == expected + ' --resume' * (state == states.BEGUN)


def test_exit_codes_are_passed_on_and_an_interrupted_run_stops_the_sweep(tmp_path):
    for name, code in (('failing', 2), ('interrupted', 130)):
        (tmp_path / name).write_text(f'raise SystemExit({code})')
    assert states.begin(planned(tmp_path, states.NEW), tmp_path / 'failing', []) == 2
    with pytest.raises(KeyboardInterrupt):
        states.begin(planned(tmp_path, states.NEW), tmp_path / 'interrupted', [])


def test_terminated_it_leaves_no_process(tmp_path):
    """A signal to the sweep alone, as from a scheduler, ends the training, too."""
    train = tmp_path / 'train.py'
    train.write_text(f"import time; open({str(tmp_path / 'up')!r}, 'w'); time.sleep(3600)")
    driver = (
        'import sys; from pathlib import Path; from ibnseg import command\n'
        'from ibnseg.train.runs import states\n'
        f'where = Path({str(tmp_path / "run")!r})\n'
        "planned = states.Planned('c', 'x', 0, where, Path('r'), states.NEW, 'note')\n"
        f'sys.exit(command.run(lambda: states.begin(planned, {str(train)!r}, []), "continue"))'
    )
    process = subprocess.Popen([sys.executable, '-c', driver], stderr=subprocess.PIPE, cwd=ROOT)
    while not (tmp_path / 'up').exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()  # the pipe closes when the training has ended, too
    assert (process.returncode, error) == (143, b'terminated; continue\n')


def config(tmp_path, name='a', model='ibn_a') -> str:
    path = tmp_path / f'{name}.py'
    path.write_text(f"model_name = '{model}'\nsource = 'gta5:train'\nlength = 4\n")
    return str(path)


def load(path: str, folder: Path) -> Config:
    return Config.fromfile(path)


@pytest.mark.parametrize(
    ('names', 'models', 'seeds', 'says'),
    [
        ('ab', ['x', 'x'], [0], 'model name'),
        ('aa', ['x', 'x'], [0], 'Name each once'),
        ('a', ['x'], [0, 1, 0], 'named twice'),
    ],
)
def test_what_no_report_could_tell_apart_is_refused(tmp_path, names, models, seeds, says):
    configs = [config(tmp_path, *pair) for pair in zip(names, models, strict=True)]
    with pytest.raises(ValueError, match=says):
        sweep.plan(configs, seeds, tmp_path / 'out', load)


def test_same_file_names_in_two_folders_have_folders_of_their_own(tmp_path):
    files = []
    for folder in ('one', 'two'):
        (tmp_path / 'configs' / folder).mkdir(parents=True)
        files.append(config(tmp_path / 'configs' / folder, model=folder))
    runs = sweep.plan(files, [0, 7], tmp_path / 'out', load)
    assert [str(run.folder.relative_to(tmp_path)) for run in runs] == [
        'out/one/a/seed-0', 'out/one/a/seed-7', 'out/two/a/seed-0', 'out/two/a/seed-7',
    ]  # fmt: skip
    assert {run.state for run in runs} == {states.NEW}


def test_a_record_that_lacks_a_domain_is_no_finished_run(tmp_path):
    path, folder = config(tmp_path), tmp_path / 'out/a/seed-0'
    facts = dict(seed=0, unmeasured={'camvid:val': 'x.png: unreadable'})
    for provenance, state in ((facts, states.BEGUN), (dict(seed=0), states.FINISHED)):
        record = records.Record('ibn_a', 'gta5:train', ['road'], provenance)
        records.write(record, folder / 'ibn_a.record.json')
        (folder / 'sweep.config').write_text(load(path, folder).pretty_text)
        (run,) = sweep.plan([path], [0], tmp_path / 'out', load)
        assert run.state == state


def test_a_record_of_another_seed_is_refused(tmp_path):
    path = config(tmp_path)
    record = records.Record('ibn_a', 'gta5:train', ['road'], dict(seed=5))
    records.write(record, tmp_path / 'out/a/seed-0/ibn_a.record.json')
    with pytest.raises(ValueError, match=r'of seed 5, expected 0.*--work-dir'):
        sweep.plan([path], [0], tmp_path / 'out', load)


@pytest.mark.parametrize('text', ['', 'length = 5', "length = open('ran', 'w')"])
def test_a_run_of_another_config_is_refused_and_its_config_not_run(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    path, folder = config(tmp_path), tmp_path / 'out/a/seed-0'
    folder.mkdir(parents=True)
    (folder / 'iter_2.pth').touch()
    with pytest.raises(ValueError, match='seed-0 holds a begun run that this command did not'):
        sweep.plan([path], [0], tmp_path / 'out', load)
    (folder / 'sweep.config').write_text(text)
    with pytest.raises(ValueError, match=r'seed-0 holds a begun run .* differ in length'):
        sweep.plan([path], [0], tmp_path / 'out', load)
    assert not (tmp_path / 'ran').exists()


UNREADABLE = ['length ==', "{'a-b': 1}", "open('ran', 'w')", 'x.y = 1', '\0', '-' * 99999 + '1']


@pytest.mark.parametrize('text', [*UNREADABLE, b'\xff'])
def test_a_run_of_a_config_that_does_not_read_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    path, folder = config(tmp_path), tmp_path / 'out/a/seed-0'
    folder.mkdir(parents=True)
    (folder / 'iter_2.pth').touch()
    (folder / 'sweep.config').write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r'sweep\.config: its values do not read'):
        sweep.plan([path], [0], tmp_path / 'out', load)
    assert not (tmp_path / 'ran').exists()


def test_two_configs_that_do_not_read_are_not_equal(tmp_path, monkeypatch):
    path, folder = config(tmp_path), tmp_path / 'out/a/seed-0'
    folder.mkdir(parents=True)
    (folder / 'iter_2.pth').touch()
    (folder / 'sweep.config').write_text('length == 4')
    monkeypatch.setattr(Config, 'pretty_text', 'length == 5')
    with pytest.raises(ValueError, match=r'sweep\.config: its values do not read'):
        sweep.plan([path], [0], tmp_path / 'out', load)
    (folder / 'sweep.config').write_text('length = 4')
    with pytest.raises(ValueError, match=r'a\.py: its values do not read'):
        sweep.plan([path], [0], tmp_path / 'out', load)


def test_where_a_run_is_kept_is_not_what_it_is(tmp_path):
    path, folder = config(tmp_path), tmp_path / 'out/a/seed-0'
    folder.mkdir(parents=True)
    (folder / 'iter_2.pth').touch()
    text = Path(path).read_text() + "work_dir = 'elsewhere'\nresume = True\n"
    (folder / 'sweep.config').write_text(text)
    (run,) = sweep.plan([path], [0], tmp_path / 'out', load)
    assert run.state == states.BEGUN
