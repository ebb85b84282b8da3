"""What is left of a network's score when only the appearance of the images changes.

The table of Pan et al., ECCV 2018 (none, RGB+50, R+50, std x1.5, another style), for segmentors and
classifiers. A changed measurement follows a protocol of its own, with another name and hash.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from .. import disk, labels, progress
from ..domains import parse
from ..errors import DataError
from ..measure import origin, records
from ..measure.confusion import score
from ..measure.protocols import protocol_hash
from ..pipeline import appearance
from ..plugins import training
from ..plugins.imagenet import ImageFolder
from ..text import clean, tell
from ..train import checks
from ..train.config import load_config
from ..train.test import test
from . import networks, plots, shown


@dataclass(frozen=True)
class Options:
    """What is measured, and where images lie.

    Args:
        changes: names, see `appearance.describe`; 'none' is measured always, and first.
        out: folder.
        data_root: of the domains; None for that of a run's config.
        domains: of segmentors; None for those of a run's config.
        protocol: of segmentors, see `train.test.test`.
        images: of classifiers of the hub: a folder with a folder of images a class.
        style_from, stylised, seed: see `appearance.describe`.
    """

    changes: Sequence[str]
    out: Path
    data_root: str | None = None
    domains: Sequence[str] | None = None
    protocol: str | None = None
    images: str | None = None
    style_from: str | None = None
    stylised: str | None = None
    seed: int = 0

    def step(self, change: str, about: Sequence[float]) -> dict[str, Any] | None:
        """Return the pipeline step of a change for a network that takes off a mean (BGR)."""
        return appearance.describe(
            change, about, self.style_from, self.data_root or 'data', self.stylised, self.seed
        )


def run(specs: Sequence[str], options: Options) -> dict[str, Any]:
    """Measure networks by each change; write JSON, text and figure.

    Args:
        specs: see `networks.load`.

    Returns:
        The content of `appearance.json`: of each network, change and target (domain or folder) the
        score in percent, its drop from 'none', that of each class, and the protocol.
    """
    measured = measure(specs, options)
    found = dict(schema='ibnseg-appearance-1', networks=measured, **origin.here())
    disk.write_atomically(options.out / 'appearance.json', json.dumps(found, indent=1) + '\n')
    disk.write_atomically(options.out / 'appearance.md', text(found))
    plots.appearance(found, options.out / 'appearance.png')
    return found


def measure(
    specs: Sequence[str], options: Options, after: Callable[[], None] = lambda: None
) -> list[dict[str, Any]]:
    """Return of each network its facts and `results`: one a change and target.

    Args:
        specs, options: as `run`.
        after: called after each change of a network.
    """
    changes = ['none', *(name for name in options.changes if name != 'none')]
    for name in changes:  # what is unknown or missing is said before hours of measuring
        options.step(name, networks.MEAN)
    measured = []
    of = [_of_run if networks.is_run(spec) else _of_hub for spec in specs]
    for facts, results_of in [one(spec, options) for one, spec in zip(of, specs, strict=True)]:
        results: list[dict[str, Any]] = []
        for change in changes:
            for one in results_of(change):
                plain = [r['score'] for r in results if r['target'] == one['target']]
                drop = plain[0] - one['score'] if plain else 0.0
                results.append(dict(change=change, **one, drop=drop))
                tell(f'{facts["name"]}, {change}: {_line(results[-1])}', flush=True)
            after()
        measured.append(facts | dict(results=results))
    networks.tell_apart(measured)
    return measured


def _line(one: dict[str, Any]) -> str:
    dropped = '' if one['change'] == 'none' else f', drop {short(one["drop"])}'
    return f'{one["measure"]} {one["score"]:.1f} on {one["target"]}{dropped}'


def short(value: float) -> str:
    """Return a number with one digit after the point."""
    return f'{round(value, 1) + 0.0:.1f}'  # never '-0.0'


Measure = Callable[[str], Iterator[dict[str, Any]]]


def _of_run(spec: str, options: Options) -> tuple[dict[str, Any], Measure]:
    run = Path(spec)
    path, checkpoint = shown.config_of(run), networks.checkpoint_of(run)
    config = Config.fromfile(path)
    sha256 = disk.sha256(checkpoint)
    name = config.get('model_name') or run.name
    facts = dict(name=name, file=str(checkpoint), sha256=sha256)
    about = networks.mean_of(config)
    folder = records_of(config, checkpoint, options)

    def of_segmentor(change: str) -> Iterator[dict[str, Any]]:
        step = options.step(change, about)
        return _segmentor(path, checkpoint, sha256, step, folder / file_name(change), options)

    def of_classifier(change: str) -> Iterator[dict[str, Any]]:
        step = options.step(change, about)
        return _classifier(path, checkpoint, step, folder / file_name(change), options)

    return facts, of_segmentor if networks.is_segmentor(config) else of_classifier


def file_name(change: str) -> str:
    """Return the folder of a change's records below `records_of`."""
    return change.replace('*', 'x')


