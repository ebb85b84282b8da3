import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from ibnseg_tools import audit as tools_audit
from ibnseg_tools import test as tools_test
from mmengine.registry import DefaultScope
from odd_data import DRAWN, ODD, Target, cases, copy, photo_in_two_splits, unknown_id

from ibnseg import audit, disk, domains, labels, workers
from ibnseg.audit import KINDS, facts
from ibnseg.domains import DOMAINS, DataError
from ibnseg.train import checks
from ibnseg.train.config import load_config

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache'


@pytest.fixture(scope='module')
def warm(tmp_path_factory) -> Path:
    """One cache for all the damages: what they leave whole is decoded once."""
    return tmp_path_factory.mktemp('cache')


@pytest.fixture
def target(drawn, tmp_path):
    """name -> a copy of that dataset, to damage."""
    return lambda name: Target(name, copy(drawn, tmp_path / 'my data', name))


#: Errors about what a label means: train, test and score refuse the file as well.
OF_A_LABEL = ('lossy', 'palette', 'train-ids', 'ids', 'colour', 'encoding', 'orientation')
OF_THE_SET = ('absent', 'count', 'resized')


def found(report: audit.Report) -> set[tuple[str, Path]]:
    return {(f.kind, f.file) for f in report.findings if f.kind not in OF_THE_SET}


def look(target: Target) -> audit.Report:
    return audit.audit(target.name, target.root, workers=1)


def test_every_domain_is_damaged():
    assert set(DRAWN) == set(DOMAINS)


@pytest.mark.parametrize(('name', 'damage'), cases(ODD))
def test_damage_is_found_and_nothing_else(mended, warm, monkeypatch, name, damage):
    monkeypatch.setenv('XDG_CACHE_HOME', str(warm))
    t = mended(name)
    expected = set(ODD[damage](t))
    report = look(t)
    assert found(report) == expected
    for kind, file in expected & {(kind, t.label) for kind in OF_A_LABEL}:
        with pytest.raises(DataError) as caught:
            domains.read_labels(file, t.row.space)
        assert caught.value.kind == kind and str(caught.value).startswith(str(file))
    text = '\n'.join(report.lines(99))
    for kind, file in expected:
        assert f'{KINDS[kind].severity} {kind} (' in text and report.below(file) in text
        assert KINDS[kind].way_out in text


@pytest.mark.parametrize('name', DRAWN)
def test_a_whole_set_has_no_findings(drawn, name):
    report = audit.audit(name, drawn, workers=1)
    assert found(report) == set() and report.errors == []
    assert {f.kind for f in report.findings} <= set(OF_THE_SET)


# ------------------------------------------------------------------------------ the whole set


def of_the_set(report: audit.Report) -> dict[str, list[str]]:
    return {kind: [f.detail for f in report.findings if f.kind == kind] for kind in OF_THE_SET}


def test_counts_against_the_published_ones(target, monkeypatch):
    t = target('cityscapes')
    assert of_the_set(look(t))['resized'] == ['128x64 in 6 photos, published 2048x1024']
    assert of_the_set(look(t))['count'] == [
        "split 'train': 3 pairs, published 2,975",
        "split 'val': 3 pairs, published 500",
    ]
    monkeypatch.setitem(DOMAINS['cityscapes'].splits, 'val', 3)
    monkeypatch.setitem(DOMAINS['cityscapes'].splits, 'train', 3)
    assert of_the_set(look(t))['count'] == []
    shutil.rmtree(t.folder / 'gtFine' / 'train')
    (absent,) = [f for f in look(t).findings if f.kind == 'absent']
    assert (absent.file, absent.splits) == (t.folder / 'gtFine' / 'train', ('train',))


def test_two_files_for_one_place_do_not_end_the_audit(target):
    t = target('camvid')
    twice = t.photo.with_suffix('.jpg')
    shutil.copy(t.photo, twice)
    t.far[1].write_bytes(b'')  # in another split
    assert ('same-name', t.photo) in found(look(t)) or ('same-name', twice) in found(look(t))
    assert ('empty', t.far[1]) in found(look(t))


