"""Train on one dataset, then evaluate the selected checkpoint on others."""

import argparse
import os
import sys


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog='train', description=__doc__)
    p.add_argument('config', help='e.g. configs/ibn_b_gta5_to_cityscapes.py')
    p.add_argument('--work-dir', help='folder of the run; default work_dirs/<config>')
    p.add_argument('--data-root', help='folder that holds the datasets; default data')
    p.add_argument('--resume', action='store_true', help='continue from the newest checkpoint')
    p.add_argument(
        '--seed', type=int, help="seed of weights, sampling and augmentation; default the config's"
    )
    p.add_argument(
        '--select',
        choices=['last', 'source', 'oracle'],
        help='checkpoint to report: the last, the best on the source (default), or the best on the '
        'targets (tables mark it as an oracle)',
    )
    p.add_argument(
        '--audit', action='store_true', help='audit the data first; stop if there are errors'
    )
    p.add_argument('--amp', action='store_true', help='mixed precision')
    p.add_argument('--no-table', action='store_true', help='do not print the table')
    p.add_argument(
        '--compile', action='store_true', help='run the backbone by torch.compile (needs g++)'
    )
    p.add_argument(
        '--skip-list', nargs='+', default=[], metavar='FILE', help='leave these pairs out (audit)'
    )
    p.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    p.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    p.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    from ibnseg.engine import run

    def job() -> None:
        config = run.load_config(
            args.config,
            work_dir=args.work_dir,
            data_root=args.data_root,
            amp=args.amp,
            compile=args.compile,
            launcher=args.launcher,
            skip_lists=args.skip_list,
            options=run.parse_options(args.cfg_options),
        )
        if args.audit:
            run.check_data(config)
        run.train(
            config, resume=args.resume, seed=args.seed, show=not args.no_table, select=args.select
        )

    return run.command(job, 'interrupted; continue with --resume')


if __name__ == '__main__':
    sys.exit(main())
