"""What a file of golden values holds, its recipes made anew."""

import json
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def _recipe(recipe: dict) -> np.ndarray:
    rng, shape = np.random.default_rng(recipe.get('seed')), tuple(recipe['shape'])
    scale, shift = recipe.get('scale', 1), recipe.get('shift', 0)
    kind = recipe['kind']
    if kind == 'values':
        return np.array(recipe['data']).reshape(shape)
    if kind == 'normal':
        return rng.standard_normal(shape) * scale + shift
    if kind == 'uniform':
        return rng.random(shape) * scale + shift
    if kind == 'integers':
        return rng.integers(recipe['low'], recipe['high'], shape)
    if kind == 'permutation':
        return rng.permutation(shape[0])
    if kind == 'simplex':
        u = rng.random(shape)
        return u / u.sum(-1, keepdims=True)
    assert kind == 'feature', kind
    n, c = (np.arange(shape[i]).reshape(-1, *(1,) * (3 - i)) for i in (0, 1))
    z = rng.standard_normal(shape)
    return z * (0.5 + (c + 1) / shape[1]) * (1 + 0.25 * n) + np.sin(1 + c + 0.7 * n)


class Golden:
    """One file: `arguments`, `notes`, `outputs`, and inputs by name as tensors of `dtype`."""

    def __init__(self, path: Path, dtype: torch.dtype):
        content = json.loads(path.read_text())
        self.arguments, self.dtype, self.name = content['arguments'], dtype, path.stem
        self.notes = ' '.join(content['notes'])
        self.outputs = {
            key: np.array(out['data']).reshape(out['shape'])
            for key, out in content['outputs'].items()
        }
        self.inputs = {}
        for key, recipe in content['inputs'].items():
            array = _recipe(recipe)
            assert abs(array.sum() - recipe['sum']) <= 1e-9 * max(1, np.abs(array).sum()), key
            self.inputs[key] = array

    def __getitem__(self, name: str) -> Tensor:
        tensor = torch.from_numpy(self.inputs[name])
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def said(self, pattern: str) -> float:
        """Return the number that the notes give in the group of `pattern`."""
        return float(re.search(pattern, self.notes)[1])

    def leaf(self, name: str) -> Tensor:
        return self[name].clone().requires_grad_()
