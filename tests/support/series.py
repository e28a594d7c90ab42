"""Series of records: read and damage them."""

import json
import shutil
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.files.json_files import read_json, write_json


def homes(work: Path, place: str) -> tuple[Path, Path]:
    """Return the directories of both copies."""
    return work / place, work / paths.copies(place)


def values(work: Path, place: str) -> list[dict[str, Any]]:
    """Return the values of the records, oldest first."""
    return [json.loads(path.read_bytes()) for path in sorted((work / place).glob("[0-9]*.json"))]


def forget(work: Path, place: str, number: int | None = None) -> None:
    """Remove both copies of one record, or of all."""
    for home in homes(work, place):
        if number is None:
            shutil.rmtree(home, ignore_errors=True)
        else:
            (home / f"{number:06d}.json").unlink()


def damage(work: Path, place: str, number: int = 1, copies: int = 2) -> None:
    """Truncate one copy of a record, or both."""
    for home in homes(work, place)[:copies]:
        path = home / f"{number:06d}.json"
        path.write_bytes(path.read_bytes()[:-5])


def rewrite(path: Path, **values: Any) -> None:
    """Change values in a JSON file, with a valid checksum."""
    write_json(path, read_json(path) | values)


def noted(stage: Path) -> list[tuple[str, int]]:
    """Return the number of the last record of each series, as in the stage's mark."""
    mark = max((stage / paths.STAGE_MARK).glob("[0-9]*.json"))  # after a crash, an older mark may exist
    return sorted((str(place), int(number)) for place, number, *_ in json.loads(mark.read_bytes())["last"])
