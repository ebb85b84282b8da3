"""One training run: checks, training, and the measurement of the selected checkpoint."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import get_world_size

from ..domains import Used
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
    checks.find_pairs(config, 'val_dataloader')
    used = checks.find_pairs(config, 'train_dataloader')
    stated = settings.of(config)
    out = Path(config.work_dir, f'{config.model_name}.record.json')
    if continued := begin(config, resume, seed):
        _check_as_begun(config, used, *continued)
    else:
        _check_free(out, config, used, stated)
    runner = build(config)
    runner.settings = stated | dict(world_size=get_world_size())  # for the checkpoints
    runner.train()
    return measure(runner, plan, chosen(config.work_dir, rule), out, show)


def _check_free(
    out: Path, config: Config, used: Mapping[str, Used], stated: Mapping[str, Any]
) -> None:
    """Refuse to begin a run whose record would overwrite that of another."""
    if not out.exists():
        return
    try:
        found = records.read(out).provenance
    except records.RecordError:
        found = {}
    before = found.get('training') or {}
    pairs = {domain: one.get('digest') for domain, one in (before.get('pairs') or {}).items()}
    known = {k: v for k, v in (before.get('settings') or {}).items() if k != 'world_size'}
    now = {domain: one.digest for domain, one in used.items()}
    seed = (config.get('randomness') or {}).get('seed')
    if (found.get('seed'), pairs, known) != (seed, now, json.loads(json.dumps(stated))):
        raise FileExistsError(
            f'{out} holds the result of another training, and would be overwritten. Name another '
            'folder with --work-dir, or move it away'
        )


def _check_as_begun(
    config: Config, used: Mapping[str, Used], latest: Path, meta: dict[str, Any]
) -> None:
    """Refuse to continue a run on other pairs, or selected by another rule."""
    trained = meta.get('trained', {})
    for domain, before in trained.get('pairs', {}).items():
        here = used[domain].summary() if domain in used else {}
        if before['digest'] != here.get('digest'):
            raise ValueError(
                f'{latest} was trained on {before["pairs"]:,} pairs of {domain} '
                f'({before["digest"]}), here are {here.get("pairs", 0):,} ({here.get("digest")}). '
                'Resume with the same files and the same --skip-list'
            )
    now = selection.implied(config.source, config.val_dataloader.dataset.domains).name
    before = trained.get('selection', now)
    if now != before:  # scores on other images can't be compared with the best one so far
        raise ValueError(
            f'--select: {latest} was begun with {before}, this is {now}. Continue it as it was '
            'begun, or name another folder with --work-dir'
        )
