"""Entry points for `torch.hub`: ImageNet classifiers with the original release's signature.

    model = torch.hub.load('path/to/clone', 'resnet50_ibn_a', source='local', pretrained=True)

Each maps images (N, 3, H, W) to logits, takes `pretrained=False`, `num_classes=1000`, and whatever
else `ibnseg.hub.build` does, and needs torch alone; `ibnseg.hub.NAMES` lists all. The segmentation
backbones are built by MMSegmentation; these are the same blocks, norms and placements in
networks of their own, with the same state-dict keys.
"""

import sys as _sys
import types as _types
from pathlib import Path as _Path

dependencies = ['torch']

try:
    import ibnseg as _ibnseg
except ImportError as _error:
    # Without the MM packages `import ibnseg` refuses, since its types can't be registered. Its
    # modules that need none of them are imported from an empty package in its place.
    _ibnseg = _types.ModuleType('ibnseg')
    _why = f'hubconf.py imported its classifiers alone, since: {_error}'

    def _absent(name):
        raise AttributeError(f'ibnseg.{name}: {_why}')

    _ibnseg.__getattr__ = _absent
    _ibnseg.__path__ = [str(_Path(__file__).parent / 'ibnseg')]
    _sys.modules['ibnseg'] = _ibnseg

from ibnseg import hub as _hub  # noqa: E402


def _entry(name):
    def entry(pretrained=False, **kwargs):
        return _hub.build(name, pretrained, **kwargs)

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f'{name}; arguments as `ibnseg.hub.build`.'
    return entry


globals().update({name: _entry(name) for name in _hub.NAMES})
