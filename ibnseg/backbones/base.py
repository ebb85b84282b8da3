"""What the backbones share."""

from mmcv.cnn import build_norm_layer
from mmengine.model import PretrainedInit
from torch import nn

from ..weights import load_weights


class IBNBackbone:
    """Mixed in before an MMEngine module that has `norm_cfg` and `init_cfg`."""

    def _build_norm(self, channels: int) -> nn.Module:
        return build_norm_layer(self.norm_cfg, channels)[1]

    def init_weights(self) -> None:
        """As MMEngine's, but a checkpoint is read safely and plain weights are converted."""
        given = self.init_cfg
        configs = [given] if isinstance(given, dict) else list(given or ())
        pretrained = [c for c in configs if c['type'] in ('Pretrained', PretrainedInit)]
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
