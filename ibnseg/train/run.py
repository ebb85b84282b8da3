"""The jobs behind `tools/train.py` and `tools/test.py`: a config in, a record out."""

import argparse
import dataclasses
import datetime
import logging
import os
import platform
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import get_rank, is_distributed, is_main_process
from mmengine.model import is_model_wrapper
from mmengine.registry import DefaultScope
from rich.console import Console

from .. import _stack, audit, domains, report, weights
from ..measure import predictions, protocols, records, selection
from .checkpoint import newest
from .compile import compile_backbone
from .runner import SegRunner

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_NEEDED = ('source', 'model', *_LOADERS)
INPUT_ERRORS = (ValueError, FileNotFoundError, FileExistsError, KeyError, SyntaxError)


def load_config(
    path: str | Path,
    *,
    work_dir: str | None = None,
    data_root: str | None = None,
    amp: bool = False,
    compile: bool = False,
    launcher: str = 'none',
    skip_lists: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Config:
    """Read a config file and lay the command line over it.

    Args:
        path: MMEngine config; it is Python and is run as such.
        work_dir: default `work_dirs/<path of the config below configs/>`.
        data_root: replaces that of every data set.
        amp: train in mixed precision, float16 on a GPU, bfloat16 on a CPU; measure in float32.
        compile: run the backbone by torch.compile, if that works here.
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        skip_lists: files that name pairs to leave out (`ibnseg.domains.skip`).
        options: dotted keys -> values, as MMEngine's `--cfg-options`.

    Raises:
        FileNotFoundError, ValueError: no such config, or one that lacks what a run needs.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'{path}: no such config file')
    config = Config.fromfile(str(path))
    config.merge_from_dict(dict(options or {}))
    absent = [key for key in _NEEDED if key not in config]
    if absent:
        raise ValueError(f'{path}: no {", ".join(absent)}; see configs/ for what a config says')
    if not isinstance(config.source, str):
        config.source = str(domains.Source.of(config.source, config.get('mixing')))
    _state_part(config)
    config.launcher = launcher
    config.work_dir = work_dir or config.get('work_dir') or str(default_work_dir(Path(path)))
    # The source is a field of its own; `ibn_b_gta5_to_cityscapes` is the model `ibn_b`.
    name = re.sub(r'_[a-z0-9]+_to_[a-z0-9]+$', '', Path(path).stem)
    config.model_name = config.get('model_name') or name
    for loader in _LOADERS:
        if data_root is not None:
            config[loader].dataset.data_root = str(data_root)
        if skip_lists:
            config[loader].dataset.skip_lists = [str(path) for path in skip_lists]
    if compile:
        config.compile_backbone = True
    if amp:
        gpu = torch.cuda.is_available()
        config.optim_wrapper.type = 'AmpOptimWrapper' if gpu else 'CPUAmpOptimWrapper'
    return config


def _state_part(config: Config) -> None:
    """Have `source` say which part is trained on, also where a dumped config said another one."""
    data = (config.train_dataloader or {}).get('dataset', {})
    if 'domain' not in data:
        return
    part = fraction, seed = data.get('fraction', 1), data.get('subset_seed', 0)
    if tuned := config.get('fine_tuned'):
        if part != (tuned['fraction'], tuned['subset_seed']):
            raise ValueError(
                f'the config is of a network fine-tuned on {100 * tuned["fraction"]:g} % (subset '
                f'{tuned["subset_seed"]}), its train_dataloader reads {100 * fraction:g} % (subset '
                f'{seed}). Leave these as they were, or begin another with ibnseg finetune'
            )
        return
    config.source = domains.whole(config.source)
    if fraction != 1:
        config.source = domains.part(config.source, *part)


def default_work_dir(path: Path) -> Path:
    """Return `work_dirs/<path of the config below configs/>`."""
    parts = path.with_suffix('').parts
    below = parts[parts.index('configs') + 1 :] if 'configs' in parts else parts[-1:]
    return Path('work_dirs', *below)


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse `key=value` words as MMEngine's `--cfg-options` does. Raises ValueError for others."""
    wrong = [pair for pair in pairs if '=' not in pair]
    if wrong:
        raise ValueError(f'--cfg-options: {wrong[0]!r} is not KEY=VALUE')
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='+', action=DictAction, default={})
    return parser.parse_args(['--options', *pairs] if pairs else []).options


