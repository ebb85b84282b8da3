"""Weights from files: fetched and verified, read without running their code, fitted, accounted for.

Every key of a file is loaded, converted or dropped for a stated reason; anything else raises.
"""

from .conversion import convert, describe
from .dialects import DIALECTS, Dialect, detect, translate
from .files import read, state_dict_of
from .load import Report, load_weights
from .networks import guess, network
from .table import PUBLISHED, Published, find

__all__ = [
    'DIALECTS',
    'PUBLISHED',
    'Dialect',
    'Published',
    'Report',
    'convert',
    'describe',
    'detect',
    'find',
    'guess',
    'load_weights',
    'network',
    'read',
    'state_dict_of',
    'translate',
]