def records_of(config: Config, checkpoint: Path, options: Options) -> Path:
    """Return the folder of a run's records."""
    name = config.get('model_name') or checkpoint.parent.name
    return options.out / 'records' / f'{name}-{disk.sha256(checkpoint)[:8]}'


def _segmentor(
    path: Path, checkpoint: Path, sha256: str, step: Any, work_dir: Path, options: Options
) -> Iterator[dict[str, Any]]:
    """Yield the result of each domain. A record of the same measurement is read, not made again."""
    config = load_config(path, work_dir=str(work_dir), data_root=options.data_root)
    data = config.test_dataloader.dataset
    data.domains = list(options.domains or data.domains)
    if step:
        data.altered = step
        if step['type'] == 'Corrupt':
            step['where'] = data.data_root  # which the config may say
    if options.protocol:
        config.protocol = options.protocol
    plan = checks.plan_measurement(config)
    hashes = {domain: protocol.hash for domain, protocol in plan.items()}
    name = records.name(config.model_name, checkpoint, sha256, hashes)
    out = work_dir / name  # named after checkpoint and protocols
    if out.is_file():
        record = records.read(out)
    else:
        record = test(config, checkpoint, out=out, protocol=options.protocol, show=False)
    for one in record.domains:
        found = score(one.matrix, one.classes)
        names = labels.task(parse(one.domain)[0].space).classes
        per_class = zip((names[i] for i in found.classes), found.iou, strict=True)
        yield dict(
            target=one.domain,
            measure='mIoU',
            score=100 * found.miou,
            per_class={name: _percent(iou) for name, iou in per_class},
            images=one.images,
            protocol=json.loads(json.dumps(one.protocol)),
            protocol_hash=one.protocol_hash,
        )


def _percent(share: float) -> float | None:
    return 100 * float(share) if np.isfinite(share) else None


def _classifier(
    path: Path, checkpoint: Path, step: Any, work_dir: Path, options: Options
) -> Iterator[dict[str, Any]]:
    """Yield the result of a run of MMPretrain, by its own evaluator, which tells no classes."""
    config = training.load_config(path, work_dir=str(work_dir), data_root=options.data_root)
    data = config.test_dataloader.dataset
    protocol = dict(
        name=f'{path.stem}{_suffix(step)}',
        dataset={key: str(value) for key, value in data.items() if key != 'data_root'},
        altered=appearance.without_place(step),
    )
    data.pipeline = networks.altered_pipeline(data.pipeline, step)
    metrics = training.test(config, checkpoint)
    key = next((key for key in metrics if key.endswith('top1')), next(iter(metrics)))
    facts = dict(score=metrics[key], per_class={}, images=None)
    yield _result(str(data.get('split') or 'test'), key, facts, protocol)


def _result(
    target: str, measure: str, facts: dict[str, Any], protocol: dict[str, Any]
) -> dict[str, Any]:
    digest = protocol_hash(protocol)
    return dict(target=target, measure=measure, **facts, protocol=protocol, protocol_hash=digest)


def _suffix(step: Any) -> str:
    return f'-{step["name"]}' if step else ''


