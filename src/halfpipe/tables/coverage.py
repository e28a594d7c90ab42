"""Delivered intervals of time and the gaps between them, as a frame and as a FITS table.

FITS keywords follow the OGIP convention for time intervals (OGIP/93-003) with the values of the Fermi mission: MET
counts seconds of TT from 2001-01-01 00:00:00 UTC, which is MJD 51910 + 7.428703703703703E-4 in TT.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from halfpipe.tables import columns

if TYPE_CHECKING:
    from astropy.table import Table

MJD_REFERENCE = (51910, 7.428703703703703e-4)  # of MET 0 in TT: 32 s of leap seconds and 32.184 s
Covered = tuple[float, float]


def gaps(covered: Sequence[Covered], begin: float, end: float) -> list[Covered]:
    """Return the gaps that sorted, disjoint, half-open intervals leave between `begin` and `end`."""
    inside = [(max(first, begin), min(last, end)) for first, last in covered if last > begin and first < end]
    edges = [begin, *(edge for interval in inside for edge in interval), end]
    return [(first, last) for first, last in zip(edges[::2], edges[1::2], strict=True) if first < last]


def frame(intervals: Iterable[Covered]) -> pd.DataFrame:
    """Return intervals (MET seconds) with the columns of `columns.COVERAGE`."""
    rows = ((first, last, first, last, last - first) for first, last in intervals)
    return columns.COVERAGE.frame(rows, times="met")


def table(covered: pd.DataFrame, name: str, *, simulated: bool) -> "Table":
    """Return a frame of intervals as an astropy table with the keywords of a FITS table of time intervals."""
    from astropy.table import Table  # noqa: PLC0415 - half a second, which most frames do without
    from astropy.time import Time, TimeDelta  # noqa: PLC0415

    begin, end = covered.index.to_numpy(), covered["end_met"].to_numpy()
    found = Table({"START": begin, "STOP": end}, units={"START": "s", "STOP": "s"})
    found.meta = {
        "EXTNAME": "COVERAGE",
        "TELESCOP": "GLAST",
        "INSTRUME": "LAT",
        "OBJECT": name,
        "ORIGIN": "SIMULATED" if simulated else "HalfPipe",
        "HDUCLASS": "OGIP",
        "HDUCLAS1": "INTERVALS",
        "TIMESYS": "TT",
        "TIMEREF": "LOCAL",
        "TIMEUNIT": "s",
        "MJDREFI": MJD_REFERENCE[0],
        "MJDREFF": MJD_REFERENCE[1],
    }
    if len(begin):
        reference = Time(*MJD_REFERENCE, format="mjd", scale="tt")
        dates = [(reference + TimeDelta(edge, format="sec")).isot for edge in (begin[0], end[-1])]
        found.meta |= {"TSTART": begin[0], "TSTOP": end[-1], "DATE-OBS": dates[0], "DATE-END": dates[1]}
    return found
