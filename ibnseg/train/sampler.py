"""Which sample is drawn at which position of a training run, and what its crop shall show.

A draw is ((seed, position), index) or ((seed, position), index, aim); it depends on the seed and
the position alone. `DomainDataset` augments by it, `RandomScaleCrop` aims.
"""

from collections.abc import Iterator, Sequence, Sized
from functools import lru_cache
from typing import Any

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import Sampler

from ..domains import DataError, counts
from ..pipeline.dataset import DomainDataset
from ..pipeline.transforms import RandomScaleCrop

Draw = tuple[int] | tuple[int, dict[str, Any]]


@DATA_SAMPLERS.register_module()
class PositionSampler(Sampler):
    """Endless shuffled epochs, of which any position can be reached without loading the former.

    Yields ((seed, position), index): `DomainDataset` augments sample `index` by (seed, position)
    alone. Ranks take turns, so the samples of a global batch do not depend on their number.

    An epoch has as many draws as the dataset has samples. Of several domains mixed otherwise
    than in proportion to their sizes, it has each domain's share exactly, up to rounding, and each
    domain's samples come in turn, shuffled anew whenever all have come.

    Args:
        dataset: anything with a length.
        seed: None draws one and shares it between ranks.
        shuffle: False for the order of the dataset.

    Attributes:
        start: the first position; set it before iterating to resume.
    """

    def __init__(self, dataset: Sized, seed: int | None = None, shuffle: bool = True):
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle
        self.start = 0
        source = getattr(dataset, 'source', None)
        self._domains: list[tuple[int, int, int]] = []  # first sample, samples, draws an epoch
        if source is not None and source.mixing != 'proportional' and len(dataset.sizes) > 1:
            draws = _rounded(np.array(source.shares(dataset.sizes)) * self.size)
            if min(draws) == 0:
                raise DataError(
                    f'source {source}: of the weights {source.mixing}, one gets none of the '
                    f'{self.size} draws of an epoch. Choose them closer to one another'
                )
            firsts = np.cumsum((0, *dataset.sizes[:-1])).tolist()
            self._domains = list(zip(firsts, dataset.sizes, draws, strict=True))
        self._newest_epoch = lru_cache(maxsize=1)(self._epoch)

    def __iter__(self) -> Iterator[tuple]:
        position = self.start + self.rank
        while True:
            yield (self.seed, position), *self._draw(position)
            position += self.world_size

    def __len__(self) -> int:
        return self.size

    def _draw(self, position: int) -> Draw:
        epoch, place = divmod(position, self.size)
        return self._newest_epoch(epoch)[place]

    def _epoch(self, epoch: int) -> Sequence[Draw]:
        return [(index,) for index in self._images(epoch).tolist()]

    def _images(self, epoch: int) -> np.ndarray:
        """Return `size` indices of samples, in the order of an epoch."""
        order = self._order(self.size, epoch)
        if not self._domains:
            return order
        streams = [self._stream(i, epoch) for i in range(len(self._domains))]
        return np.concatenate(streams)[order]

    def _stream(self, domain: int, epoch: int) -> np.ndarray:
        """Return what an epoch draws of a domain, whose samples come in shuffled turns."""
        first, size, draws = self._domains[domain]
        start = epoch * draws
        turns = range(start // size, (start + draws - 1) // size + 1)
        order = np.concatenate([self._order(size, turn, domain + 1) for turn in turns])
        return first + order[start % size :][:draws]

    def _order(self, size: int, *entropy: int) -> np.ndarray:
        if not self.shuffle:
            return np.arange(size)
        return np.random.default_rng((self.seed, *entropy)).permutation(size)


def _rounded(shares: np.ndarray) -> list[int]:
    """Round to whole numbers of the same sum, the largest remainders up."""
    whole = np.floor(shares).astype(int)
    missing = round(float(shares.sum())) - whole.sum()
    whole[np.argsort(whole - shares, kind='stable')[:missing]] += 1
    return whole.tolist()


class _ClassSampler(PositionSampler):
    """What the samplers by classes share: a dataset with labels, one stream over its domains.

    Raises DataError: domains mixed otherwise than in proportion, or a pipeline that can't aim.
    """

    def __init__(self, dataset: DomainDataset, seed: int | None, tile: int):
        super().__init__(dataset, seed)
        if self._domains:
            raise DataError(
                f'{type(self).__name__} draws by classes, not by domains, and the source is '
                f"{dataset.source}; leave mixing at 'proportional', or take PositionSampler"
            )
        if not any(isinstance(step, RandomScaleCrop) for step in dataset.pipeline.transforms):
            raise DataError(
                f'{type(self).__name__} says what a crop shall show, and only RandomScaleCrop '
                'listens: put it into the pipeline, in the place of RandomResize and RandomCrop'
            )
        infos = map(dataset.get_data_info, range(len(dataset)))
        files = [(info['seg_map_path'], info['label_space']) for info in infos]
        self.statistics = counts.count(files, tile)


@DATA_SAMPLERS.register_module()
class ClassUniformSampler(_ClassSampler):
    """Part of each epoch drawn uniformly over the classes, the rest as PositionSampler draws.

    As in RobustNet (`datasets/uniform.py` of its code): labels are cut into tiles, each class
    that occurs in a tile has a centroid there, and an epoch of n draws holds
    int(n * fraction / 19) centroids of each of 19 classes, around which is cropped. Within an
    epoch no centroid comes twice before all of its class have come. Where a class never occurs,
    its draws go to whole photos.

    Args:
        dataset, seed: as `PositionSampler`.
        fraction: of an epoch's draws.
        tile: side in pixels; see `domains.counts.count`.
    """

    def __init__(
        self,
        dataset: DomainDataset,
        seed: int | None = None,
        fraction: float = 0.5,
        tile: int = 1024,
    ):
        super().__init__(dataset, seed, tile)
        if not 0 <= fraction <= 1:
            raise ValueError(f'fraction is {fraction}; expected 0 to 1')
        classes = self.statistics.counts.shape[1]
        self.of_each = int(self.size * fraction / classes)
        found = self.statistics.centroids
        self.occurrences = [np.flatnonzero(found[:, 1] == c) for c in range(classes)]

    def _epoch(self, epoch: int) -> Sequence[Draw]:
        rng = np.random.default_rng((self.seed, epoch, 1))
        draws: list[Draw] = []
        for rows in filter(len, self.occurrences):
            drawn = rng.permutation(rows)[np.arange(self.of_each) % len(rows)]
            found = self.statistics.centroids[drawn].tolist()
            draws += [(file, dict(centroid=(x, y))) for file, _, x, y in found]
        draws += [(index,) for index in self._images(epoch)[: self.size - len(draws)].tolist()]
        return [draws[i] for i in rng.permutation(self.size)]


@DATA_SAMPLERS.register_module()
class RareClassSampler(_ClassSampler):
    """Draw a class, the rarer the likelier, then a photo that holds it, as in DAFormer.

    P(c) is proportional to exp((1 - f_c) / T), f_c the class's share of the labelled pixels; the
    photo is one of those with more than `min_pixels` of it. The crop is drawn anew until more
    than `min_pixels * crop_min_ratio` are in it.

    Args:
        dataset, seed: as `PositionSampler`.
        temperature: T; the smaller, the more often the rarest.
        min_pixels: of the class, in the photo as it is on disk.
        crop_min_ratio: 0.5 in DAFormer, 2 in HRDA (whose crops are of twice the size).

    Raises:
        DataError: a class of which no photo holds enough pixels.
    """

    def __init__(
        self,
        dataset: DomainDataset,
        seed: int | None = None,
        temperature: float = 0.01,
        min_pixels: int = 3000,
        crop_min_ratio: float = 0.5,
    ):
        super().__init__(dataset, seed, tile=1024)
        if temperature <= 0:
            raise ValueError(f'temperature is {temperature}; expected above 0')
        counts = self.statistics.counts
        self.classes = np.flatnonzero(counts.sum(0))
        self.photos = [np.flatnonzero(counts[:, c] > min_pixels) for c in self.classes]
        names = dataset.metainfo['classes']
        short = [names[c] for c, p in zip(self.classes, self.photos, strict=True) if not len(p)]
        if short or not len(self.classes):
            raise DataError(
                f'{dataset.source}: no photo holds more than {min_pixels} pixels of '
                f'{", ".join(short) or "any class"}. Lower min_pixels of the RareClassSampler'
            )
        frequency = counts.sum(0)[self.classes] / counts.sum()
        weights = np.exp((frequency.min() - frequency) / temperature)  # the largest is 1
        self.probabilities = weights / weights.sum()
        self._aim_pixels = min_pixels * crop_min_ratio

    def _draw(self, position: int) -> Draw:
        rng = np.random.default_rng((self.seed, position, 1))
        i = rng.choice(len(self.classes), p=self.probabilities)
        index = int(rng.choice(self.photos[i]))
        return index, dict(rare_class=(int(self.classes[i]), self._aim_pixels))
