"""Evaluate a checkpoint on any number of datasets in one run."""

import argparse
import os
import sys


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog='test', description=__doc__)
    p.add_argument('config', help='the config that the checkpoint was trained with')
    p.add_argument('checkpoint')
    p.add_argument(
        '--domains', nargs='+', help="e.g. gta5 cityscapes camvid:Seq05VD; default the config's"
    )
    p.add_argument(
        '--protocol',
        metavar='NAME',
        help="published protocol instead of the config's test pipeline: native, "
        'robustnet-1536, blindnet-1024, hrda-1024, hrda-2048, tqdm-2048, rein-half, soma-half '
        '(docs/protocols.md)',
    )
    p.add_argument(
        '--classes',
        choices=['19', '16', '13'],
        help='number of classes that count; 16 and 13 as usual for SYNTHIA',
    )
    p.add_argument('--data-root', help='folder that holds the datasets; default data')
    p.add_argument('--out', help='record file; default <work dir>/test/<model>.record.json')
    p.add_argument(
        '--save-predictions',
        metavar='DIR',
        help='also write each prediction as a PNG, for ibnseg score',
    )
    p.add_argument(
        '--work-dir', help='folder of the run; default work_dirs/<config>; logs go to test/ in it'
    )
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
            compile=args.compile,
            launcher=args.launcher,
            skip_lists=args.skip_list,
            options=run.parse_options(args.cfg_options),
        )
        run.test(
            config,
            args.checkpoint,
            measure=args.domains,
            out=args.out,
            protocol=args.protocol,
            classes=args.classes,
            save_predictions=args.save_predictions,
        )

    return run.command(job)


if __name__ == '__main__':
    sys.exit(main())
