"""Train each config with each seed, and put all of them into one report.

    python tools/sweep.py configs/camvid/*.py --seeds 0 1 2

Trains one run after another, as tools/train.py does. Run the same command again to continue: it
keeps finished runs and resumes an interrupted one. A failed run does not stop the others.
"""

import argparse
import sys
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog='sweep', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument('configs', nargs='+', metavar='CONFIG', help='config files, run as Python')
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='(0 1 2)')
    p.add_argument(
        '--work-dir',
        default='work_dirs/sweep',
        help='folder for <config>/seed-<seed> and report/ (work_dirs/sweep)',
    )
    p.add_argument('--data-root', help='folder that holds the datasets; default data')
    p.add_argument('--amp', action='store_true', help='mixed precision')
    p.add_argument('--baseline', metavar='NAME', help='model to compare with in the report')
    p.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    return p


def main(argv: list[str] | None = None) -> int:
    """0; 1 where a run failed, 2 for bad input, 130 where interrupted."""
    args = parser().parse_args(argv)
    from ibnseg.engine import run

    failed: list[str] = []
    code = run.command(lambda: _job(args, failed), 'interrupted; the same command continues')
    return code or bool(failed)


def _job(args: argparse.Namespace, failed: list[str]) -> None:
    from ibnseg.engine import run, sweep

    def load(path: str, folder: Path):
        return run.load_config(
            path,
            work_dir=str(folder),
            data_root=args.data_root,
            amp=args.amp,
            options=run.parse_options(args.cfg_options),
        )

    words = ['--data-root', args.data_root] * bool(args.data_root) + ['--amp'] * args.amp
    words += ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    runs = sweep.plan(args.configs, args.seeds, args.work_dir, load)
    models = list(dict.fromkeys(planned.model for planned in runs))
    if args.baseline not in (None, *models):
        raise ValueError(f'--baseline {args.baseline}: choose from {models}')
    for number, planned in enumerate(runs, 1):
        print(f'[{number}/{len(runs)}] {planned}: {sweep.DOING[planned.state]}', flush=True)
        if planned.state == sweep.FINISHED:
            continue
        code = sweep.run(planned, Path(__file__).with_name('train.py'), words)
        if code or not planned.record.is_file():
            failed.append(str(planned))
            print(f'[{number}/{len(runs)}] {planned}: FAILED, exit code {code}', flush=True)
    files = [planned.record for planned in runs if planned.record.is_file()]
    if files:
        _report(files, args)
    if failed:
        print(
            f'error: {len(failed)} of {len(runs)} runs failed: {"; ".join(failed)}. What went '
            'wrong is said above, where each was run; the same command tries them again',
            file=sys.stderr,
        )


def _report(files: list[Path], args: argparse.Namespace) -> None:
    from rich.console import Console

    from ibnseg import records, report

    found = [records.read(file) for file in files]
    # Its runs may all have failed.
    baseline = args.baseline if args.baseline in {record.model for record in found} else None
    table = report.tabulate(found, baseline, files=files)
    statistics = report.gather(table)
    out = Path(args.work_dir) / 'report'
    written = report.write(found, out, baseline, files=files, found=statistics)
    console = Console(highlight=False)
    console.print(report.terminal(table))
    if statistics:
        console.print(report.statistics.terminal(statistics))
    for path in written:
        print(path)


if __name__ == '__main__':
    sys.exit(main())