def test_a_split_alone_and_a_folder_itself(target):
    t = target('gta5')
    t.photo.write_bytes(b'')
    assert found(audit.audit('gta5:train', t.root, workers=1)) == set()
    for root in (t.root, t.folder):
        report = audit.audit('gta5:val', root, workers=1)
        assert found(report) == {('empty', t.photo)}
        assert report.splits == {'val': (3, 6382)}


@pytest.mark.parametrize(
    ('domain', 'expected'),
    [
        ('mars', 'unknown domain'),
        ('gta5:mars', 'no split'),
        ('cityscapes', 'below the data root'),
    ],
)
def test_nothing_to_look_at(tmp_path, domain, expected):
    with pytest.raises(DataError, match=expected):
        audit.audit(domain, tmp_path)


# --------------------------------------------------------------------------------- the cache


@pytest.fixture
def decoded(monkeypatch) -> list[Path]:
    """The files that are decoded from now on."""
    seen, real = [], facts.look
    monkeypatch.setattr(facts, 'look', lambda path, *a: seen.append(path) or real(path, *a))
    return seen


def test_a_file_is_decoded_once(target, decoded):
    t = target('gta5')
    first = look(t)
    assert len(decoded) == first.files == 12 and first.known == 0
    decoded.clear()
    again = look(t)
    assert decoded == [] and again.known == 12
    assert again.findings == first.findings
    t.photo.touch()  # changed on the outside only
    assert look(t).findings == first.findings and decoded == []
    t.photo.write_bytes(t.other[0].read_bytes()[:-60])
    assert ('damaged', t.photo) in found(look(t)) and decoded == [t.photo]
    decoded.clear()
    t.root.rename(t.root.with_name('elsewhere'))
    moved = audit.audit('gta5', t.root.with_name('elsewhere'), workers=1)
    assert decoded == [] and moved.known == 0
    assert [f.kind for f in moved.errors] == ['damaged']


@pytest.mark.parametrize(
    'change',
    [
        *('', '{', 'null', '\x00', '["a"]\n[1, 2]'),
        lambda text: text[:-9],
        lambda text: text.replace('"size"', '"Size"'),
        lambda text: text.replace(f'({audit.FACTS}, ', '(0, '),
    ],
)
def test_a_broken_cache_is_begun_anew(target, cache, change):
    t = target('gta5')
    look(t)
    (file,) = cache.rglob('gta5.json')
    before = file.read_text()
    after = change if isinstance(change, str) else change(before)
    assert after != before
    file.write_text(after)
    assert look(t).known == 0
    assert look(t).known == 12


def test_a_changed_label_space_is_looked_at_again(target, monkeypatch):
    t = target('gta5')
    look(t)
    changed = replace(labels.space('gta5'), extra=())
    monkeypatch.setitem(labels.spaces.SPACES, 'gta5', changed)
    assert look(t).known == 0


def test_a_cache_that_can_not_be_written_is_told(target, tmp_path, monkeypatch):
    t = target('gta5')
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
    report = look(t)
    assert 'nothing is remembered' in '\n'.join(report.lines())
    assert report.files == 12


def test_two_audits_at_once_keep_what_both_found(tmp_path):
    one, two = disk.Store('audit', 'x', 1), disk.Store('audit', 'x', 1)
    jobs = [(tmp_path / name,) for name in 'ab']
    for (path,), store in zip(jobs, (one, two), strict=True):
        path.write_text(path.name)
        store.values(Path.read_text, [(path,)])
    found = disk.Store('audit', 'x', 1).values(Path.read_text, jobs)
    assert found == ({job: job[0].name for job in jobs}, 2)


def test_processes_find_what_one_finds(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, 'FEW', 2)
    root = shutil.copytree(drawn, tmp_path / 'data')
    for photo, label in domains.find('gta5:val', root)[:2]:
        photo.write_bytes(photo.read_bytes()[:500])
        label.write_bytes(b'')
    steps = []
    many = audit.audit('gta5', root, workers=2, progress=lambda *step: steps.append(step))
    assert steps == [(n, 12) for n in range(1, 13)]
    shutil.rmtree(tmp_path / 'cache')
    assert audit.audit('gta5', root, workers=1).findings == many.findings
    assert len(many.errors) == 4


# ------------------------------------------------------------------------------- the command


