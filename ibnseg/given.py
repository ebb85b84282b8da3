"""Networks as a command line names them: runs, configs with checkpoints, checkpoints, packages."""

from collections.abc import Sequence
from pathlib import Path

from . import named, packages

#: What `network` and `split` take, for a command's help.
METAVAR = 'RUN|PACKAGE|CONFIG CHECKPOINT'
_CONFIGS = ('.py', '.yaml', '.yml', '.json')
_WEIGHTS = ('.pth', '.pt', '.safetensors')


def split(words: Sequence[str]) -> tuple[list[tuple[str, str | None]], list[str]]:
    """Return (what names it, checkpoint or None) of each network, and the other words.

    Raises ValueError for a config that no checkpoint follows.
    """
    networks: list[tuple[str, str | None]] = []
    others: list[str] = []
    left, known = list(words), named.names()
    while left:
        word = left.pop(0)
        path = Path(word)
        is_name = not path.exists() and word.removeprefix('configs/').removesuffix('.py') in known
        if is_name or path.suffix in _CONFIGS:
            if not (left and Path(left[0]).suffix in _WEIGHTS):
                raise ValueError(f'{word}: a config; its checkpoint (*.pth) has to follow')
            networks.append((named.find(word), left.pop(0)))
        elif path.suffix in _WEIGHTS or packages.is_name(word) or _is_run(path):
            networks.append((word, None))
        else:
            others.append(word)
    return networks, others


def network(words: Sequence[str]) -> tuple[str, str | None]:
    """Return the one network among words, as `split`.

    Raises ValueError for more words, and as `named.find` for one that is neither file nor config.
    """
    networks, others = split(words)
    if len(networks) == 1 and not others:
        return networks[0]
    if len(words) == 1:
        # `inference.model.load` says what a folder lacks.
        return (words[0] if Path(words[0]).is_dir() else named.find(words[0])), None
    raise ValueError(
        f'{words[-1]}: expected the folder of a run, a package, or CONFIG CHECKPOINT, and no more'
    )


def _is_run(path: Path) -> bool:
    is_run = path.is_dir() and any(path.glob('*.py')) and any(path.glob('*.pth'))
    return is_run or packages.is_package(path)
