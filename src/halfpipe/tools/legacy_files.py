"""A tree of the legacy as a table of its files: what each is, and whether it has to be kept."""

import os
import re
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pandas as pd

from halfpipe.errors import HalfPipeError
from halfpipe.files.advice import advice
from halfpipe.ids import DownlinkId

DOWNLINKS = "Downlinks"  # the tree of downlinks, where it stands among others
FORM = r"%Y\t%y\t%s\t%u\t%P\0"  # of find; a name may hold anything but NUL
COLUMNS = ["type", "link", "size", "owner", "path"]


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
ODD_KINDS = (Kind.ODD, Kind.TOP, Kind.TRANSIENT)

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


@dataclass(frozen=True)
class Inventory:
    """What a tree holds: a row of `files` for each file, link, empty directory, or what is neither.

    Columns of `files` are ``path`` below the tree, ``type`` as ``find -printf %Y`` says (of a link what it leads to,
    ``N`` for nothing), ``link``, ``size`` in bytes, ``owner``, ``kind`` and ``year``. `unread` is what ``find`` said of
    directories that it could not read, each once.
    """

    files: pd.DataFrame
    unread: tuple[str, ...]

    def by(self, *columns: str) -> pd.DataFrame:
        """Return the number of files and their bytes by the values of some columns, sorted by these."""
        return self.files.groupby(list(columns)).agg(files=("size", "size"), bytes=("size", "sum"))

    @property
    def odd(self) -> dict[str, list[str]]:
        """The names of what the legacy does not make so, by what it is."""
        files = self.files
        found = {str(kind): files.path[files.kind == kind] for kind in ODD_KINDS}
        found["empty directory"] = files.path[(files.type == "d") & ~files.link]
        found["link that leads nowhere"] = files.path[files.link & files.type.isin(["N", "L", "?"])]
        found["neither file nor link"] = files.path[~files.type.isin(["f", "d"]) & ~files.link]
        return {what: list(names) for what, names in found.items() if len(names)}


def take_inventory(root: Path) -> Inventory:
    """Walk a tree once with ``find``, which follows no link and writes nothing.

    Raises
    ------
    HalfPipeError
        If ``find`` cannot be run.
    """
    words = ["find", ".", "-mindepth", "1", "(", "-not", "-type", "d", "-o", "-empty", ")"]
    try:
        found = subprocess.run([*words, "-printf", FORM], cwd=root, capture_output=True, check=False)
    except OSError as error:
        raise HalfPipeError(f"find cannot be run in {root}: {error.strerror}. {advice(error)}") from error
    records = os.fsdecode(found.stdout).split("\0")[:-1]
    files = pd.DataFrame([record.split("\t", 4) for record in records], columns=COLUMNS)
    files["link"], files["size"] = files.link == "l", files["size"].astype("int64")
    files.loc[files.type == "d", "size"] = 0
    parts = [tuple(path.split("/")) for path in files.path]
    files["kind"], files["year"] = [str(kind_of(one)) for one in parts], [year_of(one) for one in parts]
    return Inventory(files, tuple(dict.fromkeys(os.fsdecode(found.stderr).splitlines())))


def write_lists(found: Inventory, home: Path) -> int:
    """Write into `home` what has to be copied, names that end with NUL, and return how many they are.

    ``YEAR.files`` are files, whose content can be summed; ``rest`` are links and empty directories.
    """
    kept = found.files[found.files.kind.map(lambda kind: FATES[Kind(kind)] in KEPT)]
    plain = (kept.type == "f") & ~kept.link
    home.mkdir(parents=True, exist_ok=True)
    for name, of_name in [*kept[plain].groupby(kept.year + ".files"), ("rest", kept[~plain])]:
        (home / str(name)).write_bytes(b"".join(os.fsencode(path) + b"\0" for path in of_name.path))
    return len(kept)