def command(*words, code: int, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    environment = dict(os.environ, OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    words = [sys.executable, str(ROOT / 'tools' / 'audit.py'), *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def main(capsys, *words) -> tuple[int, str, str]:
    code = tools_audit.main([str(word) for word in words])
    return code, *capsys.readouterr()


def test_command_of_a_damaged_set(target, tmp_path):
    """As a user types it; the rest of the command in this process."""
    t = target('gta5')
    unknown_id(t)
    done = command('gta5', t.root, '--out', tmp_path / 'a.json', '--write-skip-list',
                   tmp_path / 'skip.txt', code=1)  # fmt: skip
    assert done.stderr == ''
    name = t.photo.name
    assert f'labels/{name}: ids 254 (4 px) do not exist' in done.stdout
    assert '1 error in 1 pair, ' in done.stdout
    assert not list(tmp_path.glob('.*'))
    written = json.loads((tmp_path / 'a.json').read_text())
    assert written['schema'] == 'ibnseg-audit-1'
    assert written['splits']['val'] == dict(pairs=3, published=6382)
    (error,) = [f for f in written['findings'] if f['severity'] == 'error']
    detail = error.pop('detail')
    assert '254' in detail
    assert error == dict(kind='ids', severity='error', file=f'labels/{name}', other=None,
                         splits=['val'])  # fmt: skip
    assert f'\ngta5/images/{name}  # ids\n' in (tmp_path / 'skip.txt').read_text()


def test_exit_codes(target, capsys, monkeypatch):
    t = target('gta5')
    assert main(capsys, 'gta5', t.root)[0] == 0  # warnings: counts
    assert main(capsys, 'gta5', t.root, '--strict')[0] == 1
    for split in t.row.splits:
        monkeypatch.setitem(t.row.splits, split, len(t.pairs.get(split, ())))
    code, out, err = main(capsys, 'gta5', t.root, '--strict')
    assert (code, err) == (0, '') and out.endswith('nothing wrong\n')
    t.photo.write_bytes(b'')
    assert main(capsys, 'gta5', t.root)[0] == 1
    for words in (('mars', t.root), ('gta5', t.root / 'no'), ('gta5:mars', t.root)):
        code, out, err = main(capsys, *words)
        assert (code, out) == (2, '') and err.startswith('error: ')


def test_hostile_names_do_no_harm(target, capsys):
    t = target('cityscapes')
    evil = t.photo.with_name('\x1b[31m[bold]\n_leftImg8bit.png')
    t.photo.rename(evil)
    code, out, _ = main(capsys, 'cityscapes', t.root)
    assert code == 1 and '\x1b' not in out
    assert '\\x1b[31m[bold]\\n_leftImg8bit.png' in out


def test_interrupted_and_continued(target, tmp_path, monkeypatch, cache):
    """Ctrl-C in a terminal goes to all processes of the group."""
    t = target('gta5')
    real = facts.look

    def slow(*job) -> facts.Facts:
        print('at work', flush=True)
        time.sleep(0.3)
        return real(*job)

    def child() -> None:
        os.setsid()
        handle = os.open(tmp_path / 'out', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(handle, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, 'w') for stream in (1, 2))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        facts.look, workers.FEW = slow, 2
        sys.exit(tools_audit.main(['gta5', str(t.root), '--workers', '2']))

    process = multiprocessing.get_context('fork').Process(target=child)
    process.start()
    while 'at work' not in (tmp_path / 'out').read_text() if (tmp_path / 'out').exists() else True:
        assert process.is_alive()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    process.join()
    out = (tmp_path / 'out').read_text()
    assert process.exitcode == 130, out
    assert out.replace('at work\n', '') == 'interrupted; the same command continues where it was\n'
    assert not [path for path in cache.rglob('*') if path.name.startswith('.')]
    assert look(t).files == 12


# --------------------------------------------------------------------------------- skip lists


@pytest.mark.parametrize('name', DRAWN)
def test_a_skip_list_leaves_out_what_is_wrong_and_no_more(target, tmp_path, name):
    t = target(name)
    t.photo.write_bytes(b'')
    gone, _ = t.other
    gone.unlink()
    skip_list = tmp_path / 'skip.txt'
    look(t).write_skip_list(skip_list)
    for split, pairs in t.pairs.items():
        left = [pair for pair in pairs if pair[0] not in (t.photo, gone)]
        if left:
            used = domains.use(f'{name}:{split}', t.root, [skip_list])
            assert used.pairs == left == domains.find(f'{name}:{split}', t.root, [skip_list])
            # `gone` is no pair: its label stands alone.
            assert used.skipped == (t.photo in [photo for photo, _ in pairs]) and not used.odd
        else:
            with pytest.raises(DataError, match='skip lists name every pair'):
                domains.find(f'{name}:{split}', t.root, [skip_list])


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        (
            'mars/images/x.png',
            "line 1: 'mars/images/x.png' names no file below the folder of a domain",
        ),
        ('# why\ngta5', "line 2: 'gta5'"),
        ('gta5/images/no.png  # ids', 'no.png: the skip list names it, but there is no such'),
        (b'\xff\xfe', 'not text'),
        (None, 'no skip list'),
    ],
)
def test_bad_skip_lists(drawn, tmp_path, content, expected):
    skip_list = tmp_path / 'skip.txt'
    if content is not None:
        skip_list.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=expected):
        domains.find('gta5:val', drawn, [skip_list])


