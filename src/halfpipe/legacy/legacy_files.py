"""A tree of the legacy as a table of its files: what each is, and whether it has to be copied."""

import os
import re
import subprocess
from pathlib import Path

import pandas as pd

from halfpipe.errors import HalfPipeError
from halfpipe.files.advice import advice

FORM = r"%Y\t%y\t%s\t%P\0"  # of find; a name may hold anything but NUL
COPY, AGAIN, UNKNOWN, LEFT = "is copied", "can be made again", "unknown: is copied", "is left"
DL = r"\d{9}"
RUN = rf"{DL}/[1-9]\d{{0,9}}"
KINDS = (  # what a file is, what becomes of it, and its path below the tree of downlinks: the first that fits counts
    ("another tree", LEFT, r"(?:FswDumps|Online|ISOC[^/]*)/.*"),
    ("RetDef", COPY, rf"{DL}/RetDef-\d{{9}}-\d{{5}}\.xml"),
    ("chunk product", AGAIN, rf"{DL}/[0-9a-f]{{8}}-[0-9a-f]{{7,8}}-\d{{4}}-\d{{5}}\.(?:evt|idx)"),
    (
        "text",
        COPY,
        rf"{DL}/(?:(?:delivered_events|retired_runs|event_gaps|event_times|moot_keys|magic7)_\d{{9}}\.txt"
        r"|r0[1-9]\d{0,9}_doMerge\.txt|evt[01]\.txt|launch\.txt|aq_[0-9a-f]{7,8}\.txt|createStream_[^/]*)",
    ),
    ("switch", COPY, rf"{DL}/halt(?:Stage|L1|Online)"),
    ("run record", COPY, rf"{RUN}/r\d{{10}}-(?:spans|delivered|retired|evtgaps)\.txt"),
    ("run index", COPY, rf"{RUN}/(?:(?:dgm|evt)-[0-9a-f]{{7,8}}|r\d{{10}}-e\d{{20}})\.idx"),
    ("odd file in a downlink", UNKNOWN, rf"{DL}/.*"),
    ("evt, of Online", UNKNOWN, r"evt/.*"),
    ("stage, of Online", AGAIN, r"stage/.*"),
    ("abandoned", COPY, r"force/.*"),
    ("lock", LEFT, r"lock/.*"),
    ("transient directory", UNKNOWN, r"[^/]*/.*"),
    ("odd file at the top", UNKNOWN, r"[^/]*"),
)
ODD = ("odd file in a downlink", "transient directory", "odd file at the top")


def classify(files: pd.DataFrame) -> pd.DataFrame:
    """Add to a table with the column ``path``, below a tree, the columns ``kind``, ``becomes`` and ``year``.

    The tree is that of the legacy's downlinks, or one that holds it as ``Downlinks``. The year is that of the
    downlink, or else the directory that a file is in.
    """
    paths = files.path.str.removeprefix("Downlinks/")
    files["kind"] = files["becomes"] = ""
    for kind, becomes, pattern in KINDS:
        found = (files.kind == "") & paths.str.fullmatch(pattern, flags=re.ASCII | re.DOTALL)
        files.loc[found, ["kind", "becomes"]] = kind, becomes
    place = paths.str.extract(r"(?a:^(?:(\d\d)\d{7}|(evt|stage|force|lock))/)")
    files["year"] = ("20" + place[0]).fillna(place[1]).fillna("other")
    return files


def take_inventory(root: Path) -> tuple[pd.DataFrame, list[str]]:
    """Walk a tree once with ``find``, which follows no link and writes nothing.

    Returns
    -------
    tuple
        A row for each file, link, empty directory, or what is neither: its ``type`` as ``find -printf %Y`` says (of a
        link what it leads to), whether it is a ``link``, its ``size`` in bytes, and what `classify` adds; and what
        ``find`` said of directories that it could not read.

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
    records = [record.split("\t", 3) for record in os.fsdecode(found.stdout).split("\0")[:-1]]
    files = pd.DataFrame(records, columns=["type", "link", "size", "path"])
    files["link"], files["size"] = files.link == "l", files["size"].astype("int64")
    files.loc[files.type == "d", "size"] = 0
    return classify(files), list(dict.fromkeys(os.fsdecode(found.stderr).splitlines()))


def write_lists(files: pd.DataFrame, home: Path) -> int:
    """Write into `home` what has to be copied, names that end with NUL, and return how many they are.

    ``YEAR.files`` are files, whose content can be summed; ``rest`` are links and empty directories.
    """
    kept = files[files.becomes.isin([COPY, UNKNOWN])]
    plain = (kept.type == "f") & ~kept.link
    home.mkdir(parents=True, exist_ok=True)
    for name, of_name in [*kept[plain].groupby(kept.year + ".files"), ("rest", kept[~plain])]:
        (home / str(name)).write_bytes(b"".join(os.fsencode(path) + b"\0" for path in of_name.path))
    return len(kept)
