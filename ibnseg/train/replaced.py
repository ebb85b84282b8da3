"""Which pairs of a run are damaged within, so that another sample was drawn in their place."""

from collections.abc import Mapping
from typing import Any

from mmengine.dist import all_gather_object

from ..text import tell

_KEY = 'replaced'  # in MMEngine's message hub, which checkpoints keep


def known(runner: Any) -> dict[str, str]:
    """Return {pair, as a skip list names it: what is wrong with it}."""
    return dict(runner.message_hub.runtime_info.get(_KEY, {}))


def note(runner: Any, batch: Mapping[str, Any]) -> None:
    """Name the pairs in whose place a batch has other samples, each once."""
    samples = batch['data_samples']
    found = {k: v for sample in samples for k, v in sample.get('replaced', {}).items()}
    for pair in found.keys() - (before := known(runner)).keys():
        text = (
            f'damaged: {found[pair]}\nOther samples are drawn in its place. To train without it '
            f'from the start, name it in a --skip-list: {pair}'
        )
        runner.logger.warning(text)
        tell(text, flush=True)
        before[pair] = found[pair]
        runner.message_hub.update_info(_KEY, before)


def share(runner: Any) -> None:
    """Let every rank know what all of them have found."""
    every = {k: v for one in all_gather_object(known(runner)) for k, v in one.items()}
    if every:
        runner.message_hub.update_info(_KEY, every)
