"""Where a number comes from: the checkpoint, its training, the code and the versions behind it."""

import datetime
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__, _stack
from ..disk import sha256
from ..domains import Used


def of_checkpoint(
    checkpoint: str | Path, meta: Mapping[str, Any], config: Any, used: Mapping[str, Used]
) -> dict[str, Any]:
    """Return the provenance of a record.

    Args:
        checkpoint: file that was measured.
        meta: what the checkpoint says of itself.
        config: of the measurement (MMEngine's Config).
        used: domain -> its pairs that were measured.
    """
    trained = meta.get('trained', {})
    left_out = measured(config, used)
    left_out['skip']['trained'] = trained.get('skipped', {})
    left_out['odd'] |= dict(
        trained={d: n['odd'] for d, n in trained.get('pairs', {}).items() if n.get('odd')},
        replaced=trained.get('replaced', []),
    )
    return dict(
        checkpoint=Path(checkpoint).name,
        checkpoint_sha256=sha256(checkpoint),
        iteration=meta.get('iter'),
        training_iterations=trained.get('iterations'),
        selection=trained.get('selection', 'last') if 'score' in meta else 'last',
        validated=trained.get('validated', []),
        **(dict(selection_lost=trained['lost']) if 'lost' in trained else {}),
        shares=trained.get('shares'),
        fine_tuned=trained.get('fine_tuned'),
        **(dict(unlabelled=trained['unlabelled']) if 'unlabelled' in trained else {}),
        training={k: trained[k] for k in ('pairs', 'settings') if k in trained} or None,
        weights=trained.get('weights', []),
        **(dict(averaged=meta['averaged']) if 'averaged' in meta else {}),
        placement=config.model.backbone.get('placement'),
        method=method(config),
        seed=meta.get('seed'),
        **here(),
        **left_out,
        config=config.pretty_text,
    )


def measured(config: Any, used: Mapping[str, Used]) -> dict[str, Any]:
    """Return which pairs of a measurement were left out: `skip` by lists, `odd` for their files."""
    lists = config.test_dataloader.dataset.get('skip_lists', ())
    return dict(
        skip=dict(
            lists=[dict(file=str(path), sha256=sha256(path)) for path in lists],
            pairs={domain: one.skipped for domain, one in used.items() if one.skipped},
        ),
        odd=dict(measured={domain: len(one.odd) for domain, one in used.items() if one.odd}),
    )


def method(config: Any) -> str | None:
    """Return what was done to the plain network: the config's `method`, else its placement.

    'bn' is the plain network. Parts that add up are joined, and Puts named by what they are:
    'ibn_b+mixstyle', 'IBN@norm1'.
    """
    stated = config.get('method') or config.model.backbone.get('placement')
    if stated is None or isinstance(stated, str):
        return stated
    return '+'.join(
        part if isinstance(part, str) else f'{part["layer"]}@{part["at"]}' for part in stated
    )


def here() -> dict[str, Any]:
    """Return commit, date and the versions of the packages that a result depends on."""
    stack = {f'mmsegmentation ({name})': v for name, v in _stack.installed().items()}
    packages = {name: metadata.version(name) for name in ('torch', 'numpy')}
    return dict(
        commit=_commit(),
        date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        versions=dict(ibnseg=__version__, python=platform.python_version()) | packages | stack,
    )


def _commit() -> str:
    """Return the commit of this code ('-dirty' with local changes), or 'not a git checkout'."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ('git', '-C', str(Path(__file__).parent), *arguments),
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        git('ls-files', '--error-unmatch', Path(__file__).name)  # not some repository around us
        changed = git('status', '--porcelain', '--untracked-files=no')
        return git('rev-parse', 'HEAD') + ('-dirty' if changed else '')
    except (OSError, subprocess.CalledProcessError):
        return 'not a git checkout'
