"""The weights that a training begins with: where they come from, and what has trained them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config

from .. import disk, domains, weights
from ..backbones.base import is_pretrained
from .keys import walk


def weights_of(config: Config) -> list[dict[str, Any]]:
    """Return what is known of each weight file that a run begins with.

    Each has 'by', the key of the config; 'file', its name; 'sha256'; and 'trained_on', what the
    file itself says, None where it says nothing. An address that MMEngine alone can read is named
    as it stands, without a hash.

    Raises as `weights.locate`.
    """
    if config.get('load_from'):  # replaces all that came before
        given = [('load_from', config.load_from)]
    else:
        given = list(_pretrained(config.model))
    return [_facts(key, source) for key, source in given]


def check(found: Sequence[Mapping[str, Any]], source: str) -> None:
    """Raise ValueError for weights that were trained on what the run's source does not name."""
    named = _domains(source)
    for facts in found:
        before = facts['trained_on']
        if before is not None and not _domains(before) <= named:
            raise ValueError(
                f'{facts["by"]}: {facts["file"]} was trained on {before}, this run on {source}, '
                'and its record would not say that the network has seen the other. Use `ibnseg '
                'finetune`, which says so; or train on both, with source=[...]; or begin with '
                'other weights'
            )


def _domains(source: str) -> set[str]:
    stages = map(domains.whole, source.split(domains.THEN))
    return {name for stage in stages for name in domains.Source.of(stage).domains}


def _pretrained(model: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (dotted key, file) of all pretrained weights in a model's config."""
    for key, value in walk(model, 'model'):
        if isinstance(value, Mapping):
            if is_pretrained(value) and value.get('checkpoint'):
                yield key, value['checkpoint']
            if isinstance(value.get('pretrained'), str):
                yield f'{key}.pretrained', value['pretrained']


def _facts(key: str, source: str) -> dict[str, Any]:
    scheme = str(source).partition('://')[0]
    if scheme != str(source) and scheme not in ('http', 'https', 'ibn'):
        return dict(by=key, file=source, sha256=None, trained_on=None)
    path = weights.locate(source)
    trained_on = weights.trained_on(path)
    return dict(by=key, file=path.name, sha256=disk.sha256(path), trained_on=trained_on)
