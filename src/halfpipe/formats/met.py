"""Mission elapsed time (MET) and UTC (ground-chain §1).

MET counts every second since 2001-01-01 00:00:00 UTC, including leap seconds; Unix UTC does not count leap seconds. So
a leap second and the second after it have the same Unix time. Sort by MET wherever the order matters. Conversion from
Unix time to MET returns the second after the leap second.
"""

from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

EPOCH = 978307200  # Unix UTC of 2001-01-01 00:00:00
TAI_UTC_AT_EPOCH = 32

T = TypeVar("T", float, NDArray[np.float64])


@cache
def _leap_seconds() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the first Unix second and the first MET after each leap second since the epoch, and the counts.

    The counts start with 0, before the first leap second.
    """
    # Most jobs do without.
    import erfa  # noqa: PLC0415

    table = erfa.leap_seconds.get()
    table = table[table["tai_utc"] > TAI_UTC_AT_EPOCH]
    after = [datetime(int(row["year"]), int(row["month"]), 1, tzinfo=UTC).timestamp() for row in table]
    unix_after = np.array(after, np.int64)
    count = np.rint(table["tai_utc"]).astype(np.int64) - TAI_UTC_AT_EPOCH
    return unix_after, unix_after - EPOCH + count, np.concatenate([np.zeros(1, np.int64), count])


def met_to_unix(met: T) -> T:
    """Convert MET to Unix UTC seconds: a number, or an array of any shape."""
    _, met_after, count = _leap_seconds()
    seconds: Any = np.asarray(met, np.float64)
    return seconds + EPOCH - count[np.searchsorted(met_after, seconds, side="right")]  # type: ignore[no-any-return]


def unix_to_met(unix: T) -> T:
    """Convert Unix UTC seconds to MET: a number, or an array of any shape."""
    unix_after, _, count = _leap_seconds()
    seconds: Any = np.asarray(unix, np.float64)
    return seconds - EPOCH + count[np.searchsorted(unix_after, seconds, side="right")]  # type: ignore[no-any-return]


def utc_datetime(unix: float) -> datetime:
    """Convert Unix UTC seconds to a date and time in UTC."""
    return datetime.fromtimestamp(unix, UTC)
