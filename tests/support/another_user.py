"""Another user: one who may not do what the owner of files may."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

NOBODY = 65534  # uid


@contextmanager
def somebody_else() -> Iterator[None]:
    """Be a user who may not write or remove what others own."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
