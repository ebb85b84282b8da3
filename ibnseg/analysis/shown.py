"""Predictions for a few photos: of a network behind a record, or from a folder of predictions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS, MODELS

from .. import disk, domains, labels, registered, weights  # noqa: F401
from ..domains import own
from ..measure import from_files, predictions, records, selection
from ..measure.confusion import confusion
from ..measure.predict import Predictor
from ..measure.records import Record
from ..train import checks
from ..train.checkpoint import chosen
from ..train.untrusted import read_safely

_TOLERANCE = 0.02  # share of the pixels: another device rounds otherwise


def selected(run: str | Path) -> Path:
    """Return the checkpoint in a run's record; without a record, the one its rule selects now.

    Args:
        run: work dir of `ibnseg train`.

    Raises:
        FileNotFoundError: no run, or its record's checkpoint is gone.
        ValueError: the checkpoint is not the file that was measured.
    """
    run = Path(run)
    for path in sorted(run.glob('*.record.json')):
        return _measured(path, records.read(path), [run])
    found = chosen(run, selection.find(_config(run).get('select') or 'source'))
    if found is None:
        raise FileNotFoundError(f'{run}: no checkpoint of ibnseg train (*iter_*.pth)')
    return found


def _measured(path: Path, record: Record, folders: Sequence[Path]) -> Path:
    """Return the checkpoint that a record is of, in one of the folders."""
    facts = record.provenance
    name = Path(str(facts.get('checkpoint'))).name
    found = [folder / name for folder in folders if (folder / name).is_file()]
    if not found:
        raise FileNotFoundError(
            f'{folders[0] / name}: no such file, but {path} is of this checkpoint'
        )
    for checkpoint in found:
        if disk.sha256(checkpoint) == facts.get('checkpoint_sha256'):
            return checkpoint
    raise ValueError(
        f'{found[0]} is not the file that {path} was measured with. Measure it again (ibnseg test)'
    )


def config_of(run: Path) -> Path:
    """Return the config that a run keeps. Raises FileNotFoundError without one."""
    configs = sorted(run.glob('*.py'))
    if not configs:
        raise FileNotFoundError(f'{run}: no run of ibnseg train, which keeps its config (*.py)')
    return configs[0]


def _config(run: Path) -> Config:
    config = Config.fromfile(config_of(run))
    own.read_all(config.get('domain_files') or ())
    return config


class Network:
    """The network of a record; called with photo keys of a domain, it predicts them.

    Raises as `selected`. The config beside the checkpoint is Python and is run as such.
    """

    def __init__(self, path: Path, record: Record, data_root: str | Path):
        # A record of `ibnseg test` lies in <run>/test.
        self.checkpoint = _measured(path, record, [path.parent, path.parent.parent])
        self.config = _config(self.checkpoint.parent)
        self.data_root = str(data_root)

    @cached_property
    @read_safely()
    def model(self) -> torch.nn.Module:
        self.config.model.backbone.init_cfg = None
        with DefaultScope.overwrite_default_scope('mmseg'):
            model = MODELS.build(self.config.model).eval()
        model.load_state_dict(weights.read(self.checkpoint)['state_dict'])
        return model.to('cuda' if torch.cuda.is_available() else 'cpu')

    @torch.no_grad()
    def __call__(self, domain: str, keys: Sequence[str]) -> Iterator[np.ndarray]:
        """Yield the prediction for each photo, uint8 in the size of its label."""
        # By the name among all images: what the test left out is here.
        one = dict(domains=[domain], data_root=self.data_root, skip_lists=())
        self.config.test_dataloader.dataset.update(one)
        plan = checks.plan_measurement(self.config)
        if isinstance(self.config.get('protocol'), str):
            self.model.test_cfg = ConfigDict(plan[domain].test_cfg())
        with read_safely(), DefaultScope.overwrite_default_scope('mmseg'):
            data = DATASETS.build(self.config.test_dataloader.dataset)
        numbers = {key: number for number, key in enumerate(data.used[domain].photos)}
        predict = Predictor(self.model)
        for key in keys:
            with read_safely():
                sample = data[numbers[key]]
            batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
            yield predict(batch)[0].pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)


class Folder:
    """A folder of predictions, of `ibnseg test --save-predictions` or of another toolkit.

    Args:
        ids: what a pixel's value means, as `from_files.measure` takes it.
    """

    def __init__(self, folder: str | Path, data_root: str | Path, ids: str = 'train'):
        self.folder, self.data_root, self.ids = Path(folder), data_root, ids

    def __call__(self, domain: str, keys: Sequence[str]) -> Iterator[np.ndarray]:
        """Yield the prediction for each photo, uint8 class indices, 255 where it has none."""
        folder, _ = from_files.opened(self.folder, domain)
        used = domains.use(domain, self.data_root)
        left_out = {file.stem for pair in used.odd for file in pair}
        names = [truth.stem for _, truth in used.pairs]
        files = predictions.match(used.photos, names, folder, left_out)
        of = dict(zip(used.photos, files, strict=True))
        table = from_files.classes_of(self.ids, domains.parse(domain)[0].space)
        for key in keys:
            yield table[predictions.read_prediction(of[key])]


def source(
    path: Path, record: Record, data_root: str | Path, folders: Mapping[str, Path]
) -> Network | Folder:
    """Return where a record's predictions come from: saved files where there are any.

    Args:
        folders: sha256 of a checkpoint -> predictions of it (`saved`).
    """
    facts = record.provenance
    scored = facts.get('scored')
    if isinstance(scored, dict):
        return Folder(str(scored.get('folder')), data_root, str(scored.get('ids', 'train')))
    sha256 = facts.get('checkpoint_sha256')
    if sha256 in folders:
        return Folder(folders[sha256], data_root)
    return Network(path, record, data_root)


def saved(folders: Iterable[str | Path]) -> dict[str, Path]:
    """Return the folders of `ibnseg test --save-predictions` by the sha256 of their checkpoint."""
    found = {}
    for folder in map(Path, folders):
        said = records.read(folder / predictions.MANIFEST)
        found[str(said.provenance.get('checkpoint_sha256'))] = folder
    return found


def check(prediction: np.ndarray, truth: np.ndarray, measured: np.ndarray, who: str) -> None:
    """Raise ValueError where a prediction is not the one that was measured.

    Args:
        measured: the image's confusion matrix beside the record.
        who: model and photo, for the message.
    """
    if prediction.shape != truth.shape:
        raise ValueError(
            f'{who}: the prediction is {prediction.shape[::-1]}, the label {truth.shape[::-1]}'
        )
    counted = truth != labels.IGNORE
    now = confusion(truth, np.where(counted, prediction, 0).astype(np.uint8), len(measured))
    if now.sum() != measured.sum():
        return  # measured on scaled labels, or by another label map
    share = np.abs(now - measured).sum() / 2 / max(1, now.sum())
    if share > _TOLERANCE:
        raise ValueError(
            f'{who}: {100 * share:.0f} % of the pixels are predicted otherwise than when it was '
            'measured, by another protocol or version, say. Measure it again with ibnseg test '
            '--save-predictions DIR, and give --predictions DIR'
        )
