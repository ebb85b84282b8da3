"""An export that is made to be measured, and left nowhere."""

import tempfile
from pathlib import Path

from mmengine.config import Config

from ..inference.model import Model
from . import engines, formats, write
from .network import Exportable

#: Of a network that takes photos as they are, in RGB.
RAW = dict(type='SegDataPreProcessor', bgr_to_rgb=True, pad_val=0, seg_pad_val=255)


def made(config: Config, checkpoint: Path, engine: str, precision: str) -> engines.Engine:
    """Export a checkpoint with logits of the head's size, and open it in an engine.

    Raises ValueError: a network that cannot be exported, or weights that do not fit the config.
    """
    model = Model(config, checkpoint, 'cpu')
    network = Exportable(model.network, config.model.data_preprocessor, logits='head')
    about = write.describe(model, False, 'head')
    with tempfile.TemporaryDirectory() as folder:
        files = formats.write(network, 'onnx', Path(folder, 'network.onnx'), about)
        return engines.open_file(files[0], engine, precision)
