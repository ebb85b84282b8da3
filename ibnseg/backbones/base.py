"""What the backbones share."""

from collections.abc import Mapping
from typing import Any

from mmcv.cnn import build_norm_layer
from mmengine.model import PretrainedInit
from torch import nn

from ..weights import load_weights


def is_pretrained(init_cfg: Mapping[str, Any]) -> bool:
    """Whether an `init_cfg` names a weight file; its type may be a class, or have a scope."""
    kind = init_cfg.get('type')
    return kind is PretrainedInit or str(kind).rpartition('.')[2] == 'Pretrained'


class IBNBackbone:
    """Mixed in before an MMEngine module that has `norm_cfg` and `init_cfg`."""

    def _build_norm(self, channels: int) -> nn.Module:
        return build_norm_layer(self.norm_cfg, channels)[1]

    def init_weights(self) -> None:
        """As MMEngine's, but a checkpoint is read safely and plain weights are converted."""
        given = self.init_cfg
        configs = [given] if isinstance(given, dict) else list(given or ())
        pretrained = [c for c in configs if is_pretrained(c)]
        first_call = not self.is_init
        self.init_cfg = [c for c in configs if c not in pretrained]
        super().init_weights()
        self.init_cfg = given
        self._is_init = False  # a load that failed can be repeated
        for config in pretrained if first_call else ():
            load_weights(self, config['checkpoint'], prefix=config.get('prefix'))
        self._is_init = True

    def train(self, mode: bool = True) -> 'IBNBackbone':
        super().train(mode)
        return self  # MMSeg's returns None, which breaks `net.eval()(x)`
