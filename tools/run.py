"""Train or test another project's config, quietly, with safe and exact checkpoints.

Of MMDetection and MMPretrain by epochs, of MMSegmentation by iterations.
"""

import argparse
import os
import sys

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('run', __doc__)
    jobs = p.add_subparsers(dest='job', required=True, metavar='train|test')
    train = jobs.add_parser('train', help='train')
    test = jobs.add_parser('test', help='evaluate a checkpoint')
    train.add_argument(
        'config', type=command.config, help='e.g. configs/detection/ibn_a_faster_rcnn_coco.py'
    )
    test.add_argument(
        'config', type=command.config, help='the config that the checkpoint was trained with'
    )
    test.add_argument('checkpoint')
    root = dict(help="folder of the data; default the config's data_root")
    for job in (train, test):
        command.add(job, '--work-dir', '--data-root', '--launcher', '--cfg-options', data_root=root)
    train.add_argument('--resume', action='store_true', help='continue from the newest checkpoint')
    train.add_argument(
        '--seed', type=int, help="of weights, sampling and augmentation; default the config's, or 0"
    )
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.job == 'test':
        return command.run(lambda: _job(args))
    return command.run(lambda: _job(args), lambda: command.resuming(args.work_dir, '*_*.pth'))


def _job(args: argparse.Namespace) -> None:
    from ibnseg.train.config import check_files

    args.prog += f' {args.job}'
    check_files(args)
    from ibnseg.plugins import training

    config = training.from_arguments(args)
    if args.job == 'train':
        training.train(config, resume=args.resume, seed=args.seed)
    else:
        training.test(config, args.checkpoint)


if __name__ == '__main__':
    sys.exit(main())
