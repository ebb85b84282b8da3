"""The error of everything that reads data."""


class DataError(ValueError):
    """Data that is missing or wrong. Says which file, what was found and the way out."""

    def __init__(self, message: str):
        # A DataLoader rebuilds a worker's error from its printed traceback: keep the message.
        super().__init__(message.rpartition(f'{__name__}.DataError: ')[2].rstrip())
