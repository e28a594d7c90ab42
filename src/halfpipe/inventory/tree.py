"""A tree of the legacy, file by file: what each is, and whether it has to be kept.

The tree is walked in one order, always the same, so that what was cut off can go on behind the last file. Nothing of
it is held but sums; nothing in it is opened or written.
"""

import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from halfpipe.ids import DownlinkId

DOWNLINKS = "Downlinks"  # the tree of downlinks, where it stands among others
LISTED = 100  # names of each sort of oddity that are held: there may be many of one


class Fate(StrEnum):
    """What has to become of a file."""

    COPY = "has to come"
    AGAIN = "can be made again"
    UNKNOWN = "nobody knows: comes too"
    LEFT = "is left"


class Kind(StrEnum):
    """What a file is."""

    RETDEF = "RetDef"
    PRODUCT = "chunk product"
    RECORD = "run record"
    INDEX = "run index"
    TEXT = "text"
    SWITCH = "switch"
    ODD = "odd file in a downlink"
    ONLINE = "evt, of Online"
    WAITING = "stage, of Online"
    FORCE = "given up"
    LOCK = "lock"
    TRANSIENT = "transient directory"
    TOP = "odd file at the top"
    OTHER = "another tree"


FATES = {
    Kind.RETDEF: Fate.COPY,
    Kind.PRODUCT: Fate.AGAIN,
    Kind.RECORD: Fate.COPY,
    Kind.INDEX: Fate.COPY,
    Kind.TEXT: Fate.COPY,
    Kind.SWITCH: Fate.COPY,
    Kind.ODD: Fate.UNKNOWN,
    Kind.ONLINE: Fate.UNKNOWN,
    Kind.WAITING: Fate.AGAIN,
    Kind.FORCE: Fate.COPY,
    Kind.LOCK: Fate.LEFT,
    Kind.TRANSIENT: Fate.UNKNOWN,
    Kind.TOP: Fate.UNKNOWN,
    Kind.OTHER: Fate.LEFT,
}
KEPT = frozenset({Fate.COPY, Fate.UNKNOWN})

_TOP = {"evt": Kind.ONLINE, "stage": Kind.WAITING, "force": Kind.FORCE, "lock": Kind.LOCK}
_IN_A_DOWNLINK = (
    (Kind.RETDEF, re.compile(r"RetDef-\d{9}-\d{5}\.xml", re.ASCII)),
    (Kind.PRODUCT, re.compile(r"[0-9a-f]{8}-[0-9a-f]{7,8}-\d{4}-\d{5}\.(?:evt|idx)", re.ASCII)),
    (
        Kind.TEXT,
        re.compile(
            r"(?:delivered_events|retired_runs|event_gaps|event_times|moot_keys|magic7)_\d{9}\.txt"
            r"|r0[1-9]\d{0,9}_doMerge\.txt|evt[01]\.txt|launch\.txt|aq_[0-9a-f]{7,8}\.txt|createStream_.*",
            re.ASCII,
        ),
    ),
    (Kind.SWITCH, re.compile(r"halt(?:Stage|L1|Online)")),
)
_IN_A_RUN = (
    (Kind.RECORD, re.compile(r"r\d{10}-(?:spans|delivered|retired|evtgaps)\.txt", re.ASCII)),
    (Kind.INDEX, re.compile(r"(?:dgm|evt)-[0-9a-f]{7,8}\.idx|r\d{10}-e\d{20}\.idx", re.ASCII)),
)
_RUN = re.compile(r"[1-9]\d{0,9}", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """A file, a link, an empty directory, or what is neither, with what the file system says of it.

    `parts` are its path below the tree; a link has a `target`.
    """

    parts: tuple[str, ...]
    status: os.stat_result
    target: str | None = None

    @property
    def name(self) -> str:
        """The path below the tree."""
        return "/".join(self.parts)


def walk(root: Path, after: tuple[str, ...] = ()) -> Iterator[Entry | OSError]:
    """Yield all files and empty directories below `root`, in order of their parts, from behind `after` on.

    Links are not followed. A directory that cannot be read is yielded as its error, and the others go on.
    """
    yield from _walk(str(root), (), after)


def _walk(path: str, parts: tuple[str, ...], after: tuple[str, ...]) -> Iterator[Entry | OSError]:
    try:
        with os.scandir(path) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        yield error
        return
    if parts and not entries:
        yield Entry(parts, os.stat(path))  # noqa: PTH116 - by the million
    for entry in entries:
        if after and (entry.name < after[0] or (entry.name,) == after):
            continue
        here = after[1:] if after and entry.name == after[0] else ()
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, (*parts, entry.name), here)
            else:
                target = os.readlink(entry.path) if entry.is_symlink() else None  # noqa: PTH115 - by the million
                yield Entry((*parts, entry.name), entry.stat(follow_symlinks=False), target)
        except OSError as error:
            yield error


