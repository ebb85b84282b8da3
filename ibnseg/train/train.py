"""One training run: checks, training, and the measurement of the selected checkpoint."""

from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..measure import selection
from ..measure.records import Record
from . import checks
from .checkpoint import begin, chosen
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
    if continued := begin(config, resume, seed):
        _check_as_begun(config, *continued)
    runner = build(config)
    if continued:
        runner.begin_with(continued[0], resume=True)
    runner.train()
    out = Path(config.work_dir, f'{config.model_name}.record.json')
    return measure(runner, plan, chosen(config.work_dir, rule), out, show)


def _check_as_begun(config: Config, latest: Path, meta: dict[str, Any]) -> None:
    """Refuse to continue a run with other data left out, or selected by another rule."""
    trained = meta.get('trained', {})
    left_out = trained.get('skipped', {})
    if left_out != config.skipped:
        raise ValueError(
            f'{latest} was trained without {left_out or "leaving out anything"}, now it would be '
            f'without {config.skipped or "leaving out anything"}. Resume with the same --skip-list'
        )
    now = selection.implied(config.source, config.val_dataloader.dataset.domains).name
    before = trained.get('selection', now)
    if now != before:  # scores on other images can't be compared with the best one so far
        raise ValueError(
            f'--select: {latest} was begun with {before}, this is {now}. Continue it as it was '
            'begun, or name another folder with --work-dir'
        )
