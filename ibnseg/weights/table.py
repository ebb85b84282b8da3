"""The weights that others have published: names, hashes, and the errors that are known of them."""

from dataclasses import dataclass

from ..text import meant

_IBN_NET = 'https://github.com/XingangPan/IBN-Net/releases/download/v1.0/'
_TORCHVISION = 'https://download.pytorch.org/models/'


@dataclass(frozen=True)
class Published:
    """One published file of ImageNet weights; `network(name)` is the backbone it fits.

    Args:
        name: what stands after `ibn://`.
        sha256: the first digits of the file's SHA-256, which are in its name, too.
        top1, top5: error in per cent, ImageNet validation, one centre crop; None where no source
            gives one.
        note: what to know of these numbers.
    """

    name: str
    base: str
    sha256: str
    top1: float | None = None
    top5: float | None = None
    note: str = ''

    @property
    def url(self) -> str:
        return f'{self.base}{self.name}-{self.sha256}.pth'


_OLDER = 'about; of this file, not the {} of the paper, which is of an older architecture'
_PAPER = "the paper's variant b"

_ROWS = (
    # The v1.0 release of IBN-Net (XingangPan/IBN-Net, MIT); no other files exist. Errors are those
    # of Pan et al., ECCV 2018, and of the release.
    Published('resnet18_ibn_a', _IBN_NET, '2f571257', 29.17, 10.24),
    Published('resnet34_ibn_a', _IBN_NET, '94bc1577', 25.78, 8.19),
    Published('resnet50_ibn_a', _IBN_NET, 'd9d0bb7b', 22.76, 6.41, _OLDER.format('22.54/6.32')),
    Published('resnet101_ibn_a', _IBN_NET, '59ea0ac6', 21.29, 5.61, _OLDER.format('21.39/5.59')),
    Published('resnext101_ibn_a', _IBN_NET, '6ace051d', 20.88, 5.42),
    Published('se_resnet101_ibn_a', _IBN_NET, 'fabed4e2', 21.25, 5.51),
    Published('densenet121_ibn_a', _IBN_NET, 'e4af5cc1', 24.47, 7.25),
    Published('densenet169_ibn_a', _IBN_NET, '9f32c161', 23.25, 6.51),
    Published('resnet18_ibn_b', _IBN_NET, 'bc2f3c11'),
    Published('resnet34_ibn_b', _IBN_NET, '04134c37'),
    Published('resnet50_ibn_b', _IBN_NET, '9ca61e85', 23.64, 6.86, _PAPER),
    Published('resnet101_ibn_b', _IBN_NET, 'c55f6dba'),
    # Plain networks of torchvision, to start any placement from.
    Published('resnet18', _TORCHVISION, 'f37072fd'),
    Published('resnet34', _TORCHVISION, 'b627a593'),
    Published('resnet50', _TORCHVISION, '0676ba61'),
    Published('resnet101', _TORCHVISION, '63fe2227'),
    Published('resnet152', _TORCHVISION, '394f9c45'),
    Published('resnext50_32x4d', _TORCHVISION, '7cdf4587'),
    Published('resnext101_32x8d', _TORCHVISION, '8ba56ff5'),
    Published('densenet121', _TORCHVISION, 'a639ec97'),
    Published('densenet161', _TORCHVISION, '8d451a50'),
    Published('densenet169', _TORCHVISION, 'b2777c0a'),
    Published('densenet201', _TORCHVISION, 'c1103571'),
)

#: Name -> row.
PUBLISHED = {row.name: row for row in _ROWS}


def find(name: str) -> Published:
    """Return the row of a name, with or without `ibn://`. Raises ValueError for others."""
    row = PUBLISHED.get(name.removeprefix('ibn://'))
    if row is None:
        raise ValueError(
            f'ibn://{name.removeprefix("ibn://")}: no such published weights'
            f'{meant(name.removeprefix("ibn://"), PUBLISHED)}; choose from '
            f'{", ".join(PUBLISHED)}'
        )
    return row
