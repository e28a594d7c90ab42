"""The environment and the memory of this process, and the environment of programs that it starts."""

import ctypes
import gc
import os

_M_ARENA_MAX = -8  # <malloc.h> of glibc


def without_idle_threads() -> None:
    """Have numpy start none of the threads that its linear algebra, of which nothing is used here, would wait with.

    They cost a program a tenth of a second of CPU time at its start. Whoever has set a number keeps it.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def look_for_garbage_seldom() -> None:
    """Have Python look for garbage a hundred times less often.

    Snakemake's DAG of a thousand downlinks is some million objects, which all stay: going through them again
    and again is a sixth of the time that a dry run takes, and finds nothing.
    """
    gc.set_threshold(100_000, 20, 50)


def release_memory() -> None:
    """Give memory that is free back to the system.

    What threads have freed stays with them otherwise, hundreds of megabytes after large indexes were read.
    """
    ctypes.CDLL(None).malloc_trim(0)


def keep_together() -> None:
    """Have all threads of this process take memory from one place, where it can be given back.

    For programs that hold much: each thread has a place of its own otherwise, and what is left there adds up.
    """
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)
