"""The measurement of a checkpoint on several domains: a record, and the matrices beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dist import is_main_process
from mmengine.model import is_model_wrapper

from .. import report, weights
from ..disk import sha256
from ..measure import matrices, origin, predictions, records
from ..measure.protocols import Protocol
from ..measure.records import Measurement, Record
from . import checks
from .config import check_file
from .runner import FOR_TRAINING, SegRunner, build


def test(
    config: Config,
    checkpoint: str | Path,
    *,
    domains: Sequence[str] | None = None,
    out: str | Path | None = None,
    protocol: str | None = None,
    classes: str | None = None,
    save_predictions: str | Path | None = None,
) -> Record:
    """Measure a checkpoint on several domains in one run, and write the record.

    Args:
        domains: as 'name' or 'name:split'; default: the config's.
        out: record file; default `<model>.<checkpoint>.<digits>.record.json` in
            `<work_dir>/test`, the digits over the checkpoint and how it is measured.
        protocol: of `protocols.SETTINGS`; default: the config's `protocol`.
        classes: of `protocols.CLASS_SETS`; default: the config's `class_set`, else all that the
            domain's labels name.
        save_predictions: new folder for the predictions as files, see `predictions.Saver`.

    Raises:
        DataError, ValueError, FileNotFoundError: data, checkpoint or config are not as expected.
        FileExistsError: `out` holds another result.
    """
    check_file(checkpoint, 'checkpoint')
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
    hashes = {domain: protocol.hash for domain, protocol in plan.items()}
    name = records.name(config.model_name, checkpoint, hashes)
    out = Path(out or Path(config.work_dir, name))
    records.check_free(out, config.model_name, sha256(checkpoint), hashes)
    for key in FOR_TRAINING:
        config[key] = None
    config.model.backbone.init_cfg = None  # the checkpoint has all weights
    saver = _saver(config, plan, save_predictions) if save_predictions else None
    return measure(build(config), plan, checkpoint, out, saver=saver)


def _saver(config: Config, plan: Mapping[str, Protocol], folder: str | Path) -> predictions.Saver:
    framed = [d for d, p in plan.items() if p.label_scale or p.label_height]
    data = config.test_dataloader.dataset
    if framed:
        raise ValueError(
            f'--save-predictions: protocol {data.protocol!r} scales the labels of {framed[0]}, so '
            'no prediction would have the size of its label file. Leave one of them away, or save '
            "those of 'native'"
        )
    return predictions.Saver(folder, plan, data.data_root, data.get('skip_lists', ()))


def measure(
    runner: SegRunner,
    plan: Mapping[str, Protocol],
    checkpoint: str | Path,
    out: Path,
    show: bool = True,
    saver: predictions.Saver | None = None,
) -> Record:
    """Run the test of a runner with a checkpoint, write its record to `out`, and return it.

    Args:
        plan: as `checks.plan_measurement`.
        show: print the table and where the files are.
    """
    meta = weights.read(checkpoint).get('meta', {})
    config = runner.cfg
    checks.check_trained_on(checkpoint, meta, config)
    data = config.test_dataloader.dataset
    if isinstance(data.get('protocol'), str):  # not before: a run validates by its own config
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.test_cfg = ConfigDict(next(iter(plan.values())).test_cfg())
    metric = runner.test_loop.evaluator.metrics[0]
    metric.watch = saver
    runner.begin_with(checkpoint, resume=False)
    runner.test()
    record = Record(
        model=config.model_name,
        source=config.source,
        classes=list(runner.test_dataloader.dataset.metainfo['classes']),
        provenance=origin.of_checkpoint(checkpoint, meta, config, checks.count_skipped(data)),
        domains=[
            Measurement(d, p.images, p.content(), p.hash, metric.totals[d], metric.raw.get(d))
            for d, p in plan.items()
        ],
    )
    if is_main_process():
        where = data.data_root, data.get('skip_lists', ())
        keys = {d: tuple(predictions.photo_keys(d, *where)) for d in plan}
        named = {d: replace(metric.images[d], keys=keys[d]) for d in plan}
        matrices.save(record, named, out)
        if saver:
            records.write(record, saver.folder / predictions.MANIFEST)
        if show:
            report.show(report.tabulate([record]))
            print(f'record      {out}')
            if saver:
                print(f'predictions {saver.folder}')
            print(f'checkpoint  {checkpoint}')
            print(f'log         {runner.log_file}')
    return record
