"""Adapters of a frozen transformer: Rein and SoMA."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Rein(nn.Module):
    """Refine the features between the layers of a frozen network by learnable tokens.

    Each layer has its own tokens, all share the two linear maps and the scale. A feature attends to
    the tokens; the first one gives nothing, so that nothing need change.

    Parameters, as released: `learnable_tokens_{a,b}` (or `learnable_tokens`), `scale`,
    `mlp_token2feat`, `mlp_delta_f`, and with queries `transform` and `merge`.

    Args:
        num_layers, embed_dims: L, D.
        tokens: m of a layer.
        rank: of the tokens' two factors; None: tokens as they are.
        query_dims: of the queries for a head that takes some; None: without.
        scale: at the start.

    Source: Wei et al., "Stronger, Fewer, & Superior: Harnessing Vision Foundation Models for Domain
    Generalized Semantic Segmentation", CVPR 2024. Built from the paper's definitions.
    """

    def __init__(
        self,
        num_layers: int,
        embed_dims: int,
        tokens: int = 100,
        rank: int | None = 16,
        query_dims: int | None = None,
        scale: float = 0.001,
    ):
        super().__init__()
        for name, value in (('tokens', tokens), ('rank', rank), ('query_dims', query_dims)):
            least = 2 if name == 'tokens' else 1
            given = value is not None or name == 'tokens'
            if given and not (isinstance(value, int) and value >= least):
                raise ValueError(f'Rein: {name} is {value!r}; expected a whole number from {least}')
        spread = math.sqrt(6 / (3 * 16**2 + math.sqrt(embed_dims * (rank or embed_dims))))
        shapes = dict(learnable_tokens=(num_layers, tokens, embed_dims))
        if rank:
            shapes = dict(
                learnable_tokens_a=(num_layers, tokens, rank),
                learnable_tokens_b=(num_layers, rank, embed_dims),
            )
        for name, shape in shapes.items():
            self.register_parameter(
                name, nn.Parameter(torch.empty(shape).uniform_(-spread, spread))
            )
        self.rank = rank
        self.scale = nn.Parameter(torch.tensor(scale))
        self.mlp_token2feat = nn.Linear(embed_dims, embed_dims)
        self.mlp_delta_f = nn.Linear(embed_dims, embed_dims)
        if query_dims:
            self.transform = nn.Linear(embed_dims, query_dims)
            self.merge = nn.Linear(3 * query_dims, query_dims)

    def tokens(self) -> Tensor:
        """Return the tokens of all layers, (L, m, D)."""
        if not self.rank:
            return self.learnable_tokens
        return self.learnable_tokens_a @ self.learnable_tokens_b

    def forward(self, x: Tensor, layer: int, prefix: int = 1) -> Tensor:
        """Return the features x (N, prefix + n, D) after `layer` refined.

        Args:
            prefix: tokens at the start (class, registers) that stay as they are.
        """
        kept, x = x[:, :prefix], x[:, prefix:]
        if self.rank:
            tokens = self.learnable_tokens_a[layer] @ self.learnable_tokens_b[layer]
        else:
            tokens = self.learnable_tokens[layer]
        attention = (x @ tokens.mT / math.sqrt(x.shape[-1])).softmax(-1)
        delta = attention[..., 1:] @ self.mlp_token2feat(tokens[1:])
        delta = self.mlp_delta_f(delta + x)
        return torch.cat([kept, x + self.scale * delta], 1)

    def queries(self) -> Tensor:
        """Return queries for a head, (m, query_dims)."""
        each = self.transform(self.tokens())
        return self.merge(torch.stack([each.amax(0), each.mean(0), each[-1]], -1).flatten(1))


class MinorComponents(nn.Module):
    """A weight as a frozen part and its smallest singular components, which are trained.

    For `torch.nn.utils.parametrize` of a linear layer's `weight`, `lora_B @ lora_A` + the rest.

    Args:
        weight: (parts * O, I), as pretrained.
        rank: components of each part.
        parts: matrices that lie one below the other (3: query, key and value).
        alpha: the product counts alpha / rank times, LoRA's `lora_alpha`; None: once. The output at
            the start and the gradient of the product are the same with any; larger factors learn
            faster.

    Source: Yun et al., "SoMA: Singular Value Decomposed Minor Components Adaptation for Domain
    Generalizable Representation Learning", CVPR 2025.
    """

    def __init__(self, weight: Tensor, rank: int = 16, parts: int = 1, alpha: float | None = None):
        super().__init__()
        out, channels = weight.shape
        if not (isinstance(rank, int) and 1 <= rank <= min(out // parts, channels)):
            raise ValueError(
                f'SoMA: rank is {rank!r}; expected 1 to {min(out // parts, channels)}, of a weight '
                f'of {out}x{channels}'
            )
        if alpha is not None and not (isinstance(alpha, (int, float)) and 0 < alpha < math.inf):
            raise ValueError(f'SoMA: alpha is {alpha!r}; expected a number above 0, or None')
        self.scale = 1.0 if alpha is None else alpha / rank
        each = weight.detach().double().reshape(parts, out // parts, channels)
        u, s, v = torch.linalg.svd(each, full_matrices=False)
        root = (s[:, -rank:] / self.scale).sqrt()
        self.lora_A = nn.Parameter((root[:, :, None] * v[:, -rank:]).to(weight.dtype))
        self.lora_B = nn.Parameter((u[:, :, -rank:] * root[:, None]).to(weight.dtype))

    def forward(self, rest: Tensor) -> Tensor:
        return rest + self.scale * (self.lora_B @ self.lora_A).reshape(rest.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the part that stays frozen."""
        minor = self.scale * (self.lora_B.detach().double() @ self.lora_A.detach().double())
        return (weight.detach().double() - minor.reshape(weight.shape)).to(weight.dtype)


def soma(block: nn.Module, rank: int = 16, alpha: float | None = None) -> None:
    """Have the linear layers of a transformer block train their minor components and biases."""
    for name, layer in [*block.named_modules()]:
        if isinstance(layer, nn.Linear):
            parts = 3 if name.rpartition('.')[2] == 'qkv' else 1
            adapter = MinorComponents(layer.weight, rank, parts, alpha)
            parametrize.register_parametrization(layer, 'weight', adapter, unsafe=True)
            layer.parametrizations.weight.original.requires_grad_(False)
            if layer.bias is not None:
                layer.bias.requires_grad_(True)
