"""Fine-tune a checkpoint on parts of a target dataset and print one table (as in the paper).

    ibnseg finetune configs/ibn_b_gta5_to_cityscapes.py work_dirs/.../best_iter_N.pth \\
      --target cityscapes --fractions 10 20 30 100

Trains one run after another, as ibnseg train does; with --on, several at a time as jobs. The 10 %
are part of the 20 %, and so on. Run the same command again to continue: it keeps finished runs and
resumes an interrupted one. The table holds every model that was fine-tuned on the target into the
same --work-dir.
"""

import argparse
import sys
from pathlib import Path

from ibnseg import command
from ibnseg.text import tell
from ibnseg.train.runs import places


def parser() -> argparse.ArgumentParser:
    p = command.parser('finetune', __doc__)
    p.add_argument(
        'config', type=command.config, help='the config that the checkpoint was trained with'
    )
    p.add_argument('checkpoint')
    p.add_argument('--target', required=True, help='dataset to train on: name or name:split')
    p.add_argument(
        '--fractions', nargs='+', type=float, default=[10, 20, 30, 100], metavar='PERCENT',
        help="parts of the target's training images (10 20 30 100)",
    )  # fmt: skip
    p.add_argument('--seeds', nargs='+', type=int, default=[0], help='seeds of each fraction (0)')
    p.add_argument('--subset-seed', type=int, default=0, help='seed of the fractions (0)')
    p.add_argument('--iterations', type=int, help="iterations of each run; default the config's")
    where = dict(
        default='work_dirs/finetune',
        help='folder for <model>/<target>/<percent>/seed-<seed> (work_dirs/finetune)',
    )
    command.add(p, '--work-dir', '--data-root', '--amp', '--track', '--cfg-options', work_dir=where)
    places.add_options(p)
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args), 'the same command continues')


def _job(args: argparse.Namespace) -> None:
    from ibnseg.disk import claimed

    with claimed(args.work_dir):
        _finetune(args)


def _finetune(args: argparse.Namespace) -> None:
    from ibnseg.disk import write_atomically
    from ibnseg.train import batch
    from ibnseg.train.config import from_arguments

    for name, values in (('fractions', args.fractions), ('seeds', args.seeds)):
        if len(set(values)) < len(values):
            raise ValueError(f'--{name} {" ".join(map(str, values))}: one is named twice')
    place = places.place(args)
    first = from_arguments(args)
    batch.check(first, args.gpus or 1, args.cfg_options)
    words = ['--cfg-options', f'train_dataloader.batch_size={first.train_dataloader.batch_size}']
    words *= (args.gpus or 1) > 1  # stated
    command.say(f'fine-tuning {args.checkpoint} on {args.target}')
    from ibnseg.measure import records
    from ibnseg.report import render
    from ibnseg.train.runs import finetune

    train, _ = finetune.splits(args.target)
    begin = finetune.start(first, args.checkpoint)
    runs = []
    for fraction in sorted(args.fractions):
        for seed in args.seeds:
            config = from_arguments(args)
            options = fraction / 100, args.subset_seed, args.iterations
            finetune.configure(config, begin, args.target, *options)
            runs.append((finetune.planned(config, seed, args.work_dir), config.fine_tuned))
    if place:
        _as_jobs([run for run, _ in runs], place, words)
    else:
        _one_by_one(runs, train, args.gpus or 1, words)
    # The runs' own records; `ibnseg test` puts further ones into folders of theirs.
    found = [*map(records.read, sorted(Path(args.work_dir).glob('*/*/*/*/*.record.json')))]
    measured = config.test_dataloader.dataset.domains
    tables = [finetune.tabulate(found, train, domain) for domain in measured]
    out = Path(args.work_dir, f'{train.replace("/", "-").replace(":", "-")}.md')
    write_atomically(out, render.markdown(tables))
    render.show(tables[:1])
    tell(out)


def _as_jobs(runs: list, place: places.Place, words: list[str]) -> None:
    from ibnseg.disk import write_atomically
    from ibnseg.train.runs import cluster, states

    for run in runs:
        if run.state != states.FINISHED and not cluster.holder(run):
            write_atomically(run.config, run.text)
    if failed := cluster.train(runs, place, Path(__file__).with_name('train.py'), words):
        raise ValueError(
            f'{len(failed)} of {len(runs)} runs failed: {"; ".join(failed)}. What went wrong is '
            'said above, where each was run; the same command tries them again'
        )


def _one_by_one(runs: list[tuple], train: str, processes: int, words: list[str]) -> None:
    from ibnseg.disk import write_atomically
    from ibnseg.train.runs import states

    for number, (run, facts) in enumerate(runs, 1):
        tell(
            f'[{number}/{len(runs)}] {100 * facts.fraction:g} % of {train} ({facts.images} '
            f'images), seed {run.seed}: {states.DOING[run.state]}',
            flush=True,
        )
        if run.state == states.FINISHED:
            continue
        write_atomically(run.config, run.text)
        code = states.begin(run, Path(__file__).with_name('train.py'), words, processes)
        if code:
            raise ValueError(
                f'{run.folder}: fine-tuning ended with exit code {code}; what went wrong is said '
                'above. The same command continues'
            )


if __name__ == '__main__':
    sys.exit(main())
