"""Training curves from the logs beside records."""

import json

import numpy as np
import pytest

from ibnseg.measure import protocols, records
from ibnseg.report import curves

pytestmark = pytest.mark.fast


def log(folder, name, *lines):
    path = folder / name / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text('\n'.join(texts))


def loss(step, value):
    return dict(loss=value, lr=0.1, iter=step, step=step)


def test_loss_and_miou_by_iteration(tmp_path):
    log(tmp_path, '20260101_000000', loss(10, 2.5), dict(mIoU=23.5, step=10), loss(20, 2))
    notes = []
    found = curves.of_run(tmp_path, notes)
    assert found == dict(loss=[(10, 2.5), (20, 2.0)], mIoU=[(10, 23.5)])
    assert not notes
    assert curves.of_run(tmp_path / 'none', notes) == {}


def test_a_resumed_run_holds_from_its_first_iteration_on(tmp_path):
    log(tmp_path, '20260101_000000', *(loss(i, 9) for i in (10, 20, 30, 40)))
    log(tmp_path, '20260102_000000', loss(25, 1), dict(mIoU=5, step=30), loss(35, 1))
    log(tmp_path, '20260103_000000')  # ended before it logged anything
    found = curves.of_run(tmp_path, [])
    assert found == dict(loss=[(10, 9), (20, 9), (25, 1), (35, 1)], mIoU=[(30, 5)])


@pytest.mark.parametrize(
    'line',
    ['{"loss": 1, "st', '[]', '"x"', '{"loss": 1}', '{"loss": 1, "step": true}', '[' * 9000,
     '{"loss": 1, "step": -1}', '{"loss": 1, "step": 1' + '0' * 400 + '}', '\0\x01',
     '{"step": 3, "loss": 1, "x": "' + 'y' * 70000 + '"}'],
)  # fmt: skip
def test_damaged_lines_are_passed_over_and_said(tmp_path, line):
    log(tmp_path, '1', loss(1, 3), line, loss(2, 4))
    notes = []
    assert curves.of_run(tmp_path, notes) == dict(loss=[(1, 3), (2, 4)])
    assert '1 damaged lines' in notes[0]


@pytest.mark.parametrize('value', ['NaN', 'Infinity', '-Infinity', '1e999', '"<b>"', '{}', 'true'])
def test_what_is_no_finite_number_is_left_out(tmp_path, value):
    log(tmp_path, '1', loss(1, 3), f'{{"loss": {value}, "step": 2}}')
    assert curves.of_run(tmp_path, []) == dict(loss=[(1, 3)])


def test_a_number_too_large_for_a_float(tmp_path):
    log(tmp_path, '1', loss(1, 3), '{"loss": 1' + '0' * 400 + ', "step": 2}')
    assert curves.of_run(tmp_path, []) == dict(loss=[(1, 3)])


def test_size_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, '_MOST_BYTES', 10_000)
    monkeypatch.setattr(curves, '_MOST_POINTS', 10)
    log(tmp_path, '1', *(loss(i, i) for i in range(1000)))
    notes = []
    (points,) = curves.of_run(tmp_path, notes).values()
    assert len(points) <= 11
    assert points[0] == (0, 0) and 100 < points[-1][0] < 999
    assert 'only the first' in notes[0]


def test_rows_have_the_names_of_a_report(tmp_path):
    paths = []
    for name in ('plain', 'ibn'):
        for seed in (0, 1):
            described = protocols.describe(None, 'cityscapes:val', 1)
            measured = records.Measurement(
                'cityscapes:val', 1, described.content(), described.hash, np.eye(19, dtype=int)
            )
            classes = [f'class {i}' for i in range(19)]
            facts = dict(seed=seed, checkpoint_sha256=name + str(seed), selection='last')
            record = records.Record(name, 'gta5:train', classes, facts, [measured])
            folder = tmp_path / f'{name}{seed}'
            folder.mkdir()
            paths.append(records.write(record, folder / 'x.record.json'))
    log(tmp_path / 'plain1', '1', loss(1, 3))
    assert curves.read(paths) == dict(plain=dict(loss=[(1, 3)]))
