"""One training run: checks, training, and the measurement of the selected checkpoint."""

from pathlib import Path

from mmengine.config import Config

from .. import weights
from ..measure import selection
from ..measure.records import Record
from . import checks
from .checkpoint import newest
from .runner import build
from .test import measure


def train(
    config: Config,
    *,
    resume: bool = False,
    seed: int | None = None,
    show: bool = True,
    select: str | None = None,
) -> Record:
    """Train, select a checkpoint (on the source's validation), measure it on every domain.

    Writes checkpoints, log and `<model>.record.json` into `config.work_dir`.

    Args:
        resume: continue from the newest checkpoint of `config.work_dir`, with its seed.
        seed: of weights, sampling and augmentation; default: the config's.
        show: print the table and where the files are.
        select: see `checks.choose_rule`.

    Raises:
        DataError, ValueError: data, weights or config are not as expected, before any training.
    """
    checks.check_source(config)
    rule = checks.choose_rule(config, select)
    plan = checks.plan_measurement(config)
    checks.count_pairs(config, 'val_dataloader')
    config.skipped = checks.count_skipped(config.train_dataloader.dataset)
    begin(config, resume, seed)
    runner = build(config)
    runner.train()
    work_dir = Path(config.work_dir)
    chosen = next(filter(None, (newest(work_dir, pattern) for pattern in rule.files)))
    return measure(runner, plan, chosen, work_dir / f'{config.model_name}.record.json', show)


def begin(config: Config, resume: bool, seed: int | None) -> None:
    """Have the config begin a run in its work dir, or continue the one that is there.

    Raises:
        FileNotFoundError, FileExistsError: nothing to continue, or a run to begin over another.
        ValueError: what would be continued was begun otherwise.
    """
    work_dir = Path(config.work_dir)
    latest = newest(work_dir)
    if resume:
        _resume(config, latest, seed)
        return
    # A dumped config of a resumed run would continue that one.
    if config.get('resume'):
        config.resume, config.load_from = False, None
    if seed is not None:
        config.randomness = dict(config.get('randomness', {}), seed=seed)
    begun = sorted(work_dir.glob('*iter_*.pth'))
    if begun:
        way_out = 'Continue it with --resume, name' if latest else 'Name'
        raise FileExistsError(
            f'{work_dir} holds a run already ({begun[0].name}). {way_out} another folder with '
            '--work-dir, or delete it'
        )


def _resume(config: Config, latest: Path | None, seed: int | None) -> None:
    if latest is None:
        raise FileNotFoundError(
            f'--resume: no iter_*.pth in {config.work_dir}. Leave --resume away to start anew, or '
            'name the folder of the run with --work-dir'
        )
    meta = weights.read(latest)['meta']
    begun_with, left_out = meta['seed'], meta.get('trained', {}).get('skipped', {})
    if left_out != config.skipped:
        raise ValueError(
            f'{latest} was trained without {left_out or "leaving out anything"}, now it would be '
            f'without {config.skipped or "leaving out anything"}. Resume with the same --skip-list'
        )
    if seed not in (None, begun_with):
        raise ValueError(
            f'--seed {seed}: {latest} was trained with seed {begun_with}. Leave --seed away to '
            'continue it'
        )
    now = selection.implied(config.source, config.val_dataloader.dataset.domains).name
    before = meta.get('trained', {}).get('selection', now)
    if now != before:  # scores on other images can't be compared with the best one so far
        raise ValueError(
            f'--select: {latest} was begun with {before}, this is {now}. Continue it as it was '
            'begun, or name another folder with --work-dir'
        )
    config.randomness = dict(config.get('randomness', {}), seed=begun_with)
    config.resume, config.load_from = True, str(latest)
