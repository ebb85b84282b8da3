"""Logits to labels to confusion matrix, and label files to classes, against MMSeg; medians.

Label files are measured in CPU time on one thread.

Peak memory is what a process of its own grows by while it does the work once (Linux).
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from pathlib import Path

from timing import alternate, row

LOGITS, LABEL = (19, 128, 256), (1024, 2048)


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--repeats', type=int, default=9)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--only', choices=('evaluation', 'loading'), help='one of the two tables')
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

    import ibnseg  # noqa: F401  (keeps MMSeg's import quiet)

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
        found = alternate(
            {
                'theirs': lambda values=values: theirs(values, truth),
                'ours': lambda values=values: ours(values, truth),
            },
            repeats,
        )
        memory = [growth(way, kind, threads) for way in (theirs, ours)]
        print(
            row(
                kind,
                f'{found["theirs"]:.0f}',
                f'{found["ours"]:.0f}',
                f'{found["theirs"] / found["ours"]:.1f}',
                f'{memory[0]:.0f}',
                f'{memory[1]:.0f}',
                f'{memory[0] / memory[1]:.1f}',
                f'{wrong} of {a.numel()} px',
            ),
            flush=True,
        )


def loading(repeats: int) -> None:
    import cv2
    import numpy as np
    from mmseg.datasets.transforms import LoadAnnotations
    from PIL import Image

    from ibnseg import domains, labels, miniature

    cv2.setNumThreads(0)

    table = labels.lut('gta5')
    with tempfile.TemporaryDirectory() as folder:
        # As GTA5 has them: 8-bit palette PNGs, whose index is the id.
        miniature.write(folder, ('gta5',), train=1, val=1, size=(1052, 1914))
        _, path = domains.find('gta5:train', folder)[0]
        ids = np.asarray(Image.open(path))
        common = dict(
            seg_map_path=str(path), img_path=path.name, ori_shape=ids.shape, reduce_zero_label=False
        )
        # MMSeg's own label_map leaves unmapped ids as they are: here every id is in it.
        mapping = {old: int(new) for old, new in enumerate(table[:35])}
        load = LoadAnnotations(imdecode_backend='pillow')
        own = domains.LoadLabels()
        ways = {
            'theirs': lambda: load(dict(common, label_map=mapping, seg_fields=[])),
            'theirs, unmapped': lambda: load(dict(common, label_map=None, seg_fields=[])),
            'ours': lambda: own(dict(common, label_space='gta5', seg_fields=[])),
            'decoding': lambda: np.asarray(Image.open(path)),
            'table': lambda: cv2.LUT(ids, table),
        }
        same = ways['theirs']()['gt_seg_map'] == ways['ours']()['gt_seg_map']
        assert same.all(), 'other labels'
        found = alternate(ways, repeats, clock=time.process_time, settle=1)
    print(row('GTA5 label file, 1914x1052', 'MMSeg ms', 'ours ms', 'ratio'))
    print(row(':--', '--:', '--:', '--:'))
    rows = {
        'read, map': (found['theirs'], found['ours']),
        'of it, mapping': (
            found['theirs'] - found['theirs, unmapped'], found['ours'] - found['decoding']
        ),
    }  # fmt: skip
    for name, (a, b) in rows.items():
        print(row(name, f'{a:.2f}', f'{b:.2f}', f'{a / b:.1f}'))
    print(
        f'\nFloors: decoding by Pillow {found["decoding"]:.2f} ms, '
        f'one look-up a pixel by OpenCV {found["table"]:.2f} ms'
    )


def main() -> None:
    args = parser().parse_args()
    import logging

    import torch

    import ibnseg  # noqa: F401  (keeps MMSeg's import quiet)

    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    if args.only != 'loading':
        evaluation(args.repeats, args.threads)
        print()
    if args.only != 'evaluation':
        loading(args.repeats)


if __name__ == '__main__':
    sys.exit(main())
