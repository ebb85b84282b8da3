"""The errors of everything that reads data."""

from pathlib import Path


class DataError(ValueError):
    """Data that is missing or wrong. Says which file, what was found and the way out.

    For programs, where known: `kind` of damage (`ibnseg.audit.KINDS`) and `file`. Of an error that
    every rank of a run raises alike, `common` is set: one of them says it.
    """

    common = False

    def __init__(self, message: str, kind: str = '', file: Path | None = None):
        # A DataLoader rebuilds a worker's error from its printed traceback: keep the message.
        super().__init__(message.rpartition(f'{__name__}.DataError: ')[2].rstrip())
        self.kind, self.file = kind, file


class Incomplete(DataError):
    """Part of what was asked for is done and kept; the message says which part is not, and why."""

    exit_code = 1
    common = True
