"""Rank-k and mAP against a slow oracle that follows the definition photo by photo."""

import numpy as np
import pytest
import torch

from ibnseg.plugins.ranking import JUNK, Photos, average_precision, measure


def oracle(distances, query, gallery, ranks):
    """`query` and `gallery` are lists of (identity, camera); returns what `measure` should."""
    precisions, firsts = [], []
    for row, (person, camera) in zip(distances, query, strict=True):
        ranked = sorted(range(len(gallery)), key=lambda i: (row[i], i))
        seen, right, found = 0, [], []
        for i in ranked:
            other, where = gallery[i]
            if other == JUNK or (other == person and where == camera):
                continue
            seen += 1
            if other == person:
                found.append(seen)
                right.append(len(found) / seen)
        if found:
            precisions.append(sum(right) / len(right))
            firsts.append(found[0])
    result = {f'rank-{k}': 100 * sum(f <= k for f in firsts) / len(firsts) for k in ranks}
    result |= {'mAP': 100 * sum(precisions) / len(precisions), 'queries': len(firsts)}
    return result | {'without answer': len(query) - len(firsts)}


def labels(generator, count, people, junk=0.0):
    made = []
    for _ in range(count):
        person = JUNK if generator.random() < junk else int(generator.integers(0, people))
        made.append((person, int(generator.integers(1, 4))))
    return made


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('seed', range(8))
def test_score_is_the_oracles_on_random_distances(seed, ties):
    generator = np.random.default_rng(seed)
    query = labels(generator, 9, 12)  # some people have no answer in the gallery
    gallery = labels(generator, 40, 9, junk=0.2)
    distances = generator.random((9, 40))
    if ties:
        distances = np.floor(distances * 4)
    same = np.array([[q[0] == g[0] for g in gallery] for q in query])
    ignored = np.array([[q == g or g[0] == JUNK for g in gallery] for q in query])
    average, first = average_precision(*map(torch.from_numpy, (distances, same, ignored)))
    for i, (row, person) in enumerate(zip(distances, query, strict=True)):
        if (same[i] & ~ignored[i]).any():
            expected = oracle([row], [person], gallery, range(1, 41))
            assert average[i].item() * 100 == pytest.approx(expected['mAP'])
            assert first[i].item() == 1 + sum(expected[f'rank-{k}'] == 0 for k in range(1, 41))
        else:
            assert (average[i].item(), first[i].item()) == (0, 0)


@pytest.mark.parametrize('chunk', [1, 4, 100])
@pytest.mark.parametrize('seed', range(4))
def test_measure_is_the_oracles_on_random_features(seed, chunk):
    generator = np.random.default_rng(seed)
    query, gallery = labels(generator, 10, 8), labels(generator, 60, 7, junk=0.1)
    features = [generator.normal(size=(len(who), 5)) for who in (query, gallery)]
    unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in features]
    distances = np.linalg.norm(unit[0][:, None] - unit[1][None], axis=2)  # ranks as the cosine
    photos = [
        Photos(torch.from_numpy(f), *torch.tensor(who).T)
        for f, who in zip(features, (query, gallery), strict=True)
    ]
    assert measure(*photos, ranks=(1, 3, 20), chunk=chunk) == pytest.approx(
        oracle(distances, query, gallery, (1, 3, 20))
    )


def photos(*rows):
    """Rows are (angle of the feature in degrees, identity, camera)."""
    angle = torch.tensor([row[0] for row in rows]).deg2rad()
    return Photos(
        torch.stack((angle.cos(), angle.sin()), 1), *torch.tensor([row[1:] for row in rows]).T
    )


def test_by_hand():
    # Nearest first: own camera and junk (out), a distractor (wrong), right, wrong, right.
    gallery = photos((1.0, 7, 1), (2.0, -1, 2), (3.0, 0, 2), (4.0, 7, 2), (5.0, 8, 2), (6.0, 7, 3))
    found = measure(photos((0.0, 7, 1)), gallery, ranks=(1, 2))
    assert found['rank-1'] == 0
    assert found['rank-2'] == 100
    assert found['mAP'] == pytest.approx(100 * (1 / 2 + 2 / 4) / 2)


def test_length_of_features_does_not_matter():
    gallery = photos((10.0, 7, 2), (20.0, 8, 2))
    query = photos((12.0, 7, 1))
    longer = gallery._replace(features=gallery.features * torch.tensor([[100.0], [0.01]]))
    assert measure(query, gallery) == measure(query, longer)
    assert measure(query, gallery)['rank-1'] == 100


def test_what_can_not_be_measured_is_an_error():
    seen, unseen = photos((0.0, 7, 1)), photos((0.0, 9, 2))
    with pytest.raises(ValueError, match='none of the 1 queries is of a person whom'):
        measure(seen, unseen)
    nothing = Photos(torch.zeros(0, 2), torch.zeros(0), torch.zeros(0))
    with pytest.raises(ValueError, match='no gallery to measure'):
        measure(seen, nothing)
    with pytest.raises(ValueError, match='the queries are not finite'):
        measure(seen._replace(features=seen.features * torch.nan), unseen)
