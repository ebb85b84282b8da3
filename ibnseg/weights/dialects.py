"""How other code names the same tensors, as data: a dialect is a row.

A file's keys, without wrapper and prefix, are compared with each row's `sign`; the first row that
one of them matches gives the rules, which make the original release's names (and, for deep stems,
MMSegmentation's) of its own.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .files import is_head, strip


@dataclass(frozen=True)
class Dialect:
    """One way to name tensors.

    Args:
        sign: pattern that some key of every such file matches, with or without its prefix.
        rules: (pattern, replacement) pairs as for `re.sub`, applied in order. In a replacement,
            `<3>` makes 2, for those who count from 1; `#0`, `#1`, ... at its end make parts of a
            tensor, joined along the first axis.
        drop: pattern of keys that are none of the backbone's, beside `files.HEADS`.
        note: what names can't say and a user must know.
    """

    name: str
    sign: str
    rules: tuple[tuple[str, str], ...] = ()
    drop: str = '(?!)'
    note: str = ''


_ROBUSTNET_HEADS = r'^(aspp|bot_aspp|bot_fine|final1|final2|dsn)\.'
_UNIT = r'^features\.stage(\d)\.unit(\d+)\.'

DIALECTS = (
    Dialect(
        'IBN-Net, old release',
        r'\.convbnin\.',
        (
            (r'\.convbnin\.conv2\.weight$', '.conv1.weight#0'),  # the channels that IN gets
            (r'\.convbnin\.conv1\.weight$', '.conv1.weight#1'),
            (r'\.convbnin\.(IN|BN)\.', r'.bn1.\1.'),
        ),
    ),
    Dialect(
        'RobustNet, deep stem',
        r'^layer0\.6\.',
        ((r'^layer0\.', 'stem.'), (r'\.instance_norm_layer\.', '.IN.')),
        drop=_ROBUSTNET_HEADS,
    ),
    Dialect(
        'RobustNet',
        r'^layer0\.0\.',
        (
            (r'^layer0\.0\.', 'conv1.'),
            (r'^layer0\.1\.', 'bn1.'),
            (r'\.instance_norm_layer\.', '.IN.'),
        ),
        drop=_ROBUSTNET_HEADS,
    ),
    Dialect(
        'pytorchcv ResNet',
        _UNIT + r'body\.',
        (
            (r'^features\.init_block\.conv\.conv\.', 'conv1.'),
            (r'^features\.init_block\.conv\.(bn|inst_norm)\.', 'bn1.'),
            (_UNIT, r'layer\1.<\2>.'),
            (r'\.identity_conv\.conv\.', '.downsample.0.'),
            (r'\.identity_conv\.bn\.', '.downsample.1.'),
            (r'\.body\.conv(\d)\.conv\.', r'.conv\1.'),
            (r'\.body\.conv(\d)\.(bn|ibn)\.', r'.bn\1.'),
            (r'\.inst_norm\.', '.IN.'),
            (r'\.batch_norm\.', '.BN.'),
            (r'^output\.', 'fc.'),
        ),
    ),
    Dialect(
        'pytorchcv DenseNet',
        _UNIT + r'conv1\.',
        (
            (r'^features\.init_block\.conv\.', 'features.conv0.'),
            (r'^features\.init_block\.bn\.', 'features.norm0.'),
            (r'^features\.stage\d\.trans(\d)\.conv\.bn\.', r'features.transition<\1>.norm.'),
            (r'^features\.stage\d\.trans(\d)\.conv\.conv\.', r'features.transition<\1>.conv.'),
            (_UNIT + r'conv(\d)\.conv\.', r'features.denseblock\1.denselayer\2.conv\3.'),
            (_UNIT + r'conv(\d)\.(bn|ibn)\.', r'features.denseblock\1.denselayer\2.norm\3.'),
            (r'\.inst_norm\.', '.IN.'),
            (r'\.batch_norm\.', '.BN.'),
            (r'^features\.post_activ\.bn\.', 'features.norm5.'),
            (r'^output\.', 'classifier.'),
        ),
    ),
    Dialect(
        "torchvision's published DenseNet",
        r'\.denselayer\d+\.(norm|conv)\.[12]\.',
        ((r'\.(norm|conv)\.([12])\.', r'.\1\2.'),),
    ),
    Dialect('timm, deep stem', r'^conv1\.6\.', ((r'^conv1\.', 'stem.'), (r'^bn1\.', 'stem.7.'))),
    Dialect(
        'deep stem by numbers',  # the ImageNet weights that RobustNet's R101 starts from
        r'^conv3\.',
        tuple(
            (rf'^{layer}{i + 1}\.', f'stem.{3 * i + after}.')
            for i in range(3)
            for after, layer in enumerate(('conv', 'bn'))
        ),
    ),
    Dialect(
        'SoMA',  # the release's, of DINOv2: query, key and value apart, below one more `model`
        r'\.lora_[AB]\.weight$',
        (
            (r'^model\.', 'net.'),
            (r'\.lora_([AB])\.weight$', r'.parametrizations.weight.0.lora_\1'),
            *((rf'\.attn\.{one}\.(.+)$', rf'.attn.qkv.\1#{i}') for i, one in enumerate('qkv')),
        ),
    ),
    # From here on tensors have the original's names already.
    Dialect(
        'fast-reid',
        r'^(heads|backbone\.NL_\d|NL_\d)\.',
        drop=r'^(NL_\d|pixel_mean$|pixel_std$)',
        note="fast-reid's max-pool has ceil_mode=True and no padding, ours padding 1: maps differ "
        'until the network is trained further; its non-local blocks (NL_*), if any, are left out',
    ),
    Dialect('reid-strong-baseline', r'^(module\.)?base\.'),
    Dialect('MMSegmentation segmentor', r'^(module\.)?decode_head\.'),
    Dialect('MMPretrain', r'^(module\.)?head\.fc\.', ((r'^head\.fc\.', 'fc.'),)),
    Dialect('deep stem of MMSegmentation', r'^stem\.6\.'),
    Dialect('avg_down of MMSegmentation and timm', r'\.downsample\.2\.'),
    # IBN-Net's release, torchreid, TLLib, torchvision, timm with a plain stem.
    Dialect('original', ''),
)


def without_heads(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if not is_head(key)}


@dataclass
class Translation:
    """Tensors by the original's names.

    Args:
        sources: new name -> the names in the file (more than one where parts were joined).
        dropped: names in the file of what is none of the backbone's.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)


