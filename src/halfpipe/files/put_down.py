"""Files that an operator puts down, with who, when and why in them: that one is there is what counts.

Anybody may make or remove them by hand as well.
"""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from halfpipe.files.leases import whoami

MOST = 500  # letters of what is read of a file, which a person may have written


def make(file: Path, reason: str) -> None:
    """Make the file, at once under its name; one that is there stays as it is."""
    me, now = whoami(), datetime.now(UTC)
    file.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError), file.open("x") as out:
        out.write(f"{now:%Y-%m-%d %H:%M:%S} UTC, {me.user} on {me.host}: {reason}\n")


def says(file: Path) -> str:
    """Return what a file says in one line, nothing that a terminal obeys; empty if it says nothing or is none."""
    try:
        with file.open(errors="replace") as text:
            line = " ".join(text.read(MOST).split())
            return "".join(letter if letter.isprintable() else "?" for letter in line)
    except OSError:
        return ""
