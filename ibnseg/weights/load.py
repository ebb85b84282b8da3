"""State dicts -> backbones, with an account of every key."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from .. import _stack
from . import dialects, files, networks

_State = Mapping[str, Tensor]


@dataclass
class Report:
    """What became of a file's tensors, by their names in the file, without wrappers' prefixes.

    `initial`: the backbone's own, left as they were.
    """

    loaded: list[str] = field(default_factory=list)
    converted: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    initial: list[str] = field(default_factory=list)
    dialect: str = field(default='original', compare=False)
    note: str = field(default='', compare=False)

    def __str__(self) -> str:
        text = f'{len(self.loaded)} tensors loaded'
        if self.dialect != 'original':
            text += f' (names: {self.dialect})'
        for verb, keys in (('converted', self.converted), ('dropped', self.dropped)):
            if keys:
                text += f', {len(keys)} {verb} ({files.some(keys)})'
        if self.initial:
            text += (
                f', {len(self.initial)} left at their initial value ({files.some(self.initial)})'
            )
        return f'{text}. {self.note}' if self.note else text


def load_weights(
    backbone: nn.Module,
    source: str | os.PathLike | Mapping[str, Any],
    prefix: str | None = None,
) -> Report:
    """Load weights into an IBN backbone and say what became of each key.

    Takes whatever `files.read` takes, or a mapping, in any of `dialects.DIALECTS`. Plain ImageNet
    weights are converted: where the file has a plain norm and the backbone another layer, that
    layer says what it takes of the norm's tensors (`from_plain`, see `ibnseg.norms`). Inserted
    layers that the file does not know stay as they were built. Heads are dropped, and stages that
    the backbone does not have.

    Raises:
        FileNotFoundError, ValueError: as `files.read`; keys left unexplained, missing keys and
            wrong shapes are all listed in one ValueError, and the backbone is left untouched.
    """
    name = 'the mapping' if isinstance(source, Mapping) else os.fspath(source)
    content = source if isinstance(source, Mapping) else files.read(source)
    try:
        given, beside = files.select(content, prefix)
        dialect = dialects.detect(given if prefix else [*files.unwrap(content), *given])
        file = dialects.translate(given, dialect)
    except ValueError as error:
        raise ValueError(f'{name}: {error}') from None
    report = Report(dropped=[*file.dropped, *beside], dialect=dialect.name, note=dialect.note)
    result = _convert(backbone, file, report)
    if problems := _problems(backbone, result, file, report):
        names = '' if dialect.name == 'original' else f' (names: {dialect.name})'
        wanted = backbone.state_dict()
        hints = [text for applies, text in _HINTS if applies(file.tensors, wanted)]
        hints = hints or ['Check depth, placement, ratio and deep_stem against the file']
        if not result.keys() & wanted.keys():
            hints.append(files.layout(content))
        if len(problems) == 1 and problems[0].startswith(_UNEXPLAINED):
            hints.append(
                'Where these are of another part, leave them out: state = {k: v for k, v in '
                "state.items() if not k.startswith('...')}; torch.save(state, 'weights.pth')"
            )
        if config := networks.guess(dialects.without_heads(file.tensors)):
            hints.append(f'The file fits {networks.spell(config)}')
        raise ValueError(
            f'{name}{names} does not fit this {type(backbone).__name__}. '
            f'{"; ".join(problems)}. {". ".join(hints)}'
        )
    backbone.load_state_dict(result, strict=False)
    settled = {*report.converted, *report.dropped}
    report.loaded = [key for new in result for key in file.sources[new] if key not in settled]
    _stack.log(f'{name}: {report}')
    return report


_UNEXPLAINED = 'keys with no place in the backbone'


def _problems(
    backbone: nn.Module, result: dict[str, Tensor], file: dialects.Translation, report: Report
) -> list[str]:
    """Return what does not fit, in words; drop heads and stages not built from `result`.

    `report.dropped` and `report.initial` are kept up to date.
    """
    wanted = backbone.state_dict()
    unexplained = []
    for key in [key for key in result if key not in wanted]:
        if dialects.is_head(key) or _stage_not_built(key, wanted):
            report.dropped += file.sources[key]
            del result[key]
        else:
            unexplained += file.sources[key]
    missing = [key for key in wanted if key not in result and key not in report.initial]
    # Only inserted layers may go without: one that replaces a norm has that norm's values.
    inserted = {
        key
        for path, module in backbone.named_modules()
        if getattr(module, 'inserted', False)
        and not any(key.startswith(f'{path}.') for key in result)
        for key in missing
        if key.startswith(f'{path}.')
    }
    report.initial += [key for key in missing if key in inserted]
    wrong = [
        f'{key} {tuple(result[key].shape)}, expected {tuple(wanted[key].shape)}'
        for key in result
        if key in wanted and result[key].shape != wanted[key].shape
    ]
    missing = [k for k in missing if k not in inserted and not k.endswith('num_batches_tracked')]
    found = {
        _UNEXPLAINED: unexplained,
        'keys the backbone needs and the file lacks': missing,
        'wrong shapes': wrong,
    }
    return files.listed(found)


def _shortcut(state: _State) -> str:
    """Return how the shortcuts are named: with a pool before the convolution, or without."""
    return next((k for k in state if re.search(r'\.downsample\.[02]\.weight$', k)), '')[-8:-7]


#: When a file does not fit: (does this explain it? given the file and the backbone, what to say).
_HINTS: tuple[tuple[Callable[[_State, _State], bool], str], ...] = (
    (
        lambda file, net: 'conv1.weight' in file and 'stem.0.weight' in net,
        "The file has a stem of one 7x7 convolution, and this backbone's is of three 3x3 "
        '(deep_stem=True, as in ResNetV1c and V1d): one can not be made from the other, and '
        "IBN-Net's own weights all have the 7x7. Build it with deep_stem=False",
    ),
    (
        lambda file, net: 'stem.6.weight' in file and 'conv1.weight' in net,
        "The file has a deep stem of three 3x3 convolutions, and this backbone's is one 7x7. Build "
        'it with deep_stem=True, and stem_channels as many as stem.6.weight has outputs',
    ),
    (
        lambda file, net: {_shortcut(file), _shortcut(net)} == {'0', '2'},
        'Shortcuts of the one are pooled (avg_down=True: downsample.1, .2), of the other not: set '
        'avg_down as the file has it',
    ),
)


def _stage_not_built(key: str, wanted: _State) -> bool:
    """Whether a key is of a stage beyond the backbone's last (`num_stages`)."""
    # A transition belongs to the dense block it leads into, norm5 to the fourth.
    stage = re.match(r'(layer[1-4]|features\.(denseblock[1-4]|transition[1-3]|norm5))\.', key)
    if stage is None:
        return False
    first = 'layer1.' if key.startswith('layer') else 'features.denseblock1.'
    same_family, built = (any(k.startswith(s) for k in wanted) for s in (first, stage[0]))
    return same_family and not built


