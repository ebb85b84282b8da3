"""The data sets, read as they are downloaded: one row each, one Dataset, one label loader.

From a name to a sample: table (rows) -> layouts (where files lie) -> files (labels into classes)
-> dataset.
"""

from .dataset import CrossDomainDataset, DomainDataset, LoadLabels
from .errors import DataError
from .files import read_labels, read_raw
from .table import DOMAINS, Domain, Pairs, find, parse

__all__ = ['DOMAINS', 'CrossDomainDataset', 'DataError', 'Domain', 'DomainDataset', 'LoadLabels',
           'Pairs', 'find', 'parse', 'read_labels', 'read_raw']  # fmt: skip
