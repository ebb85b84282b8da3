"""What `ibnseg test` measures: a checkpoint run by torch, or by another engine."""

import copy
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from torch import Tensor

from .. import disk, weights
from ..domains import Used
from ..measure import origin, outside
from . import checks
from .runner import SegRunner


class Subject:
    """A checkpoint of `ibnseg train`, run by torch.

    Attributes:
        file: what names it.
        engine: what runs it, for the record: {} for torch.
    """

    def __init__(self, checkpoint: str | Path):
        self.file = Path(checkpoint)
        self.engine: dict[str, Any] = {}

    @cached_property
    def sha256(self) -> str:
        return disk.sha256(self.file)

    @cached_property
    def meta(self) -> dict[str, Any]:
        """What the checkpoint says of itself."""
        return weights.read(self.file).get('meta', {})

    def prepare(self, config: Config) -> None:
        """Change the config that the runner is built of."""
        config.model.backbone.init_cfg = None  # the checkpoint has all weights

    def load(self, runner: SegRunner) -> None:
        """Have the runner's next test use it. Raises ValueError where the config is another's."""
        checks.check_trained_on(self.file, self.meta, runner.cfg)
        runner.begin_with(self.file, resume=False)

    def provenance(self, config: Config, used: Mapping[str, Used]) -> dict[str, Any]:
        """Return that of its record."""
        return origin.of_checkpoint(self.file, self.meta, config, used)


class InEngine(Subject):
    """A checkpoint run by ONNX Runtime or OpenVINO: an export of it, given or made.

    Args:
        engine: of `export.engines.ENGINES`.
        precision: of `export.engines.PRECISIONS`.
        export: a file of `ibnseg export`; default: one is made.

    Raises ValueError: an export of another checkpoint, or what `engines.open_file` raises.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        engine: str,
        precision: str = 'float32',
        export: str | Path | None = None,
    ):
        super().__init__(checkpoint)
        from ..export import engines  # packages of an extra

        self._name, self._precision, self._export = engine, precision, export
        self._opened = engines.open_file(export, engine, precision) if export else None
        if self._opened:  # a file in int8 says so
            precision = self._opened.precision
        self.engine = dict(name=engine, precision=precision)
        if self._opened:
            said = self._opened.about.get('checkpoint', {}).get('sha256')
            if said != self.sha256:
                raise ValueError(
                    f'{export} is no export of {checkpoint}: it says checkpoint '
                    f'{said or "nothing"!s:.12}, that one is {self.sha256:.12}. Leave --export '
                    'away, and one is made'
                )
            self.engine['export_sha256'] = disk.sha256(export)

    def prepare(self, config: Config) -> None:
        from ..export import measured

        super().prepare(config)
        self._model = copy.deepcopy(config.model)
        if not self._opened:
            own = copy.deepcopy(config)
            self._opened = measured.made(own, self.file, self._name, self._precision)
        self.engine['version'] = self._opened.version
        head = config.model.decode_head
        align = bool(head.get('align_corners', False))
        inside = self._opened.about['input']['normalised_inside']
        own = config.model.data_preprocessor
        preprocessor = measured.RAW if inside else own
        if 'size' in own:
            preprocessor = dict(preprocessor, size=own['size'])
        config.model = outside.segmentor(
            preprocessor, config.model.test_cfg, head.num_classes, align
        )

    def load(self, runner: SegRunner) -> None:
        checks.check_trained_on(self.file, self.meta, runner.cfg)
        put(runner, in_torch(self._opened))

    def provenance(self, config: Config, used: Mapping[str, Used]) -> dict[str, Any]:
        trained = copy.deepcopy(config)
        trained.model = self._model
        return super().provenance(trained, used) | dict(engine=self.engine)


def put(runner: SegRunner, network: Callable[[Tensor], Tensor]) -> None:
    """Set the network of a runner's `outside.Outside`."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    model.backbone.network = network
    model.to(model.backbone.place.device)


def in_torch(engine: Any) -> Callable[[Tensor], Tensor]:
    """Return an `export.engines.Engine` as a function of normalised images.

    Of one that normalises inside, images are RGB from 0 to 255.
    """
    inside = engine.kind == 'uint8'

    def network(images: Tensor) -> Tensor:
        given = images.permute(0, 2, 3, 1).round().to(torch.uint8) if inside else images.float()
        return torch.from_numpy(engine(given.cpu().contiguous().numpy())).to(images.device)

    return network
