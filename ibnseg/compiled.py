"""Machine code for loops over whole maps on a CPU: by numba, in torch's own OpenMP threads.

Numba's own threads would fight with torch's for the cores. A function is compiled when it is first
called, and kept on disk beside its file or in the user's cache; the copy on disk is renewed when
that file changes, not when this one does.
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


def _openmp() -> ctypes.CDLL | None:
    """The library through which torch's own OpenMP functions can be found."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / 'lib' / 'libtorch_cpu.so'))
        library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_uint] * 2]
        library.GOMP_parallel.restype = None
        for name in ('omp_get_thread_num', 'omp_get_num_threads', 'GOMP_barrier'):
            address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
            llvmlite.binding.add_symbol(f'ibnseg_{name}', address)
    except (OSError, AttributeError):
        return None
    return library


_OPENMP = _openmp()

#: Compiles a function that kernels call. Divided by nothing, a number is infinite or NaN: an
#: exception would leave the other threads waiting at a barrier.
helper = functools.partial(njit, error_model='numpy')

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


@helper
def share(count):
    """In a kernel: the pieces of work, of `count`, that are this thread's: first, last + 1."""
    mine, threads = thread(), _threads()
    return count * mine // threads, count * (mine + 1) // threads


def _kept(compile_: Callable, work: Callable) -> Callable:
    try:
        return compile_(cache=True)(work)
    except RuntimeError:  # no folder to keep it in
        return compile_()(work)


def function(work: Callable) -> Callable:
    """Compile a function for one thread, for each combination of types that it is called with."""
    return _kept(functools.partial(njit, nogil=True), work)


def kernel(make: Callable) -> Callable:
    """Turn `make(*types)`, which returns a function of an address, into a call on all threads.

    The call takes the types that `make` wants, then the words, numbers or tensors (None for a
    null address), that the function finds at its address as int64. Raises ImportError where torch
    was built without GNU OpenMP's interface (only builds for Linux have it).
    """
    if _OPENMP is None:
        raise ImportError("this build of torch does not have GNU OpenMP's functions")

    @functools.cache
    def compiled(*of: type):
        work = make(*of)
        # A file of its own on disk: numba may mix those of two processes that share one.
        work.__qualname__ += ''.join(f'_{type_.__name__}' for type_ in of)
        signature = types.void(types.voidptr)
        return _kept(functools.partial(cfunc, signature, error_model='numpy'), work)

    def run(of: Sequence[type], words: Sequence[int | Tensor | None]) -> None:
        given = [word.data_ptr() if isinstance(word, Tensor) else word or 0 for word in words]
        given = np.array(given, np.int64)
        entry = compiled(*of).address
        _OPENMP.GOMP_parallel(entry, given.ctypes.data, torch.get_num_threads(), 0)

    return run
