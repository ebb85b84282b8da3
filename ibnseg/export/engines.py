"""What runs an exported network: ONNX Runtime, OpenVINO, or torch itself. On a CPU."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .formats import FORMATS, KEY, core, need

#: What `ibnseg test --engine` takes.
ENGINES = ('onnxruntime', 'openvino')
PRECISIONS = {'float32': 'f32', 'bfloat16': 'bf16'}


@dataclass
class Engine:
    """A network in an engine; called with a batch as the file wants it, it gives logits.

    Args:
        name, version, precision: of the engine.
        about: what the file says of itself; {} where it says nothing.
        inputs: names of the inputs.
        shape, kind: of the input: its axes, None where free, and its numpy type's name.
    """

    name: str
    version: str
    precision: str
    about: Mapping[str, Any]
    run: Callable[[np.ndarray], np.ndarray] = field(repr=False)
    shape: tuple[int | None, ...] = (None, None, None, None)
    kind: str = 'float32'

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.run(images)


def open_file(path: str | Path, engine: str | None = None, precision: str = 'float32') -> Engine:
    """Open a file of `formats.FORMATS` in an engine.

    Args:
        engine: of `ENGINES`; default: the one that the file is of. Torch's own formats can hold
            code: open those that you made.
        precision: of `PRECISIONS`, a hint: what the engine may compute in. OpenVINO alone has
            bfloat16, where the processor does.

    Raises:
        FileNotFoundError, ValueError: no such file, one that the engine cannot open, or a precision
            that it does not have.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'{path}: no such file of a network')
    suffix = next((end for end in FORMATS.values() if path.name.endswith(end)), path.suffix)
    engine = engine or {'.onnx': 'onnxruntime', '.xml': 'openvino'}.get(suffix, 'torch')
    openers = dict(onnxruntime=_onnxruntime, openvino=_openvino, torch=_torch)
    if precision not in PRECISIONS or (precision != 'float32' and engine != 'openvino'):
        raise ValueError(f'{engine} has no {precision}; expected float32, or bfloat16 of openvino')
    fits = dict(onnxruntime=('.onnx',), openvino=('.onnx', '.xml'), torch=('.pt2', '.ts.pt'))
    if engine not in openers or suffix not in fits[engine]:
        raise ValueError(
            f'{path}: {engine} cannot open it; onnxruntime takes .onnx, openvino .onnx and .xml'
        )
    return openers[engine](path, precision)


def _onnxruntime(path: Path, precision: str) -> Engine:
    (ort,) = need('onnxruntime')
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    except Exception as error:  # its own kinds, one for each status
        raise ValueError(f'{path}: ONNX Runtime cannot open it ({_line(error)})') from error
    taken = _one(path, session.get_inputs())
    kind = dict(FLOAT='float32').get(taken.type[7:-1].upper(), taken.type[7:-1])
    shape = tuple(n if isinstance(n, int) else None for n in taken.shape)
    meta = session.get_modelmeta().custom_metadata_map
    first = session.get_outputs()[0].name

    def run(images: np.ndarray) -> np.ndarray:
        return session.run([first], {taken.name: images})[0]

    about = _about(meta.get(KEY))
    precision = _stated(path, about, precision)
    return Engine('onnxruntime', ort.__version__, precision, about, run, shape, kind)


def _openvino(path: Path, precision: str) -> Engine:
    (ov,) = need('openvino')
    try:
        model = core().read_model(str(path))
        # Without the hint, processors that have bfloat16 compute in it.
        hint = {
            'INFERENCE_PRECISION_HINT': PRECISIONS[precision],
            'INFERENCE_NUM_THREADS': torch.get_num_threads(),
        }
        compiled = core().compile_model(model, 'CPU', hint)
    except RuntimeError as error:
        raise ValueError(f'{path}: OpenVINO cannot open it ({_line(error)})') from error
    used = str(compiled.get_property('INFERENCE_PRECISION_HINT').to_string())
    if used != PRECISIONS[precision]:
        raise ValueError(f'this processor has no {precision}: OpenVINO would compute in {used}')
    taken = _one(path, compiled.inputs)
    shape = tuple(d.get_length() if d.is_static else None for d in taken.partial_shape)
    kind = taken.element_type.to_dtype().name
    said = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
    if said is None and path.suffix == '.onnx':
        said = _of_onnx(path)
    first = compiled.outputs[0]

    def run(images: np.ndarray) -> np.ndarray:
        return compiled(images)[first]

    about = _about(said)
    precision = _stated(path, about, precision)
    return Engine('openvino', ov.__version__, precision, about, run, shape, kind)


def _stated(path: Path, about: Mapping[str, Any], asked: str) -> str:
    stated = str(about.get('precision', 'float32'))
    if 'float32' not in (stated, asked):
        raise ValueError(f'{path} is in {stated}, so its other operations run in float32 alone')
    return asked if stated == 'float32' else stated


def _of_onnx(path: Path) -> str | None:
    (onnx,) = need('onnx')
    props = onnx.load(str(path), load_external_data=False).metadata_props
    return next((one.value for one in props if one.key == KEY), None)


def _torch(path: Path, precision: str) -> Engine:
    said = {KEY: ''}
    if path.suffix == '.pt2':
        network = torch.export.load(path, extra_files=said).module()
    else:
        network = torch.jit.load(str(path), map_location='cpu', _extra_files=said)
    text = said[KEY]
    about = _about(text.decode() if isinstance(text, bytes) else text)

    @torch.no_grad()
    def run(images: np.ndarray) -> np.ndarray:
        return network(torch.from_numpy(images)).numpy()

    kind = about.get('input', {}).get('type', 'float32')
    return Engine('torch', torch.__version__, precision, about, run, kind=kind)


def _one(path: Path, inputs: Any) -> Any:
    if len(inputs) != 1:
        raise ValueError(f'{path} has {len(inputs)} inputs; expected one, a batch of images')
    return inputs[0]


def _about(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or '{}')
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}


def _line(error: Exception) -> str:
    return ' '.join(str(error).split())[:300]
