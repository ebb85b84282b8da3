"""The data sets, read as they are downloaded: one row each, one Dataset, one label loader.

From a name to a sample: table (rows) -> layouts (where files lie) -> sources (several as one) ->
files (labels into classes) -> dataset. `statistics` counts the classes of label files.
"""

from . import statistics
from .dataset import CrossDomainDataset, DomainDataset, LoadLabels
from .errors import DataError
from .files import read_labels, read_raw
from .sources import THEN, Source, part, subset, trained_on, whole
from .table import DOMAINS, Domain, Pairs, find, parse, skipped, task

__all__ = ['DOMAINS', 'THEN', 'CrossDomainDataset', 'DataError', 'Domain', 'DomainDataset',
           'LoadLabels', 'Pairs', 'Source', 'find', 'parse', 'part', 'read_labels', 'read_raw',
           'skipped', 'statistics', 'subset', 'task', 'trained_on', 'whole']  # fmt: skip
