"""Images a second of a GTA5-sized training pipeline: ibnseg's transforms against MMSeg's.

The same files, the same draws, the same kind of sample: labels in 19 classes, scale 0.5 to 2, crop
768, photometric distortion, flip. A process a side, one OpenCV thread, alternating photo by photo;
medians of the milliseconds of CPU time a photo. MMSeg maps the ids of GTA5 labels as it loads
them, as ibnseg does. Prints a Markdown table.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from contextlib import ExitStack
from functools import cache

from timing import row

SIDES = ('ibnseg', 'MMSeg')
STEPS = {
    'photo': 'decode the photo',
    'label': 'decode the label, map its ids',
    'crop': 'scale and crop',
    'colour': 'photometric distortion',
    'rest': 'flip, pack',
}


def pipeline(side: str) -> dict[str, list[dict]]:
    """Return the transforms of each of `STEPS`."""
    crop, ratios, most = (768, 768), (0.5, 2.0), 0.75
    scale = (1914, 1052)
    if side == 'ibnseg':
        label, colour = 'LoadLabels', 'PhotometricDistortion'
        one = dict(crop_size=crop, ratio_range=ratios, scale=scale, cat_max_ratio=most)
        cropping = [dict(type='RandomScaleCrop', **one)]
    else:
        label, colour = 'LoadAnnotations', 'PhotoMetricDistortion'
        cropping = [
            dict(type='RandomResize', scale=scale, ratio_range=ratios, keep_ratio=True),
            dict(type='RandomCrop', crop_size=crop, cat_max_ratio=most),
        ]
    return dict(
        photo=[dict(type='LoadPhoto' if side == 'ibnseg' else 'LoadImageFromFile')],
        label=[dict(type=label)],
        crop=cropping,
        colour=[dict(type=colour)],
        rest=[dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs')],
    )


@cache
def built(side: str) -> dict[str, list]:
    import ibnseg.registered  # noqa: F401, I001  (first: imports MMSeg quietly)
    import cv2
    from mmengine.registry import DefaultScope
    from mmseg.registry import TRANSFORMS

    cv2.setNumThreads(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        steps = pipeline(side)
        return {name: [TRANSFORMS.build(step) for step in some] for name, some in steps.items()}


def once(side: str, sample: dict, seed: int) -> tuple[dict[str, float], object, object]:
    """Return seconds of CPU time of each step, and the photo and label that come out."""
    import numpy as np

    steps, seconds = built(side), {}
    np.random.seed(seed)
    for name, some in steps.items():
        start = time.process_time()
        for step in some:
            sample = step(sample)
        seconds[name] = time.process_time() - start
    return seconds, sample['inputs'].numpy(), sample['data_samples'].gt_sem_seg.data.numpy()


def samples(pairs: list) -> list[dict]:
    """Return what each side is given of each photo."""
    import numpy as np

    from ibnseg import labels

    table, ids = labels.lut('gta5'), np.flatnonzero(labels.possible('gta5')).tolist()
    mapping = dict(zip(ids, table[ids].tolist(), strict=True))
    return [
        dict(img_path=str(photo), seg_map_path=str(label), label_space='gta5', label_map=mapping,
             reduce_zero_label=False, seg_fields=[])
        for photo, label in pairs
    ]  # fmt: skip


def measure(given: list[dict], rounds: int) -> tuple[dict, bool, float]:
    """Return (side -> step -> seconds, whether all labels are equal, mean difference in grey)."""
    import numpy as np

    seconds = {side: {name: [] for name in STEPS} for side in SIDES}
    equal, gap = True, 0.0
    with ExitStack() as stack:
        # A process each, as a data loader's worker: memory that one keeps is no help to another.
        context = multiprocessing.get_context('spawn')
        workers = {side: stack.enter_context(context.Pool(1)) for side in SIDES}
        for turn in range(rounds + 1):
            for number, sample in enumerate(given):
                photos, truths = {}, {}
                for side in SIDES if turn % 2 else SIDES[::-1]:
                    job = side, sample, 1000 * turn + number
                    took, photos[side], truths[side] = workers[side].apply(once, job)
                    if turn:  # the first round warms up
                        for name in STEPS:
                            seconds[side][name].append(took[name])
                equal &= np.array_equal(*truths.values())
                difference = np.abs(photos[SIDES[0]].astype(int) - photos[SIDES[1]])
                gap = max(gap, float(difference.mean()))
    return seconds, equal, gap


def report(seconds: dict) -> None:
    def median(side: str, names: list[str]) -> float:
        runs = zip(*(seconds[side][name] for name in names), strict=True)
        return 1e3 * statistics.median(map(sum, runs))

    print(row('milliseconds', *SIDES, 'ratio'))
    print(row(':--', *['--:'] * 3))
    groups = {text: [name] for name, text in STEPS.items()}
    for text, names in (groups | {'all': list(STEPS)}).items():
        ours, theirs = (median(side, names) for side in SIDES)
        print(row(text, f'{ours:.1f}', f'{theirs:.1f}', f'{theirs / ours:.2f}'))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument(
        '--data-root', help='with gta5 as downloaded; default: a miniature of its size, drawn now'
    )
    p.add_argument('--images', type=int, default=8)
    p.add_argument('--rounds', type=int, default=5, help='times each photo is read')
    args = p.parse_args()
    from ibnseg import domains, miniature
    from ibnseg.pipeline import photos

    with tempfile.TemporaryDirectory() as folder:
        root = args.data_root or folder
        if not args.data_root:
            miniature.write(root, ('gta5',), train=args.images, val=1, size=(1052, 1914))
        pairs = domains.find('gta5:train', root)[: args.images]
        size = statistics.mean(photo.stat().st_size for photo, _ in pairs)
        seconds, equal, gap = measure(samples(pairs), args.rounds)
    report(seconds)
    decoder = 'imagecodecs' if photos.imagecodecs else 'Pillow (imagecodecs is not installed)'
    print(
        f'\nibnseg decodes photos by {decoder}. {args.rounds} times {len(pairs)} photos of '
        f'{size / 1e6:.1f} MB. Labels equal: {equal}; a photo differs by at most {gap:.2f} grey '
        'levels on average'
    )


if __name__ == '__main__':
    main()
