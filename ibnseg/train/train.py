"""One training run: checks, training, and the measurement of the selected checkpoint."""

import json
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size

from ..measure import records, selection
from ..measure.records import Record
from . import checks, parts, settings
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
        FileExistsError: `config.work_dir` holds a run, or the record of another.
        DataError, ValueError: data, weights or config are not as expected, before any training.
    """
    parts.check(config)
    checks.check_source(config)
    rule = checks.choose_rule(config, select)
    plan = checks.plan_measurement(config)
    checks.count_pairs(config, 'val_dataloader')
    config.skipped = checks.count_skipped(config.train_dataloader.dataset)
    training = dict(pairs=checks.trained_pairs(config), settings=settings.of(config))
    out = Path(config.work_dir, f'{config.model_name}.record.json')
    if continued := begin(config, resume, seed):
        _check_as_begun(config, *continued)
    else:
        _check_free(out, config, training)
    runner = build(config)
    training['settings']['world_size'] = get_world_size()
    runner.training = training  # for the checkpoints
    runner.train()
    return measure(runner, plan, chosen(config.work_dir, rule), out, show)


def _check_free(out: Path, config: Config, training: dict[str, Any]) -> None:
    """Refuse to begin a run whose record would overwrite that of another."""
    if not out.exists():
        return
    try:
        found = records.read(out).provenance
    except records.RecordError:
        found = {}
    before = found.get('training') or {}
    now = dict(seed=(config.get('randomness') or {}).get('seed'), **training)
    then = dict(
        seed=found.get('seed'),
        pairs=before.get('pairs'),
        settings={k: v for k, v in (before.get('settings') or {}).items() if k != 'world_size'},
    )
    if json.loads(json.dumps(now)) != then:
        raise FileExistsError(
            f'{out} holds the result of another training, and would be overwritten. Name another '
            'folder with --work-dir, or move it away'
        )


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
