"""A trained network, opened for photos: `ibnseg.load(run)(photo)`."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import TRANSFORMS, DefaultScope
from mmseg.registry import MODELS
from PIL import Image, UnidentifiedImageError

from .. import disk, domains, packages, registered, weights  # noqa: F401
from ..analysis import networks, shown
from ..errors import DataError
from ..measure.predict import Predictor
from ..pipeline import photos
from ..train.config import check_name, load_config, read_config
from ..train.untrusted import read_safely
from ..train.values import check_photos

#: What `Model` takes as one photo.
Photo = str | Path | np.ndarray | Image.Image
_READS = ('LoadPhoto', 'LoadImageFromFile')
_LABEL_STEPS = ('LoadLabels', 'LoadAnnotations', 'ReframePair')


@dataclass(frozen=True)
class Prediction:
    """What a network says of a photo. A notebook shows it as the overlay.

    Args:
        photo: uint8 RGB (H, W, 3), as the network saw it but for its scale.
        labels: uint8 (H, W), class indices.
        classes, palette: their names and colours, uint8 RGB (C, 3).
        confidence: float32 (H, W), the highest softmax probability; None where not asked for.
    """

    photo: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    palette: np.ndarray = field(repr=False)
    confidence: np.ndarray | None = field(default=None, repr=False)

    @property
    def colours(self) -> np.ndarray:
        """The label map in the colours of its classes, uint8 RGB (H, W, 3)."""
        return self.palette[self.labels]

    def overlay(self, opacity: float = 0.6) -> np.ndarray:
        """Return the colours over the grey photo, uint8 RGB (H, W, 3).

        Raises ValueError for an opacity outside of 0 to 1.
        """
        if not 0 <= opacity <= 1:
            raise ValueError(f'opacity is {opacity}; expected 0 (photo) to 1 (colours)')
        grey = np.asarray(Image.fromarray(self.photo).convert('L').convert('RGB'))
        return (grey * (1 - opacity) + self.colours * opacity + 0.5).astype(np.uint8)

    def shares(self) -> dict[str, float]:
        """Return the part of the pixels that each class has, the largest first."""
        count = np.bincount(self.labels.ravel(), minlength=len(self.classes)) / self.labels.size
        return {self.classes[i]: float(count[i]) for i in np.argsort(-count) if count[i]}

    def _repr_png_(self) -> bytes:
        picture, out = Image.fromarray(self.overlay()), io.BytesIO()
        picture.thumbnail((960, 960))
        picture.save(out, 'PNG')
        return out.getvalue()


class Model:
    """A network in eval mode that predicts photos, each in its own size.

    Args:
        config: of `ibnseg train`, or of MMSegmentation.
        checkpoint: weights that fit it. No code of theirs is run.
        device: 'cpu', 'cuda', ...; default: the best that is here.
        name: for folders and pictures.

    Attributes:
        classes, palette: names and colours of its classes.

    Raises ValueError: weights that do not fit. Others as `weights.read`.
    """

    @read_safely()
    def __init__(
        self, config: Config, checkpoint: str | Path, device: str | None = None, name: str = ''
    ):
        self.config, self.checkpoint = config, Path(checkpoint)
        asked = name or config.get('model_name')
        self.name = check_name(str(asked)) if asked else self.checkpoint.parent.name
        self.sha256 = disk.sha256(self.checkpoint)
        self._scope = config.get('default_scope', 'mmseg')
        held = weights.read(self.checkpoint)
        state = weights.unwrapped(held.get('state_dict', held))
        if 'init_cfg' in config.model.backbone:
            config.model.backbone.init_cfg = None  # the checkpoint has all weights
        config.model.pretrained = None
        check_photos(config.model, f'{config.filename}: ')
        with DefaultScope.overwrite_default_scope(self._scope):
            self.network = MODELS.build(config.model).eval()
        if problems := weights.misfits(self.network.state_dict(), state):
            raise ValueError(
                f'{checkpoint} does not fit the config {config.filename}. {"; ".join(problems)}'
            )
        self.network.load_state_dict(state)
        self.network.to(device or get_device())
        self.classes, self.palette = _classes(config, held.get('meta', {}), self.network)
        steps = _steps(config)
        with DefaultScope.overwrite_default_scope(self._scope):
            self._reads = TRANSFORMS.build(steps[0])
            self._prepare = Compose([TRANSFORMS.build(step) for step in steps[1:]])

    @read_safely()
    @torch.no_grad()
    def __call__(
        self,
        photo: Photo | Sequence[Photo],
        confidence: bool = False,
        order: str = 'rgb',
    ) -> Any:
        """Predict a photo, or a list of them as one batch.

        Args:
            photo: a file, read as `ibnseg test` reads it; a picture of Pillow; or uint8 (H, W, 3)
                or grey (H, W).
            confidence: also give each pixel's highest softmax probability.
            order: of an array's channels, 'rgb' or 'bgr' (OpenCV's).

        Returns:
            A `Prediction`, or a list of them for a list.

        Raises:
            DataError, FileNotFoundError: no photo, or one that can't be read.
            TypeError, ValueError: anything else that is no photo.
            ValueError: confidence of a network that has none.
        """
        given = list(photo) if isinstance(photo, list | tuple) else [photo]
        if order not in ('rgb', 'bgr'):
            raise ValueError(f"order is {order!r}; expected 'rgb' or 'bgr'")
        opened = [self._open(one, order) for one in given]
        seen = [np.ascontiguousarray(one['img'][..., ::-1]) for one in opened]
        with DefaultScope.overwrite_default_scope(self._scope):
            samples = [self._prepare(one) for one in opened]
        batch = {key: [one[key] for one in samples] for key in ('inputs', 'data_samples')}
        predict = self._doubting if confidence else self._plain
        found = [
            self._prediction(*pair)
            for pair in zip(seen, predict(batch) if given else [], strict=True)
        ]
        return found if isinstance(photo, list | tuple) else found[0]

    @read_safely()
    def scaled(self, photo: Photo, order: str = 'rgb') -> np.ndarray:
        """Return a photo as the network gets it, but for the normalisation: uint8 RGB (H, W, 3).

        Raises as a call does.
        """
        with DefaultScope.overwrite_default_scope(self._scope):
            seen = self._prepare(self._open(photo, order))['inputs']
        return np.ascontiguousarray(seen.numpy()[::-1].transpose(1, 2, 0))

    @cached_property
    def _plain(self) -> Predictor:
        return Predictor(self.network)

    @cached_property
    def _doubting(self) -> Predictor:
        return Predictor(self.network, doubt=True)

    def _open(self, photo: Photo, order: str) -> dict[str, Any]:
        """Return a photo as the first step of a pipeline gives it."""
        if isinstance(photo, str | Path):
            try:
                return self._reads(dict(img_path=str(photo), sample_idx=0, seg_fields=[]))
            except UnidentifiedImageError:
                raise DataError(f'{photo}: no picture, or of a kind that Pillow lacks') from None
            except Exception as error:  # Pillow's decoders raise OSError, SyntaxError and more
                if isinstance(error, DataError) or getattr(error, 'filename', None):
                    raise
                raise DataError(f'{photo}: cannot be read as a photo ({error})') from None
        if isinstance(photo, Image.Image):
            image = photos.of_image(photo)
        elif isinstance(photo, np.ndarray):
            image = _array(photo, order)
        else:
            raise TypeError(
                f'a photo is {type(photo).__name__}; expected a file name, a numpy array, a '
                'picture of Pillow, or a list of these'
            )
        size = image.shape[:2]
        return dict(img=image, img_shape=size, ori_shape=size, sample_idx=0, seg_fields=[])

    def _prediction(self, photo: np.ndarray, sample: Any) -> Prediction:
        labels = sample.pred_sem_seg.data[0].cpu().numpy().astype(np.uint8)
        doubt = 1 - sample.doubt.data[0].cpu().numpy() if 'doubt' in sample else None
        return Prediction(photo, labels, self.classes, self.palette, doubt)


def _array(photo: np.ndarray, order: str) -> np.ndarray:
    """Return an array as BGR. Raises ValueError for one that is no photo of 8 bits."""
    grey = photo.ndim == 2
    if photo.dtype != np.uint8 or not (grey or (photo.ndim == 3 and photo.shape[2] == 3)):
        raise ValueError(
            f'a photo is an array of {photo.dtype}, shape {photo.shape}; expected uint8 (H, W, 3) '
            'in RGB, or (H, W) in grey. Several photos are a list'
        )
    if not photo.size:
        raise ValueError(f'a photo has no pixels (shape {photo.shape})')
    photo = np.repeat(photo[..., None], 3, 2) if grey else photo
    return np.ascontiguousarray(photo[..., ::-1] if order == 'rgb' else photo)


def _steps(config: Config) -> list[dict[str, Any]]:
    """Return the test pipeline of a config for a photo without label; the first step reads it."""
    if networks.is_segmentor(config):
        return networks.steps_of(config, None, None)
    data = config.get('test_dataloader') or {}
    given = data.get('dataset', {}).get('pipeline') or config.get('test_pipeline') or []
    steps = [step for step in given if step['type'] not in _LABEL_STEPS]
    if not steps or steps[0]['type'] not in _READS:
        raise ValueError(
            f'{config.filename}: test_pipeline begins with {steps[:1]}; expected one of '
            f'{", ".join(_READS)}'
        )
    return steps


def _classes(
    config: Config, meta: Mapping[str, Any], network: torch.nn.Module
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return names and colours of a network's classes.

    Those of the config's domains; else those that the checkpoint states; else numbers.
    """
    number = network.out_channels if network.out_channels > 1 else 2
    if networks.is_segmentor(config):
        task = domains.task(config.test_dataloader.dataset.domains)
        names, palette = task.classes, task.palette
    else:
        said = meta.get('dataset_meta') or {}
        names, palette = said.get('classes') or (), said.get('palette') or ()
    if len(names) != number:
        names = [str(i) for i in range(number)]
    if np.shape(palette) != (number, 3):
        palette = np.random.default_rng(0).integers(40, 256, (number, 3))
    return tuple(map(str, names)), np.asarray(palette, np.uint8)