def kind_of(parts: tuple[str, ...]) -> Kind:
    """Return what a file is, by its place: a path below the tree of downlinks, or below one that holds this tree."""
    if parts[0] == DOWNLINKS and len(parts) > 1:
        parts = parts[1:]
    elif parts[0] in {"FswDumps", "Online"} or parts[0].startswith("ISOC"):
        return Kind.OTHER
    top, rest = parts[0], parts[1:]
    if not rest:
        return Kind.TOP
    if top in _TOP:
        return _TOP[top]
    if not DownlinkId.matches(top):
        return Kind.TRANSIENT
    patterns = _IN_A_DOWNLINK if len(rest) == 1 else _IN_A_RUN
    if len(rest) > 2 or (len(rest) == 2 and not _RUN.fullmatch(rest[0])):
        return Kind.ODD
    return next((kind for kind, pattern in patterns if pattern.fullmatch(rest[-1])), Kind.ODD)


def year_of(parts: tuple[str, ...]) -> str:
    """Return the year of the downlink that a file belongs to; of any other file the directory it stands in."""
    top, *rest = parts[1:] if parts[0] == DOWNLINKS and len(parts) > 1 else parts
    if DownlinkId.matches(top):
        return f"20{top[:2]}"
    return top if rest and top in _TOP else "other"


@dataclass
class Sum:
    """How many files, and their bytes."""

    files: int = 0
    size: int = 0

    def add(self, size: int, files: int = 1) -> None:
        """Count one more, or several."""
        self.files += files
        self.size += size


@dataclass
class Inventory:
    """What a tree holds.

    Attributes
    ----------
    years, owners
        Sums by year and kind; by user id.
    downlinks, runs
        How many there are.
    links
        How many lead to somewhere inside the tree, outside it, or nowhere.
    odd
        The first names of files and directories that are not as the legacy makes them, by what they are.
    unread
        What could not be read.
    """

    years: dict[str, dict[Kind, Sum]] = field(default_factory=dict)
    owners: dict[int, Sum] = field(default_factory=dict)
    downlinks: int = 0
    runs: int = 0
    links: Counter[str] = field(default_factory=Counter)
    odd: dict[str, list[str]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> dict[Kind, Sum]:
        """Sums by kind."""
        found: dict[Kind, Sum] = {}
        for of_year in self.years.values():
            for kind, one in of_year.items():
                found.setdefault(kind, Sum()).add(one.size, one.files)
        return found


ODD_KINDS = frozenset({Kind.ODD, Kind.TOP, Kind.TRANSIENT})


def take_inventory(root: Path) -> Inventory:
    """Walk a tree once, and count.

    Raises
    ------
    OSError
        If the tree itself cannot be read.
    """
    os.scandir(root).close()
    found = Inventory()
    before: tuple[str, ...] = ()
    inside = root.resolve()
    for entry in walk(root):
        if isinstance(entry, OSError):
            found.unread.append(str(entry))
            continue
        kind, year = kind_of(entry.parts), year_of(entry.parts)
        size = 0 if _is_empty(entry) else entry.status.st_size
        found.years.setdefault(year, {}).setdefault(kind, Sum()).add(size)
        found.owners.setdefault(entry.status.st_uid, Sum()).add(size)
        place = entry.parts[1:] if entry.parts[0] == DOWNLINKS else entry.parts
        if DownlinkId.matches(place[0]):
            found.downlinks += place[:1] != before[:1]
            if len(place) > 1 and _RUN.fullmatch(place[1]):
                found.runs += (len(place) == 3 or _is_empty(entry)) and place[:2] != before[:2]
        before = place
        if kind in ODD_KINDS:
            _note(found.odd, kind, place[0] if kind is Kind.TRANSIENT else entry.name)
        if entry.target is not None:
            where = _leads(root, inside, entry)
            found.links[where] += 1
            if where != "inside":
                _note(found.odd, f"link, {where}", f"{entry.name} -> {entry.target}")
        elif _is_empty(entry):
            _note(found.odd, "empty directory", entry.name)
        elif not stat.S_ISREG(entry.status.st_mode):
            _note(found.odd, "neither file nor link", entry.name)
    return found


def _is_empty(entry: Entry) -> bool:
    return stat.S_ISDIR(entry.status.st_mode)


def _note(odd: dict[str, list[str]], what: str, name: str) -> None:
    names = odd.setdefault(what, [])
    if len(names) < LISTED and name not in names[-1:]:
        names.append(name)


def _leads(root: Path, inside: Path, entry: Entry) -> str:
    """Tell where a link leads."""
    path = root.joinpath(*entry.parts)
    if not path.exists():
        return "nowhere"
    return "inside" if path.resolve().is_relative_to(inside) else "outside"
