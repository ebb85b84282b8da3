"""How a domain was measured: what two numbers must share to be compared.

A `Protocol` says it of one domain by its fields. It builds the test pipeline from them and has a
hash. `SETTINGS` are the published ones, by name; docs/protocols.md has their sources.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from .. import domains, labels
from ..text import meant


@dataclass(frozen=True)
class Protocol:
    """One domain's evaluation setting. Equal settings have equal hashes.

    Args:
        name: 'native' where labels keep their size and predictions are brought to it.
        domain, split, images: dataset, its split, and how many images that has.
        photo: size the photos are scaled to as (width, height), keeping their ratio or not
            (`keep_ratio`), or None for their own. After what is done to photo and label alike.
        mode: 'whole' or 'slide', with `crop` and `stride` (height, width).
        space, classes: label space, and the training classes that count.
        label_scale, label_height: factor by which, or height to which, photo and label alike are
            scaled (`ReframePair`), or None.
        label_crop: (height, width) of their centre that is then kept, or None for all.
        label_pad: class of the ground truth where photo and label are smaller than `label_crop`.
        altered: what is done to the photo alone beside that (a pipeline step, see
            `ibnseg.pipeline.appearance`), or None; its `where`, the place of files, is left out.
        pairs: eight digits over which pairs these are; None of all that are published. (Records
            from before have `skipped`, eight digits over the names of pairs left out.)
    """

    name: str
    domain: str
    split: str
    images: int
    photo: tuple[int, int] | None
    keep_ratio: bool | None
    mode: str
    crop: tuple[int, int] | None
    stride: tuple[int, int] | None
    space: str
    classes: tuple[int, ...]
    label_scale: float | None = None
    label_height: int | None = None
    label_crop: tuple[int, int] | None = None
    label_pad: int | None = None
    pairs: str | None = None
    altered: Mapping[str, Any] | None = None

    def content(self) -> dict[str, Any]:
        """Return the fields for a record. What is done to no label is left out, so that hashes
        from before these fields existed stay."""
        optional = {one.name for one in fields(self) if one.default is None}
        stated = {k: v for k, v in asdict(self).items() if v is not None or k not in optional}
        if self.altered:
            stated['altered'] = {k: v for k, v in self.altered.items() if k != 'where'}
        return stated

    @property
    def hash(self) -> str:
        return protocol_hash(self.content())

    def pipeline(self) -> list[dict[str, Any]]:
        """Return the test pipeline that does this."""
        stated = self.content().items()
        pair = {k.removeprefix('label_'): v for k, v in stated if k.startswith('label_')}
        steps = [dict(type='LoadPhoto'), dict(type='LoadLabels')]
        altered = [dict(self.altered)] if self.altered else []
        of_input = [step for step in altered if step['type'] == 'ChangeInput']
        if not of_input:
            steps += altered
        if pair:
            steps.append(dict(type='ReframePair', **pair))
        if self.photo:
            steps.append(dict(type='ResizePhoto', scale=self.photo, keep_ratio=self.keep_ratio))
        return [*steps, *of_input, dict(type='PackSegInputs')]

    def test_cfg(self) -> dict[str, Any]:
        """Return the `model.test_cfg` that does this."""
        if self.mode == 'whole':
            return dict(mode='whole')
        return dict(mode='slide', crop_size=self.crop, stride=self.stride)


def protocol_hash(fields: Mapping[str, Any]) -> str:
    """Return eight hexadecimal digits over every field of a protocol."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]


def loads_labels(pipeline: Sequence[Any]) -> bool:
    """Whether a step of a pipeline, a dict or an object, reads labels: its type says so."""
    types = (
        step['type'] if isinstance(step, Mapping) else type(step).__name__ for step in pipeline
    )
    return any('Label' in str(kind) or 'Annotation' in str(kind) for kind in types)


@dataclass(frozen=True)
class Setting:
    """A published way to measure.

    Args:
        of: domain -> the fields of `Protocol` in which it departs from photos and labels in their
            own size; empty: it measures every domain so.
        test_cfg: MMSeg's, of sliding windows; empty: whole photos.
    """

    of: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    test_cfg: Mapping[str, Any] = field(default_factory=dict)

    def covers(self, domain: str) -> bool:
        """Whether it says how to measure a dataset."""
        return not self.of or domain in self.of


def _fit(width: int, height: int) -> dict[str, Any]:
    return dict(photo=(width, height), keep_ratio=True)


def _centre(side: int) -> dict[str, Any]:
    return dict(label_height=side, label_crop=(side, side), label_pad=labels.CLASSES.index('road'))


def _windows(side: int, stride: int) -> dict[str, Any]:
    return dict(mode='slide', crop_size=(side, side), stride=(stride, stride))


_OWN: dict[str, Any] = {}
# RobustNet's mean is over every class in truth or prediction: those that SYNTHIA lacks, too.
_ALL_19 = dict(classes=tuple(range(19)))
_HALF = dict(label_scale=0.5)

