"""The golden values of methods: what covers each file (`golden_files`).

Each builder takes a `Golden` and returns name -> what our code gives for the output of that name.
"""

import fnmatch

import numpy as np
import torch
from golden_files import Golden
from torch import Tensor, nn

from ibnseg import methods
from ibnseg.methods import adapters, adversarial, hallucination, style, valley, whitening, wild
from ibnseg.pipeline import styles
from ibnseg.weights import average

#: Pattern of file names -> why nothing covers them. Taken out as parts are built.
UNCOVERED: dict[str, str] = {}
#: (Builder, output) -> why it is not compared.
UNCOVERED_OUTPUTS = {
    ('fda', 'torch'): 'the window of the training code is not symmetric: not offered',
    ('reinhard', 'clip0_paper0'): 'stretched where it is out of range, not clipped: not offered',
    ('reinhard', 'clip0_paper1'): 'the inverse of what matches deviations: not offered',
    ('reinhard', 'clip1_paper1'): 'the inverse of what matches deviations: not offered',
    ('reinhard', 'lab_source'): "OpenCV's own",
    ('reinhard', 'lab_target'): "OpenCV's own",
}


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


def _reinhard(golden: Golden) -> dict[str, np.ndarray]:
    source, target = (golden.inputs[name].astype(np.uint8) for name in ('source', 'target'))
    return dict(clip1_paper0=styles.reinhard(target, source, as_released=True))


def _revt(golden: Golden) -> dict[str, Tensor]:
    names = dict.fromkeys(name.rpartition('_')[0] for name in golden.inputs)
    counts = golden.arguments['counts']
    states = [
        {name: golden[f'{name}_{i}'] for name in names} | {'backbone.count': torch.tensor(count)}
        for i, count in enumerate(counts)
    ]
    return average.mean(states, golden.arguments['weights_filter']).state


def _swad(golden: Golden) -> dict[str, Tensor]:
    given, losses = golden.arguments, golden.arguments['losses']
    length = given['segment_steps']
    found = valley.ReleasedValley(
        given['n_converge'], given['n_tolerance'], given['tolerance_ratio']
    )
    steps = torch.eye(length * len(losses), dtype=golden.dtype)
    for i, loss in enumerate(losses):
        mean = {}
        for count, step in enumerate(steps[length * i : length * (i + 1)]):
            mean = valley.drawn_in(mean, dict(share=step), count)
        found.end(mean, loss)
    share = found.finish()['share']
    return dict(
        share_of_step=share, n_averaged=found.count, threshold=found.threshold,
        start_end=[found.first * length, (found.last + 1) * length - 1],
        converge_step=(found.found + 1) * length - 1, dead_at_segment=found.ended,
    )  # fmt: skip


def _advstyle(golden: Golden) -> dict[str, Tensor]:
    given, x, seen = golden.arguments, golden['x'], []

    def loss(images: Tensor) -> Tensor:
        seen.append(images)
        logits = nn.functional.conv2d(images, golden['conv_weight'], golden['conv_bias'])
        return nn.functional.cross_entropy(logits, golden['labels'])

    found = adversarial.restyled(x, loss, given['adv_lr'], given['eps'])
    return dict(x_before=seen[0], x_adversarial=found)


def _rein(golden: Golden) -> dict[str, Tensor]:
    given = golden.arguments
    layer = adapters.Rein(
        given['num_layers'], given['embed_dims'], given['token_length'], given['lora_dim'],
        given['query_dims'], given['scale'],
    ).to(golden.dtype)  # fmt: skip
    for name, parameter in layer.named_parameters():
        if name != 'scale':
            parameter.data = golden[name]
    x = golden.leaf('x')
    y, queries = layer(x, given['layer']), layer.queries()
    ((y * golden['cotangent']).sum() + (queries * golden['cotangent_queries']).sum()).backward()
    found = {f'grad_{name}': p.grad for name, p in layer.named_parameters()}
    return found | dict(y=y, queries=queries, grad_x=x.grad)


def _soma(golden: Golden) -> dict[str, Tensor]:
    weight, x = golden['weight'], golden.leaf('x')
    layer = nn.Linear(*reversed(weight.shape)).to(golden.dtype)
    layer.weight.data, layer.bias.data = weight, golden['bias']
    adapters.soma(layer, golden.arguments['r'], golden.arguments['lora_alpha'])
    y = layer(x)
    y.backward(golden['cotangent'])
    (part,) = layer.parametrizations.weight
    a, b = part.lora_A[0], part.lora_B[0]
    product = b @ a
    grad_a, grad_b = part.lora_A.grad[0], part.lora_B.grad[0]
    return dict(
        product=product, residual=layer.parametrizations.weight.original, y=y, grad_x=x.grad,
        singular_values_kept_trainable=torch.linalg.svdvals(product)[: golden.arguments['r']],
        grad_gram_A=grad_a.T @ a, grad_gram_B=grad_b @ b.T,
    )  # fmt: skip


