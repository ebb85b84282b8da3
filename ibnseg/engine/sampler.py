"""Which sample is drawn at which position of a training run."""

from collections.abc import Iterator, Sized

import numpy as np
from mmengine.dist import get_dist_info, sync_random_seed
from mmseg.registry import DATA_SAMPLERS
from torch.utils.data import Sampler


@DATA_SAMPLERS.register_module()
class PositionSampler(Sampler):
    """Endless shuffled epochs, of which any position can be reached without loading the former.

    Yields ((seed, position), index): `DomainDataset` augments sample `index` by (seed, position)
    alone. Ranks take turns, so the samples of a global batch do not depend on their number.

    Args:
        dataset: anything with a length.
        seed: None draws one and shares it between ranks.
        shuffle: False for the order of the data set.

    Attributes:
        start: the first position; set it before iterating to resume.
    """

    def __init__(self, dataset: Sized, seed: int | None = None, shuffle: bool = True):
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.seed = sync_random_seed() if seed is None else seed
        self.shuffle = shuffle
        self.start = 0

    def __iter__(self) -> Iterator[tuple[tuple[int, int], int]]:
        position, epoch, order = self.start + self.rank, -1, np.arange(self.size)
        while True:
            if position // self.size != epoch:
                epoch = position // self.size
                if self.shuffle:
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.size)
            yield (self.seed, position), int(order[position % self.size])
            position += self.world_size

    def __len__(self) -> int:
        return self.size