def detect(keys: Iterable[str]) -> Dialect:
    """Return the first dialect whose sign is among the keys of a file, as they stand there."""
    both = {name for key in keys for name in (key, strip(key))}
    return next(d for d in DIALECTS if any(re.search(d.sign, key) for key in both) or not d.sign)


def translate(tensors: Mapping[str, Tensor], dialect: Dialect) -> Translation:
    """Rename the tensors of a file (`files.state_dict_of`).

    Raises ValueError where two keys become one, and for parts that don't go together.
    """
    result = Translation()
    parts: dict[str, dict[str, str]] = {}  # new name -> part of it ('': the whole) -> key
    for key in tensors:
        if re.search(dialect.drop, key):
            result.dropped.append(key)
            continue
        name = key
        for pattern, replacement in dialect.rules:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r'<(\d+)>', lambda number: str(int(number[1]) - 1), name)
        name, _, part = name.partition('#')
        others = parts.setdefault(name, {})
        if others and ('' in (part, *others) or part in others):
            raise ValueError(f'{key} ({dialect.name}): another key of the file is {name}, too')
        others[part] = key
    for name, keys in parts.items():
        ordered = result.sources[name] = tuple(keys[part] for part in sorted(keys))
        whole = [str(i) for i in range(max(2, len(keys)))]
        if sorted(keys) not in ([''], whole):
            raise ValueError(f'{", ".join(ordered)} ({dialect.name}): only a part of {name}')
        given = [tensors[key] for key in ordered]
        try:
            result.tensors[name] = torch.cat(given) if len(given) > 1 else given[0]
        except RuntimeError as error:
            raise ValueError(f'{", ".join(ordered)} ({dialect.name}): {error}') from error
    return result
