"""Records -> the photos to show, with the prediction of each model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import disk, domains, progress, report
from ..measure import matrices, records
from ..measure.confusion import confusion, score
from ..measure.matrices import Images
from ..measure.records import Measurement, Record
from ..pipeline import photos
from ..report.certainty import Photos
from ..text import meant
from . import choice, shown


@dataclass(frozen=True)
class Scene:
    """A photo to show.

    Args:
        domain: 'name:split'.
        key: the photo relative to the data root, as reports name it.
        why: the rules that chose it, or () where a person did.
        gain: mIoU of the other models (mean) minus the baseline's, in points, seeds averaged; None
            without a baseline.
        photo: uint8 (H, W, 3), RGB.
        truth: uint8 (h, w), class indices, 255 not counted.
        predictions: row of the report -> uint8 (h, w); of several seeds, the first's.
        miou: row -> percent, of that prediction, over classes in it or the truth; NaN for none.
    """

    domain: str
    key: str
    why: tuple[str, ...]
    gain: float | None
    photo: np.ndarray
    truth: np.ndarray
    predictions: dict[str, np.ndarray]
    miou: dict[str, float]


@dataclass(frozen=True)
class _Measured:
    path: Path
    record: Record
    measurement: Measurement
    images: Images


class Album:
    """The photos of a report's records, and who predicts them.

    Args:
        paths: record files or folders, as `report.make` takes them.
        data_root: folder that holds the datasets.
        baseline: model that gains are taken against; default: the report's.
        models: rows of the report to show; default: all.
        folders: of predictions, see `shown.saved`.

    Raises ValueError: nothing beside the records to choose by, or no such model. Others: as
    `report.tabulate`.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        data_root: str | Path,
        baseline: str | None = None,
        models: Sequence[str] = (),
        folders: Sequence[str | Path] = (),
    ):
        files, self.empty = records.find(paths)
        self.data_root = data_root
        read = [records.read(file) for file in files]
        self.table = report.tabulate(read, baseline, True, files)
        names = list(dict.fromkeys(row.name for row in self.table.rows))
        if absent := [name for name in models if name not in names]:
            near = meant(absent[0], names)
            raise ValueError(f'no model {absent[0]!r} in the report; choose from {names}{near}')
        self.models = list(models) or names
        found = report.gather(self.table)
        self.photos = [self._only(one) for one in found.photos] if found else []
        self.photos = [one for one in self.photos if one.models]
        if not self.photos:
            raise ValueError(
                f'{", ".join(map(str, paths))}: no per-image matrices (*.images.npz) of two photos '
                'or more beside these records, and photos are chosen by them. ibnseg test and '
                'ibnseg score write them'
            )
        self._folders = shown.saved(folders)
        self._sources: dict[Path, shown.Network | shown.Folder] = {}

    def _only(self, one: Photos) -> Photos:
        keep = [i for i, name in enumerate(one.models) if name in self.models]
        keep.sort(key=lambda i: self.models.index(one.models[i]))
        images = [(key, miou[keep], accuracy[keep]) for key, miou, accuracy in one.images]
        names = [one.models[i] for i in keep]
        return Photos(one.title, one.source, one.domain, one.protocol, names, images)

    def baseline(self, one: Photos) -> int | None:
        """Return the number of the baseline among the models of a domain's photos, or None."""
        return choice.baseline_of(one.models, self.table.baseline)

    def scenes(self, one: Photos, chosen: Mapping[int, Sequence[str]]) -> Iterator[Scene]:
        """Yield photos of a domain with their predictions, in the order of `chosen`.

        Args:
            chosen: of `choice.choose`.

        Raises DataError, ValueError, FileNotFoundError: data, checkpoints or predictions are not
        those that were measured.
        """
        used = domains.use(one.domain, self.data_root)
        row = domains.parse(one.domain)[0]
        pairs = dict(zip(used.photos, used.pairs, strict=True))
        keys = [one.images[number][0] for number in chosen]
        if absent := [key for key in keys if key not in pairs]:
            raise ValueError(f'{absent[0]}: no such photo of {one.domain} in {self.data_root}')
        base = self.baseline(one)
        gain = None if base is None else choice.gains(one, base)
        measured = {name: self._measured(one, name) for name in one.models}
        streams = [self._source(of)(one.domain, keys) for of in measured.values()]
        for number, key, *found in zip(chosen, keys, *streams, strict=True):
            photo, label = pairs[key]
            truth = domains.read_labels(label, row.space)
            predictions = dict(zip(one.models, found, strict=True))
            miou = {}
            for name, prediction in predictions.items():
                miou[name] = _score(prediction, truth, measured[name], key, name)
            yield Scene(
                one.domain,
                key,
                tuple(chosen[number]),
                None if gain is None else float(gain[number]),
                photos.read(disk.read(photo), photo, labelled=True)[..., ::-1],
                truth,
                predictions,
                miou,
            )

    def _measured(self, one: Photos, name: str) -> _Measured:
        """Return the first run of a row that measured these photos."""
        for group in self.table.groups:
            if (group.source, group.reference.get(one.domain)) != (one.source, one.protocol):
                continue
            for row in (row for row in group.rows if row.name == name):
                for file in (origin['file'] for run in row.runs for origin in run.origins):
                    record = records.read(file)
                    images = (matrices.read(file, record) or {}).get(one.domain)
                    for of in record.domains:
                        if images and (of.domain, of.protocol_hash) == (one.domain, one.protocol):
                            return _Measured(Path(file), record, of, images)
        raise ValueError(f'{name}: no record with the images of {one.domain}')

    def _source(self, of: _Measured) -> shown.Network | shown.Folder:
        if of.path not in self._sources:
            self._sources[of.path] = shown.source(of.path, of.record, self.data_root, self._folders)
        return self._sources[of.path]


def _score(prediction: np.ndarray, truth: np.ndarray, of: _Measured, key: str, name: str) -> float:
    matrix = of.images[of.images.keys.index(key)]
    shown.check(prediction, truth, matrix, f'{name} on {key}')
    classes = len(matrix)
    inside = np.where((truth < classes) & (prediction < classes), prediction, 0).astype(np.uint8)
    return 100 * score(confusion(truth, inside, classes), of.measurement.classes).miou


def track(album: Album, chosen: Sequence[tuple[Photos, Mapping[int, Sequence[str]]]]):
    """Yield (photos, scene) of all that is chosen, with progress."""
    total = sum(len(of) for _, of in chosen)
    found = ((one, scene) for one, of in chosen for scene in album.scenes(one, of))
    yield from progress.track(found, 'predicting photos', total)
