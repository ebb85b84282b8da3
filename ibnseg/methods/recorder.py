"""The outputs of layers that have a loss, for as long as one forward."""

import contextlib
from collections.abc import Iterator

from torch import Tensor, nn


def with_loss(network: nn.Module, name: str = 'loss') -> list[nn.Module]:
    """Return the site layers of a network that have a method `name`, in the order of its modules.

    Site layers are those that `placement.install` laid; heads have a `loss`, too.
    """
    return [m for m in network.modules() if hasattr(m, 'inserted') and hasattr(m, name)]


@contextlib.contextmanager
def recording(network: nn.Module, name: str = 'loss') -> Iterator[list[tuple[nn.Module, Tensor]]]:
    """Give a list that fills with (layer, its output) of each layer with a method `name`.

    The network goes on with a copy of the output: a ReLU in place after the site, which most
    networks have, would else change what the loss sees, without an error.

        with recording(network) as seen:
            logits = network(images)
        loss = loss + weight * sum(layer.loss(y) for layer, y in seen) / len(seen)
    """
    seen: list[tuple[nn.Module, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        seen.append((layer, output))
        return output.clone()

    handles = [layer.register_forward_hook(note) for layer in with_loss(network, name)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
