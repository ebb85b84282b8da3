"""What is wrong with a dataset on disk, file by file, before a network learns from it.

From files to a report: facts (what one file is, decoded once; cache) -> judge (what two files, a
split or the set are) -> report (for a person, for a program, as a skip list).
"""

from .facts import FACTS
from .judge import Finding
from .kinds import KINDS, Kind
from .report import Report
from .walk import audit, before_training

__all__ = ['FACTS', 'KINDS', 'Finding', 'Kind', 'Report', 'audit', 'before_training']