def train(
    config: Config,
    *,
    resume: bool = False,
    seed: int | None = None,
    show: bool = True,
    select: str | None = None,
) -> records.Record:
    """Train, select a checkpoint (on the source's validation), measure it on every domain.

    Writes checkpoints, log and `<model>.record.json` into `config.work_dir`.

    Args:
        resume: continue from the newest checkpoint of `config.work_dir`, with its seed.
        seed: of weights, sampling and augmentation; default: the config's.
        show: print the table and where the files are.
        select: option of a `selection.RULES`; default: the config's `select`, else what its
            validation amounts to.

    Raises:
        DataError, ValueError: data, weights or config are not as expected, before any training.
    """
    _check_source(config)
    rule = _select(config, select)
    plan = _protocols(config)
    validation = config.val_dataloader.dataset
    for domain in validation.domains:
        domains.find(domain, validation.data_root, validation.get('skip_lists', ()))
    config.skipped = _skipped(config.train_dataloader.dataset)
    work_dir = Path(config.work_dir)
    latest = newest(work_dir)
    if resume:
        _resume(config, latest, seed)
    else:
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
    runner = build(config)
    runner.train()
    chosen = next(filter(None, (newest(work_dir, pattern) for pattern in rule.files)))
    return _measure(runner, plan, chosen, work_dir / f'{config.model_name}.record.json', show)


def _check_source(config: Config) -> None:
    """The record says what `source` says: it must be what is trained on."""
    data = config.train_dataloader.dataset
    if 'domain' not in data or config.get('fine_tuned'):
        return
    trained, stated = domains.Source.of(data.domain, data.get('mixing')), config.source
    if str(trained) != str(domains.Source.of(domains.whole(stated))):
        raise ValueError(
            f'the config says source {stated}, its train_dataloader reads {trained}. Change both: '
            'source=... (and mixing) and train_dataloader.dataset.domain=... (and its mixing)'
        )


def _select(config: Config, option: str | None) -> selection.Rule:
    """Return the rule, and have the config validate on what it needs."""
    validation = config.val_dataloader.dataset
    option = option or config.get('select')
    if option is None:
        return selection.implied(config.source, validation.domains)
    rule = selection.find(option)
    validation.domains = selection.validation(
        rule, config.source, validation.domains, config.test_dataloader.dataset.domains
    )
    config.select = option
    return rule


def check_data(config: Config) -> None:
    """Audit all the data of a config.

    Raises DataError where training would use what is damaged; ValueError with a launcher: while one
    process audits, the others' wait for it would time out.
    """
    used = [config[loader].dataset for loader in _LOADERS]
    if config.launcher != 'none':
        sets = {
            (name.split(':')[0], data.data_root): None for data in used for name in _names(data)
        }
        commands = ' && '.join(f'ibnseg audit {name} {shlex.quote(root)}' for name, root in sets)
        raise ValueError(
            f'--audit with --launcher {config.launcher}: an audit is for one process. Run it '
            f'before, and train without --audit: {commands}'
        )
    with audit.bar() as progress:
        reports = audit.before_training(
            [(name, data.data_root) for data in used for name in _names(data)],
            {path for data in used for path in data.get('skip_lists', ())},
            progress,
        )
    for found in reports:
        print(f'audit {found.domain}: {found.files:,} files, {found.verdict}', flush=True)


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


def build(config: Config) -> SegRunner:
    """Build the runner. Raises ValueError for a part that does not exist."""
    try:
        runner = SegRunner.from_cfg(config)
    except TypeError as error:
        raise ValueError(f'the config asks for something that does not exist: {error}') from error
    if config.get('compile_backbone'):
        compile_backbone(runner.model)
    return runner


