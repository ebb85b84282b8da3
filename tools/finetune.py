"""Fine-tune a checkpoint on parts of a target dataset and print one table (as in the paper).

    python tools/finetune.py configs/ibn_b_gta5_to_cityscapes.py work_dirs/.../best_iter_N.pth \\
      --target cityscapes --fractions 10 20 30 100

Trains one run after another, as tools/train.py does. The 10 % are part of the 20 %, and so on. Run
the same command again to continue: it keeps finished runs and resumes an interrupted one. The table
holds every model that was fine-tuned on the target into the same --work-dir.
"""

import argparse
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog='finetune', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument('config', help='the config that the checkpoint was trained with')
    p.add_argument('checkpoint')
    p.add_argument('--target', required=True, help='dataset to train on: name or name:split')
    p.add_argument(
        '--fractions', nargs='+', type=float, default=[10, 20, 30, 100], metavar='PERCENT',
        help="parts of the target's training images (10 20 30 100)",
    )  # fmt: skip
    p.add_argument('--seeds', nargs='+', type=int, default=[0], help='seeds of each fraction (0)')
    p.add_argument('--subset-seed', type=int, default=0, help='seed of the fractions (0)')
    p.add_argument('--iterations', type=int, help="iterations of each run; default the config's")
    p.add_argument(
        '--work-dir',
        default='work_dirs/finetune',
        help='folder for <model>/<target>/<percent>/seed-<seed> (work_dirs/finetune)',
    )
    p.add_argument('--data-root', help='folder that holds the datasets; default data')
    p.add_argument('--amp', action='store_true', help='mixed precision')
    p.add_argument('--processes', type=int, default=1, help='GPUs of this machine to train on (1)')
    p.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    from ibnseg.engine import run

    return run.command(lambda: _job(args), 'interrupted; the same command continues')


def _job(args: argparse.Namespace) -> None:
    from ibnseg import finetune
    from ibnseg.engine import run, sweep

    def load():
        return run.load_config(
            args.config,
            work_dir=args.work_dir,
            data_root=args.data_root,
            amp=args.amp,
            options=run.parse_options(args.cfg_options),
        )

    for name, values in (('fractions', args.fractions), ('seeds', args.seeds)):
        if len(set(values)) < len(values):
            raise ValueError(f'--{name} {" ".join(map(str, values))}: one is named twice')
    train, _ = finetune.splits(args.target)
    begin = finetune.start(load(), args.checkpoint)
    base = Path(args.work_dir)
    planned = []
    for fraction in sorted(args.fractions):
        for seed in args.seeds:
            config = finetune.configure(
                load(), begin, args.target, fraction / 100, args.subset_seed, args.iterations
            )
            part = f'{fraction:g}' + (f'-subset-{args.subset_seed}' if args.subset_seed else '')
            where = train.replace('/', '-').replace(':', '-')
            folder = base / config.model_name / where / part / f'seed-{seed}'
            config.work_dir = str(folder)
            planned.append((config, seed, folder, finetune.state(config, seed, folder)))
    for number, (config, seed, folder, state) in enumerate(planned, 1):
        facts = config.fine_tuned
        print(
            f'[{number}/{len(planned)}] {100 * facts.fraction:g} % of {train} ({facts.images} '
            f'images), seed {seed}: {sweep.DOING[state]}',
            flush=True,
        )
        if state != sweep.FINISHED:
            _train(config, seed, folder, state == sweep.BEGUN, args.processes)
    _report(base, train, planned[0][0].test_dataloader.dataset.domains)


def _train(config, seed: int, folder: Path, resume: bool, processes: int) -> None:
    """Run tools/train.py on the config in a process of its own: a run leaves nothing to the next.

    Raises KeyboardInterrupt where that was interrupted, ValueError where it failed.
    """
    from ibnseg.disk import write_atomically
    from ibnseg.engine.sweep import launch

    path = folder / 'finetune.py'
    write_atomically(path, config.pretty_text)
    command = [sys.executable]
    if processes > 1:
        command += ['-m', 'torch.distributed.run', '--standalone', f'--nproc_per_node={processes}']
    command += [str(Path(__file__).with_name('train.py')), str(path)]
    command += ['--work-dir', str(folder), '--seed', str(seed), '--no-table']
    command += ['--launcher', 'pytorch'] * (processes > 1) + ['--resume'] * resume
    code = launch(command)
    if code:
        raise ValueError(
            f'{folder}: fine-tuning ended with exit code {code}; what went wrong is said above. '
            'The same command continues'
        )


def _report(base: Path, train: str, measured: list[str]) -> None:
    from rich.console import Console

    from ibnseg import disk, finetune, records

    found = [records.read(path) for path in records.find([base])]
    tables = [finetune.tabulate(found, train, domain) for domain in measured]
    out = base / f'{train.replace("/", "-").replace(":", "-")}.md'
    disk.write_atomically(out, finetune.markdown(tables))
    Console(highlight=False).print(finetune.terminal(tables[0]))
    print(out)


if __name__ == '__main__':
    sys.exit(main())
