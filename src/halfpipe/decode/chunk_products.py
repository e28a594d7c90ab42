"""What a decoder has made of a chunk: checked record by record, and then taken."""

import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.decode.announced import Unlisted, account, together, unlisted
from halfpipe.errors import DecoderError, FormatError
from halfpipe.files.durable import fsync_directory, fsync_file
from halfpipe.files.reading import sha256
from halfpipe.formats import evt, idx, kept_index
from halfpipe.formats.retdef import MAX_TIME
from halfpipe.ids import LCI_APIDS, LPA_APIDS, ChunkId, RunId

PRODUCT = re.compile(
    rf"(?P<ground>[0-9a-f]{{8}})-(?P<run>{RunId.PATTERN})-(?P<apid>[0-9]{{4}})-(?P<chunk>{ChunkId.PATTERN})"
    r"\.(?P<kind>evt|idx)"
)


def check_products(
    out: Path,
    chunk: ChunkId,
    kept: Callable[[str], Path] | None = None,
    *,
    again: bool = False,
    links: bool = False,
) -> list[dict[str, Any]]:
    """Check the products of one chunk: names, index against evt file, record by record, datagrams against events.

    What is read of the indexes is kept at the paths that `kept` gives for their names. Of products that were
    taken once and are made `again`, datagrams are not held against events: they are what they were. They may be
    `links` to where somebody else keeps them.

    Raises
    ------
    DecoderError
        If a product cannot be what the contract says.
    FormatError
        If an evt file or an index is damaged; names the file and the place.
    """
    found: dict[str, re.Match[str]] = {}
    for path in sorted(out.iterdir()):
        match = PRODUCT.fullmatch(path.name)
        mode = (path.stat() if links else path.lstat()).st_mode
        if (match or path.suffix in {".evt", ".idx"}) and not stat.S_ISREG(mode):
            raise DecoderError(
                f"{_shown(path.name)}: the decoder wrote a link, a pipe or a directory under this name, expected "
                "a plain file. Nothing of this chunk was taken. Fix the decoder."
            )
        if match:
            if match["chunk"] != chunk:
                raise DecoderError(
                    f"{path.name}: the decoder wrote a product of chunk {match['chunk']} while it worked on "
                    f"chunk {chunk}; two chunks would claim one name. Fix the decoder."
                )
            if int(match["apid"]) not in (*LPA_APIDS, *LCI_APIDS):
                raise DecoderError(
                    f"{path.name}: APID {match['apid']} is none of event data (955-958, 965-968)"
                )
            found[path.name] = match
        elif path.suffix in {".evt", ".idx"}:
            raise DecoderError(
                f"{_shown(path.name)}: not a product's name, expected <ground id>-<run>-<apid>-<chunk>.{{evt,idx}}"
            )
    for name in found:
        if name.endswith(".evt") and name.replace(".evt", ".idx") not in found:
            raise DecoderError(f"{name}: the decoder wrote no index for it, so its events cannot be placed")
    described = []
    named: set[str] = set()
    checksums = {name: sha256(out / name) for name in found if name.endswith(".evt")}
    for name, match in found.items():
        entry: dict[str, Any] = {
            "name": name,
            "kind": match["kind"],
            "ground": match["ground"],
            "run": match["run"],
            "apid": match["apid"],
            "size": (out / name).stat().st_size,
        }
        if match["kind"] == "idx":
            digest, counts, rows = _check_index(
                out / name, RunId(match["run"]), int(match["apid"]), set(found), again=again
            )
            checksums[name] = digest
            entry |= counts
            named |= set(rows.files)
            if kept is not None:
                kept_index.keep(rows, kept(name), name, checksums)
        entry["sha256"] = checksums[name]
        fsync_file(out / name)
        described.append(entry)
    for entry in described if not again else []:
        if entry["kind"] == "idx" and (own := entry["name"].replace(".idx", ".evt")) in found.keys() - named:
            _take_unnamed(out / own, entry)
    return described


def _take_unnamed(file: Path, index: dict[str, Any]) -> None:
    """Add to the account of an index that its event file, which no line names, may hold records all the same."""
    size = file.stat().st_size
    try:
        none = np.empty(0, np.int64)
        rest = unlisted(evt.open_evt(file).data, none, none) if size else Unlisted()
    except FormatError:
        rest = Unlisted(size, None)
    if rest.size:
        found = rest.records or 0
        index["announced"] += max(0, found - index["missing_events"])
        index["missing_events"] = max(index["missing_events"], found)
        index["uncovered_bytes"] += rest.size


