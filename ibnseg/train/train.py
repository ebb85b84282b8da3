"""One training run: checks, training, and the measurement of the selected checkpoint."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .. import disk
from ..measure import records
from ..measure.records import Record
from . import checks, formatted, initial, parts, settings
from . import resume as resuming
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
        FileExistsError: `config.work_dir` holds a run, or the record of another, or another process
            trains there.
        DataError, ValueError: data, weights or config are not as expected, before any training.
    """
    parts.check(config)
    with disk.claimed(config.work_dir, resuming.rank(config)), formatted.once():
        return _train(config, resume, seed, show, select)


def _train(
    config: Config, resume: bool, seed: int | None, show: bool, select: str | None
) -> Record:
    checks.check_training(config)
    checks.check_source(config)
    checks.check_hooks(config)
    rule = checks.choose_rule(config, select)
    plan = checks.plan_measurement(config)
    checks.find_pairs(config, 'val_dataloader')
    used = checks.find_pairs(config, 'train_dataloader')
    pairs = {domain: one.summary() for domain, one in used.items()}
    training = dict(pairs=pairs, settings=settings.of(config))
    training['settings']['world_size'] = resuming.processes(config)
    out = Path(config.work_dir, f'{config.model_name}.record.json')
    anew = False
    if continued := begin(config, resume, seed):
        latest, meta = continued
        anew = resuming.check(config, latest, meta, training)
        came_in = meta.get('trained', {}).get('weights', [])
    else:
        _check_free(out, config, training)
        came_in = initial.weights_of(config)
        initial.check(came_in, config.source)
    runner = build(config)
    runner.training = dict(training, weights=came_in)  # for the checkpoints
    if continued:
        runner.begin_with(latest, resume=True, anew=anew)
    runner.train()
    return measure(runner, plan, chosen(config.work_dir, rule), out, show)


def _check_free(out: Path, config: Config, training: Mapping[str, Any]) -> None:
    """Refuse to begin a run whose record would overwrite that of another."""
    if not out.exists():
        return
    try:
        found = records.read(out).provenance
    except records.RecordError:
        found = {}
    before = found.get('training') or {}
    then = found.get('seed'), _digests(before.get('pairs') or {}), before.get('settings')
    seed = (config.get('randomness') or {}).get('seed')
    stated = json.loads(json.dumps(training['settings']))
    if then != (seed, _digests(training['pairs']), stated):
        raise FileExistsError(
            f'{out} holds the result of another training, and would be overwritten. Name another '
            'folder with --work-dir, or move it away'
        )


def _digests(pairs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {domain: one.get('digest') for domain, one in pairs.items()}
