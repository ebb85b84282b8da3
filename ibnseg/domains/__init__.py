"""The datasets, read as they are downloaded: one row each, one label loader.

From a name to files: table (rows) -> layouts (where files lie) -> sources (several as one) ->
files (labels into classes). `counts` counts the classes of label files.
"""

from ..errors import DataError
from . import counts
from .files import read_labels, read_raw
from .sources import THEN, Source, part, subset, trained_on, whole
from .table import DOMAINS, Domain, Pairs, find, known, parse, skipped, task

__all__ = ['DOMAINS', 'THEN', 'DataError', 'Domain', 'Pairs', 'Source', 'counts', 'find', 'known',
           'parse', 'part', 'read_labels', 'read_raw', 'skipped', 'subset', 'task', 'trained_on',
           'whole']  # fmt: skip
