"""Train each config with each seed, and put all of them into one report.

    ibnseg sweep configs/camvid/*.py --seeds 0 1 2

Trains one run after another, as ibnseg train does; with --on, several at a time as jobs. Run the
same command again to continue: it keeps finished runs and resumes an interrupted one. A failed run
does not stop the others. The report has a gallery of photos, as ibnseg gallery makes it.
"""

import argparse
import sys
from pathlib import Path

from ibnseg import command
from ibnseg.text import tell
from ibnseg.train.runs import places


def parser() -> argparse.ArgumentParser:
    p = command.parser('sweep', __doc__)
    p.add_argument(
        'configs', nargs='+', type=command.config, metavar='CONFIG',
        help='files, run as Python, or names in ibnseg configs',
    )  # fmt: skip
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], help='(0 1 2)')
    p.add_argument(
        '--methods', nargs='+', default=[], metavar='METHOD',
        help='train each config by each, as ibnseg train --method: bn isw ibn_b+mixstyle',
    )  # fmt: skip
    p.add_argument('--baseline', metavar='NAME', help='model to compare with in the report')
    p.add_argument('--no-gallery', action='store_true', help='no photos in the report')
    where = dict(
        default='work_dirs/sweep',
        help='folder for <config>/seed-<seed> and report/ (work_dirs/sweep)',
    )
    command.add(p, '--work-dir', '--data-root', '--amp', '--track', '--cfg-options', work_dir=where)
    places.add_options(p)
    return p


def main(argv: list[str] | None = None) -> int:
    """0; 1 where a run failed, 2 for bad input, 130 where interrupted."""
    args = parser().parse_args(argv)
    return command.run(lambda: _job(args), 'the same command continues')


def _job(args: argparse.Namespace) -> int:
    from ibnseg.disk import claimed

    with claimed(args.work_dir):
        return _sweep(args)


def _sweep(args: argparse.Namespace) -> int:
    from ibnseg.text import meant

    place = places.place(args)
    from ibnseg.train import batch
    from ibnseg.train.config import from_arguments
    from ibnseg.train.runs import sweep

    def load(path: str, folder: Path, method: str | None = None):
        config = from_arguments(args, config=path, work_dir=str(folder), method=method)
        batch.check(config, args.gpus or 1, args.cfg_options)
        return config

    words = ['--data-root', args.data_root] * bool(args.data_root) + ['--amp'] * args.amp
    words += ['--track', *args.track] if args.track else []
    words += ['--cfg-options', *args.cfg_options] if args.cfg_options else []
    runs = sweep.plan(args.configs, args.seeds, args.work_dir, load, args.methods)
    models = list(dict.fromkeys(planned.model for planned in runs))
    if args.baseline not in (None, *models):
        near = meant(args.baseline, models)
        raise ValueError(f'--baseline {args.baseline}: no such model{near}; choose from {models}')
    failed = _train(runs, place, words, args.gpus)
    if measured := [run for run in runs if run.record.is_file()]:
        from ibnseg import report

        # The baseline's own runs may all have failed.
        baseline = args.baseline if args.baseline in {run.model for run in measured} else None
        found, out = [run.record for run in measured], Path(args.work_dir) / 'report'
        if not args.no_gallery:
            data_root = load(args.configs[0], out).test_dataloader.dataset.data_root
            _add_photos(found, data_root, baseline, out)
        report.make(found, out, baseline)
    if failed:
        tell(
            f'error: {len(failed)} of {len(runs)} runs failed: {"; ".join(failed)}. What went '
            'wrong is said above, where each was run; the same command tries them again',
            file=sys.stderr,
        )
    return int(bool(failed))


def _train(runs: list, place: places.Place | None, words: list[str], gpus: int | None) -> list[str]:
    """Train what is not finished; return which runs failed."""
    from ibnseg.train.runs import cluster, states

    script = Path(__file__).with_name('train.py')
    if place:
        return cluster.train(runs, place, script, words)
    failed = []
    for number, planned in enumerate(runs, 1):
        tell(f'[{number}/{len(runs)}] {planned}: {states.DOING[planned.state]}', flush=True)
        if planned.state == states.FINISHED:
            continue
        code = states.begin(planned, script, words, gpus or 1)
        if code or not planned.record.is_file():
            failed.append(str(planned))
            tell(f'[{number}/{len(runs)}] {planned}: FAILED, exit code {code}', flush=True)
    return failed


def _add_photos(found: list[Path], data_root: str, baseline: str | None, out: Path) -> None:
    from ibnseg.analysis import gallery
    from ibnseg.analysis.scenes import Album

    try:
        number = gallery.write(Album(list(map(str, found)), data_root, baseline), out)
        command.say(f'gallery     {out}/gallery ({number} photos)')
    except (OSError, ValueError) as error:  # the numbers are there without photos
        tell(f'no gallery: {error}', file=sys.stderr)


if __name__ == '__main__':
    sys.exit(main())
