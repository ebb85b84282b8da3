"""The files that an export can be: how each is written, and what it says of itself."""

import importlib
import json
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from .._stack import quiet
from .network import Exportable

#: What `--to` takes -> the suffix of the file.
FORMATS = {
    'onnx': '.onnx',
    'openvino': '.xml',
    'torch-export': '.pt2',
    'torchscript': '.ts.pt',
}
#: The key below which a file says what it is, as JSON; `write.describe` has its fields.
KEY = 'ibnseg'
OPSET = 20
_AXES = ('batch', 'height', 'width')


def need(*modules: str) -> list[ModuleType]:
    """Import packages of the extra `export`. Raises ValueError, saying how to get them."""
    try:
        return [importlib.import_module(name) for name in modules]
    except ImportError as error:
        raise ValueError(
            f'{error.name or modules[0]} is not installed, which this needs: pip install '
            'onnx onnxruntime onnxscript openvino (or ibnseg[export] in the checkout)'
        ) from error


@cache
def core() -> Any:
    """Return the one OpenVINO core of this process.

    Its CPU plugin gives the process a stack for signals, and takes it back when the core ends. Of
    two cores whose lives overlap, the second would leave that of the first, which is gone: then the
    next signal kills the process.
    """
    (ov,) = need('openvino')
    return ov.Core()


def write(network: Exportable, to: str, path: Path, about: dict[str, Any]) -> list[Path]:
    """Write a network to a file; OpenVINO's .xml has a .bin beside it. Returns what was written.

    Args:
        to: of `FORMATS`.
        about: what the file says of itself.
    """
    text = json.dumps(about)
    with torch.no_grad(), quiet():
        if to == 'torchscript':
            traced = torch.jit.trace(network, network.example(), check_trace=False)
            traced.save(str(path), _extra_files={KEY: text})
            return [path]
        program = _program(network)
        if to == 'torch-export':
            torch.export.save(program, path, extra_files={KEY: text})
            return [path]
        (onnx,) = need('onnx')
        model = _onnx(program, network)
        if to == 'onnx':
            onnx.helper.set_model_props(model, {KEY: text})
            onnx.save(model, path)
            return [path]
        (openvino,) = need('openvino')
        converted = core().read_model(model.SerializeToString())
        converted.set_rt_info(text, [KEY])
        openvino.save_model(converted, path, compress_to_fp16=False)
        return [path, path.with_suffix('.bin')]


def _program(network: Exportable) -> torch.export.ExportedProgram:
    free = dict.fromkeys(network.free(), torch.export.Dim.DYNAMIC)
    return torch.export.export(network, (network.example(),), dynamic_shapes=(free,))


def _onnx(program: torch.export.ExportedProgram, network: Exportable) -> Any:
    """Return an ONNX model whose free axes have names, without paths of this machine."""
    need('onnx', 'onnxscript')
    model = torch.onnx.export(
        program, dynamo=True, verbose=False, opset_version=OPSET,
        input_names=['image'], output_names=['logits'],
    ).model_proto  # fmt: skip
    graph = model.graph
    dims = graph.input[0].type.tensor_type.shape.dim
    names = {dims[i].dim_param: axis for i, axis in zip(network.free(), _AXES, strict=True)}
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                named = re.sub(r'[a-z]\w*', lambda m: names.get(m[0], m[0]), dim.dim_param)
                dim.dim_param = named
    del graph.value_info[:]  # of maps in between; an engine finds them itself
    for part in (*graph.input, *graph.output, *graph.node, *graph.initializer, graph, model):
        del part.metadata_props[:]
        part.doc_string = ''
    return model