#: Tensors of a plain norm.
_PLAIN = {'weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked'}


def _convert(backbone: nn.Module, file: dialects.Translation, report: Report) -> dict[str, Tensor]:
    """Let each layer with `from_plain` start from the plain norm that the file has in its place.

    `file.sources` is kept up to date.
    """
    result, sources = dict(file.tensors), file.sources
    report.converted += [k for keys in sources.values() if len(keys) > 1 for k in keys]
    for path, module in backbone.named_modules():
        if not hasattr(module, 'from_plain'):
            continue
        names = [key.removeprefix(f'{path}.') for key in result if key.startswith(f'{path}.')]
        plain = {name: result[f'{path}.{name}'] for name in names}
        own_already = networks.shapes_of(plain) == networks.shapes_of(module.state_dict())
        if 'weight' not in plain or not plain.keys() <= _PLAIN or own_already:
            continue
        own = module.from_plain(plain)
        origins = {name: sources[f'{path}.{name}'] for name in names}
        every = tuple(key for keys in origins.values() for key in keys)
        for name in plain:
            if name in own and own[name] is plain[name]:
                continue
            used = any(_leaf(new) == name or _leaf(new) not in plain for new in own)
            (report.converted if used else report.dropped).extend(origins[name])
            if name not in own:
                del result[f'{path}.{name}'], sources[f'{path}.{name}']
        for name, tensor in own.items():
            result[f'{path}.{name}'] = tensor
            sources[f'{path}.{name}'] = origins.get(_leaf(name), every)
        for name in module.state_dict():
            if name not in own and _leaf(name) not in _PLAIN:
                report.initial.append(f'{path}.{name}')
    return result


def _leaf(name: str) -> str:
    return name.rpartition('.')[2]
