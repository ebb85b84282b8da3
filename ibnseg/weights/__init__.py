"""Weights from files: fetched and verified, read without running their code, fitted, accounted for.

Every key of a file is loaded, converted or dropped for a stated reason; anything else raises.
"""

from .conversion import convert, describe, unpickle
from .files import locate, misfits, read, trained_on, unwrapped
from .load import Report, load_weights
from .networks import network
from .plain import unreadable
from .table import PUBLISHED

__all__ = [
    'PUBLISHED', 'Report', 'convert', 'describe', 'load_weights', 'locate', 'misfits', 'network',
    'read', 'trained_on', 'unpickle', 'unreadable', 'unwrapped',
]  # fmt: skip
