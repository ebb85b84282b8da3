"""Whole-photo evaluation on a CPU against MMSeg's test loop: same weights, photos and loaders.

Ours in torch, and as `ibnseg test --engine` runs it; engines use all cores. A processor without
bfloat16 computes that in float32 or emulates it: `--kinds` leaves it out.

Photos of 2048x1024 (miniature Cityscapes), tested at 1024x512, labels in their own size. Without
--checkpoint the weights are random, which says all about the time and little about the mIoU.
"""

import argparse
import logging
import tempfile
from functools import partial
from pathlib import Path

from timing import alternate, machine, row

ROOT = Path(__file__).parents[2]
#: Name -> engine, its precision; '' is torch.
KINDS = {
    'mmseg': ('', "MMSeg's loop"),
    'ours': ('', 'float32'),
    'bfloat16': ('', 'bfloat16'),
    'onnxruntime': ('onnxruntime', 'float32'),
    'openvino': ('openvino', 'float32'),
    'openvino-bfloat16': ('openvino', 'bfloat16'),
}


def dataset(kind: str, data: str) -> dict:
    """The val split for MMSeg or ibnseg: photos at 1024x512, labels in their own size."""
    if kind != 'mmseg':
        return dict(
            type='CrossDomainDataset',
            domains=['cityscapes:val'],
            data_root=data,
            protocol=dict(photo=(1024, 512), keep_ratio=True),
        )
    load = dict(type='LoadImageFromFile', imdecode_backend='pillow')
    resize = dict(type='Resize', scale=(1024, 512), keep_ratio=True)
    return dict(
        type='CityscapesDataset',
        data_root=f'{data}/cityscapes',
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        pipeline=[load, resize, dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
        test_mode=True,
    )


def build(kind: str, config, data: str, work_dir: str, state: dict):
    """A runner that tests on the Cityscapes val split below `data`, as a row of `KINDS` says.

    With the weights `state`; where it is empty, it is filled with random ones.
    """
    from mmengine.runner import Runner
    from mmseg.evaluation import IoUMetric
    from mmseg.registry import METRICS

    from ibnseg.measure import outside
    from ibnseg.train.runner import SegRunner
    from ibnseg.train.subject import in_torch, put

    @METRICS.register_module(force=True)
    class ExactIoUMetric(IoUMetric):
        """Beside MMSeg's own, which rounds to two digits."""

        def compute_metrics(self, results: list) -> dict:
            intersection, union = (sum(parts) for parts in list(zip(*results, strict=True))[:2])
            exact = 100 * (intersection / union).nanmean().item()
            return super().compute_metrics(results) | dict(mIoU=exact)

    if kind == 'mmseg':
        runner, loop = Runner, dict(type='TestLoop')
        evaluator = dict(type='ExactIoUMetric', iou_metrics=['mIoU'])
    else:
        runner, loop = SegRunner, dict(type='CrossDomainLoop', fp16=kind == 'bfloat16')
        evaluator = dict(type='CrossDomainIoU')
    config.model.backbone.init_cfg = None
    engine, precision = KINDS[kind]
    opened = None
    if engine:
        opened = in_engine(config.model, state, engine, precision, work_dir)
        own, head = config.model, config.model.decode_head
        config.model = outside.segmentor(
            own.data_preprocessor, own.test_cfg, head.num_classes, head.align_corners
        )
    runner = runner(
        model=config.model,
        work_dir=work_dir,
        test_dataloader=dict(
            batch_size=1,
            num_workers=1,
            persistent_workers=True,
            sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
            dataset=dataset(kind, data),
        ),
        test_cfg=loop,
        test_evaluator=evaluator,
        default_scope='mmseg',
        log_level='ERROR',
        experiment_name=kind,
    )
    if opened:
        put(runner, in_torch(opened))
    else:
        if not state:
            state.update(runner.model.state_dict())
        runner.model.load_state_dict(state)
    runner.test()  # warms up
    return runner


def in_engine(model: dict, state: dict, engine: str, precision: str, folder: str):
    """Return the network in an engine, as `ibnseg.export.measured.made` does of a checkpoint."""
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    from ibnseg.export import engines, formats
    from ibnseg.export.network import Exportable

    with DefaultScope.overwrite_default_scope('mmseg'):
        network = MODELS.build(model).eval()
    network.load_state_dict(state)
    exportable = Exportable(network, model['data_preprocessor'], logits='head')
    files = formats.write(exportable, 'onnx', Path(f'{folder}.onnx'), {})
    return engines.open_file(files[0], engine, precision)


def labels(data: Path) -> None:
    """MMSeg reads converted labels: *_labelTrainIds.png beside the downloaded ones."""
    from PIL import Image

    from ibnseg.domains import read_labels

    for path in data.glob('cityscapes/gtFine/val/*/*_labelIds.png'):
        to = path.with_name(path.name.replace('labelIds', 'labelTrainIds'))
        Image.fromarray(read_labels(path, 'cityscapes')).save(to)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--config', default=str(ROOT / 'configs' / 'ibn_a_gta5_to_cityscapes.py'))
    p.add_argument('--checkpoint', help='weights of this config')
    p.add_argument('--images', type=int, default=2)
    p.add_argument('--repeats', type=int, default=3)
    p.add_argument('--threads', type=int, default=2)
    p.add_argument('--kinds', nargs='+', choices=KINDS, default=list(KINDS))
    args = p.parse_args()
    import torch
    from mmengine.config import Config

    import ibnseg
    from ibnseg import _stack, miniature, weights

    _stack.require()  # with nothing of theirs on the terminal
    logging.disable(logging.WARNING)
    torch.set_num_threads(args.threads)
    state = weights.read(args.checkpoint)['state_dict'] if args.checkpoint else {}
    with tempfile.TemporaryDirectory() as folder:
        miniature.write(folder, ['cityscapes'], train=0, val=args.images, size=(1024, 2048))
        labels(Path(folder))
        runners = {
            kind: build(kind, Config.fromfile(args.config), folder, f'{folder}/{kind}', state)
            for kind in dict.fromkeys(['mmseg', *args.kinds])
        }
        miou = {}

        def test(kind: str) -> None:
            miou[kind] = runners[kind].test_loop.run()['mIoU']

        found = alternate({k: partial(test, k) for k in runners}, args.repeats, warmup=0)
    print(row('evaluation', 's a photo', 'times as fast', 'mIoU'))
    print(row(':--', '--:', '--:', '--:'))
    for kind in found:
        engine, what = KINDS[kind]
        name = what if kind == 'mmseg' else f'ours, {engine or "torch"}, {what}'
        seconds, ratio = found[kind] / 1e3 / args.images, found['mmseg'] / found[kind]
        print(row(name, f'{seconds:.2f}', f'{ratio:.2f}', f'{miou[kind]:.4f}'))
    print(f'\nibnseg {ibnseg.__version__}, {Path(args.config).stem}, {machine("cpu")}')


if __name__ == '__main__':
    main()
