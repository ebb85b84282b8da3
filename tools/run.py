"""Train or test a config of MMDetection or MMPretrain, quietly, with safe and exact checkpoints."""

import argparse
import os
import sys


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog='run', description=__doc__)
    jobs = p.add_subparsers(dest='job', required=True, metavar='train|test')
    train = jobs.add_parser('train', help='train by epochs')
    test = jobs.add_parser('test', help='evaluate a checkpoint')
    train.add_argument('config', help='e.g. configs/detection/ibn_a_faster_rcnn_coco.py')
    test.add_argument('config', help='the config that the checkpoint was trained with')
    test.add_argument('checkpoint')
    for job in (train, test):
        job.add_argument('--work-dir', help='folder of the run; default work_dirs/<config>')
        job.add_argument('--data-root', help="folder of the data; default the config's data_root")
        job.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
        job.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
        job.add_argument(
            '--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS
        )
    train.add_argument('--resume', action='store_true', help='continue from the newest checkpoint')
    train.add_argument(
        '--seed', type=int, help="of weights, sampling and augmentation; default the config's, or 0"
    )
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    from ibnseg.engine.run import command, parse_options
    from ibnseg.plugins import run

    def job() -> None:
        config = run.load_config(
            args.config,
            work_dir=args.work_dir,
            data_root=args.data_root,
            launcher=args.launcher,
            options=parse_options(args.cfg_options),
        )
        if args.job == 'train':
            run.train(config, resume=args.resume, seed=args.seed)
        else:
            run.test(config, args.checkpoint)

    resume = '; continue with --resume' if args.job == 'train' else ''
    return command(job, f'interrupted{resume}')


if __name__ == '__main__':
    sys.exit(main())
