"""The networks that an analysis compares: runs of a training, and classifiers of the hub."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import TRANSFORMS, DefaultScope
from mmseg.registry import MODELS
from PIL import Image
from torch import Tensor, nn

from .. import disk, hub, registered, weights  # noqa: F401
from ..measure.protocols import describe
from ..train.checkpoint import newest
from ..train.config import load_config
from ..train.untrusted import read_safely
from .shown import config_of, selected

#: Mean and standard deviation of ImageNet's photos, RGB, that all published weights are for.
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
_EDGE, _CROP = 256, 224  # the release's evaluation
#: Steps that need labels.
_OF_LABELS = ('LoadLabels', 'LoadAnnotations', 'ReframePair')


@dataclass
class Network:
    """A network in eval mode, and how it gets its images.

    Args:
        name: for figures and tables.
        file, sha256: of its weights.
        trunk: the part that has stem and blocks.
        prepare: (path, number, domain or None, change or None) -> the trunk's input, (1, 3, H, W).
            A change is a step of `ibnseg.pipeline.appearance`.
        size: how photos are scaled, in words.
        about: mean of the normalisation, BGR.
    """

    name: str
    file: str
    sha256: str
    trunk: nn.Module = field(repr=False)
    prepare: Callable[..., Tensor] = field(repr=False)
    size: str
    about: tuple[float, ...]


def load(spec: str, data_root: str | None = None) -> Network:
    """Return a network by the folder of a run, or by a name of the hub.

    Args:
        spec: work dir of `ibnseg train` or `ibnseg run train`; or 'resnet50_ibn_b' (published
            weights) or 'resnet50_ibn_b=FILE' (weights of a file). Configs are run as Python.

    Raises:
        FileNotFoundError, ValueError: no such run or network, or weights that do not fit.
    """
    if is_run(spec):
        return _of_run(Path(spec), data_root)
    name, _, file = spec.partition('=')
    return _of_hub(name, file)


def is_run(spec: str) -> bool:
    """Whether a network is named by the folder of a run, else by a name of the hub.

    Raises FileNotFoundError for neither.
    """
    if Path(spec).is_dir() or spec.partition('=')[0] in hub.NAMES:
        return Path(spec).is_dir()
    raise FileNotFoundError(
        f'{spec}: no folder of a run, and no classifier of the hub; expected the work dir of '
        'ibnseg train, or a name like resnet50_ibn_b or resnet50_ibn_b=FILE'
    )


def tell_apart(measured: Sequence[dict[str, Any]]) -> None:
    """Add to names that several networks have, runs of other seeds say, where each lies."""
    count = Counter(one['name'] for one in measured)
    for one in measured:
        if count[one['name']] > 1:
            one['name'] += f' ({Path(one["file"]).parent.name}/{Path(one["file"]).name})'


def checkpoint_of(run: Path) -> Path:
    """Return the checkpoint of a run to analyse: the one reported, else the newest epoch's."""
    if epochs := newest(run, 'epoch_*.pth'):
        return epochs[0]
    return selected(run)


def is_segmentor(config: Mapping[str, Any]) -> bool:
    """Whether a run's config is one of `ibnseg train`."""
    return 'source' in config


@read_safely()
def _of_run(run: Path, data_root: str | None) -> Network:
    path, checkpoint = config_of(run), checkpoint_of(run)
    config = Config.fromfile(path)
    if is_segmentor(config):
        config = load_config(path, data_root=data_root)
    config.model.backbone.init_cfg = None
    scope = config.get('default_scope', 'mmseg')
    with DefaultScope.overwrite_default_scope(scope):
        model = MODELS.build(config.model).eval()
        state = weights.unwrapped(weights.read(checkpoint)['state_dict'])
        if problems := weights.misfits(model.state_dict(), state):
            raise ValueError(f'{checkpoint} does not fit {path}. {"; ".join(problems)}')
        model.load_state_dict(state)
    model.to(get_device())

    @read_safely()
    def prepare(image: Path, number: int, domain: str | None, change: Any = None) -> Tensor:
        steps = steps_of(config, domain, change)
        with DefaultScope.overwrite_default_scope(scope):
            sample = Compose([TRANSFORMS.build(step) for step in steps])(
                dict(img_path=str(image), sample_idx=number, seg_fields=[])
            )
        batch = dict(inputs=[sample['inputs']], data_samples=[sample['data_samples']])
        return model.data_preprocessor(batch, False)['inputs']

    name = config.get('model_name') or run.name
    sha256, about = disk.sha256(checkpoint), mean_of(config)
    return Network(name, str(checkpoint), sha256, model.backbone, prepare, _size(config), about)


