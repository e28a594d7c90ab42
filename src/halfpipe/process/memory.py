"""Memory that Python has freed, given back to the system."""

import ctypes

_LIBRARY = ctypes.CDLL(None)
_trim = getattr(_LIBRARY, "malloc_trim", None)  # of glibc; other libraries keep less
_mallopt = getattr(_LIBRARY, "mallopt", None)
_M_ARENA_MAX = -8  # <malloc.h> of glibc


def give_back() -> None:
    """Give memory that is free back to the system.

    What threads have freed stays with them otherwise, hundreds of megabytes after large indexes were read.
    """
    if _trim is not None:
        _trim(0)


def keep_together() -> None:
    """Have all threads of this process take memory from one place, where it can be given back.

    For programs that hold much: each thread has a place of its own otherwise, and what is left there adds up.
    """
    if _mallopt is not None:
        _mallopt(_M_ARENA_MAX, 1)
