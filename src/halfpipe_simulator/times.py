"""Times of packets, in microseconds."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from halfpipe.formats import met

MICROSECONDS = 1_000_000


def unix_microseconds(met_seconds: ArrayLike, microseconds: ArrayLike = 0) -> NDArray[np.int64]:
    """Convert MET, as it is in packets, to Unix UTC in whole microseconds, exactly.

    Parameters
    ----------
    met_seconds, microseconds
        Whole numbers, scalars or arrays of one shape (ground-chain §1, secondary header).
    """
    seconds = np.asarray(met.met_to_unix(np.asarray(met_seconds, np.float64)), np.int64)
    return np.asarray(seconds * MICROSECONDS + np.asarray(microseconds, np.int64))
