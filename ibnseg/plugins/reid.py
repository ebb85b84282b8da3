"""Person re-identification in MMDetection's ReID model: datasets, sampling, head, metric.

The strong baseline of Luo et al., "Bag of Tricks and A Strong Baseline for Deep Person
Re-identification", CVPRW 2019. Needs mmdet, and mmpretrain, on whose classifier MMDetection's
`BaseReID` is built.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.datasets import ReIDDataset
from mmdet.datasets.transforms import PackReIDInputs
from mmdet.registry import DATA_SAMPLERS, DATASETS, METRICS, MODELS, TRANSFORMS
from mmdet.structures import ReIDDataSample
from mmengine.dist import get_dist_info
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.data import Sampler

from ..domains import DataError
from . import ranking

_PARTS = {'train': ('bounding_box_train',), 'test': ('query', 'bounding_box_test')}


class PersonPhotos(ReIDDataset):
    """Photos of people as Market-1501 lays them; identity and camera are in the file names.

    `<data_root>/<folder>/{bounding_box_train,query,bounding_box_test}/*.jpg`. A sample has
    `img_path`, `gt_label` (the identity; for training numbered from 0), `camera` and `query`.

    Args:
        split: 'train', or 'test': the queries, then the gallery.
        data_root: the folder that the dataset was unpacked into.
        kwargs: as MMDetection's `ReIDDataset`.

    Raises:
        DataError: a folder is missing or empty, or a photo's name is not of the layout.
    """

    folder: str
    #: Of a file: identity, camera.
    names: str
    example: str

    def __init__(self, split: str, data_root: str = 'data', **kwargs: Any):
        if split not in _PARTS:
            raise ValueError(f'split is {split!r}; choose from {tuple(_PARTS)}')
        self.split = split
        super().__init__(data_root=data_root, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        photos = [photo for part in _PARTS[self.split] for photo in self._photos(part)]
        labels = np.array([photo['gt_label'] for photo in photos])
        if self.split == 'train':
            labels = np.unique(labels, return_inverse=True)[1]
        for photo, label in zip(photos, labels, strict=True):
            photo['gt_label'] = np.array(label)  # as MMDetection's transforms expect it
        self._parse_ann_info(photos)
        return photos

    def _photos(self, part: str) -> Iterator[dict[str, Any]]:
        folder = Path(self.data_root, self.folder, part)
        files = sorted(folder.glob('*.jpg'))
        if not files:
            found = 'no .jpg file' if folder.is_dir() else 'no such folder'
            raise DataError(
                f'{folder}: {found}. Expected {self.folder} as downloaded and unpacked, with '
                f'{", ".join(_PARTS["train"] + _PARTS["test"])} in it, below --data-root'
            )
        for path in files:
            match = re.fullmatch(self.names, path.name)
            if match is None:
                raise DataError(
                    f'{path}: not a name of {self.folder}, which begin with identity and camera; '
                    f'expected one like {self.example}. Move other photos elsewhere'
                )
            who, camera = map(int, match.groups())
            yield dict(img_path=str(path), gt_label=who, camera=camera, query=part == 'query')


@DATASETS.register_module()
class Market1501(PersonPhotos):
    """12,936 photos of 751 people to train on; 3,368 queries of 750 others in a gallery of 19,732.

    In the gallery, identity 0 is a distractor and -1 junk; both are kept, `ranking.measure` knows
    them. Arguments as `PersonPhotos`. Source: Zheng et al., ICCV 2015.
    """

    folder = 'Market-1501-v15.09.15'
    names = r'(-1|\d{4})_c(\d)s\d_\d+_\d+\.jpg'
    example = '0002_c1s1_000451_03.jpg'


@DATASETS.register_module()
class DukeMTMCReID(PersonPhotos):
    """16,522 photos of 702 people to train on; 2,228 queries of 702 others in a gallery of 17,661.

    Arguments as `PersonPhotos`. Source: Ristani et al., ECCVW 2016; Zheng et al., ICCV 2017.
    """

    folder = 'DukeMTMC-reID'
    names = r'(\d{4})_c(\d)_f\d+\.jpg'
    example = '0005_c2_f0046985.jpg'


@TRANSFORMS.register_module()
class PackPerson(PackReIDInputs):
    """As MMDetection's `PackReIDInputs`, but of one photo as (3, H, W), with camera and query.

    MMDetection packs (1, 3, H, W), of which its data preprocessor does not turn BGR into RGB.
    """

    def __init__(self) -> None:
        super().__init__(meta_keys=('camera', 'query'))

    def transform(self, results: dict) -> dict:
        packed = super().transform(results)
        packed['inputs'] = packed['inputs'][0]
        return packed


@DATA_SAMPLERS.register_module()
class IdentityBatchSampler(Sampler):
    """Batches of P people with K photos each, P being batch_size / K (Hermans et al., 2017).

    Each person's photos are shuffled and cut into groups of K (a person with fewer is filled up by
    repetition; a rest waits for the next epoch). A batch takes groups of P different people,
    chosen at random from those who have any left. What is drawn follows from the sampler's seed,
    the epoch and the rank.

    Args:
        sampler: MMEngine's `DefaultSampler` over a `ReIDDataset`; it has dataset, seed, epoch.
        batch_size: photos of a batch, on each rank.
        photos: K.

    Raises:
        ValueError: batch_size is no multiple of K, or the dataset has fewer than P people.
    """

    def __init__(self, sampler: Any, batch_size: int, photos: int = 4):
        self.owned: Mapping[int, np.ndarray] = sampler.dataset.index_dic
        if batch_size % photos:
            raise ValueError(
                f'batch_size is {batch_size}; expected a multiple of {photos}, the photos of each '
                'person in a batch'
            )
        if len(self.owned) < batch_size // photos:
            raise ValueError(
                f'batches of {batch_size // photos} people with {photos} photos each can not be '
                f'drawn from {len(self.owned)} people. Lower batch_size'
            )
        self.sampler, self.batch_size, self.photos = sampler, batch_size, photos

    def __len__(self) -> int:
        groups = sum(max(1, len(own) // self.photos) for own in self.owned.values())
        return max(1, groups * self.photos // self.batch_size // get_dist_info()[1])

    def __iter__(self) -> Iterator[list[int]]:
        seed = (self.sampler.seed, self.sampler.epoch, get_dist_info()[0])
        generator = np.random.default_rng(seed)
        people = self.batch_size // self.photos
        left: dict[int, list[np.ndarray]] = {}
        for _ in range(len(self)):
            if len(left) < people:
                left = {who: self._groups(own, generator) for who, own in self.owned.items()}
            batch = []
            for who in generator.choice(list(left), people, replace=False).tolist():
                batch += left[who].pop().tolist()
                if not left[who]:
                    del left[who]
            yield batch

    def _groups(self, own: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
        own = generator.permutation(own)
        if len(own) < self.photos:
            own = np.append(own, generator.choice(own, self.photos - len(own)))
        return [own[i - self.photos : i] for i in range(self.photos, len(own) + 1, self.photos)]


@MODELS.register_module()
class BNNeckHead(BaseModule):
    """Triplet loss before a BatchNorm, classification after it (the "BNNeck" of Luo et al.).

    The features to rank by are those after it, (N, C), of unit length. The classifier starts from
    N(0, 0.001).

    Args:
        in_channels: C, of the pooled features.
        num_classes: people in the training set.
        label_smoothing: of the classification.
        loss_triplet: on the features before the BatchNorm.

    Raises:
        ValueError: a label beyond num_classes.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        label_smoothing: float = 0.1,
        loss_triplet: Mapping[str, Any] = dict(type='TripletLoss', margin=0.3),
    ):
        super().__init__(dict(type='Normal', layer='Linear', std=0.001))
        self.num_classes, self.label_smoothing = num_classes, label_smoothing
        self.loss_triplet = MODELS.build(loss_triplet)
        self.bottleneck = nn.BatchNorm1d(in_channels)
        self.bottleneck.bias.requires_grad_(False)  # the classifier has none, either
        self.classifier = nn.Linear(in_channels, num_classes, bias=False)

    def forward(self, feats: Sequence[Tensor]) -> Tensor:
        return self.bottleneck(feats[-1])

    def loss(self, feats: Sequence[Tensor], data_samples: list[ReIDDataSample]) -> dict:
        labels = torch.cat([sample.gt_label.label for sample in data_samples])
        if labels.max() >= self.num_classes:
            raise ValueError(
                f'a photo is of person {int(labels.max())}, counted from 0; the head knows '
                f'{self.num_classes}. Set model.head.num_classes to the number of people'
            )
        logits = self.classifier(self(feats))
        return dict(
            loss_triplet=self.loss_triplet(feats[-1], labels),
            loss_cls=F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing),
        )

    def predict(
        self, feats: Sequence[Tensor], data_samples: list[ReIDDataSample] | None = None
    ) -> list[ReIDDataSample]:
        found = F.normalize(self(feats))
        samples = data_samples or [ReIDDataSample() for _ in found]
        for sample, feature in zip(samples, found, strict=True):
            sample.pred_feature = feature
        return samples


@METRICS.register_module()
class CrossCameraRanking(BaseMetric):
    """mAP and rank-1, 5 and 10 in per cent, as `ranking.measure` defines them."""

    def process(self, data_batch: Any, data_samples: Sequence[Mapping[str, Any]]) -> None:
        for sample in data_samples:
            label = int(sample['gt_label']['label'])
            seen = (sample['pred_feature'].cpu(), label, sample['camera'], sample['query'])
            self.results.append(seen)

    def compute_metrics(self, results: list[tuple[Tensor, int, int, bool]]) -> dict[str, float]:
        features, identities, cameras, is_query = zip(*results, strict=True)
        all_photos = ranking.Photos(
            torch.stack(features), torch.tensor(identities), torch.tensor(cameras)
        )
        query = torch.tensor(is_query)
        queries, gallery = (ranking.Photos(*(x[at] for x in all_photos)) for at in (query, ~query))
        return ranking.measure(queries, gallery)
