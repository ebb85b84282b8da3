"""The figure of gains away against changes at home."""

import numpy as np
import pytest
from PIL import Image
from test_report import record

from ibnseg import report
from ibnseg.report import tradeoff


def test_points_are_the_changes_of_the_table():
    table = report.tabulate([record('bn'), record('ibn_a', away=(4, 3)), record('ibn_b')])
    (group,) = table.groups
    points = tradeoff._points(group, 'cityscapes:val')
    assert {row.name for row, *_ in points} == {'ibn_a', 'ibn_b'}
    for row, home, away in points:
        assert home == row.cells[group.home].delta
        assert away == row.cells['cityscapes:val'].delta
    assert any(away for *_, away in points)


def test_the_figure_is_a_picture_with_every_model_in_it(tmp_path):
    names = [f'method_{i}$x' for i in range(9)]
    runs = [record('bn'), *(record(n, away=(i + 1, i)) for i, n in enumerate(names))]
    found = []
    for some in (runs[:3], runs):
        path = tmp_path / f'{len(some)}.png'
        tradeoff.write(report.tabulate(some), None, path)
        picture = np.asarray(Image.open(path).convert('RGB'))
        found.append(len(np.unique(picture.reshape(-1, 3), axis=0)))
    assert found[1] > found[0]


def test_nothing_to_compare_is_said(tmp_path):
    with pytest.raises(ValueError, match='no model has a change at home and away'):
        tradeoff.write(report.tabulate([record('bn')]), None, tmp_path / 'x.png')
    assert not [*tmp_path.iterdir()]


def test_what_all_names_begin_with_is_said_once():
    table = report.tabulate(
        [record(f'r18-{n}', away=(i + 1, i)) for i, n in enumerate(('bn', 'dsu', 'ibn_b-x'))]
    )
    (group,) = table.groups
    points = tradeoff._points(group, 'cityscapes:val')
    names = [name for row, *_ in points for name in (row.name, row.against.name)]
    assert tradeoff._shared(names) == 'r18-'
    title = tradeoff._title(group, points, 'r18-')
    assert title.startswith('r18, trained on ') and 'r18-' not in title
    assert tradeoff._shared(['bn', 'ibn_b']) == '' == tradeoff._shared(['a-x', 'b-x'])
