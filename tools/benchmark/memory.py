"""Memory of an evaluation after 100 and after 10,000 images (simulated predictions), Linux only."""

import argparse
import logging
import multiprocessing
from pathlib import Path

from timing import row

SIZE, CLASSES = (128, 256), 19


def measure(kind: str, counts: list[int]) -> list[float]:
    """Return the MiB a process has in use after as many images."""
    import torch

    import ibnseg.registered  # noqa: F401  (imports MMSeg quietly)

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    if kind == 'ours':
        from ibnseg.measure.metric import CrossDomainIoU

        metric = CrossDomainIoU()
    else:
        from mmseg.evaluation import IoUMetric

        metric = IoUMetric()
    metric.dataset_meta = dict(
        classes=[str(i) for i in range(CLASSES)], domains={'cityscapes:val': max(counts)}
    )
    draw = torch.Generator().manual_seed(0)
    found = []
    for i in range(max(counts)):
        truth, predicted = (
            torch.randint(0, CLASSES, (1, SIZE[0] // 16, SIZE[1] // 16), generator=draw)
            .repeat_interleave(16, 1)
            .repeat_interleave(16, 2)
            for _ in range(2)
        )
        sample = dict(
            domain='cityscapes:val',
            sample_idx=i,
            img_path=f'leftImg8bit/val/frankfurt/frankfurt_{i:06d}_000019_leftImg8bit.png',
            gt_sem_seg=dict(data=truth),
            pred_sem_seg=dict(data=predicted),
        )
        metric.process({}, [sample])
        if i + 1 in counts:
            status = Path('/proc/self/status').read_text()
            found.append(int(status.partition('VmRSS:')[2].split()[0]) / 1024)
    return found


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--images', type=int, nargs='+', default=[100, 10_000])
    args = p.parse_args()
    counts = sorted(args.images)
    print(row('evaluator', *(f'MiB after {n:,} images' for n in counts), 'bytes an image'))
    print(row(':--', *['--:'] * (len(counts) + 1)))
    for kind in ('mmseg', 'ours'):
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            found = pool.apply(measure, (kind, counts))
        each = (found[-1] - found[0]) * 2**20 / (counts[-1] - counts[0])
        print(row(kind, *(f'{mib:.1f}' for mib in found), f'{each:.0f}'), flush=True)


if __name__ == '__main__':
    main()
