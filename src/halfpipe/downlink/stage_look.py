"""One look at the stage: what lies there of a hand-off, against what its receipt says.

Submission, check and status share it, so that they never say different things of one file.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.files.reading import sha256
from halfpipe.ids import DownlinkId

STRANGE = "file-strange"
GONE = "stage-partly-gone"  # an event file, which Level-1 moves away once it was told


@dataclass(frozen=True)
class Wrong:
    """One file of the stage that is not as it was handed off: what is wrong, and what to `do`.

    `code` is that of its cause.
    """

    code: str
    path: Path
    what: str
    do: str


def look(
    stage: Path,
    downlink: DownlinkId,
    receipt: Mapping[str, Any],
    *,
    checksums: bool = False,
    untouched: bool = False,
) -> Iterator[Wrong]:
    """Yield what is wrong with a hand-off in the stage.

    Parameters
    ----------
    stage, downlink, receipt
        `paths.stage`, and whose receipt it is.
    checksums
        Whether the files are read.
    untouched
        Whether Level-1 was told nothing yet: then each event file has its token, and nothing else lies there.
    """
    home = stage / paths.staged(downlink)
    for run in receipt["runs"]:
        if not run["named"]:
            continue
        of_run = stage / paths.staged_run(downlink, run["l1_run"])
        again = f"snakemake dl={downlink} -R {paths.manifest(run['run'], downlink)}"
        for file in run["files"]:
            code, what = wrong_with(of_run / file["name"], file, checksums=checksums)
            if code:
                yield Wrong(GONE if code == "file-missing" else code, of_run / file["name"], what, again)
            token = stage / paths.tokens(run["l1_run"]) / Path(file["name"]).stem
            if untouched and not token.exists():
                yield Wrong("file-missing", token, "this token is missing", again)
        if untouched:
            yield from _strange(of_run, {file["name"] for file in run["files"]})
    texts = receipt.get("texts", ())
    for text in texts:
        again = f"snakemake dl={downlink} -R receipt"
        code, what = wrong_with(home / text["name"], text, checksums=checksums)
        if code:
            yield Wrong(code, home / text["name"], what, again)
    if untouched:
        yield from _strange(
            home, {text["name"] for text in texts} | {run["l1_run"] for run in receipt["runs"]}
        )


def wrong_with(path: Path, expected: Mapping[str, Any], *, checksums: bool) -> tuple[str, str]:
    """Return the code of what is wrong with a file, and what it is; both empty if nothing is."""
    try:
        size = path.stat().st_size
    except OSError:
        return "file-missing", "missing"
    if size != expected.get("size", size):
        return "file-differs", f"{size} bytes, {expected['size']} expected"
    if checksums and sha256(path) != expected["sha256"]:
        return "file-differs", "checksum mismatch"
    return "", ""


def _strange(home: Path, known: Collection[str]) -> Iterator[Wrong]:
    """Yield what lies in a directory and is of no hand-off: Level-1 takes each directory for a run."""
    try:
        names = os.listdir(home)  # noqa: PTH208 - names only
    except OSError:
        return
    for name in sorted(set(names) - set(known)):
        yield Wrong(
            STRANGE,
            home / name,
            "HalfPipe has not put it there",
            f"see whose it is: ls -ld {home / name}",
        )
