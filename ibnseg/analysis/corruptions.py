"""What is left of a segmentor's mIoU on corrupted photos: Cityscapes-C, for any domain.

Of the mIoU P: mean performance under corruption mPC is the mean over the corruptions of the mean
over their severities; relative performance is rPC = mPC / P_clean (Michaelis et al., Benchmarking
Robustness in Object Detection, 2019, equations 1 and 2). Relative degradation is 1 - rPC.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS, MODELS, TRANSFORMS

from .. import disk
from ..measure import origin
from ..measure.predict import Predictor
from ..pipeline import photos
from ..pipeline.corruptions import CORRUPTIONS, KINDS, SEVERITIES
from ..text import tell
from ..train import checks
from ..train.config import load_config
from ..train.untrusted import read_safely
from . import networks, plots, robustness, shown


def run(
    runs: Sequence[str],
    options: robustness.Options,
    names: Sequence[str] = CORRUPTIONS,
    severities: Sequence[int] = SEVERITIES,
) -> dict[str, Any]:
    """Measure runs of segmentors on clean and corrupted photos; write JSON, text and figure.

    What has a record below `options.out` is read, not measured again.

    Args:
        options: its `changes` are not used.
        names, severities: the corruptions, see `ibnseg.pipeline.corruptions`.

    Returns:
        The content of `corruptions.json`: `networks` as `robustness.measure`, and of each its
        `summary` by target.

    Raises:
        ValueError: a network that is no run of ibnseg train, or without the library.
    """
    for run in runs:
        if not (networks.is_run(run) and networks.is_segmentor(_config(run))):
            raise ValueError(f'{run}: expected the work dir of ibnseg train: a segmentor')
    changes = [f'{name}-{severity}' for name in names for severity in sorted(severities)]
    options = replace(options, changes=changes)
    measured = robustness.measure(runs, options, _clock(runs, options))
    for one in measured:
        one['summary'] = _summary(one['results'], names)
    found = dict(schema='ibnseg-corruptions-1', severities=sorted(severities), networks=measured)
    found |= origin.here()
    disk.write_atomically(options.out / 'corruptions.json', json.dumps(found, indent=1) + '\n')
    disk.write_atomically(options.out / 'corruptions.md', text(found))
    plots.corruptions(found, options.out / 'corruptions.png')
    return found


def _config(run: str) -> Config:
    return Config.fromfile(shown.config_of(Path(run)))


def _clock(runs: Sequence[str], options: robustness.Options) -> Callable[[], None]:
    """Say how long all will take, and return what says after each measurement how long the rest."""
    costs = [cost for run in runs for cost in _seconds(run, options)]
    left = sum(cost > 0 for cost in costs)
    tell(
        f'{len(costs)} measurements, {len(costs) - left} of them have a record; the others take '
        f'about {_words(sum(costs))}, judged by the first photo of each domain',
        flush=True,
    )
    begin, done = time.monotonic(), 0

    def after() -> None:
        nonlocal done
        done += 1
        planned, rest = sum(costs[:done]), sum(costs[done:])
        if planned and rest:
            pace = (time.monotonic() - begin) / planned
            tell(f'{done} of {len(costs)} measured, about {_words(rest * pace)} left', flush=True)

    return after


def _words(seconds: float) -> str:
    if seconds < 90:
        return f'{seconds:.0f} s'
    return f'{seconds / 60:.0f} min' if seconds < 5400 else f'{seconds / 3600:.1f} h'


@read_safely()
def _seconds(run: str, options: robustness.Options) -> list[float]:
    """Return the estimated seconds of the plain measurement of a run and of each change.

    0 where there is a record. A photo costs its prediction, and its loading shared by workers.
    """
    begin = time.monotonic()
    path, checkpoint = shown.config_of(Path(run)), networks.checkpoint_of(Path(run))
    config = load_config(path, data_root=options.data_root)
    data, workers = config.test_dataloader.dataset, max(1, config.test_dataloader.num_workers)
    data.domains = list(options.domains or data.domains)
    config.protocol = options.protocol or config.get('protocol')
    config.model.backbone.init_cfg = None
    checks.plan_measurement(config)
    with DefaultScope.overwrite_default_scope('mmseg'):
        predict = Predictor(MODELS.build(config.model).to(get_device()).eval())
        parts = DATASETS.build(data).datasets
        predict(pseudo_collate([parts[0][0]]))  # not timed: the first call prepares more
        start, plain = time.monotonic() - begin, 0.0
        for part in parts:
            load, sample = _timed(part.__getitem__, 0)
            plain += len(part) * (load / workers + _timed(predict, pseudo_collate([sample]))[0])
        steps = [None, *(options.step(name, networks.MEAN) for name in options.changes)]
        drawing = {}  # a severity takes as long as another
        for step in filter(None, steps):
            if step['corruption'] not in drawing:
                step = TRANSFORMS.build(step | dict(where=data.data_root))
                each = [len(part) * _drawing(step, part.get_data_info(0)) for part in parts]
                drawing[step.corruption] = sum(each) / workers
    folder = robustness.records_of(config, checkpoint, options)
    costs = []
    for name, step in zip(('none', *options.changes), steps, strict=True):
        known = any((folder / robustness.file_name(name)).glob('*.record.json'))
        cost = start + plain + (drawing[step['corruption']] if step else 0.0)
        costs.append(0.0 if known else cost)
    return costs


def _timed(call: Callable, *given: Any) -> tuple[float, Any]:
    begin = time.monotonic()
    result = call(*given)
    return time.monotonic() - begin, result


def _drawing(step: Any, info: Mapping[str, Any]) -> float:
    photo = dict(info, img=photos.read(disk.read(info['img_path'])))
    step(dict(photo))  # not timed: glass blur is compiled
    return _timed(step, photo)[0]


def _summary(results: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return by target: mIoU in percent, clean, of each corruption and severity, and its means."""
    scores: dict[str, dict[str, float]] = {}
    for one in results:
        scores.setdefault(one['target'], {})[one['change']] = one['score']
    found = {}
    for target, of in scores.items():
        clean = of.pop('none')
        curves = {
            name: [score for change, score in of.items() if change.rpartition('-')[0] == name]
            for name in names
        }
        means = {name: float(np.mean(curve)) for name, curve in curves.items()}
        kinds = {
            kind: [means[name] for name in members if name in means]
            for kind, members in KINDS.items()
        }
        mean = float(np.mean(list(means.values())))
        found[target] = dict(
            clean=clean,
            curves=curves,
            means=means,
            kinds={kind: float(np.mean(each)) for kind, each in kinds.items() if each},
            mean=mean,
            relative_degradation=degradation(clean, mean),
        )
    return found


