"""A package's numbers, measured again where the data is."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from .. import disk, named, weights
from ..errors import DataError
from ..measure import protocols, records
from ..measure.confusion import score
from ..train.config import load_config
from ..train.test import Incomplete, test
from . import files

#: mIoU in percent by which another device, which rounds otherwise, may differ.
TOLERANCE = 0.05


def rescore(folder: str | Path, data_root: str | Path) -> Iterator[tuple[str, bool]]:
    """Measure a package on every domain of its records; yield (a line for a person, is it equal).

    Equal are the same confusion matrix, or an mIoU within `TOLERANCE` by the same protocol.

    Raises PackageError, and DataError where no data is there.
    """
    package = files.read(folder)
    with tempfile.TemporaryDirectory() as place:
        checkpoint = Path(place, 'checkpoint.pth')
        state = weights.read(package.weights)
        torch.save(dict(state_dict=state, meta=package.manifest['meta']), checkpoint)
        for name in package.manifest['records']:
            for one in records.read(package.folder / name).domains:
                yield _again(package, one, checkpoint, data_root)


def _again(
    package: files.Package, one: records.Measurement, checkpoint: Path, data_root: str | Path
) -> tuple[str, bool]:
    config = load_config(
        package.folder / files.CONFIG, data_root=str(data_root), work_dir=str(checkpoint.parent)
    )
    _run_as_ours(config)
    protocol = one.protocol['name']
    out = checkpoint.with_name(f'{disk.sha256(checkpoint)[:8]}.{one.domain.replace("/", "_")}.json')
    out = out.with_name(f'{out.stem}.{one.protocol_hash}.record.json'.replace(':', '_'))
    try:
        found = test(
            config,
            checkpoint,
            domains=[one.domain],
            out=out,
            protocol=protocol if protocol in protocols.SETTINGS and protocol != 'native' else None,
            show=False,
        )
    except (DataError, Incomplete) as error:
        return f'{one.domain:12} not measured: {error}', False
    (again,) = found.domains
    text = f'{one.domain:12} {protocol} {one.protocol_hash}'
    if again.protocol_hash != one.protocol_hash:
        return f'{text}: other images or another protocol here ({again.protocol_hash})', False
    before, now = (100 * score(m.matrix, m.classes).miou for m in (one, again))
    if np.array_equal(one.matrix, again.matrix):
        return f'{text}: mIoU {now:.2f}, every pixel as recorded', True
    part = np.abs(one.matrix - again.matrix).sum() / 2 / max(one.matrix.sum(), 1)
    line = f'{text}: mIoU {now:.2f}, recorded {before:.2f}; {100 * part:.4f} % of pixels moved'
    return line, bool(abs(now - before) <= TOLERANCE)


#: What of a package says how it is measured. Hooks and writers may have paths of their own.
_OF_THE_NUMBERS = {
    'model', 'data_preprocessor', 'test_dataloader', 'source', 'mixing', 'protocol', 'class_set',
    'model_name', 'method', 'skipped', 'fine_tuned', 'select', 'odd_pairs', 'work_dir', 'launcher',
    'test_pipeline',
}  # fmt: skip


def _run_as_ours(config: Config) -> None:
    """Leave of a stranger's config the network and how it is measured; ibnseg runs the rest."""
    ours = Config.fromfile(named.folder() / '_base_' / 'default_runtime.py')
    for key in [key for key in config if key not in _OF_THE_NUMBERS]:
        config.pop(key)
    for key in ours.keys() - _OF_THE_NUMBERS:
        config[key] = ours[key]
