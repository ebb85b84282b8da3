"""Entry points for `torch.hub`: ImageNet classifiers with the original release's signature.

    model = torch.hub.load('path/to/clone', 'resnet50_ibn_a', source='local', pretrained=True)

Each maps images (N, 3, H, W) to logits, takes `pretrained=False`, `num_classes=1000`, and whatever
else `ibnseg.hub.build` does, and needs torch alone; `ibnseg.hub.NAMES` lists all.
"""

from ibnseg import hub as _hub

dependencies = ['torch']


def _entry(name):
    def entry(pretrained=False, **kwargs):
        return _hub.build(name, pretrained, **kwargs)

    entry.__name__ = entry.__qualname__ = name
    entry.__doc__ = f'{name}; arguments as `ibnseg.hub.build`.'
    return entry


globals().update({name: _entry(name) for name in _hub.NAMES})