def test(
    config: Config,
    checkpoint: str | Path,
    *,
    measure: Sequence[str] | None = None,
    out: str | Path | None = None,
    protocol: str | None = None,
    classes: str | None = None,
    save_predictions: str | Path | None = None,
) -> records.Record:
    """Measure a checkpoint on several domains in one run, and write the record.

    Args:
        measure: domains as 'name' or 'name:split'; default: the config's.
        out: record file; default `<work_dir>/test/<model>.record.json`.
        protocol: of `protocols.SETTINGS`; default: the config's `protocol`, else its test pipeline.
        classes: of `protocols.CLASS_SETS`; default: the config's `class_set`, else all that the
            domain's labels name.
        save_predictions: new folder for the predictions as files, see `predictions.Saver`.

    Raises:
        DataError, ValueError, FileNotFoundError: data, checkpoint or config are not as expected.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f'{checkpoint}: no such checkpoint')
    out = Path(out or Path(config.work_dir) / 'test' / f'{config.model_name}.record.json')
    if out.is_dir():
        raise ValueError(f'--out {out} is a folder; expected the name of a file to write')
    out.parent.mkdir(parents=True, exist_ok=True)  # found out now, not after hours of measuring
    # Not the folder of the training run: its config and record stay as they are.
    config.work_dir = str(Path(config.work_dir) / 'test')
    if measure:
        config.test_dataloader.dataset.domains = list(measure)
    config.protocol = protocol or config.get('protocol')
    config.class_set = classes or config.get('class_set')
    plan = _protocols(config)
    for key in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'param_scheduler'):
        config[key] = None
    for key in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        config[key] = None
    config.model.backbone.init_cfg = None  # the checkpoint has all weights
    saver = None
    if save_predictions:
        framed = [d for d, p in plan.items() if p.label_scale or p.label_height]
        if framed:
            raise ValueError(
                f'--save-predictions: protocol {config.protocol!r} scales the labels of '
                f'{framed[0]}, so no prediction would have the size of its label file. Leave one '
                "of them away, or save those of 'native'"
            )
        data = config.test_dataloader.dataset
        saver = predictions.Saver(
            save_predictions, plan, data.data_root, data.get('skip_lists', ())
        )
    return _measure(build(config), plan, checkpoint, out, saver=saver)


def _protocols(config: Config) -> dict[str, protocols.Protocol]:
    """Describe the measurement of each domain, and find its files, before anything is run.

    A named protocol takes the place of the config's test pipeline.
    """
    data, name = config.test_dataloader.dataset, config.get('protocol')
    data.raw = True
    _check_heads(config, [*(row.name for row in domains.trained_on(config.source)), *data.domains])
    lists = data.get('skip_lists', ())
    bfloat16 = bool(config.test_cfg.get('fp16'))
    plan = {}
    for domain in data.domains:
        images = len(domains.find(domain, data.data_root, lists))
        if name:
            protocol = protocols.named(name, domain, images, bfloat16)
        else:
            given = data.pipeline, config.model.test_cfg
            protocol = protocols.native(domain, images, *given, bfloat16)
        if classes := config.get('class_set'):
            counted = protocols.class_set(protocol.space, classes)
            protocol = dataclasses.replace(protocol, classes=counted)
        skipped = domains.skipped(domain, data.data_root, lists)
        protocol = dataclasses.replace(protocol, skipped=protocols.skipped_hash(skipped))
        plan[f'{protocol.domain}:{protocol.split}'] = protocol
    if name:
        data.pipelines = {domain: protocol.pipeline() for domain, protocol in plan.items()}
    return plan


def _check_heads(config: Config, names: Sequence[str]) -> None:
    """Raise ValueError unless every head has as many outputs as the domains have classes."""
    classes = domains.task(names).classes
    for key in ('decode_head', 'auxiliary_head'):
        heads = config.model.get(key) or []
        for head in heads if isinstance(heads, list | tuple) else [heads]:
            if head.num_classes != len(classes):
                shown = ', '.join(classes[:3]) + (', ...' if len(classes) > 3 else '')
                raise ValueError(
                    f'{", ".join(names)}: {len(classes)} classes ({shown}), but model.{key} tells '
                    f'{head.num_classes} apart. Name domains of the same classes, or give the '
                    f'heads num_classes={len(classes)} and train them on these'
                )


def _skipped(data: Config) -> dict[str, int]:
    """Domain -> how many of its pairs the skip lists leave out, where there are any."""
    lists = data.get('skip_lists', ())
    counts = {name: len(domains.skipped(name, data.data_root, lists)) for name in _names(data)}
    return {name: count for name, count in counts.items() if count}


def _names(data: Config) -> tuple[str, ...]:
    """The domains of a config's data set, 'name:split' each."""
    if 'domains' in data:
        return tuple(':'.join((row.name, split)) for row, split in map(domains.parse, data.domains))
    return domains.Source.of(data.domain, data.get('mixing')).domains