def _size(config: Config) -> str:
    if not is_segmentor(config):
        return 'as the test pipeline of its config'
    protocol = config.get('protocol') or {}
    if isinstance(protocol, str):
        return f'as protocol {protocol}'
    if not protocol.get('photo'):
        return 'own size'
    return (
        f'{"x".join(map(str, protocol.photo))}{", ratio kept" * bool(protocol.get("keep_ratio"))}'
    )


def mean_of(config: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the mean that a config's normalisation takes off, in the order of photos: BGR."""
    given = config['model']['data_preprocessor']
    turned = given.get('bgr_to_rgb') or given.get('to_rgb')
    return tuple(given['mean'])[:: -1 if turned else 1]


def steps_of(config: Config, domain: str | None, change: Any) -> list[dict[str, Any]]:
    """Return the test pipeline of a run's config for a photo without label."""
    if is_segmentor(config):
        protocol = config.get('protocol')
        if domain is None and isinstance(protocol, str):
            protocol = None  # published protocols say nothing of a folder of images
        steps = describe(protocol, domain or 'cityscapes', altered=change).pipeline()
    else:
        steps = altered_pipeline(config.test_dataloader.dataset.pipeline, change)
    return [step for step in steps if step['type'] not in _OF_LABELS]


def altered_pipeline(steps: list[dict[str, Any]], change: Any) -> list[dict[str, Any]]:
    """Return a test pipeline of MMPretrain with a change where it belongs."""
    if change is None:
        return [*steps]
    at = len(steps) - 1 if change['type'] == 'ChangeInput' else 1
    return [*steps[:at], dict(change, type=f'mmseg.{change["type"]}'), *steps[at:]]


def _of_hub(name: str, file: str) -> Network:
    network = hub.build(name, pretrained=not file).eval()
    if file:
        state = weights.read(file)
        state = state.get('state_dict', state)
        if problems := weights.misfits(network.state_dict(), state):
            raise ValueError(f'{file} does not fit {name}. {"; ".join(problems)}')
        network.load_state_dict(state)
    path = file or str(weights.cache.place(weights.PUBLISHED[name].url))
    size = f'shorter side to {_EDGE}, centre {_CROP}'
    network.to(get_device())
    return Network(name, path, disk.sha256(path), network, prepare_for_hub, size, MEAN[::-1])


def prepare_for_hub(image: Path, number: int, domain: Any = None, change: Any = None) -> Tensor:
    """Return an image as the release evaluates it: resized, centre cropped, normalised."""
    steps = [dict(type='LoadPhoto')]
    if change and change['type'] != 'ChangeInput':
        steps.append(change)
    given = dict(img_path=str(image), sample_idx=number)
    with DefaultScope.overwrite_default_scope('mmseg'):
        photo = Compose([TRANSFORMS.build(step) for step in steps])(given)['img']
        picture = Image.fromarray(photo)
        scale = _EDGE / min(picture.size)
        size = [max(round(side * scale), _EDGE) for side in picture.size]
        left, top = ((side - _CROP) // 2 for side in size)
        picture = picture.resize(size, Image.Resampling.BILINEAR)
        results = dict(img=np.array(picture.crop((left, top, left + _CROP, top + _CROP))))
        if change and change['type'] == 'ChangeInput':
            results = TRANSFORMS.build(change)(results)
    rgb = results['img'][..., ::-1].astype(np.float32)
    return torch.from_numpy(((rgb - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[None]
