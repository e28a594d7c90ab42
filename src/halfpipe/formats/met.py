"""Mission elapsed time (MET), UTC, and the archive's directory of an hour (ground-chain §1, §2).

MET counts every second since 2001-01-01 00:00:00 UTC, leap seconds included; Unix UTC counts none. So
a leap second and the first second after it have one and the same Unix time: whatever must stay in
order is put in order by MET. The way back takes such a time for the second after the leap second.
"""

from datetime import UTC, datetime
from functools import cache
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

EPOCH = 978307200  # Unix UTC of 2001-01-01 00:00:00
TAI_UTC_AT_EPOCH = 32
MICROSECONDS = 1_000_000
HOUR = 3600


@cache
def _leap_seconds() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the first Unix second and the first MET after each leap second since the epoch, and how many there were.

    Of these the first is before any.
    """
    # astropy's own leap seconds, offline; importing astropy.time instead takes half a second. Most jobs need neither.
    import erfa  # noqa: PLC0415

    table = erfa.leap_seconds.get()
    table = table[table["tai_utc"] > TAI_UTC_AT_EPOCH]
    after = [datetime(int(row["year"]), int(row["month"]), 1, tzinfo=UTC).timestamp() for row in table]
    unix_after, count = (
        np.array(after, np.int64),
        np.rint(table["tai_utc"]).astype(np.int64) - TAI_UTC_AT_EPOCH,
    )
    return unix_after, unix_after - EPOCH + count, np.concatenate([np.zeros(1, np.int64), count])


def unix_microseconds(met_seconds: ArrayLike, microseconds: ArrayLike = 0) -> NDArray[np.int64]:
    """Return Unix UTC in whole microseconds of MET as packets hold it; exact.

    Parameters
    ----------
    met_seconds, microseconds
        Whole numbers, scalars or arrays of one shape (ground-chain §1, secondary header).
    """
    seconds = np.asarray(met_seconds, np.int64)
    unix: NDArray[np.int64] = _unix(seconds) * MICROSECONDS + np.asarray(microseconds, np.int64)
    return unix


def met_to_unix(met: float) -> float:
    """Return Unix UTC seconds of MET `met`."""
    return float(_unix(met))


def _unix(met: Any) -> Any:
    _, met_after, count = _leap_seconds()
    return met + EPOCH - count[np.searchsorted(met_after, met, side="right")]


def unix_to_met(unix: float) -> float:
    """Return MET of Unix UTC seconds `unix`."""
    unix_after, _, count = _leap_seconds()
    return float(unix - EPOCH + count[np.searchsorted(unix_after, unix, side="right")])


def utc(unix: float) -> datetime:
    """Return the UTC date and time of Unix UTC seconds `unix`."""
    return datetime.fromtimestamp(unix, UTC)


def hour_directory(unix: float) -> PurePosixPath:
    """Return ``YYYY/MM/DOY.MM.DD.Ddd/utcHH`` of the UTC hour that holds `unix` (ground-chain §2).

    As in ``2012/11/307.11.02.Fri/utc13``; `unix` in Unix UTC seconds.
    """
    time = utc(unix)
    return PurePosixPath(f"{time:%Y/%m/%j.%m.%d.%a/utc%H}")
