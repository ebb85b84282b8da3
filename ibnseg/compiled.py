"""Machine code for loops over whole maps on a CPU: by numba, in torch's own OpenMP threads.

Numba's own threads would fight with torch's for the cores. A kernel is compiled when it is first
called, and kept on disk beside its file or in the user's cache; the copy on disk is renewed when
the kernel's file changes, not when this one does.

Importing raises ImportError where there is no numba, or a build of torch without GNU OpenMP's
interface (only those for Linux have it).
"""

import ctypes
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import llvmlite.binding
import numpy as np
import torch
from numba import cfunc, njit, types
from numba.extending import intrinsic
from torch import Tensor


def _openmp() -> ctypes.CDLL:
    """The library through which torch's own OpenMP functions can be found."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / 'lib' / 'libtorch_cpu.so'))
        library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_uint] * 2]
        library.GOMP_parallel.restype = None
        for name in ('omp_get_thread_num', 'omp_get_num_threads', 'GOMP_barrier'):
            address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            llvmlite.binding.add_symbol(f'ibnseg_{name}', address)
    except (OSError, AttributeError) as error:
        raise ImportError(f"torch's GNU OpenMP functions were not found: {error}") from error
    return library


_OPENMP = _openmp()
#: In a kernel: number of this thread.
thread = types.ExternalFunction('ibnseg_omp_get_thread_num', types.int32())
_threads = types.ExternalFunction('ibnseg_omp_get_num_threads', types.int32())

#: In a kernel: waits until all threads are here.
barrier = types.ExternalFunction('ibnseg_GOMP_barrier', types.void())


@intrinsic
def pointer(_, address):
    """In a kernel: what `carray` takes, of an address."""

    def generate(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@njit
def share(count):
    """In a kernel: the pieces of work, of `count`, that are this thread's: first, last + 1."""
    mine, threads = thread(), _threads()
    return count * mine // threads, count * (mine + 1) // threads


def kernel(make: Callable) -> Callable:
    """Turn `make(*types)`, which returns a function of an address, into a call on all threads.

    The call takes the types that `make` wants, then the words, numbers or tensors (None for a
    null address), that the function finds at its address as int64.
    """

    @functools.cache
    def compiled(*of: type):
        signature, work = types.void(types.voidptr), make(*of)
        try:
            return cfunc(signature, cache=True)(work)
        except RuntimeError:  # no folder to keep it in
            return cfunc(signature)(work)

    def run(of: Sequence[type], words: Sequence[int | Tensor | None]) -> None:
        given = [word.data_ptr() if isinstance(word, Tensor) else word or 0 for word in words]
        given = np.array(given, np.int64)
        entry = compiled(*of).address
        _OPENMP.GOMP_parallel(entry, given.ctypes.data, torch.get_num_threads(), 0)

    return run
