"""A data loader whose processes may be stopped, without an endless wait for them."""

import threading
import time
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

#: Seconds after which what does not answer is taken for stopped.
TIMEOUT = 600
_MORE = 2  # seconds: where the loader's own timeout works, it comes first


def batches(loader: DataLoader) -> Iterator[Any]:
    """Return an iterator over a loader's batches, begun now: that draws from torch's generator.

    It raises RuntimeError, as torch does, where no batch comes for the loader's `timeout` seconds.
    torch's own timeout does not cover what its processes hand over outside of its queue: to a
    stopped one it would listen for ever.
    """
    return _watched(iter(loader), loader.timeout)


def _watched(found: Iterator[Any], timeout: float) -> Iterator[Any]:
    feeding = getattr(found, '_workers', ())
    if not (feeding and timeout):
        yield from found
        return
    overdue = threading.Event()

    def end() -> None:
        overdue.set()
        for process in feeding:
            process.kill()

    while True:
        timer = threading.Timer(timeout + _MORE, end)
        timer.daemon = True
        timer.start()
        try:
            batch = next(found)
        except StopIteration:
            return
        except (ConnectionError, EOFError) as error:
            if not overdue.is_set():  # a process has died while it handed over
                time.sleep(_MORE)  # torch's own handler says meanwhile which, and why
                dead = [process.pid for process in feeding if not process.is_alive()]
                raise RuntimeError(f'DataLoader worker (pid(s) {dead}) exited') from error
            raise RuntimeError(f'DataLoader timed out after {timeout} seconds') from error
        except Exception as error:
            if not overdue.is_set():
                raise
            raise RuntimeError(f'DataLoader timed out after {timeout} seconds') from error
        finally:
            timer.cancel()
        yield batch
