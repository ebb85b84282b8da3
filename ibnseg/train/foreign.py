"""`ibnseg test --model`: anyone's network as what is measured, and the config around it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .. import domains, named
from ..analysis import networks
from ..domains import Used
from ..export import foreign, mapping
from ..measure import origin, outside, records
from .runner import SegRunner
from .subject import Subject, put


class Elsewhere(Subject):
    """A network that was not trained here, with its classes mapped to the datasets'.

    Args:
        spec, engine, precision: of `foreign.open_spec`.
        names: of the datasets to measure.
        file: of `mapping.read`; default: the network states the datasets' classes itself.

    Raises as these do.
    """

    def __init__(
        self,
        spec: str,
        names: Sequence[str],
        file: str | Path | None = None,
        engine: str | None = None,
        precision: str = 'float32',
    ):
        said = mapping.read(file) if file else {}
        self.opened = foreign.open_spec(spec, engine, precision)
        self.spec, self.engine = spec, self.opened.engine
        self.file = Path(self.opened.name.replace('/', '_'))
        self.facts = self.opened.facts | said
        self.classes = domains.task(names).classes
        given = said.get('classes') if file else None
        self.outputs, self.unused = mapping.resolve(given, self.opened.classes, self.classes)
        self.absent = [c for c, of in zip(self.classes, self.outputs, strict=True) if not of]

    @property
    def sha256(self) -> str:
        return self.opened.sha256

    @property
    def merges(self) -> bool:
        """Whether its softmax is not that of the network: outputs are merged or left out."""
        return bool(self.unused) or any(len(of) != 1 for of in self.outputs)

    def prepare(self, config: Config) -> None:
        """The config, of `config_of`, is about it already."""

    def load(self, runner: SegRunner) -> None:
        multiple = self.facts.get('multiple', 1)
        put(runner, mapping.Mapped(self.opened.network, self.outputs, multiple))

    def provenance(self, config: Config, used: Mapping[str, Used]) -> dict[str, Any]:
        of_classes = {
            name: [self.opened.classes[i] if self.opened.classes else i for i in numbers]
            for name, numbers in zip(self.classes, self.outputs, strict=True)
        }
        return dict(
            checkpoint=self.file.name,
            checkpoint_sha256=self.sha256,
            selection=records.GIVEN,
            seed=None,
            model=dict(spec=self.spec, classes=of_classes, unused=self.unused),
            **(dict(engine=self.engine) if self.engine else {}),
            **origin.here(),
            **origin.measured(config, used),
            config=config.pretty_text,
        )


def config_of(
    subject: Elsewhere,
    names: Sequence[str],
    *,
    data_root: str | None,
    work_dir: str,
    name: str | None = None,
    source: str | None = None,
    launcher: str = 'none',
    skip_lists: Sequence[str] = (),
) -> Config:
    """Return the config that measures a network from elsewhere, as `load_config` would."""
    config = Config.fromfile(named.folder() / '_base_' / 'default_runtime.py')
    facts = subject.facts
    normalised = {} if subject.opened.raw else dict(
        mean=list(facts.get('mean', networks.MEAN)), std=list(facts.get('std', networks.STD))
    )  # fmt: skip
    rgb = subject.opened.raw or facts.get('order', 'rgb') == 'rgb'
    preprocessor = dict(
        type='SegDataPreProcessor', bgr_to_rgb=rgb, pad_val=0, seg_pad_val=255, **normalised
    )
    config.model = outside.segmentor(preprocessor, dict(mode='whole'), len(subject.classes), False)
    config.source, config.launcher, config.work_dir = source or 'unknown', launcher, work_dir
    config.model_name = name or subject.opened.name
    config.protocol = None
    if 'photo' in facts:
        keep = bool(facts.get('keep_ratio', False))
        config.protocol = dict(photo=tuple(facts['photo']), keep_ratio=keep)
    config.test_dataloader = dict(
        batch_size=1,
        num_workers=2,
        sampler=dict(type='DefaultSampler', shuffle=False, round_up=False),
        dataset=dict(
            type='CrossDomainDataset',
            domains=list(names),
            data_root=data_root or 'data',
            protocol=config.protocol,
            skip_lists=list(skip_lists),
        ),
    )
    for key in ('train_dataloader', 'val_dataloader'):
        config[key] = None
    return config
