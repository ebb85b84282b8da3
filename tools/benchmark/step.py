"""A training step of ResNet-50 with FCN: ibnseg's networks against MMSegmentation's ResNet-50.

Forward, loss, backward and update (SGD) of one batch of random images, by MMEngine's train_step, as
tools/train.py runs it. The networks take turns in one run; medians. Each line gives the time and
the ratio to MMSegmentation's ResNet-50 in the same memory format.
"""

import argparse
from pathlib import Path

from timing import alternate, machine, row

MODEL = Path(__file__).parents[2] / 'configs' / '_base_' / 'models' / 'fcn_ibn_r50.py'
#: Line -> arguments of the backbone that differ.
NETWORKS = {
    'MMSegmentation ResNet-50': dict(type='ResNet'),
    'ibnseg ResNet-50': dict(placement='bn'),
    'ibnseg ResNet-50 IBN-a': dict(placement='ibn_a'),
    'ibnseg ResNet-50 IBN-b': dict(placement='ibn_b'),
}
FORMATS = 'contiguous', 'channels_last'
PEER = 'MMSegmentation ResNet-50'


def trainer(backbone: dict, args: argparse.Namespace, form: str):
    """Return a function that makes one training step."""
    import torch
    from mmengine.config import Config
    from mmengine.model import revert_sync_batchnorm
    from mmseg.registry import MODELS

    from ibnseg.train.runner import compile_backbone

    config = Config.fromfile(str(MODEL))
    config.data_preprocessor.size = tuple(args.size)
    config.model.data_preprocessor = config.data_preprocessor
    del config.model.backbone['placement']
    config.model.backbone.update(backbone)
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(config.model)).to(args.device).train()
    if form == 'channels_last':
        model = model.to(memory_format=torch.channels_last)
    if args.compile:
        compile_backbone(model)
    return stepper(model, args)[0]


def stepper(model, args: argparse.Namespace):
    """Return a function that makes one training step of a segmentor, and the optimizer."""
    import torch
    from mmengine.structures import PixelData
    from mmseg.registry import OPTIM_WRAPPERS
    from mmseg.structures import SegDataSample

    kind = 'OptimWrapper'
    if args.amp:
        kind = 'AmpOptimWrapper' if args.device.startswith('cuda') else 'CPUAmpOptimWrapper'
    # A rate at which random images cannot blow up the weights.
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4)
    wrapper = OPTIM_WRAPPERS.build(dict(type=kind, optimizer=optimizer))
    samples = []
    for _ in range(args.batch):
        sample = SegDataSample(metainfo=dict(img_shape=tuple(args.size)))
        sample.gt_sem_seg = PixelData(data=torch.randint(19, (1, *args.size)))
        wild = torch.randint(256, (3, *args.size), dtype=torch.uint8)
        sample.wild = PixelData(data=wild)  # of use to WildNet alone
        samples.append(sample)
    images = [torch.randint(256, (3, *args.size), dtype=torch.uint8) for _ in samples]

    def step():
        model.train_step(dict(inputs=images, data_samples=samples), wrapper)

    return step, optimizer


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--repeats', type=int, default=7)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--device', help='default: a GPU if there is one')
    p.add_argument('--batch', type=int, default=2)
    p.add_argument('--size', type=int, nargs=2, default=(256, 256), metavar=('H', 'W'))
    p.add_argument('--amp', action='store_true', help='as tools/train.py --amp')
    p.add_argument('--compile', action='store_true', help='as tools/train.py --compile')
    args = p.parse_args()
    import torch
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    import ibnseg.registered  # noqa: F401

    torch.set_num_threads(args.threads)
    MMLogger.get_instance('step', log_level='ERROR')
    args.device = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    batch = f'{args.batch} images of {args.size[0]} x {args.size[1]}'
    print(f'{machine(args.device)}, {"mixed precision" if args.amp else "float32"}, {batch},')
    print(f'medians of {args.repeats}, milliseconds.\n')
    print(row('network', *(cell for form in FORMATS for cell in (form, 'ratio'))))
    print(row(':--', *['--:'] * 2 * len(FORMATS)))
    cells = {name: [] for name in NETWORKS}
    for form in FORMATS:
        with DefaultScope.overwrite_default_scope('mmseg'):
            steps = {name: trainer(NETWORKS[name], args, form) for name in NETWORKS}
        found = alternate(steps, args.repeats, warmup=1)
        for name, milliseconds in found.items():
            cells[name] += [f'{milliseconds:.0f}', f'{milliseconds / found[PEER]:.2f}']
    for name, numbers in cells.items():
        print(row(name, *numbers))


if __name__ == '__main__':
    main()