def _of_hub(spec: str, options: Options) -> tuple[dict[str, Any], Measure]:
    if options.images is None:
        raise ValueError(f'{spec}: a classifier of the hub needs images: give --images FOLDER')
    network = networks.load(spec)
    folder = Path(options.images)
    dataset = ImageFolder(str(folder.parent), folder.name, pipeline=[])
    classes, count = dataset.metainfo['classes'], len(dataset)
    head = [*network.trunk.children()][-1]
    if head.out_features != len(classes):
        raise DataError(
            f'{folder}: {len(classes)} folders of classes, {spec} tells {head.out_features} apart. '
            'Labels count the folders by name, so it needs one for each'
        )
    digest = appearance.digest_of(str(folder))

    def measure(change: str) -> Iterator[dict[str, Any]]:
        step = options.step(change, network.about)
        right = np.zeros((len(classes), 2), np.int64)
        for i in progress.track(range(count), f'{network.name} {change}', count):
            info = dataset.get_data_info(i)
            with torch.no_grad():
                given = network.prepare(info['img_path'], i, None, step)
                logits = network.trunk(given.to(head.weight.device))
            label = info['gt_label']
            right[label] += int(logits.argmax(1)[0]) == label, 1
        facts = dict(
            score=_percent(right[:, 0].sum() / right[:, 1].sum()),
            per_class={n: _percent(r / t) for n, (r, t) in zip(classes, right, strict=True)},
            images=count,
        )
        protocol = dict(name=f'{network.size}{_suffix(step)}', images=count, digest=digest)
        protocol['altered'] = appearance.without_place(step)
        yield _result(folder.name, 'top-1 accuracy', facts, protocol)

    return dict(name=network.name, file=network.file, sha256=network.sha256), measure


def _tables(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
    """Return (target, measure) -> change -> name of the network -> result."""
    tables: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for network in found['networks']:
        for one in network['results']:
            table = tables.setdefault((one['target'], one['measure']), {})
            table.setdefault(one['change'], {})[network['name']] = one
    return tables


def text(found: dict[str, Any]) -> str:
    """Return the Markdown of what `run` measured."""
    names = [one['name'] for one in found['networks']]
    lines = []
    for (target, measure), table in _tables(found).items():
        lines += [
            f'## {measure} on {target}',
            '',
            'In percent; brackets: drop from none.',
            '',
            *markdown_table('change', names, {c: [_cell(row.get(n)) for n in names]
                                      for c, row in table.items()}),
            '',
        ]  # fmt: skip
        for name in names:
            lines += _per_class(name, {c: row[name] for c, row in table.items() if name in row})
    lines += ['## Protocols', '']
    for (target, _), table in _tables(found).items():
        for change, row in table.items():
            said = sorted({(r['protocol']['name'], r['protocol_hash']) for r in row.values()})
            lines.append(f'- {target}, {change}: {", ".join(" ".join(one) for one in said)}')
    return '\n'.join(lines) + '\n'


def _cell(one: dict[str, Any] | None) -> str:
    if one is None:
        return ''
    return f'{one["score"]:.1f}' + ('' if one['change'] == 'none' else f' ({short(one["drop"])})')


def _per_class(name: str, row: dict[str, dict[str, Any]]) -> list[str]:
    classes = [*dict.fromkeys(c for one in row.values() for c in one['per_class'])]
    if not classes or len(classes) > 100:  # those of ImageNet are in the JSON
        return []
    cells = {
        c: ['' if (v := one['per_class'].get(c)) is None else f'{v:.1f}' for one in row.values()]
        for c in classes
    }
    return [f'### {name}, each class', '', *markdown_table('class', list(row), cells), '']


def markdown_table(head: str, columns: Sequence[str], rows: dict[str, list[str]]) -> list[str]:
    """Return a table of Markdown."""
    every = [[head, *columns], *([name, *cells] for name, cells in rows.items())]
    first, *rest = (f'| {" | ".join(map(_escaped, row))} |' for row in every)
    return [first, f'| :-- |{" --: |" * len(columns)}', *rest]


def _escaped(text: str) -> str:
    return re.sub(r'([*|_<`\\])', r'\\\1', clean(text))
