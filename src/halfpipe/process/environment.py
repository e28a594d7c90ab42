"""The environment and the memory of this process, and the environment of programs that it starts."""

import ctypes
import gc
import os

_M_ARENA_MAX = -8  # <malloc.h> of glibc


def without_idle_threads() -> None:
    """Keep numpy from starting threads for linear algebra, which nothing here uses.

    The threads cost a program a tenth of a second of CPU time at its start. A number that is already set is kept.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def look_for_garbage_seldom() -> None:
    """Make Python look for garbage far less often.

    Snakemake's DAG of a thousand downlinks consists of about a million objects, which all stay. Looking through them
    takes a sixth of the time of a dry run, and finds nothing.
    """
    gc.set_threshold(1_000_000, 20, 50)


def release_memory() -> None:
    """Return free memory to the system: hundreds of megabytes after threads have read large indexes."""
    ctypes.CDLL(None).malloc_trim(0)


def keep_together() -> None:
    """Make all threads of this process allocate memory from one arena, for programs that need much memory.

    Otherwise each thread has its own arena, and the unused memory of all arenas adds up.
    """
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
