"""The datasets, read as they are downloaded: one row each, one label loader.

From a name to files: table (rows) -> layouts (where files lie) -> listing (which are there) ->
pairs (those that fit) -> sources (several as one) -> files (labels into classes). `advice` says
where missing ones may be; `counts` counts the classes of label files.
"""

from ..errors import DataError
from . import counts
from .files import read_labels, read_raw
from .pairs import ODD_PAIRS, Used, use
from .sources import THEN, Source, part, subset, trained_on, whole
from .table import DOMAINS, Domain, Pairs, find, known, parse, task

__all__ = ['DOMAINS', 'ODD_PAIRS', 'THEN', 'DataError', 'Domain', 'Pairs', 'Source', 'Used',
           'counts', 'find', 'known', 'parse', 'part', 'read_labels', 'read_raw', 'subset', 'task',
           'trained_on', 'use', 'whole']  # fmt: skip
