"""`--method`: a config of any method becomes one of another, all else being equal."""

from typing import Any

from mmengine.config import Config

from ..text import meant

#: Methods that are a change of the photos: arguments of `OtherStyle`, as in configs/methods.
STYLES: dict[str, dict[str, Any]] = {
    'fda': dict(style='fourier', prob=0.5, options=dict(band=0.01)),
    'reinhard': dict(style='reinhard', prob=0.5),
}
_SEGMENTORS = ('EncoderDecoder', 'SiteSegmentor', 'SHADESegmentor')
# What a segmentor of another method had for itself.
_OWN = ('site_loss', 'consistency', 'retrospection', 'teacher', 'classes')


def apply(config: Config, method: str) -> None:
    """Have a config train by `method`, whatever it trained by before.

    This sets the placement, the segmentor that collects losses, the statistics pass and the style
    transform, with each layer's own defaults. SHADE is without its teacher.

    Args:
        config: changed in place.
        method: a name in `PLACEMENTS`, `METHODS` or `STYLES`, or several joined by '+'.

    Raises:
        ValueError: an unknown name, a segmentor or a training pipeline that it cannot be put into.
    """
    from ..placement import METHODS, PLACEMENTS, resolve

    table = PLACEMENTS | METHODS
    names = method.split('+')
    for name in names:
        if name not in table | STYLES:
            known = [*table, *STYLES]
            raise ValueError(
                f'--method {method}: no method {name!r}{meant(name, known)}; choose from '
                f'{", ".join(known)}, or join some by +'
            )
    placement = [name for name in names if name in table] or ['bn']
    layers = {put.layer for put in resolve(placement)}
    if absent := [key for key in ('model', 'train_dataloader') if not config.get(key)]:
        raise ValueError(f'--method {method}: {config.filename} has no {absent[0]}')
    config.model.backbone.placement = placement[0] if len(placement) == 1 else placement
    _segmentor(config, layers, method)
    hooks = [one for one in config.get('custom_hooks', []) if one['type'] != 'StatisticsPass']
    observing = [layer for layer in layers if hasattr(layer, 'observe')]
    hooks += [dict(type='StatisticsPass', **layer.statistics) for layer in observing]
    config.custom_hooks = hooks
    _restyle(config, [STYLES[name] for name in names if name in STYLES], method)
    config.method = method


def _segmentor(config: Config, layers: set[type], method: str) -> None:
    if (kind := config.model.type) not in _SEGMENTORS:
        raise ValueError(f'--method {method}: model.type is {kind!r}; expected {_SEGMENTORS[0]!r}')
    asked = {layer.segmentor for layer in layers if hasattr(layer, 'segmentor')}
    lossy = any(hasattr(layer, 'loss') for layer in layers)
    config.model.type = asked.pop() if asked else _SEGMENTORS[lossy]
    for key in _OWN:
        config.model.pop(key, None)


def _restyle(config: Config, styles: list[dict[str, Any]], method: str) -> None:
    data = config.train_dataloader.dataset
    steps = [step for step in data.pipeline if step['type'] != 'OtherStyle']
    crops = [i for i, step in enumerate(steps, 1) if 'Crop' in step['type']]
    if styles and not crops:
        raise ValueError(f'--method {method}: the training pipeline has no crop to put it behind')
    if styles:
        steps[crops[0] : crops[0]] = [dict(type='OtherStyle', **style) for style in styles]
    data.pipeline = steps