def _measure(
    runner: SegRunner,
    plan: Mapping[str, protocols.Protocol],
    checkpoint: str | Path,
    out: Path,
    show: bool = True,
    saver: predictions.Saver | None = None,
) -> records.Record:
    meta = runner.load_checkpoint(str(checkpoint)).get('meta', {})
    config = runner.cfg
    trained = meta.get('trained', {})
    source = trained.get('source', config.source)
    if source != config.source:
        raise ValueError(
            f'{checkpoint} was trained on {source}, the config says {config.source}. Give the '
            'config that it was trained with'
        )
    if config.get('protocol'):  # not before: a run's own validation is by its config
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.test_cfg = ConfigDict(next(iter(plan.values())).test_cfg())
    metric = runner.test_loop.evaluator.metrics[0]
    metric.watch = saver
    runner.test()
    dataset = runner.test_dataloader.dataset
    record = records.Record(
        model=config.model_name,
        source=config.source,
        classes=list(dataset.metainfo['classes']),
        provenance=dict(
            checkpoint=Path(checkpoint).name,
            checkpoint_sha256=records.sha256(checkpoint),
            iteration=meta.get('iter'),
            training_iterations=trained.get('iterations'),
            selection=trained.get('selection', 'last') if 'score' in meta else 'last',
            validated=trained.get('validated', []),
            shares=trained.get('shares'),
            fine_tuned=trained.get('fine_tuned'),
            placement=config.model.backbone.get('placement'),
            seed=meta.get('seed'),
            commit=records.code_commit(),
            date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
            versions=versions(),
            skip=dict(
                lists=[
                    dict(file=str(path), sha256=records.sha256(path))
                    for path in config.test_dataloader.dataset.get('skip_lists', ())
                ],
                pairs=_skipped(config.test_dataloader.dataset),
                trained=trained.get('skipped', {}),
            ),
            config=config.pretty_text,
        ),
    )
    for domain, protocol in plan.items():
        record.domains.append(
            records.Measurement(
                domain,
                protocol.images,
                protocol.content(),
                protocol.hash,
                metric.totals[domain],
                metric.raw.get(domain),
            )
        )
    if is_main_process():
        data = config.test_dataloader.dataset
        where = data.data_root, data.get('skip_lists', ())
        named = {d: metric.images[d].named(predictions.photo_keys(d, *where)) for d in plan}
        predictions.write(record, named, out)
        if saver:
            saver.finish(record)
    if is_main_process() and show:
        Console(highlight=False).print(report.terminal(report.tabulate([record])))
        print(f'record      {out}')
        if saver:
            print(f'predictions {saver.folder}')
        print(f'checkpoint  {checkpoint}')
        print(f'log         {Path(runner.log_dir) / (runner.timestamp + ".log")}')
    return record


def versions() -> dict[str, str]:
    """Return the version of each package that a result depends on."""
    from .. import __version__

    stack = {f'mmsegmentation ({name})': v for name, v in _stack.installed().items()}
    return {
        'ibnseg': __version__,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'numpy': numpy.__version__,
        **stack,
    }


def command(job: Callable[[], Any], interrupted: str = 'interrupted') -> int:
    """Run a command's job; bad input becomes one line and exit code 2, with the trace logged.

    With IBNSEG_TRACE set in the environment, the trace is shown.
    """
    log = logging.getLogger('py.warnings')  # goes to the run's log file, once there is one
    log.addHandler(logging.NullHandler())
    log.propagate = False
    logging.captureWarnings(True)
    try:
        with DefaultScope.overwrite_default_scope('mmseg'):
            job()
    except INPUT_ERRORS as error:
        if 'IBNSEG_TRACE' in os.environ:
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        log.error(traceback.format_exc())
        rank = get_rank() if is_distributed() else int(os.environ.get('RANK', 0))
        # Before the ranks meet, all find the same; later, each is alone with what it read.
        if rank == 0 or is_distributed():
            print(f'error{f" (rank {rank})" if rank else ""}: {message}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    return 0
