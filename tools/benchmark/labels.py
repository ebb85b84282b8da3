"""Logits to labels to confusion matrix, against MMSeg; medians.

Peak memory is what a process of its own grows by while it does the work once (Linux).
"""

import argparse
import functools
import logging
import multiprocessing
import sys
from pathlib import Path

from timing import alternate, row

LOGITS, LABEL = (19, 128, 256), (1024, 2048)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--repeats', type=int, default=9)
    p.add_argument('--threads', type=int, default=2)
    return p


def logits(kind: str):
    """Noise, the worst case; or noise blurred, which has regions as a network's output has."""
    import cv2
    import numpy as np

    noise = np.random.default_rng(0).normal(size=LOGITS).astype(np.float32)
    if kind == 'noise':
        return noise
    return np.stack([cv2.GaussianBlur(channel, (0, 0), 6) for channel in noise])


def theirs(values, truth):
    """MMSeg: resize, argmax (models/segmentors/base.py), IoUMetric."""
    import torch
    from mmseg.evaluation import IoUMetric
    from mmseg.models.utils import resize

    full = resize(torch.from_numpy(values)[None], truth.shape, mode='bilinear', align_corners=False)
    labels = full[0].argmax(0)
    areas = IoUMetric.intersect_and_union(labels, torch.from_numpy(truth).long(), LOGITS[0], 255)
    return labels, areas


def ours(values, truth):
    from ibnseg.measure.confusion import confusion
    from ibnseg.measure.predict import label_map

    labels = label_map(values, [truth.shape])
    return labels, confusion(truth, labels, LOGITS[0])


def growth(way, kind: str, threads: int) -> float:
    """Return by how many MiB a new process's peak grows when it goes this way once."""
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(_grow, (way, kind, threads))


def _grow(way, kind: str, threads: int) -> float:
    import numpy as np
    import torch

    import ibnseg.registered  # noqa: F401  (imports MMSeg quietly)

    torch.set_num_threads(threads)
    values, truth = logits(kind), np.zeros(LABEL, np.uint8)
    way(values[:, :8, :8], truth[:64, :64])  # imports, thread pools
    Path('/proc/self/clear_refs').write_text('5')  # the peak starts at what is in use now
    before = _peak()
    way(values, truth)
    return (_peak() - before) / 1024


def _peak() -> int:
    """KiB of memory that the process had at most."""
    status = Path('/proc/self/status').read_text()
    return int(status.partition('VmHWM:')[2].split()[0])


def evaluation(repeats: int, threads: int) -> None:
    import numpy as np

    truth = np.random.default_rng(1).integers(0, 19, LABEL).astype(np.uint8)
    truth[:, :100] = 255
    print(row('logits', 'MMSeg ms', 'ours ms', 'ratio', 'MMSeg MiB', 'ours MiB', 'ratio', 'other'))
    print(row(':--', *['--:'] * 7))
    for kind in ('noise', 'regions'):
        values = logits(kind)
        (a, areas), (b, matrix) = theirs(values, truth), ours(values, truth)
        wrong = int((a.numpy() != b).sum())
        same = wrong or (np.diag(matrix) == areas[0].numpy()).all()
        assert same, 'equal predictions, other matrices'
        ways = {way: functools.partial(way, values, truth) for way in (theirs, ours)}
        found = list(alternate(ways, repeats).values())
        memory = [growth(way, kind, threads) for way in (theirs, ours)]
        cells = [f'{found[0]:.0f}', f'{found[1]:.0f}', f'{found[0] / found[1]:.1f}']
        cells += [f'{memory[0]:.0f}', f'{memory[1]:.0f}', f'{memory[0] / memory[1]:.1f}']
        print(row(kind, *cells, f'{wrong} of {a.numel()} px'), flush=True)


def main() -> None:
    args = parser().parse_args()
    import torch

    import ibnseg.registered  # noqa: F401  (imports MMSeg quietly)

    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    evaluation(args.repeats, args.threads)


if __name__ == '__main__':
    sys.exit(main())
