"""`--method`: a config of any method becomes one of another, all else being equal."""

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from ..methods.others import OTHERS, Other
from ..text import meant

# Of an EncoderDecoder; a segmentor of a method has more.
_PARTS = (
    *('type', 'backbone', 'neck', 'decode_head', 'auxiliary_head', 'train_cfg', 'test_cfg'),
    *('data_preprocessor', 'pretrained', 'init_cfg'),
)
_HOOKS = ('StatisticsPass', 'SWAD')


def apply(config: Config, method: str) -> None:
    """Have a config train by `method`, whatever it trained by before.

    This sets the placement, the segmentor that collects losses, the hooks of passes and averages
    and the style transform, with each method's own defaults. SHADE is without its teacher.

    Args:
        config: changed in place.
        method: a name in `PLACEMENTS`, `METHODS` or `OTHERS`, or several joined by '+'.

    Raises:
        ValueError: an unknown name, two that do not go together, or a network, segmentor or
            training pipeline that it cannot be put into.
    """
    from ..placement import METHODS, PLACEMENTS, clash, resolve

    table = PLACEMENTS | METHODS
    names = method.split('+')
    _check(method, names, table)
    placement = [name for name in names if name in table] or ['bn']
    others = [OTHERS[name] for name in names if name in OTHERS]
    puts = resolve(placement)
    if both := clash(puts):
        kinds = ' and '.join(put.layer.__name__ for put in both)
        raise ValueError(f'--method {method}: {kinds} would stand at one site, {both[0].at}')
    layers = {put.layer for put in puts}
    if absent := [key for key in ('model', 'train_dataloader') if not config.get(key)]:
        raise ValueError(f'--method {method}: {config.filename} has no {absent[0]}')
    adapter = _adapter(config, [name for name in names if name in table], method)
    if not adapter:
        config.model.backbone.placement = placement[0] if len(placement) == 1 else placement
    _segmentor(config, layers, others, method)
    _hooks(config, layers, others, method)
    _photos(config, layers, others, method)
    config.method = '+'.join([*adapter, method])


def _check(method: str, names: Sequence[str], table: dict[str, Any]) -> None:
    for name in names:
        if name not in table | OTHERS:
            known = [*table, *(key for key, other in OTHERS.items() if other.by_name)]
            raise ValueError(
                f'--method {method}: no method {name!r}{meant(name, known)}; choose from '
                f'{", ".join(known)}, or join some by +'
            )
        if name in OTHERS and not OTHERS[name].by_name:
            other = OTHERS[name]
            raise ValueError(
                f'--method {method}: {name} cannot be put into any config; it needs {other.needs}. '
                f'Take {other.config}'
            )
    if len(set(names)) < len(names):
        raise ValueError(f'--method {method}: one is named twice')


def _adapter(config: Config, layers: Sequence[str], method: str) -> list[str]:
    """Return the method of a frozen transformer, which stays as it is; else nothing."""
    if config.model.backbone.get('type') != 'FrozenViT':
        return []
    if layers:
        raise ValueError(
            f'--method {method}: model.backbone of {config.filename} is a FrozenViT, which has no '
            f'places for the layers of {", ".join(layers)}. Take an IBN network'
        )
    adapters = [name for name, other in OTHERS.items() if other.at == 'adapters']
    stated = str(config.get('method')).split('+')
    return [name for name in stated if name in adapters] or ['frozen']


def _segmentor(config: Config, layers: set[type], others: list[Other], method: str) -> None:
    if (kind := config.model.type) not in _known():
        raise ValueError(f"--method {method}: model.type is {kind!r}; expected 'EncoderDecoder'")
    lossy = any(hasattr(layer, 'loss') for layer in layers)
    asked = {layer.segmentor: {} for layer in layers if hasattr(layer, 'segmentor')}
    asked |= {other.segmentor['type']: other.segmentor for other in others if other.segmentor}
    if len(asked) > 1:
        raise ValueError(
            f'--method {method}: its parts need {" and ".join(asked)}, and model.type is one. '
            'Train them one by one'
        )
    for key in config.model.keys() - _PARTS:
        del config.model[key]
    (kind, given), *_ = [*asked.items(), ('SiteSegmentor' if lossy else 'EncoderDecoder', {})]
    config.model.update(dict(given, type=kind))


def _known() -> set[str]:
    """Return the segmentors of methods, and the plain one."""
    of_layers = {getattr(layer, 'segmentor', 'SiteSegmentor') for layer in _layers()}
    others = {other.segmentor['type'] for other in OTHERS.values() if other.segmentor}
    return {'EncoderDecoder', 'SiteSegmentor'} | of_layers | others


def _layers() -> set[type]:
    from ..placement import METHODS

    return {put.layer for row in METHODS.values() for put in row}


def _hooks(config: Config, layers: set[type], others: list[Other], method: str) -> None:
    mine = [dict(type='StatisticsPass', **one.statistics) for one in layers if _observes(one)]
    mine += [dict(other.hook) for other in others if other.hook]
    averages = [hook['type'] for hook in mine if hook['type'] in ('EMAHook', 'SWAD')]
    gone = [*_HOOKS]
    # An average of the config's own, which no method asked for, is part of its recipe.
    if 'EMAHook' in averages or 'ema' in str(config.get('method')).split('+'):
        gone.append('EMAHook')
    kept = [hook for hook in config.get('custom_hooks') or [] if hook['type'] not in gone]
    averages += [hook['type'] for hook in kept if hook['type'] == 'EMAHook']
    if len(averages) > 1:
        raise ValueError(
            f'--method {method}: {" and ".join(averages)} would each report an average of its own. '
            'Take one'
        )
    config.custom_hooks = kept + mine


def _observes(layer: type) -> bool:
    return hasattr(layer, 'observe')


def _photos(config: Config, layers: set[type], others: list[Other], method: str) -> None:
    """Have the training pipeline change photos, and read those that go beside a sample."""
    data = config.train_dataloader.dataset
    gone = {'OtherStyle'} | {one.photos['type'] for one in _layers() if hasattr(one, 'photos')}
    steps = [step for step in data.pipeline if step['type'] not in gone]
    styles = [dict(type='OtherStyle', **other.style) for other in others if other.style]
    crops = [i for i, step in enumerate(steps, 1) if 'Crop' in step['type']]
    if styles and not crops:
        raise ValueError(f'--method {method}: the training pipeline has no crop to put it behind')
    if styles:
        steps[crops[0] : crops[0]] = styles
    data.pipeline = steps + [dict(one.photos) for one in layers if hasattr(one, 'photos')]
