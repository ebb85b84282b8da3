"""The outputs of layers that have a loss, for as long as one forward."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

Seen = list[tuple[nn.Module, Any]]


def with_loss(network: nn.Module, name: str = 'loss') -> list[nn.Module]:
    """Return the site layers of a network that have a method `name`, in the order of its modules.

    Site layers are those that `placement.install` laid; heads have a `loss`, too.
    """
    return [m for m in network.modules() if hasattr(m, 'inserted') and hasattr(m, name)]


@contextlib.contextmanager
def recording(network: nn.Module, name: str = 'loss') -> Iterator[Seen]:
    """Give a list that fills with (layer, its output) of each layer with a method `name`.

    Of a layer `with_input`: (layer, (its input, its output)).

    The network goes on with a copy of the output: a ReLU in place after the site, which most
    networks have, would else change what the loss sees, without an error.

        with recording(network) as seen:
            logits = network(images)
        loss = loss + weight * sum(layer.loss(y) for layer, y in seen) / len(seen)

    A compiled network (`record_always`) has noted its training when the block ends; else it runs
    uncompiled here.
    """
    kept = getattr(network, 'recorded', None)
    if kept is not None and name == 'loss' and network.training:
        kept.on = True
        try:
            yield (seen := [])
        finally:
            seen += kept.seen
            kept.on = False
            kept.seen.clear()
        return
    kept = _Kept(on=True)
    handles = _hook(network, name, kept)
    compiled = network._compiled_call_impl
    if compiled:
        network._compiled_call_impl = None
    try:
        yield kept.seen
    finally:
        if compiled:
            network._compiled_call_impl = compiled
        for handle in handles:
            handle.remove()


def record_always(network: nn.Module) -> None:
    """Have a network that will be compiled note the outputs of its training for `recording`.

    A compiled network keeps the hooks that it had at its first call, and runs no others.

    Raises ValueError with `with_cp`: what is noted in a part that is computed twice cannot be
    traced, and running statistics would move twice.
    """
    if layers := with_loss(network):
        if any(getattr(module, 'with_cp', False) for module in network.modules()):
            raise ValueError(
                f'--compile: the loss of {layers[0].abbr} and with_cp=True do not go together with '
                'it. Leave --compile or model.backbone.with_cp away'
            )
        network.recorded = _Kept()
        _hook(network, 'loss', network.recorded)


@dataclass
class _Kept:
    """What hooks noted, and whether they are to."""

    on: bool = False
    seen: Seen = field(default_factory=list)


def _hook(network: nn.Module, name: str, kept: _Kept) -> list[Any]:
    """Have layers add to what is kept, while that is on; return the handles of their hooks."""

    def note(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        if not kept.on:
            return output
        both = getattr(layer, 'with_input', False)
        kept.seen.append((layer, (inputs[0], output) if both else output))
        return output.clone()

    return [layer.register_forward_hook(note) for layer in with_loss(network, name)]
