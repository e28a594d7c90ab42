"""Marker files of an operator: a marker takes effect by its existence, and contains who made it, when, and why.

Markers may also be created and removed by hand.
"""

from contextlib import suppress
from pathlib import Path

from halfpipe.files.heartbeat import whoami

MOST = 500  # characters to read, because a person may have written any text


def make(file: Path, reason: str) -> None:
    """Create a marker; an existing one is not changed."""
    me = whoami()
    file.parent.mkdir(exist_ok=True)
    with suppress(FileExistsError):
        file.touch(exist_ok=False)
        with suppress(OSError):  # on a full disk it takes effect, too
            file.write_text(f"{me.since}, {me.user} on {me.host}: {reason}\n")


def content(file: Path) -> str:
    """Return the content of a marker as one line without control characters; empty if there is none."""
    try:
        with file.open(errors="replace") as text:
            line = " ".join(text.read(MOST).split())
            return "".join(letter if letter.isprintable() else "?" for letter in line)
    except OSError:
        return ""