def _san(golden: Golden, regions: str = 'none') -> dict[str, Tensor]:
    given, x, logits = golden.arguments, golden.leaf('x'), golden.leaf('logits')
    layer = methods.SAN(
        x.shape[1], given['selected_classes'], logits.shape[1], regions=regions, as_released=True,
        eps=given['eps'],
    ).to(golden.dtype)  # fmt: skip
    layer.weight.data, layer.bias.data = golden['in_weight'], golden['in_bias']
    for branch, weight in zip(layer.branches, golden['branch_weights'], strict=False):
        branch.weight.data = weight[None] if weight.ndim == 3 else weight
    y = layer.normalised(x, logits)
    y.backward(golden['cotangent'])
    found = dict(y=y, grad_x=x.grad, grad_logits=logits.grad)
    found |= dict(grad_in_weight=layer.weight.grad, grad_in_bias=layer.bias.grad)
    for i, branch in enumerate(layer.branches):
        grad = branch.weight.grad
        found[f'grad_branch_{i}'] = torch.zeros_like(branch.weight) if grad is None else grad
    if 'labels' in golden.inputs:
        found = {name: tensor.clone() for name, tensor in found.items()}  # gradients add up
        x, features = golden.leaf('x'), golden.leaf('x')
        target = layer.target(features, golden['labels'])
        loss = nn.functional.smooth_l1_loss(layer.normalised(x, golden['logits']), target)
        loss.backward()
        found |= dict(target=target, loss_in=loss, grad_loss_in_x=x.grad)
        found['grad_loss_in_features_of_target'] = features.grad
    return found


def _saw(golden: Golden) -> dict[str, Tensor]:
    given, x, weight = golden.arguments, golden.leaf('x'), golden['classifier_weight']
    layer = methods.SAN(x.shape[1], given['selected_classes'], len(weight), saw=True)
    layer.classifier.weight.data = weight
    loss = layer.whitening(x, given['relax_denom'])
    loss.backward()
    return dict(loss=loss.reshape(1), grad_x=x.grad)


def _shm(golden: Golden) -> dict[str, Tensor]:
    mean, x = golden['proto_mean'], golden.leaf('x')
    layer = methods.SHM(x.shape[1], len(mean), eps=golden.arguments['eps']).to(golden.dtype)
    layer.proto_mean, layer.proto_std = mean, golden['proto_std']
    assert layer.draw(x)['share'].shape == golden['weights'].shape
    y = layer.restyle(x, golden['weights'])
    y.backward(golden['cotangent'])
    return dict(y=y, grad_x=x.grad)


def _farthest(golden: Golden) -> dict[str, Tensor]:
    index = hallucination.farthest(
        golden['points'], golden.arguments['npoint'], golden.arguments['start']
    )
    return dict(index=index, chosen=golden['points'][index])


def _consistency(golden: Golden) -> dict[str, Tensor]:
    logits = golden.leaf('logits')
    loss = golden.arguments['sc_weight'] * hallucination.consistency(logits)
    loss.backward()
    return dict(loss=loss, grad_logits=logits.grad)


def _retrospection(golden: Golden) -> dict[str, Tensor]:
    features, small = golden.leaf('features'), golden['labels_small']
    noise = golden['labels_noise']
    block = noise.shape[1] // small.shape[1]
    labels = small.repeat_interleave(block, 1).repeat_interleave(block, 2)
    noisy = golden.inputs['labels_take'] < golden.said(r'labels_take < ([\d.]+)')
    labels = torch.where(torch.from_numpy(noisy), noise, labels)
    loss = hallucination.retrospection(
        features, golden['teacher'], labels, golden.arguments['classes'],
        golden.arguments['min_ratio'],
    )  # fmt: skip
    loss.backward()
    return dict(loss=loss, grad_features=features.grad)


def _wild_style(golden: Golden) -> dict[str, Tensor]:
    x, wild_x, eps = golden.leaf('x'), golden.leaf('style'), golden.arguments['eps']
    y = wild.WildStyle(x.shape[1], eps).restyle(x, *style.moments(wild_x, eps))
    y.backward(golden['cotangent'])
    return dict(y=y, grad_x=x.grad, grad_style=wild_x.grad)


def _divergence(golden: Golden) -> dict[str, Tensor]:
    logits, styled = golden.leaf('logits'), golden.leaf('logits_stylised')
    loss = wild.divergence(logits, styled)
    loss.backward()
    return dict(loss=loss, grad_logits=logits.grad, grad_logits_stylised=styled.grad)


def _extension(golden: Golden) -> dict[str, Tensor]:
    given, names = golden.arguments, ('projected', 'projected_stylised')
    maps = [golden.leaf(name) for name in names]
    side = given['grid']
    labels = nn.functional.interpolate(golden['labels'][:, None].double(), (side, side))[:, 0]
    dictionary = nn.functional.normalize(golden['queue'], dim=0)
    found = [wild.on_grid(one, side) for one in maps]
    ignored = int(golden.said(r'label (\d+) stands for 255'))
    loss = wild.extension(*found, labels.long(), dictionary, given['T'], ignored)
    loss.backward()
    rows = wild.on_grid(golden['projected_wild'], given['grid_wild']).flatten(2).mT.flatten(0, 1)
    pointer = torch.tensor([given['pointer']])
    wild.replace_oldest(dictionary, pointer, rows)
    gradients = {f'grad_{name}': one.grad for name, one in zip(names, maps, strict=True)}
    return gradients | dict(loss=loss, queue_after=dictionary, pointer_after=pointer[0])


BUILDERS = {
    'wildnet_fs': _wild_style,
    'wildnet_scr': _divergence,
    'wildnet_cel': _extension,
    'shade_shm': _shm,
    'shade_fps': _farthest,
    'shade_sc': _consistency,
    'shade_rc': _retrospection,
    'san': _san,
    'san_kmeans': lambda golden: _san(golden, 'batch'),
    'saw': _saw,
    'revt': _revt,
    'rein': _rein,
    'reinhard': _reinhard,
    'soma': _soma,
    'advstyle': _advstyle,
    'swad': _swad,
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