def _shown(name: str) -> str:
    """Return a file's name for a message: what is not plain is escaped."""
    return name if name.isascii() and name.isprintable() else ascii(name)


def _check_index(
    path: Path, run: RunId, apid: int, products: set[str], *, again: bool
) -> tuple[str, dict[str, Any], idx.Index]:
    """Check an index against the evt files that it names; return its SHA-256, its counts, and its rows."""
    import hashlib  # noqa: PLC0415 - its library takes as long to load as all else here

    digest = hashlib.sha256()
    index = idx.read_index(path, digest.update)
    if index.startedat not in {None, run.met}:
        raise FormatError(f"{path}: its lines are of run {index.startedat}, its name says {run.met} ({run})")
    for what, rows in (("EVT", index.events), ("DGM", index.datagrams)):
        others = rows["apid"][rows["apid"] != apid]
        if others.size:
            raise FormatError(f"{path}: {what} lines of APID {others[0]}, its name says {apid}")
    times = index.events["utc"]
    wrong = np.flatnonzero((times < 0) | (times >= MAX_TIME))
    if len(wrong):
        raise FormatError(
            f"{path}: sequence {index.events['sequence'][wrong[0]]} is said to be of {times[wrong[0]]:g} Unix "
            f"seconds, expected 0 to {MAX_TIME}. Nothing of this chunk was taken; decode it again."
        )
    besides: list[Unlisted] = []
    for number, name in enumerate(index.files):
        if name not in products:
            raise FormatError(
                f"{path}: names the event file {name}, which the decoder did not write beside it. "
                "Nothing of this chunk was taken. Fix the decoder, then re-run the command."
            )
        of_file = index.events["file"] == number
        sizes, checks, rest = _check_records(path, path.with_name(name), index.events[of_file])
        index.events["size"][of_file], index.events["check"][of_file] = sizes, checks
        besides.append(rest)
    missing, contradiction = account(index, together(besides))
    if contradiction is not None and not again:
        raise FormatError(
            f"{path}: {contradiction}. With such datagrams events would be delivered too early or never. Nothing "
            "of this chunk was taken. Fix the decoder or what it read, then re-run the command."
        )
    counts = {"events": len(index.events), "datagrams": len(index.datagrams)} | missing
    return digest.hexdigest(), counts, index


def _check_records(
    index: Path, file: Path, events: Any
) -> tuple[NDArray[np.int64], NDArray[np.uint32], Unlisted]:
    """Check that every index line points at its record.

    Returns the records' sizes and checksums in the order of the lines, and what the file holds besides them.
    """
    opened = evt.open_evt(file)
    offsets = events["offset"]
    sizes = evt.record_layout(opened.data, offsets, str(file)).sizes
    sequence = evt.context_column(opened.data, events["offset"], "scalers_sequence")
    apid = evt.context_column(opened.data, events["offset"], "ccsds_apid")
    wrong = np.flatnonzero((sequence != events["sequence"]) | (apid != events["apid"]))
    if len(wrong):
        line, found = events[wrong[0]], (sequence[wrong[0]], apid[wrong[0]])
        raise FormatError(
            f"{index}: sequence {line['sequence']} of APID {line['apid']} is said to lie at byte "
            f"{line['offset']} of {file.name}, where there is sequence {found[0]} of APID {found[1]}. "
            "Nothing of this chunk was taken; decode it again."
        )
    return sizes, evt.record_checks(opened.data, offsets, sizes), unlisted(opened.data, offsets, sizes)


def take_products(out: Path, home: Path, chunk: ChunkId) -> None:
    """Move checked products of `chunk` from the decoder's directory `out` to `home`, and remove `out`.

    Products that an earlier decoding of the chunk left and this one does not make are removed, while
    `halfpipe.run.replaced.nobody_reads` them.
    """
    new = {path.name for path in out.iterdir() if PRODUCT.fullmatch(path.name)}
    for path in home.iterdir():
        match = PRODUCT.fullmatch(path.name)
        if match and match["chunk"] == chunk and path.name not in new:
            path.unlink()
    for name in sorted(new):
        (out / name).rename(home / name)
    fsync_directory(home)
    shutil.rmtree(out)
