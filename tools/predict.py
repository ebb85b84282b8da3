"""Predict photos and videos with trained networks: overlays, label maps, several side by side.

    ibnseg predict work_dirs/ibn_b photos/ --out predicted
    ibnseg predict configs/ibn_b_gta5_to_cityscapes.py CHECKPOINT drive.mp4 --out predicted
    ibnseg predict work_dirs/resnet50 work_dirs/ibn_b a.jpg b.jpg --out predicted

A network is the folder of a run (its reported checkpoint is taken), a package or its name, a config
followed by a checkpoint, or a checkpoint beside its config. Files that cannot be read are named and
passed over; the exit code is then 1.
"""

import argparse
import os
import sys
from pathlib import Path

from ibnseg import command, given


def parser() -> argparse.ArgumentParser:
    p = command.parser('predict', __doc__)
    p.add_argument(
        'words',
        nargs='+',
        metavar=f'{given.METAVAR}|PHOTO|FOLDER|VIDEO',
        help='networks, then photos, folders of them, videos. Configs are run as Python',
    )
    p.add_argument('--out', required=True, metavar='DIR')
    p.add_argument(
        '--confidence',
        action='store_true',
        help="also write each pixel's highest softmax probability, grey 0 to 255 for 0 to 1",
    )
    p.add_argument('--opacity', type=float, default=0.6, help='of the colours in overlays (0.6)')
    p.add_argument('--device', help="'cpu', 'cuda:1', ...; default: the best that is here")
    command.add(p, '--cfg-options')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    kept = f'{args.out} holds what was predicted; the same command predicts all again'
    return command.run(lambda: _job(args), kept)


def _split(words: list[str]) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Return networks, as `given.split`, and photos. Raises ValueError where either is missing."""
    networks, inputs = given.split(words)
    if not networks:
        raise ValueError(
            f'{" ".join(words)}: no network among these. Give the folder of a run of ibnseg train, '
            'with its config (*.py) and checkpoint (*.pth), or a config and a checkpoint'
        )
    if not inputs:
        raise ValueError('no photo, folder or video is given')
    return networks, inputs


def _job(args: argparse.Namespace) -> None:
    networks, inputs = _split(args.words)
    out = Path(args.out)
    os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # what it cannot read, we say
    from ibnseg import _stack

    _stack.require()
    from ibnseg.inference import files
    from ibnseg.inference.model import load
    from ibnseg.train.config import parse_options

    found = files.find(inputs, out)
    options = parse_options(args.cfg_options)
    models = [load(*one, device=args.device, options=options) for one in networks]
    job = files.Job(models, found, out, args.confidence, args.opacity)
    for name, model in zip(job.names, models, strict=True):
        command.say(f'model       {name}, {model.checkpoint}')
    said = job.predict()
    for line in files.lines(job, said):
        command.say(line)
    files.check_read(job, said)


if __name__ == '__main__':
    sys.exit(main())