def degradation(clean: float, corrupted: float) -> float | None:
    """Return how much of a score is lost, in percent of it; None where there is none."""
    return 100 * (1 - corrupted / clean) if clean else None


def text(found: Mapping[str, Any]) -> str:
    """Return the Markdown of what `run` measured."""
    names = [one['name'] for one in found['networks']]
    summaries = [one['summary'] for one in found['networks']]
    lines = []
    for target in dict.fromkeys(target for one in summaries for target in one):
        of = [one.get(target) for one in summaries]
        known = next(filter(None, of))
        rows = {
            'clean': [f'{one["clean"]:.1f}' if one else '' for one in of],
            'mean over the corruptions': [_cell(one, one['mean']) if one else '' for one in of],
        }
        for group, label in (('kinds', 'mean of {}'), ('means', '{}')):
            for name in known[group]:
                cells = [_cell(one, one[group][name]) if one else '' for one in of]
                rows[label.format(name)] = cells
        lines += [
            f'## mIoU on {target}, corrupted',
            '',
            f'In percent; means over the severities {", ".join(map(str, found["severities"]))}. '
            'Brackets: relative degradation, the share of the clean mIoU that is lost.',
            '',
            *robustness.markdown_table('photos', names, rows),
            '',
        ]
    steps = [r['protocol'].get('altered') for one in found['networks'] for r in one['results']]
    drawn = {f'Drawn by {step["library"]}, seed {step["seed"]}.' for step in steps if step}
    lines += sorted(drawn)
    return '\n'.join(lines) + '\n'


def _cell(summary: Mapping[str, Any], corrupted: float) -> str:
    lost = degradation(summary['clean'], corrupted)
    return f'{corrupted:.1f}' + ('' if lost is None else f' ({robustness.short(lost)} %)')
