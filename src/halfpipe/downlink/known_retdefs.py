"""What is known of RetDefs that were read before: nobody reads all of them again to plan a downlink.

A plan asks two things of a RetDef: which run it announces, and whether its content is that of another.
Both are kept in a file for each downlink, for the RetDefs that were what they are now: of the same path,
size, inode and times. It is a cache. It may be removed, torn or damaged at any time, and then the RetDefs
are read; only commands that run jobs write it, under the lock of the downlink.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Self

import halfpipe
from halfpipe import paths
from halfpipe.files.reading import open_regular
from halfpipe.formats.retdef import parse_retdef, read_content
from halfpipe.ids import DownlinkId, RunId

# A file that was written to twice within one tick of its file system's clock shows one time for both: what is
# this young is read every time. It also covers a file server whose clock is some minutes off.
YOUNG_SECONDS = 600.0
MAX_SIZE = 1 << 22  # bytes; a downlink has some dozen RetDefs, each is a line of 200 bytes


@dataclass(frozen=True)
class State:
    """What a file was when it was read: another content has another of these.

    Times are nanoseconds since 1970. The time of the last change (`ctime_ns`) is here because a copy can be
    given any time of modification, and this one by nobody.
    """

    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Return the state of the file `path` now, None if there is none to be had."""
        try:
            stat = path.stat()
        except OSError:
            return None
        return cls(stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)

    def is_older(self, when: float) -> bool:
        """Tell whether the file was left alone for a while before Unix time `when`, seconds."""
        return max(self.mtime_ns, self.ctime_ns) / 1e9 < when - YOUNG_SECONDS


@dataclass(frozen=True)
class Known:
    """What is known of one RetDef: the SHA-256 of its content, and its run, empty if nobody asked for it.

    `state` is None if it was changed while it was read: that is known of no state, and read anew each time.
    """

    state: State | None
    sha256: str
    run: str


class RetDefs:
    """The RetDefs of one downlink, each read once.

    Parameters
    ----------
    work
        `paths.work`.
    downlink
        The downlink; only its own RetDefs are asked for.
    """

    def __init__(self, work: Path, downlink: DownlinkId) -> None:
        self._file = work / paths.known_retdefs(downlink)
        self._before = _load(self._file)
        self._now: dict[str, Known] = {}

    def run(self, path: Path) -> RunId:
        """Return the run that the RetDef `path` announces.

        Raises
        ------
        HalfPipeError
            As `halfpipe.formats.retdef.read_retdef`.
        """
        return RunId(self._known(path, parse=True).run)

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of the content of `path`, which need not be a good RetDef.

        Raises
        ------
        HalfPipeError
            If it cannot be read.
        """
        return self._known(path, parse=False).sha256

    def remember(self, when: float) -> None:
        """Keep what was asked for until now, for later commands; the caller holds the downlink's lock.

        Parameters
        ----------
        when
            Unix time before the first RetDef was asked for, seconds.
        """
        old = {path: known for path, known in self._now.items() if known.state and known.state.is_older(when)}
        if old != self._before:
            _save(self._file, old)
            self._before = old

    def _known(self, path: Path, *, parse: bool) -> Known:
        name = str(path)
        known = self._now.get(name) or self._before.get(name)
        if not (known and known.state and known.state == State.of(path) and (known.run or not parse)):
            known = _read(path, parse=parse)
        self._now[name] = known
        return known


def _read(path: Path, *, parse: bool) -> Known:
    before = State.of(path)
    content = read_content(path)
    run = parse_retdef(content, path).run if parse else ""
    state = before if before == State.of(path) else None
    return Known(state, hashlib.sha256(content).hexdigest(), run)


def _seal(body: bytes) -> bytes:
    """Return what stands before `body` in the file: another version may read RetDefs otherwise."""
    return hashlib.sha256(halfpipe.__version__.encode() + b"\n" + body).hexdigest().encode()


def _load(path: Path) -> dict[str, Known]:
    try:
        with open_regular(path) as file:
            seal, _, body = file.read(MAX_SIZE).partition(b"\n")
        if seal != _seal(body):
            return {}
        return {
            name: Known(State(*state), sha256, RunId(run) if run else "")
            for name, (state, sha256, run) in json.loads(body).items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _save(path: Path, known: dict[str, Known]) -> None:
    """Write the file, not flushed: a disk would be waited for, and what a crash leaves of it is not believed."""
    body = json.dumps({name: astuple(one) for name, one in sorted(known.items())}).encode()
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(_seal(body) + b"\n" + body)
        part.rename(path)
    except OSError:
        with suppress(OSError):
            part.unlink()