#: What a person types and a table shows -> what is done.
SETTINGS = {
    'native': Setting(),
    'robustnet-1536': Setting(
        dict.fromkeys(('cityscapes', 'bdd100k', 'gta5', 'acdc'), _OWN)
        | {'mapillary': _centre(1536), 'synthia': _ALL_19}
    ),
    'blindnet-1024': Setting(
        dict.fromkeys(('cityscapes', 'bdd100k'), _OWN)
        | {'mapillary': _centre(1024), 'gta5': _centre(768), 'synthia': _ALL_19}
    ),
    'hrda-1024': Setting(dict.fromkeys(('cityscapes', 'bdd100k', 'mapillary'), _fit(1024, 512))),
    'hrda-2048': Setting(
        dict.fromkeys(('cityscapes', 'bdd100k', 'mapillary'), _fit(2048, 1024)),
        _windows(1024, 512),
    ),
    'tqdm-2048': Setting(
        dict.fromkeys(('cityscapes', 'mapillary'), _fit(2048, 1024)) | {'bdd100k': _fit(1280, 720)},
        _windows(512, 341),
    ),
    'rein-half': Setting(
        {
            'cityscapes': _fit(1024, 512),
            'bdd100k': _fit(1280, 720),
            'mapillary_rich': _HALF | _fit(1024, 512),
            'acdc': _fit(960, 540),
            'gta5': _fit(1280, 720),
        },
        _windows(512, 341),
    ),
    'soma-half': Setting(
        {
            'cityscapes': _fit(2048, 1024),
            'bdd100k': _fit(1280, 720),
            'mapillary_rich': _HALF | _fit(2048, 1024),
        },
        _windows(512, 341),
    ),
}


def describe(
    protocol: str | Mapping[str, Any] | None,
    domain: str,
    images: int = 0,
    test_cfg: Mapping[str, Any] | None = None,
    bfloat16: bool = False,
    altered: Mapping[str, Any] | None = None,
) -> Protocol:
    """Return what a config's `protocol` means for the `images` images of `domain` (name:split).

    Args:
        protocol: a published setting's name; or the fields of a native one: `photo`, (width,
            height) that photos are scaled to, and `keep_ratio`. Without them photos keep their
            size, as labels do.
        test_cfg: the config's `model.test_cfg`, whole photos or sliding windows; a published
            setting has its own.
        bfloat16: mixed precision, another protocol: its name ends with '-bfloat16'.
        altered: of `Protocol`, another protocol, too: its name ends with '-' and this one's name.

    Raises ValueError: unknown setting, or a domain that it says nothing of; unknown fields.
    """
    row, split = domains.parse(domain)
    if isinstance(protocol, str):
        setting = _setting(protocol, row.name)
        name, test_cfg, changes = protocol, setting.test_cfg, setting.of.get(row.name, {})
    else:
        name, test_cfg, changes = 'native', test_cfg or {}, _native(**(protocol or {}))
    slide = test_cfg.get('mode') == 'slide'
    own = Protocol(
        name=name + '-bfloat16' * bfloat16 + (f'-{altered["name"]}' if altered else ''),
        domain=row.name,
        split=split,
        images=images,
        photo=None,
        keep_ratio=None,
        mode='slide' if slide else 'whole',
        crop=tuple(test_cfg['crop_size']) if slide else None,
        stride=tuple(test_cfg['stride']) if slide else None,
        space=row.space,
        classes=labels.class_ids(row.space),
        altered=dict(altered) if altered else None,
    )
    return replace(own, **changes)


def _setting(name: str, domain: str) -> Setting:
    if name not in SETTINGS:
        near = meant(name, SETTINGS)
        raise ValueError(f'unknown protocol {name!r}; choose from {tuple(SETTINGS)}{near}')
    setting = SETTINGS[name]
    if not setting.covers(domain):
        raise ValueError(
            f'protocol {name!r} says nothing of {domain!r}, only of {tuple(setting.of)}. Leave '
            "the domain out, or measure it by 'native'"
        )
    return setting


def _native(photo: Any = None, keep_ratio: Any = False, **others: Any) -> dict[str, Any]:
    size = isinstance(photo, Sequence) and len(photo) == 2 and all(type(n) is int for n in photo)
    if others or not (photo is None or (size and min(photo) > 0)):
        found = dict(others, photo=photo)
        raise ValueError(
            f'protocol has {found!r:.200}; expected photo=(width, height) and keep_ratio, or the '
            f'name of a published setting: {tuple(SETTINGS)}'
        )
    return dict(photo=tuple(photo), keep_ratio=bool(keep_ratio)) if photo else {}


#: Class set -> the classes that do not count. 16 and 13 are those of SYNTHIA, which has no
#: terrain, truck or train, and whose wall, fence and pole many leave out.
CLASS_SETS = {
    '19': (),
    '16': ('terrain', 'truck', 'train'),
    '13': ('wall', 'fence', 'pole', 'terrain', 'truck', 'train'),
}


def class_set(space: str, classes: str) -> tuple[int, ...]:
    """Return the training classes of a label space that a class set counts.

    Also those that have an id but no pixel there: '19' of SYNTHIA is 19. Raises ValueError for an
    unknown space or class set.
    """
    if classes not in CLASS_SETS:
        near = meant(classes, CLASS_SETS)
        raise ValueError(f'unknown class set {classes!r}; choose from {tuple(CLASS_SETS)}{near}')
    names, ids = labels.task(space).classes, labels.class_ids(space, absent=True)
    return tuple(i for i in ids if names[i] not in CLASS_SETS[classes])
