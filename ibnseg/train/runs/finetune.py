"""Fine-tuning on part of a target's labels, as in the paper (its table of 10, 20, 30 and 100 %).

A fine-tuned network has seen the target. Its source says so ('gta5:train -> cityscapes:train
10 %'), so that no table puts it beside numbers without fine-tuning.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config

from ... import disk, domains, weights
from ...measure import records
from ...report.grid import Grid, Section, percent
from ...report.table import Stat, scores
from .. import checks
from ..config import domain_names, stretch
from . import states
from .states import Planned


def start(config: Config, checkpoint: str | Path) -> tuple[Path, str]:
    """Return path and SHA-256 of a checkpoint that the config fits.

    Raises as `weights.read` and `checks.check_trained_on`.
    """
    path = Path(checkpoint).resolve()
    checks.check_trained_on(path, weights.read(path).get('meta', {}), config)
    return path, disk.sha256(path)


def splits(target: str) -> tuple[str, str]:
    """Return ('name:split' to train on, 'name:split' to measure) of 'name' or 'name:split'.

    Raises DataError: unknown, or a dataset without a val split, whose training data would be
    measured.
    """
    row, split = domains.parse(target if ':' in target else f'{target}:train')
    measured, val = domains.parse(f'{row.name}:val')
    return f'{row.name}:{split}', f'{measured.name}:{val}'


def configure(
    config: Config,
    begin: tuple[Path, str],
    target: str,
    fraction: float,
    subset_seed: int = 0,
    iterations: int | None = None,
) -> Config:
    """Turn the config that a checkpoint was trained with into that of its fine-tuning.

    Network, crop, augmentation, batch and optimiser stay as they were; samples are drawn as
    PositionSampler does; the last checkpoint counts, so nothing is selected on the target.

    Args:
        config: changed, and returned.
        begin: from where, as `start`.
        target: as `splits`.
        fraction: of the target's training images, above 0 to 1; see `domains.subset`.
        subset_seed: which of them; those of one seed are nested.
        iterations: default: as many as the config says. The schedule is stretched to them.

    Raises:
        DataError, ValueError: no such data, fraction or number of iterations.
    """
    path, sha256 = begin
    train, val = splits(target)
    data = config.train_dataloader.dataset
    found = domains.use(train, data.data_root, data.get('skip_lists', ()))
    images = len(domains.subset(len(found.pairs), fraction, subset_seed))
    data.domain, data.mixing = train, None
    data.fraction, data.subset_seed = fraction, subset_seed
    config.train_dataloader.sampler = dict(type='PositionSampler')
    config.fine_tuned = dict(
        checkpoint=path.name,
        sha256=sha256,
        source=config.source,
        target=train,
        fraction=fraction,
        subset_seed=subset_seed,
        images=images,
    )
    config.source += domains.THEN + domains.part(train, fraction, subset_seed)
    config.mixing = None
    config.load_from, config.resume = str(path), False
    config.model.backbone.init_cfg = None  # the checkpoint has all weights
    config.val_dataloader.dataset.domains = [val]
    data = config.test_dataloader.dataset
    data.domains = list(dict.fromkeys([val, *domain_names(data)]))
    config.select = 'last'
    if iterations is not None:
        stretch(config, iterations)
    config.train_cfg.val_interval = config.train_cfg.max_iters  # for the log, once
    config.fine_tuned.settings = _settings(config)
    return config


def _settings(config: Config) -> str:
    """Eight digits over what all fractions of one row share: network, data, batch, schedule."""
    shared = Config(config.to_dict())
    data = shared.train_dataloader
    kept = dict(
        model=shared.model,
        data=data
        | dict(num_workers=0, dataset=data.dataset | dict(data_root='', fraction=1, subset_seed=0)),
        schedule=[shared[key] for key in ('optim_wrapper', 'param_scheduler', 'train_cfg')],
    )
    return hashlib.sha256(Config(kept).pretty_text.encode()).hexdigest()[:8]


def planned(config: Config, seed: int, work_dir: str | Path) -> Planned:
    """Return the run of a configured fine-tuning in its folder below `work_dir`.

    Its config file is written there when it is begun. Raises ValueError where the folder holds
    another run.
    """
    facts = config.fine_tuned
    part = f'{100 * facts.fraction:g}'
    part += f'-subset-{facts.subset_seed}' if facts.subset_seed else ''
    where = facts.target.replace('/', '-').replace(':', '-')
    folder = Path(work_dir, config.model_name, where, part, f'seed-{seed}')
    config.work_dir = str(folder)
    return states.planned(folder / 'finetune.py', config, seed, folder, 'finetune.config')


# ------------------------------------------------------------------------ the table


def tabulate(found: Sequence[records.Record], target: str, domain: str) -> Section:
    """Put the fine-tuned records of one target side by side; others are left out.

    Rows are models, each from one checkpoint; columns are fractions, and which pairs they are of
    where that differs: mIoU on `domain`, mean ± standard deviation (n - 1) where there are seeds.

    Raises ValueError: none is left, they were measured by several protocols, or those of one model
    and checkpoint were trained by several settings, or two of them have one fraction and seed.
    """
    runs: dict[tuple, dict[tuple, float]] = {}  # (model, source, sha256), column -> run -> mIoU
    columns, protocols, settings = set(), set(), {}
    for record in found:
        facts = record.provenance.get('fine_tuned')
        measured = next((one for one in record.domains if one.domain == domain), None)
        if not isinstance(facts, dict) or facts.get('target') != target or measured is None:
            continue
        line = record.model, facts['source'], facts['sha256']
        # Columns are of equal pairs, also where the dataset was not whole or was skipped in part.
        column = facts['fraction'], facts['images'], _digest(record, target)
        columns.add(column)
        protocols.add(measured.protocol_hash)
        if settings.setdefault(line, facts.get('settings')) != facts.get('settings'):
            raise ValueError(
                f'fractions of {record.model} were fine-tuned by other settings (batch, schedule, '
                'network, augmentation), whose numbers can not stand in one row. Run each of them '
                'into a --work-dir of its own'
            )
        cell = runs.setdefault((line, column), {})
        run = seed, _ = record.provenance.get('seed'), facts.get('subset_seed')
        if run in cell:
            raise ValueError(
                f'two records of {record.model} on {100 * column[0]:g} % of {target}, seed {seed}'
            )
        cell[run] = scores(measured).miou
    if not runs:
        raise ValueError(f'no record of fine-tuning on {target} that was measured on {domain}')
    if len(protocols) > 1:
        raise ValueError(
            f'{domain} was measured by protocols {", ".join(sorted(protocols))}, whose numbers '
            'can not be compared. Measure all by one, or move the others away'
        )
    header = ['model', 'checkpoint', 'trained on']
    number = Counter(column[:2] for column in columns)
    for fraction, images, digest in sorted(columns):
        of = f', {digest or "unknown"}' * (number[fraction, images] > 1)
        header.append(f'{100 * fraction:g} % ({images} images{of})')
    lines = [
        [model, sha256[:8], source]
        + [_shown(runs.get(((model, source, sha256), column), {})) for column in sorted(columns)]
        for model, source, sha256 in sorted(settings)
    ]
    title = (
        f'Fine-tuned on part of {target}: mIoU in % on {domain} (protocol {protocols.pop()}), '
        'last checkpoint'
    )
    return Section(title, grid=Grid(header, lines, left=3, cut=80))


def _digest(record: records.Record, target: str) -> str:
    """Which pairs of the target there were, before the fraction was taken; '' if not known."""
    pairs = (record.provenance.get('training') or {}).get('pairs') or {}
    return pairs.get(target, {}).get('digest', '')


def _shown(runs: Mapping[tuple, float]) -> str:
    return percent(Stat.of(runs.values())) + f' (n={len(runs)})' * (len(runs) > 1)