def load(
    run: str | Path,
    checkpoint: str | Path | None = None,
    *,
    device: str | None = None,
    options: Mapping[str, Any] | None = None,
    name: str = '',
) -> Model:
    """Open a trained network for photos.

    Args:
        run: work dir of `ibnseg train`, whose reported checkpoint is taken; a package, or its name
            ibnseg://...; a config, with `checkpoint`; or a checkpoint with its config beside it. A
            config is Python and is run as such, that of a package is data.
        device, name: of `Model`.
        options: dotted keys -> values in the place of the config's.

    Raises:
        FileNotFoundError, ValueError: no such run, or weights that do not fit.
    """
    run = packages.locate(str(run)) if packages.is_name(run) else Path(run)
    if packages.is_package(run):
        package = packages.read(run)
        try:
            read = load_config(run / packages.CONFIG, options=options)
            return Model(read, package.weights, device, name)
        except (ValueError, OSError, MemoryError):
            raise
        except Exception as error:  # whatever a stranger's values lead to
            what = ' '.join(f'{type(error).__name__}: {error}'.split())
            raise packages.PackageError(
                f'{run / packages.CONFIG}: no network can be built of it ({what:.300})'
            ) from error
    if run.is_dir():
        config, found = shown.config_of(run), Path(checkpoint or shown.selected(run))
    elif run.suffix in ('.pth', '.pt', '.safetensors'):
        if not run.is_file():
            raise FileNotFoundError(f'{run}: no such checkpoint')
        config, found = shown.config_of(run.parent), run
    elif checkpoint is None and run.exists():
        raise ValueError(f'{run}: which weights? Give a checkpoint, too, or the folder of a run')
    else:
        config, found = run, Path(checkpoint or '')
    read = read_config(config, ('model',), None, 'none', options)
    if networks.is_segmentor(read):
        read = load_config(config, options=options)
    return Model(read, found, device, name)
