"""A training step of ResNet-50 IBN-a + FCN against MMSegmentation's plain ResNet-50, same head.

Forward, loss, backward and update (SGD) of one batch of random images, by MMEngine's own
train_step, as tools/train.py runs it. The networks take turns in one run; medians. Each line gives
the time and the ratio to MMSegmentation's ResNet-50 in the same memory format.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path

from timing import alternate, machine

MODEL = Path(__file__).parents[2] / 'configs' / '_base_' / 'models' / 'fcn_ibn_r50.py'
#: Line -> arguments of the backbone that differ.
NETWORKS = {
    'MMSegmentation ResNet-50': dict(type='ResNet'),
    'ibnseg ResNet-50': dict(placement='bn'),
    'ibnseg ResNet-50 IBN-a': dict(placement='ibn_a'),
    'the same, two branches': dict(placement='ibn_a'),
    'ibnseg ResNet-50 IBN-b': dict(placement='ibn_b'),
}
FORMATS = 'contiguous', 'channels_last'
PEER = 'MMSegmentation ResNet-50'


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog='step', description=__doc__)
    p.add_argument('--repeats', type=int, default=7)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--processor-time', action='store_true', help='for one thread on a busy machine')
    p.add_argument('--device', help='default: a GPU if there is one')
    p.add_argument('--batch', type=int, default=2)
    p.add_argument('--size', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'))
    p.add_argument('--formats', nargs='+', choices=FORMATS, default=list(FORMATS))
    p.add_argument('--networks', nargs='+', choices=NETWORKS, default=list(NETWORKS), metavar='ROW')
    p.add_argument('--amp', action='store_true', help='as tools/train.py --amp')
    p.add_argument('--compile', action='store_true', help='as tools/train.py --compile')
    return p


def trainer(backbone: dict, args: argparse.Namespace, form: str):
    """Return a function that makes one training step."""
    import torch
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmengine.structures import PixelData
    from mmseg.registry import MODELS, OPTIM_WRAPPERS
    from mmseg.structures import SegDataSample

    from ibnseg.train.compile import compile_backbone

    config = Config.fromfile(str(MODEL))
    config.data_preprocessor.size = tuple(args.size)
    config.model.data_preprocessor = config.data_preprocessor
    del config.model.backbone['placement']
    config.model.backbone.update(backbone)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(config.model)).to(args.device).train()
    if form == 'channels_last':
        model = model.to(memory_format=torch.channels_last)
    kind = 'OptimWrapper'
    if args.amp:
        kind = 'AmpOptimWrapper' if args.device.startswith('cuda') else 'CPUAmpOptimWrapper'
    # A rate at which random images cannot blow up the weights.
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4)
    wrapper = OPTIM_WRAPPERS.build(dict(type=kind, optimizer=optimizer))
    if args.compile:
        compile_backbone(model)
    samples = []
    for _ in range(args.batch):
        sample = SegDataSample(metainfo=dict(img_shape=tuple(args.size)))
        sample.gt_sem_seg = PixelData(data=torch.randint(19, (1, *args.size)))
        samples.append(sample)
    images = [torch.randint(256, (3, *args.size), dtype=torch.uint8) for _ in samples]

    def step():
        model.train_step(dict(inputs=images, data_samples=samples), wrapper)

    return step


@contextlib.contextmanager
def plain_path():
    """The layers' own kernels, as if there were no fast path."""
    from ibnseg.norms import fused

    usable, fused.usable = fused.usable, lambda *_: False
    try:
        yield
    finally:
        fused.usable = usable


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    import torch
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    import ibnseg  # noqa: F401

    torch.set_num_threads(args.threads)
    args.clock = time.process_time if args.processor_time else time.perf_counter
    unit = ' of processor time' if args.processor_time else ''
    MMLogger.get_instance('step', log_level='ERROR')
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    batch = f'{args.batch} images of {args.size[0]} x {args.size[1]}'
    print(f'{machine(args.device)}, {"mixed precision" if args.amp else "float32"}, {batch},')
    print(f'medians of {args.repeats}, milliseconds{unit}.\n')
    print('| network |', ' | '.join(f'{form} | ratio' for form in args.formats), '|')
    print('| :-- |' + ' --: | --: |' * len(args.formats))
    rows = list(dict.fromkeys([PEER, *args.networks]))
    cells = {row: [] for row in rows}
    for form in args.formats:
        with DefaultScope.overwrite_default_scope('mmseg'):
            steps = {row: trainer(NETWORKS[row], args, form) for row in rows}
        for row in rows:
            if 'two branches' in row:
                steps[row] = plain_path()(steps[row])
        found = alternate(steps, args.repeats, warmup=1, clock=args.clock)
        for row in rows:
            cells[row] += [f'{found[row]:.0f}', f'{found[row] / found[PEER]:.2f}']
    for row in rows:
        print('|', ' | '.join([row, *cells[row]]), '|')
    return 0


if __name__ == '__main__':
    sys.exit(main())
