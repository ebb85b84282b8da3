"""The measurement of a checkpoint on several domains: a record, and the matrices beside it."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper

from .. import report
from ..domains import Used
from ..errors import DataError, Incomplete
from ..measure import matrices, predictions, records, reliability
from ..measure.protocols import Protocol
from ..measure.records import Measurement, Record
from ..text import tell
from . import checks, formatted, parts
from .config import check_file
from .runner import FOR_TRAINING, SegRunner, build
from .subject import Subject


@formatted.once()
def test(
    config: Config,
    subject: str | Path | Subject,
    *,
    domains: Sequence[str] | None = None,
    out: str | Path | None = None,
    protocol: str | None = None,
    classes: str | None = None,
    save_predictions: str | Path | None = None,
    show: bool = True,
    with_reliability: bool = False,
) -> Record:
    """Measure a checkpoint on several domains in one run, and write the record.

    Args:
        subject: a checkpoint, or one in an engine.
        domains: as 'name' or 'name:split'; default: the config's.
        out: record file; default `<model>.<checkpoint>.<digits>.record.json` in
            `<work_dir>/test`, the digits over the checkpoint and how it is measured.
        protocol: of `protocols.SETTINGS`; default: the config's `protocol`.
        classes: of `protocols.CLASS_SETS`; default: the config's `class_set`, else all that the
            domain's labels name.
        save_predictions: folder for the predictions as files, see `predictions.Saver`.
        show: print the table and where the files are.
        with_reliability: also write what `measure.reliability` needs, beside the record.

    Raises:
        Incomplete: pairs of some domains could not be read; the record holds the others.
        DataError, ValueError, FileNotFoundError: data, checkpoint or config are not as expected.
        FileExistsError: `out` holds another result.
    """
    if not isinstance(subject, Subject):
        check_file(subject, 'checkpoint')
        subject = Subject(subject)
    parts.check(config)
    if with_reliability and save_predictions:
        raise ValueError(
            '--reliability with --save-predictions: a prediction that is kept has no confidence. '
            'Give one of them, then the other'
        )
    # Not the folder of the training run: its config and record stay as they are.
    config.work_dir = str(Path(config.work_dir) / 'test')
    checks.check_writable(Path(out or Path(config.work_dir, 'new')))
    data = config.test_dataloader.dataset
    if domains:
        data.domains = list(domains)
    if protocol:
        config.protocol = data.protocol = protocol
    config.class_set = classes or config.get('class_set')
    plan = checks.plan_measurement(config)
    out = _place(config, subject, plan, out)
    for key in FOR_TRAINING:
        config[key] = None
    saver = _saver(config, plan, subject, save_predictions) if save_predictions else None
    subject.prepare(config)
    runner = build(config)
    record = measure(runner, plan, subject, out, show, saver, with_reliability)
    _check_read(runner.test_dataloader.dataset.used.values(), out)
    return record


def _place(
    config: Config, subject: Subject, plan: Mapping[str, Protocol], out: str | Path | None
) -> Path:
    """Return the file of the record. Raises FileExistsError where it holds another result."""
    hashes = {domain: protocol.hash for domain, protocol in plan.items()}
    engine = records.engine_of(dict(engine=subject.engine))
    name = records.name(config.model_name, subject.file, subject.sha256, hashes, engine)
    found = Path(out or Path(config.work_dir, name))
    records.check_free(found, config.model_name, subject.sha256, hashes, engine)
    return found


def _check_read(used: Iterable[Used], out: Path) -> None:
    """Raise Incomplete where a file of a pair could not be read."""
    odd = (error for one in used for error in one.odd.values())
    if unread := [error for error in odd if error.kind == 'unreadable']:
        raise Incomplete(
            f'{unread[0]} ({len(unread):,} pairs left out of {out}, since a file cannot be read). '
            'Mend these files and measure again, or state by --skip-list that they are left out'
        )


#: Fields of a protocol that change no prediction.
_SCORING = ('images', 'skipped', 'pairs', 'classes')


def _saver(
    config: Config, plan: Mapping[str, Protocol], subject: Subject, folder: str | Path
) -> predictions.Saver:
    framed = [d for d, p in plan.items() if p.label_scale or p.label_height]
    data = config.test_dataloader.dataset
    if framed:
        raise ValueError(
            f'--save-predictions: protocol {data.protocol!r} scales the labels of {framed[0]}, so '
            'no prediction would have the size of its label file. Leave one of them away, or save '
            "those of 'native'"
        )
    marks, network = {}, [subject.sha256, str(config.model)]
    network += [records.engine_of(dict(engine=subject.engine))] * bool(subject.engine)
    for domain, protocol in plan.items():
        how = {key: value for key, value in protocol.content().items() if key not in _SCORING}
        marks[domain] = hashlib.sha256(json.dumps([*network, how]).encode()).hexdigest()
    return predictions.Saver(folder, marks, data.data_root, data.get('skip_lists', ()))


def measure(
    runner: SegRunner,
    plan: Mapping[str, Protocol],
    subject: str | Path | Subject,
    out: Path,
    show: bool = True,
    saver: predictions.Saver | None = None,
    reliable: bool = False,
) -> Record:
    """Run the test of a runner with a checkpoint, write its record to `out`, and return it.

    Args:
        subject: a checkpoint, or one in an engine.
        plan: as `checks.plan_measurement`.
        show: print the table and where the files are.
        reliable: `with_reliability` of `test`.

    Raises:
        Incomplete: pairs of some domains could not be read; the record holds the others.
    """
    subject = subject if isinstance(subject, Subject) else Subject(subject)
    config = runner.cfg
    subject.load(runner)
    data = config.test_dataloader.dataset
    if isinstance(data.get('protocol'), str):  # not before: a run validates by its own config
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.test_cfg = ConfigDict(next(iter(plan.values())).test_cfg())
    metric = runner.test_loop.evaluator.metrics[0]
    metric.watch = runner.test_loop.saver = saver
    metric.keeps_doubt = runner.test_loop.doubt = reliable
    runner.test_dataloader.dataset.goes_on = True
    _check_pairs(used := runner.test_dataloader.dataset.used, plan)
    runner.test()
    lost = _lost(metric.unread)
    plan = {domain: protocol for domain, protocol in plan.items() if domain not in metric.unread}
    if not plan:
        nothing = DataError(f'{lost}. Nothing is left to record')
        nothing.common = True
        raise nothing
    record = _record(runner, plan, subject.provenance(config, used))
    if is_main_process():
        if lost:  # never over a record that holds more
            hashes = {one.domain: one.protocol_hash for one in record.domains}
            engine = records.engine_of(record.provenance)
            records.check_free(out, record.model, subject.sha256, hashes, engine)
        named = {d: replace(metric.images[d], keys=used[d].photos) for d in plan}
        matrices.save(record, named, out)
        if reliable:
            kept = {d: replace(metric.reliability[d], keys=used[d].photos) for d in plan}
            reliability.write(out, record, kept)
        if saver and not lost:
            records.write(record, saver.folder / predictions.MANIFEST)
        if show:
            _show(record, out, reliable, saver, subject.file, runner.log_file)
    if lost:
        raise Incomplete(
            f'{lost}. {out} holds the others ({", ".join(plan)}). Mend these files or leave the '
            f'pairs out with --skip-list; then measure {subject.file} again with ibnseg test'
        )
    return record


def _show(
    record: Record,
    out: Path,
    reliable: bool,
    saver: predictions.Saver | None,
    checkpoint: str | Path,
    log: str | Path,
) -> None:
    report.show(report.tabulate([record]))
    paths = dict(
        record=out,
        reliability=reliability.beside(out) if reliable else None,
        predictions=saver and saver.folder,
        checkpoint=checkpoint,
        log=log,
    )
    for what, path in paths.items():
        if path:
            tell(f'{what:11} {path}')


def _record(runner: SegRunner, plan: Mapping[str, Protocol], provenance: dict[str, Any]) -> Record:
    metric = runner.test_loop.evaluator.metrics[0]
    if metric.unread:
        provenance['unmeasured'] = {name: texts[0] for name, texts in metric.unread.items()}
    return Record(
        model=runner.cfg.model_name,
        source=runner.cfg.source,
        classes=list(runner.test_dataloader.dataset.metainfo['classes']),
        provenance=provenance,
        domains=[
            Measurement(d, p.images, p.content(), p.hash, metric.totals[d], metric.raw.get(d))
            for d, p in plan.items()
        ],
    )


def _lost(unread: Mapping[str, Sequence[str]]) -> str:
    """Return which domains are not measured, and why; '' where all are."""
    return '. '.join(
        f'{domain} is not measured, {len(texts)} of its pairs cannot be read: '
        + '; '.join(text.rstrip('.') for text in texts[:3])
        + ('; ...' if len(texts) > 3 else '')
        for domain, texts in unread.items()
    )


def _check_pairs(used: Mapping[str, Used], plan: Mapping[str, Protocol]) -> None:
    """Raise ValueError where other pairs are measured than planned: files came or went."""
    for domain, protocol in plan.items():
        found = len(used[domain].pairs), used[domain].part
        if found != (protocol.images, protocol.pairs):
            raise ValueError(
                f'{domain}: {protocol.images:,} pairs were found before the run, {found[0]:,} are '
                'there now: its files have changed. Measure the checkpoint by ibnseg test'
            )
