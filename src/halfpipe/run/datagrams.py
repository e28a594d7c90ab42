"""The datagrams of a run that downlinks have made known."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import FormatError, mend
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.run.downlinks_of_run import known_downlinks

FIRST_LINE = b"# SHA-256 of all that follows: "


def dump_datagrams(lines: Iterable[bytes]) -> bytes:
    """Return DGM lines as a file; its first line says whether it is whole."""
    content = b"\n".join([*lines, b""])
    return FIRST_LINE + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def read_datagrams(path: Path, downlink: DownlinkId) -> tuple[bytes, KnownDatagrams]:
    """Return what `dump_datagrams` wrote: the bytes, and what they say.

    Raises
    ------
    FormatError
        If it is not what was written, or a line is no DGM line.
    """
    content = path.read_bytes()
    seal, _, rest = content.partition(b"\n")
    if seal != FIRST_LINE + hashlib.sha256(rest).hexdigest().encode():
        raise FormatError(
            f"{path}: not what was written (checksum mismatch).",
            mend(downlink, "To have it made again"),
        )
    return content, KnownDatagrams.of(rest.split(b"\n")[:-1], str(path))


def load_datagrams(work: Path, run: RunId, downlink: DownlinkId) -> KnownDatagrams:
    """Read those that one downlink has made known.

    Raises
    ------
    FormatError
        If they are damaged.
    """
    return read_datagrams(work / paths.datagrams(run, downlink), downlink)[1]


def known_datagrams(work: Path, run: RunId) -> KnownDatagrams:
    """Read those that any downlink has made known."""
    return KnownDatagrams.together(load_datagrams(work, run, dl) for dl in known_downlinks(work, run))
