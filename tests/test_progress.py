"""How far a job is, where there is no terminal."""

import pytest

from ibnseg import progress

pytestmark = pytest.mark.fast


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    return now


def lines(clock, steps, seconds):
    said = []
    show = progress.Lines('work', said.append)
    for done in range(1, steps + 1):
        clock[0] += seconds
        show(done, steps)
    return said


def test_a_short_job_says_nothing(clock):
    assert lines(clock, 5000, 0.0005) == []


def test_a_longer_job_says_a_line_now_and_then(clock):
    said = lines(clock, 100, 1)
    assert said[0] == 'work 10/100  left 0:01:30'
    assert said[-1] == 'work 100/100'
    assert len(said) == 10


def test_one_of_few_steps_does_too(clock):
    assert lines(clock, 4, 5)[0] == 'work 1/4  left 0:00:15'


def test_of_a_very_long_job_there_is_a_line_a_minute(clock):
    said = lines(clock, 1000, 30)
    assert said[0] == 'work 2/1,000  left 8:19:00'
    assert len(said) == 500
