"""Directories and files of the hours in a level-0 archive, by their names only (ground-chain §2)."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

NAME = re.compile(r"s([0-9]{4})a([0-9]{4})t[0-9]{10}\.([0-9]{10})", re.ASCII)

HOUR = 3600  # seconds


def source_path(root: Path, scid: int) -> Path:
    """Return the directory of the archive `root` for a spacecraft."""
    return root / f"src{scid:04d}"


def hour_path(root: Path, scid: int, unix: float) -> Path:
    """Return the directory of the archive `root` for the UTC hour that contains `unix` (ground-chain §2).

    The form is ``srcSSSS/YYYY/MM/DOY.MM.DD.Ddd/utcHH``, for example ``src0077/2012/11/307.11.02.Fri/utc13``.
    """
    return source_path(root, scid) / f"{datetime.fromtimestamp(unix, UTC):%Y/%m/%j.%m.%d.%a/utc%H}"


def hours_inside(spans: Iterable[tuple[float, float]]) -> set[int]:
    """Return the hours since the Unix epoch that overlap with `spans` (begin and end, Unix UTC seconds)."""
    return {hour for begin, end in spans for hour in range(int(begin // HOUR), int(end // HOUR) + 1)}


def files(directory: Path, scid: int, apid: int) -> list[Path]:
    """Return the files of one APID in the directory of an hour, in order; none if the directory does not exist.

    Raises
    ------
    OSError
        If the directory cannot be listed.
    """
    try:
        found = [(NAME.fullmatch(path.name), path) for path in sorted(directory.iterdir())]
    except FileNotFoundError:
        return []
    return [path for match, path in found if match and (int(match[1]), int(match[2])) == (scid, apid)]
