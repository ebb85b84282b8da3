"""The golden values of methods: what a file holds, its recipes made anew, and what covers it.

Each builder takes a `Golden` and returns name -> what our code gives for the output of that name.
"""

import fnmatch
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ibnseg import methods
from ibnseg.methods import whitening
from ibnseg.pipeline import styles

#: Pattern of file names -> why nothing covers them. Taken out as parts are built.
UNCOVERED = {
    'rein*': 'adapters of foundation backbones are not built',
    'soma': 'adapters of foundation backbones are not built',
    'wildnet_*': 'WildNet is not built',
    'shade_*': 'SHADE is not built',
    'advstyle': 'AdvStyle is not built',
    'swad_*': 'SWAD is not built',
    'revt': 'averaging of weight files is not built',
    'reinhard': 'pipeline.styles.reinhard computes in floating point, the release in whole numbers',
    'san*': 'SAN is not built',
    'saw': 'SAW is not built',
}
#: (Builder, output) -> why it is not compared.
UNCOVERED_OUTPUTS = {
    ('fda', 'torch'): 'the window of the training code is not symmetric: not offered',
}


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
    """One file: `arguments`, `outputs`, and inputs by name as tensors of `dtype`."""

    def __init__(self, path: Path, dtype: torch.dtype):
        content = json.loads(path.read_text())
        self.arguments, self.dtype, self.name = content['arguments'], dtype, path.stem
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

    def leaf(self, name: str) -> Tensor:
        return self[name].clone().requires_grad_()


def _style(layer_type: type, options: tuple[str, ...] = (), **names: str):
    """A builder of a style layer: `names` are the golden's inputs of the layer's draws."""

    def build(golden: Golden) -> dict[str, Tensor]:
        given = {key: golden.arguments[key] for key in options if key in golden.arguments}
        x = golden.leaf('x')
        layer = layer_type(x.shape[1], **given)
        draws = {ours: golden[theirs] for ours, theirs in names.items()}
        for key, value in draws.items():
            if value.is_floating_point():
                draws[key] = value.view(*value.shape, *(1,) * (4 - value.ndim))
        drawn = layer.draw(x.detach())  # what the layer draws has the shapes put in here
        assert {k: v.shape for k, v in drawn.items()} == {k: v.shape for k, v in draws.items()}
        y = layer.restyle(x, **draws)
        y.backward(golden['cotangent'])
        return dict(y=y, grad_x=x.grad)

    return build


def _whitening(golden: Golden) -> dict[str, Tensor]:
    channels, relax = golden.inputs['x'].shape[1], golden.arguments['relax_denom']
    eps = golden.arguments['eps']
    layer = methods.IRW(channels, relax, eps) if relax else methods.IW(channels, eps)
    x, of_loss = golden.leaf('x'), golden.leaf('x')
    y = layer(x)
    y.backward(golden['cotangent'])
    loss = layer.loss(layer(of_loss))
    loss.backward()
    count = layer.pairs().sum()
    return dict(
        y=y, grad_x=x.grad, loss=loss, grad_loss_x=of_loss.grad, mask=layer.pairs().int(),
        covariance=whitening.covariance(y, eps), num_off_diagonal=count, margin=layer.margin(count),
    )  # fmt: skip


def _isw(golden: Golden) -> dict[str, Tensor]:
    given, found = golden.arguments, {}
    x = golden.leaf('x')
    layer = methods.ISW(x.shape[1], given['clusters'], given['eps'])
    ramp = torch.linspace(0, 1.5, x.shape[1], dtype=x.dtype)[:, None, None] ** 3
    for trial in range(given['trials']):
        for pair in range(given['pairs']):
            original = golden[f'original_{trial}_{pair}']
            other = original + ramp * golden[f'difference_{trial}_{pair}']
            layer.observe(layer(torch.cat([other, original])))
        found[f'variance_sum_{trial}'] = layer._variance
        found[f'variance_mean_{trial}'] = layer._variance / given['pairs']
        layer.settle(trial)
        found[f'mask_after_trial_{trial}'] = layer.mask.int()
    loss = layer.loss(layer(x))
    loss.backward()
    return found | dict(num_sensitive=layer.mask.sum(), loss=loss, grad_x=x.grad)


def _isw_mask(golden: Golden) -> dict[str, Tensor]:
    found = {}
    for i, case in enumerate(golden.arguments['cases']):
        mask = whitening.sensitive((golden[f'variance_{i}'] ** 4).triu(1), case['clusters'])
        found |= {f'mask_{i}': mask.int(), f'num_sensitive_{i}': mask.sum()}
    return found


def _switching(golden: Golden) -> dict[str, Tensor]:
    given = golden.arguments
    channels = golden.inputs['x0'].shape[1]
    layer = methods.SwitchWhiten(
        channels, given['sw_type'], given['num_pergroup'], given['momentum'], given['tie_weight'],
        given['T'], given['eps'], as_released=True,
    ).to(golden.dtype)  # fmt: skip
    for name, parameter in layer.named_parameters():
        parameter.data = golden.leaf(name).detach()
    found, x = {}, golden.leaf('x0')
    for step, maps in enumerate((x, golden['x1'])):
        y = layer(maps)
        if step == 0:
            y.backward(golden['cotangent'])
        found |= {
            f'train_y{step}': y,
            f'running_mean_{step}': layer.running_mean.clone(),
            f'running_cov_{step}': layer.running_cov.clone(),
        }
    found |= {f'grad_{name}': p.grad for name, p in layer.named_parameters()}
    return found | dict(grad_x=x.grad, eval_y=layer.eval()(golden['x_eval']))


def _fda(golden: Golden) -> dict[str, np.ndarray]:
    source, target = (golden.inputs[name].transpose(1, 2, 0) for name in ('source', 'target'))
    low = int(golden.arguments['L'] * min(source.shape[:2]))
    assert low == golden.arguments['border']
    return dict(numpy=styles.exchanged(source, target, low).transpose(2, 0, 1))


BUILDERS = {
    'fda': _fda,
    'sw2': _switching,
    'sw3': _switching,
    'sw5': _switching,
    'iw': _whitening,
    'irw': _whitening,
    'isw': _isw,
    'isw_mask': _isw_mask,
    'mixstyle': _style(methods.MixStyle, ('eps',), share='lambda', partner='permutation'),
    'efdmix': _style(methods.EFDMix, ('eps',), share='lambda', partner='permutation'),
    'dsu': _style(
        methods.DSU, ('eps', 'factor'), mean_noise='epsilon_mean', std_noise='epsilon_std'
    ),
    'padain': _style(methods.PAdaIN, ('eps',), partner='permutation'),
    'np': _style(methods.NP, ('std',), std_noise='epsilon_alpha', mean_noise='epsilon_beta'),
    'np_plus': _style(
        methods.NPPlus, ('std', 'cap'), std_noise='epsilon_alpha', mean_noise='epsilon_beta'
    ),
}


def builder(name: str):
    """Return the builder of the longest name that `name` begins with; None where there is none.

    Files of other values of one thing have names that begin alike, say 'mixstyle_2'.
    """
    key = covered_by(name)
    return BUILDERS[key] if key else None


def covered_by(name: str) -> str | None:
    """Return the name of the builder of a file."""
    return max((key for key in BUILDERS if name.startswith(key)), key=len, default=None)


def why_not(name: str) -> str:
    """Why nothing covers a file."""
    found = [pattern for pattern in UNCOVERED if fnmatch.fnmatch(name, pattern)]
    return UNCOVERED[max(found, key=len)] if found else 'no builder knows this name'
