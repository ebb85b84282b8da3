"""One forward pass of a network in torch and in the engines of `ibnseg export`, in turns.

Logits of the head's size, random weights, one image. The last column says how many pixels get the
class that plain torch gives them. Without bfloat16 in the processor that row is left out.
The ranges of int8 come from the image that is timed.
"""

import argparse
import tempfile
from pathlib import Path

from timing import alternate, machine, row

ROOT = Path(__file__).parents[2]


def networks(config: str, checkpoint: str | None, shape: tuple[int, int]):
    """Return {name: function of no arguments that gives logits}, and what was left out."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    from ibnseg.export import engines, formats, int8
    from ibnseg.export.network import Exportable
    from ibnseg.measure.predict import for_inference
    from ibnseg.weights import read

    read_config = Config.fromfile(config)
    read_config.model.backbone.init_cfg = None
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(read_config.model).eval()
    if checkpoint:
        model.load_state_dict(read(checkpoint)['state_dict'])
    exportable = Exportable(model, read_config.model.data_preprocessor, logits='head')
    folded = for_inference(model)
    x = torch.randn(1, 3, *shape)
    last = x.contiguous(memory_format=torch.channels_last)
    found = {'torch': lambda: model(x, mode='tensor'), 'torch, folded': lambda: folded(last)}
    left_out = []
    with tempfile.TemporaryDirectory() as folder:
        file = formats.write(exportable, 'onnx', Path(folder, 'x.onnx'), {})[0]
        int8.quantise(file, Path(folder, 'x.int8.onnx'), [x.numpy()])
        for name, precision in (
            ('onnxruntime', 'float32'), ('openvino', 'float32'), ('openvino', 'bfloat16'),
            ('onnxruntime', 'int8'), ('openvino', 'int8'),
        ):  # fmt: skip
            try:
                if precision == 'int8':
                    opened = engines.open_file(Path(folder, 'x.int8.onnx'), name)
                else:
                    opened = engines.open_file(file, name, precision)
            except ValueError as error:
                left_out.append(f'{name}, {precision}: {error}')
                continue
            found[f'{name}, {precision}'] = lambda run=opened: torch.from_numpy(run(x.numpy()))
    return found, left_out


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--config', default=str(ROOT / 'configs' / 'ibn_a_gta5_to_cityscapes.py'))
    p.add_argument('--checkpoint', help='default: random weights')
    p.add_argument('--size', type=int, nargs=2, default=(512, 1024), metavar=('HEIGHT', 'WIDTH'))
    p.add_argument('--repeats', type=int, default=5)
    p.add_argument('--threads', type=int, default=2)
    args = p.parse_args()

    import torch

    from ibnseg import _stack

    _stack.require()  # with nothing of theirs on the terminal
    torch.set_num_threads(args.threads)
    with torch.no_grad():
        found, left_out = networks(args.config, args.checkpoint, tuple(args.size))
        labels = {name: run().argmax(1) for name, run in found.items()}
        times = alternate(found, args.repeats, warmup=1)
    height, width = args.size
    print(
        f'{Path(args.config).stem}, {width}x{height}, {machine("cpu")}, medians of {args.repeats}'
    )
    print(row('engine', 'ms', 'times as fast', 'same class'))
    print(row(':--', '--:', '--:', '--:'))
    for name, time in times.items():
        same = (labels[name] == labels['torch']).double().mean().item()
        print(row(name, f'{time:.0f}', f'{times["torch"] / time:.2f}', f'{100 * same:.3f} %'))
    for text in left_out:
        print(f'left out: {text}')


if __name__ == '__main__':
    main()
