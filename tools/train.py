"""Train on one dataset, then evaluate the selected checkpoint on others."""

import argparse
import os
import sys

from ibnseg import command


def parser() -> argparse.ArgumentParser:
    p = command.parser('train', __doc__)
    p.add_argument('config', type=command.config, help='file, or name in ibnseg configs')
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
        '--iterations',
        type=int,
        help="in all; the schedule is stretched to them; default the config's",
    )
    p.add_argument(
        '--method',
        help="train by this one in the place of the config's: a name of ibnseg methods or a "
        'placement (bn, ibn_a, ...), or several joined by +',
    )
    p.add_argument('--audit', action='store_true', help='audit the data first; stop at errors')
    p.add_argument('--no-table', action='store_true', help='do not print the table')
    command.add(p, '--work-dir', '--data-root', '--name', '--amp', '--compile', '--skip-list')
    command.add(p, '--track', '--launcher', '--cfg-options')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return command.run(lambda: _job(args), lambda: command.resuming(args.work_dir))


def _job(args: argparse.Namespace) -> None:
    from ibnseg.train import batch, checks, resume
    from ibnseg.train.config import NoSource, from_arguments, stretch

    try:
        config = from_arguments(args)
    except NoSource:
        return _plain(args)
    if args.iterations is not None:
        stretch(config, args.iterations)
    args.work_dir = config.work_dir
    checks.check_protocol(config)
    batch.check(config, resume.processes(config), args.cfg_options)
    if args.audit:
        checks.audit_data(config)
    pairs = checks.find_pairs(config, 'train_dataloader')
    found = ', '.join(f'{domain} ({len(used.pairs)} pairs)' for domain, used in pairs.items())
    command.say(f'training {config.model_name} on {found}, in {config.work_dir}')
    from ibnseg.train.train import train

    train(config, resume=args.resume, seed=args.seed, show=not args.no_table, select=args.select)


def _plain(args: argparse.Namespace) -> None:
    """Train a config of MMSegmentation's own form, as `ibnseg run train` does."""
    from ibnseg.plugins import training

    taken = {'config', 'work_dir', 'data_root', 'launcher', 'seed', 'resume', 'cfg_options'}
    for name, value in vars(args).items():
        if value and name not in taken | {'prog', 'local_rank'}:
            raise ValueError(
                f'--{name.replace("_", "-")}: {args.config} names no source, so it is trained as '
                "MMSegmentation's own config; leave the option out"
            )
    command.say(f"{args.config} names no source: trained as MMSegmentation's own, without a record")
    training.train(training.from_arguments(args), resume=args.resume, seed=args.seed)


if __name__ == '__main__':
    sys.exit(main())
