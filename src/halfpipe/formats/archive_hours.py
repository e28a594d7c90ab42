"""The files of one hour in the level-0 archive, found by their names only (ground-chain §2)."""

import re
from pathlib import Path

NAME = re.compile(r"s([0-9]{4})a([0-9]{4})t[0-9]{10}\.([0-9]{10})", re.ASCII)


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