def test_skip_list_changes_the_protocol_where_it_skips(target, drawn, tmp_path):
    t = target('gta5')
    shutil.copytree(drawn / 'cityscapes', t.root / 'cityscapes')
    lists = []
    for photo, _ in t.pairs['val'][:2]:
        lists.append(tmp_path / f'{photo.stem}.txt')
        lists[-1].write_text(f'gta5/images/{photo.name}\n')
    plans = [plan(t.root, skips) for skips in ([], lists[:1], lists[1:], lists)]
    assert [p['gta5:val'].images for p in plans] == [3, 2, 2, 1]
    assert len({p['gta5:val'].hash for p in plans}) == 4
    assert len({p['cityscapes:val'].hash for p in plans}) == 1, 'nothing of it is left out'


def load(root: Path, skip_lists: list[Path]):
    return load_config(
        ROOT / 'configs/miniature/ibn_b.py', data_root=str(root), skip_lists=skip_lists
    )


def plan(root: Path, skip_lists: list[Path]):
    return checks.plan_measurement(load(root, skip_lists))


# ----------------------------------------------------------------------------- before training


def test_training_on_damage_is_refused_until_it_is_skipped(target, drawn, tmp_path, capsys):
    t = target('gta5')
    shutil.copytree(drawn / 'cityscapes', t.root / 'cityscapes')
    with DefaultScope.overwrite_default_scope('mmseg'):
        checks.audit_data(load(t.root, []))
        assert 'audit gta5: 12 files, 0 errors' in capsys.readouterr().out
        photo_in_two_splits(t)  # of train and val, each whole by itself
        unknown_id(t)
        with pytest.raises(DataError) as caught:
            checks.audit_data(load(t.root, []))
        for words in ('error leak (1)', 'error ids (1)', '--write-skip-list skip.txt'):
            assert words in str(caught.value)
        look(t).write_skip_list(tmp_path / 'skip.txt')
        checks.audit_data(load(t.root, [tmp_path / 'skip.txt']))


def test_a_test_is_audited_on_what_it_measures(target, tmp_path, capsys):
    t = target('gta5')
    (tmp_path / 'x.pth').touch()
    words = [ROOT / 'configs/miniature/ibn_b.py', tmp_path / 'x.pth', '--data-root', t.root]
    words += ['--work-dir', tmp_path, '--audit', '--domains', 'gta5:val']
    unknown_id(t)
    assert tools_test.main(list(map(str, words))) == 2
    said = capsys.readouterr()
    assert 'error ids (1)' in said.err and 'The run would use these' in said.err
    assert 'testing' not in said.out


@pytest.mark.parametrize('launcher', ['pytorch', 'slurm', 'mpi'])
def test_of_several_processes_none_waits_for_an_audit(tmp_path, launcher):
    config = load(tmp_path / 'the data', [])
    config.launcher = launcher
    with pytest.raises(ValueError, match=f'--audit with --launcher {launcher}') as caught:
        checks.audit_data(config)
    assert str(caught.value).endswith(
        f"this without --audit: ibnseg audit gta5 '{tmp_path}/the data' && "
        f"ibnseg audit cityscapes '{tmp_path}/the data'"
    )
