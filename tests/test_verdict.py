"""A verdict in words from both sources of chance."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from test_report import record, screen
from test_report_certainty import files, tabulate, write  # noqa: F401

from ibnseg import report
from ibnseg.measure.bootstrap import Interval
from ibnseg.measure.units import t_quantile
from ibnseg.report import headline
from ibnseg.report.table import Stat
from ibnseg.report.verdict import judge

T = {1: 12.7062, 2: 4.3027, 4: 2.7764, 10: 2.2281, 11: 2.2010, 20: 2.0860, 30: 2.0423, 100: 1.9840}


@pytest.mark.parametrize('freedom', T)
def test_t_quantile_is_the_published_one(freedom):
    assert t_quantile(freedom) == pytest.approx(T[freedom], abs=2e-4)


def judged(value, low, high, *by_seed):
    return judge(Interval(value, low, high, 0.0), Stat.of(by_seed))


def test_both_sources_by_hand():
    """Three seeds: half a width of t(2) * s / sqrt(3), joined with that over images."""
    found = judged(5, 4, 7, 4, 5, 6)
    spread = 4.3027 * 1 / math.sqrt(3)
    assert found.low == pytest.approx(5 - math.hypot(1, spread), abs=1e-3)
    assert found.high == pytest.approx(5 + math.hypot(2, spread), abs=1e-3)
    assert (found.word, found.kind) == ('clear', 'clear')
    assert found.limits == '95 % over images and 3 seeds: +2.3 to +8.2'


@pytest.mark.parametrize(
    ('numbers', 'word', 'part'),
    [
        # No draw of images has the other sign, and seeds differ by more than the change.
        ((1, 0.5, 1.5, -1, 1, 3), 'not clear', 'the seeds differ by more'),
        ((1, 0.5, 1.5, 0.7, 1.3), 'not clear', 'the seeds differ by more'),
        # Each alone would be clear; both are not.
        ((1, 0.1, 1.9, 0.7, 1, 1.3), 'not clear', 'over images and 3 seeds'),
        ((1, -0.1, 2.1, 0.99, 1, 1.01), 'not clear', 'over images and 3 seeds'),
        ((1, 0.5, 1.5, 0.99, 1, 1.01), 'clear', 'over images and 3 seeds'),
        ((-1, -1.5, -0.5, -0.99, -1, -1.01), 'clear', 'over images and 3 seeds'),
        ((1, 0.5, 1.5, 1), 'clear over images, 1 seed', 'chance of training is not known'),
        ((-1, -1.5, -0.5, -1), 'clear over images, 1 seed', 'chance of training is not known'),
        ((1, -0.5, 1.5, 1), 'not clear, 1 seed', 'chance of training is not known'),
        ((0, 0, 0, 0), 'not clear, 1 seed', 'one seed only'),
        ((0, 0, 0, 0, 0), 'not clear', ''),
        ((1, 0.5, 1.5), 'clear over images, no common seed', 'no seed in common'),
        ((1, math.nan, math.nan, 1, 1), 'unknown', 'no interval over images'),
        ((math.nan, math.nan, math.nan), 'unknown', 'unknown'),
    ],
)
def test_words(numbers, word, part):
    found = judged(*numbers)
    assert found.word == word and part in found.sentence
    assert ('clear' in found.sentence) == ('clear' in word)


@pytest.mark.parametrize(('seed_sd', 'image_sd'), [(1, 0), (0, 6), (1, 6), (0.3, 6)])
@pytest.mark.parametrize('seeds', [2, 3, 5])
def test_without_a_difference_few_are_clear(seeds, seed_sd, image_sd):
    """Simulated: the difference on image i in seed s is chance of both, and noise."""
    stream, images, times = np.random.default_rng(0), 40, 4000
    drawn = (
        seed_sd * stream.normal(size=(times, seeds, 1))
        + image_sd * stream.normal(size=(times, 1, images))
        + stream.normal(size=(times, seeds, images))
    )
    values, over_images = drawn.mean((1, 2)), drawn.mean(1)
    half = 1.96 * over_images.std(1, ddof=1) / math.sqrt(images)
    found = [
        judged(value, value - h, value + h, *by_seed)
        for value, h, by_seed in zip(values, half, drawn.mean(2), strict=True)
    ]
    wrong = np.mean([one.kind == 'clear' for one in found])
    assert wrong < 0.05 + 3 * math.sqrt(0.05 * 0.95 / times)
    shifted = [
        judged(value + 20, value + 20 - h, value + 20 + h, *(by_seed + 20))
        for value, h, by_seed in zip(values, half, drawn.mean(2), strict=True)
    ]
    assert np.mean([one.kind == 'clear' for one in shifted]) > 0.9


def test_every_form_has_the_verdict(files):  # noqa: F811
    table = tabulate(*files)
    found = report.gather(table)
    verdict = found.pairs[0].verdict
    made = report.texts(table, found)
    assert f'| ibn_a - resnet50 | {verdict.word} | 3 |' in made['report.md']
    assert f'ibn\\_a - resnet50 & {verdict.word} & 3 &' in made['report.tex'].replace('{-}', '-')
    assert f'<td>{verdict.word}</td>' in made['report.html']
    shown = screen(table, 80, found)
    assert verdict.word in shown and all(len(line) <= 80 for line in shown.splitlines())
    line = list(csv.DictReader(io.StringIO(made['statistics.csv'])))[-1]
    assert line['verdict'] == verdict.word
    assert float(line['low_over_both']) == pytest.approx(verdict.low, abs=0.006)
    said = json.loads(made['report.json'])['statistics']['pairs'][0]['verdict']
    assert (said['word'], said['sentence']) == (verdict.word, verdict.sentence)


def test_one_seed_is_said_in_every_form(tmp_path):
    table = tabulate(write(tmp_path, 'bn', 0, 0), write(tmp_path, 'ibn_a', 3, 0))
    found = report.gather(table)
    for name, text in (report.texts(table, found) | dict(screen=screen(table, 80, found))).items():
        if name not in ('report.csv', 'images.csv'):
            assert 'clear over images, 1 seed' in text, name
    assert 'by seed' not in screen(table, 80, found), 'it would repeat the mIoU'
    (line,) = json.loads(report.texts(table, found)['report.json'])['headline']
    assert 'clear over images, but one seed only, so the chance of training is not known' in line


def test_headline_of_several_targets_counts_verdicts_and_leaves_oracles_out():
    runs = [record('bn'), record('ibn_a', away=(4, 3)), record('ibn_b', away=(1, 0), rule='oracle')]
    for one in runs:
        one.domains.append(replace(one.domains[0], domain='idd:val'))
    ((claim, more),) = headline.sentences(report.tabulate(runs), None)
    assert claim.startswith('ibn_a') and '20.0 points more mIoU than bn on average over 2' in claim
    assert 'how certain that is, is not known' in claim and 'At home, on gta5:val' in more


def test_headline_of_a_loss_and_of_one_model():
    table = report.tabulate([record('bn', away=(4, 3)), record('ibn_a')])
    ((claim, _),) = headline.sentences(table, None)
    assert '20.0 points less than bn' in claim
    ((claim, _),) = headline.sentences(report.tabulate([record('bn')]), None)
    assert claim == (
        'mIoU on cityscapes:val, trained on gta5:train: bn 20.0 %. Nothing here can be compared '
        'with a baseline.'
    )
