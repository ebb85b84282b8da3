"""Write a trained network as ONNX, OpenVINO, torch.export or TorchScript.

    ibnseg export work_dirs/ibn_b --to onnx
    ibnseg export ibn_b_package --to onnx --out ibn_b.onnx
    ibnseg export ibn_b_gta5_to_cityscapes CHECKPOINT --to openvino --preprocessing

Batch, height and width are free. Beside the file lies a certificate that it gives what torch gives,
on photos that the run is measured on; an export that does not is not written. docs/export.md says
what the inputs and outputs are.
"""

import argparse
import sys
from pathlib import Path

from ibnseg import command, given, packages

_TO = ('onnx', 'openvino', 'torch-export', 'torchscript')


def parser() -> argparse.ArgumentParser:
    p = command.parser('export', __doc__)
    p.add_argument(
        'network',
        nargs='+',
        metavar=given.METAVAR,
        help='folder of a run, whose reported checkpoint is taken; a package, its folder or its '
        'name ibnseg://...; or a config and a checkpoint',
    )
    p.add_argument('--to', required=True, choices=_TO)
    p.add_argument('--out', metavar='FILE', help='default: beside the checkpoint, by its name')
    p.add_argument(
        '--preprocessing',
        action='store_true',
        help='the input is a photo, uint8 RGB (N, H, W, 3); else it is normalised, (N, 3, H, W)',
    )
    p.add_argument(
        '--logits',
        choices=['input', 'head'],
        default='input',
        help="size of the output: the input's (default), or the head's, which is faster",
    )
    p.add_argument(
        '--int8',
        action='store_true',
        help='of --to onnx: convolutions in 8 bits, with ranges from photos of the source',
    )
    p.add_argument('--photos', nargs='+', metavar='FILE', help='of the certificate')
    command.add(p, '--data-root', '--cfg-options')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args), 'no export was written')


def _job(args: argparse.Namespace) -> None:
    run, checkpoint = given.network(args.network)
    if args.out is None and (packages.is_name(run) or packages.is_package(run)):
        raise ValueError(f'{run}: a package takes no further file; say where with --out FILE')
    from ibnseg import _stack

    _stack.require()
    from ibnseg.export import write
    from ibnseg.inference.model import load
    from ibnseg.train.config import parse_options

    model = load(run, checkpoint, device='cpu', options=parse_options(args.cfg_options))
    files = args.photos or write.evaluation_photos(model, args.data_root)
    photos = {Path(file).name: model.scaled(file) for file in files}
    ranges = None
    if args.int8:
        used = write.source_photos(model, args.data_root)
        ranges = {Path(file).name: model.scaled(file) for file in used}
    command.say(f'exporting   {model.name}, {model.checkpoint}')
    out = Path(args.out) if args.out else None
    written, said = write.export(
        model, args.to, photos, out, args.preprocessing, args.logits, ranges
    )
    for file in written[:-1]:
        command.say(f'export      {file}')
    command.say(f'certificate {written[-1]}')
    for case in said['cases']:
        (height, width), number = case['size'], case['batch']
        command.say(
            f'{"":11} {width}x{height}, batch of {number}: {100 * case["agreement"]:.4f} % of the '
            f'pixels as in torch, logits within {case["difference"]:.1e}'
        )


if __name__ == '__main__':
    sys.exit(main())
