"""Images in ImageNet's layout, one folder a class, for MMPretrain."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import DATASETS, HOOKS

from ..domains import DataError

_IMAGES = ('.jpeg', '.jpg', '.png')


def _classes(folder: Path) -> list[str]:
    """Return the names of a split's class folders in the order of their labels."""
    names = sorted(path.name for path in folder.glob('*') if path.is_dir())
    if not names:
        found = 'no folders in it' if folder.is_dir() else 'no such folder'
        raise DataError(
            f'{folder}: {found}. Expected one for each class, {folder}/n01440764/*.JPEG. '
            '--data-root names the folder that holds train and val; lay the validation images, '
            "which come in one heap, into their classes' folders"
        )
    return names


@DATASETS.register_module()
class ImageFolder(BaseDataset):
    """One split of images laid out as `<data_root>/<split>/<class>/*.JPEG`.

    Labels count the class folders in the order of their names.

    Args:
        data_root, split: 'data/imagenet', 'train'.
        pipeline: MMPretrain transforms.

    Raises:
        DataError: no classes, not those of `train` beside it, one without images; an image that
            can't be read.
    """

    def __init__(self, data_root: str, split: str, pipeline: Sequence[Any], **kwargs: Any):
        self.folder = Path(data_root, split)
        names = _classes(self.folder)
        train = Path(data_root, 'train')
        if train.is_dir() and (known := _classes(train)) != names:
            raise DataError(
                f'{self.folder} and {train} hold other classes: {_first(known, names)} only in '
                f'{train}, {_first(names, known)} only in {self.folder}. Labels count the folders, '
                'so both need the same'
            )
        super().__init__(metainfo=dict(classes=names), pipeline=pipeline, **kwargs)

    def load_data_list(self) -> list[dict]:
        found = []
        for label, name in enumerate(self.metainfo['classes']):
            folder = self.folder / name
            with os.scandir(folder) as entries:  # 1.3 million in all
                files = sorted(e.name for e in entries if e.name.lower().endswith(_IMAGES))
            if not files:
                raise DataError(
                    f'{folder}: no images in it (*.JPEG, *.jpg, *.png). Unpack the class again, or '
                    'delete the folder from both train and val'
                )
            found += [dict(img_path=str(folder / file), gt_label=label) for file in files]
        return found

    def prepare_data(self, idx: int) -> Any:
        info = self.get_data_info(idx)
        path = info['img_path']
        try:
            return self.pipeline(info)
        except Exception as error:
            raise DataError(
                f'{path}: could not be read or augmented ({type(error).__name__}: {error}). If the '
                'file is damaged, unpack it again'
            ) from error


def _first(names: Sequence[str], without: Sequence[str]) -> str:
    rest = [name for name in names if name not in set(without)]
    return ', '.join(rest[:3]) + (', ...' if len(rest) > 3 else '') or 'none'


@HOOKS.register_module()
class ClassCountHook(Hook):
    """Refuse images of another number of classes than the classifier's, before the first step."""

    def before_train(self, runner) -> None:
        self._check(runner, runner.train_dataloader.dataset)

    def before_test(self, runner) -> None:
        self._check(runner, runner.test_dataloader.dataset)

    def _check(self, runner, dataset: ImageFolder) -> None:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        found, wanted = len(dataset.metainfo['classes']), model.head.num_classes
        if found != wanted:
            raise DataError(
                f'{dataset.folder} has {found} classes, the classifier {wanted}. Unpack what is '
                'missing, or for another dataset than ImageNet say '
                f'--cfg-options model.head.num_classes={found}'
            )
