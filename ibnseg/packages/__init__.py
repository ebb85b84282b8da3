"""A trained network as one folder that outlives its run: weights, config, record, card, hashes.

    model.safetensors     weights, as tensors alone
    config.json           the config, as data: nothing of it is run
    *.record.json, *.images.npz   what was measured with them
    README.md             a card in the form of Hugging Face's hub
    package.json          what this is, and the SHA-256 of every file and of itself

`pack` writes one, `verify` checks one, `read` opens one, `locate` finds one by its name.
"""

from typing import Any

from .fetch import is_name, locate
from .files import CONFIG, PackageError, digest_of, is_package, read, verify

__all__ = ['CONFIG', 'PackageError', 'digest_of', 'is_name', 'is_package', 'locate', 'pack',
           'read', 'verify']  # fmt: skip


def pack(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Write a package; see `write.pack`. Needs the MM packages, which reading does not."""
    from .write import pack

    return pack(*args, **kwargs)
