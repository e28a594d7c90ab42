"""What a decoder has made of a chunk: checked record by record, and then taken.

Products that it had made before are kept until their downlink is handed off (`halfpipe.run.merged_index.keep_known`):
a merge that shrinks is refused, what the downlink brought before stays known to others, and they may still need the
records of that.
"""

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.decode.announced import account, beside
from halfpipe.errors import DecoderError, FormatError
from halfpipe.files import leases
from halfpipe.files.durable import fsync_directory, fsync_file
from halfpipe.files.lease import Say
from halfpipe.files.reading import sha256
from halfpipe.formats import evt, idx
from halfpipe.formats.retdef import MAX_TIME
from halfpipe.formats.rows import SUFFIX, write_rows
from halfpipe.ids import LCI_APIDS, LPA_APIDS, ChunkId, DownlinkId, RunId
from halfpipe.settings import Settings

PRODUCT = re.compile(
    rf"(?P<ground>[0-9a-f]{{8}})-(?P<run>{RunId.PATTERN})-(?P<apid>[0-9]{{4}})-(?P<chunk>{ChunkId.PATTERN})"
    r"\.(?P<kind>evt|idx|rows)"
)
KINDS = (".evt", ".idx", SUFFIX)


def check_products(
    out: Path,
    chunk: ChunkId,
    *,
    again: bool = False,
    links: bool = False,
    hear: Callable[[NDArray[np.void]], object] = lambda _: None,
) -> list[dict[str, Any]]:
    """Check the products of one chunk: names, index against evt file, record by record, datagrams against events.

    The rows of each index are written beside it, as a product of our own. Of products that were taken once and are
    made `again`, datagrams are not held against events: they are what they were. They may be `links` to where somebody
    else keeps them. `hear` gets the datagrams of each index (dtype `halfpipe.formats.idx.DATAGRAM`).

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
        if (match or path.suffix in KINDS) and not stat.S_ISREG(mode):
            raise DecoderError(
                f"{_shown(path.name)}: the decoder wrote a link, a pipe or a directory under this name, expected "
                "a plain file. Nothing of this chunk was taken. Fix the decoder."
            )
        if match and path.suffix != SUFFIX:
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
        elif path.suffix in KINDS:
            raise DecoderError(
                f"{_shown(path.name)}: not a product's name, expected <ground id>-<run>-<apid>-<chunk>.{{evt,idx}}"
            )
    for name in found:
        if name.endswith(".evt") and name.replace(".evt", ".idx") not in found:
            raise DecoderError(f"{name}: the decoder wrote no index for it, so its events cannot be placed")
    described = []
    for name, match in found.items():
        entry = _described(out / name, match)
        fsync_file(out / name)
        described.append(entry)
        if match["kind"] == "idx":
            counts, index = _check_index(
                out / name, RunId(match["run"]), int(match["apid"]), set(found), again=again
            )
            entry |= counts
            hear(index.datagrams)
            made = (out / name).with_suffix(SUFFIX)
            write_rows(made, index)
            described.append(_described(made, match))
    return described


def _described(path: Path, match: re.Match[str]) -> dict[str, Any]:
    """Return the entry of a product, whose index or evt file has the name of `match`, in a ``{chunk}.json``."""
    return {
        "name": path.name,
        "kind": path.suffix[1:],
        "ground": match["ground"],
        "run": match["run"],
        "apid": match["apid"],
        "size": path.stat().st_size,
        "sha256": sha256(path),
    }


def _shown(name: str) -> str:
    """Return a file's name for a message: what is not plain is escaped."""
    return name if name.isascii() and name.isprintable() else ascii(name)


def _check_index(
    path: Path, run: RunId, apid: int, products: set[str], *, again: bool
) -> tuple[dict[str, Any], idx.Index]:
    """Check an index against the evt files that it names; return its counts, and its rows."""
    index = idx.read_index(path)
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
    if strange := sorted(set(index.files) - products):
        raise FormatError(
            f"{path}: names the event file {strange[0]}, which the decoder did not write beside it. "
            "Nothing of this chunk was taken. Fix the decoder, then re-run the command."
        )
    besides = [
        beside(path.with_name(name), *measure(index, number)) for number, name in enumerate(index.files)
    ]
    own = path.with_suffix(".evt")
    if own.name in products - set(index.files):  # no line names it, and it may hold records all the same
        besides.append(beside(own, np.empty(0, np.int64), np.empty(0, np.int64)))
    uncovered, unlisted = (sum(each[which] for each in besides) for which in (0, 1))
    missing, contradiction = account(index, uncovered, unlisted)
    if contradiction is not None and not again:
        raise FormatError(
            f"{path}: {contradiction}. With such datagrams events would be delivered too early or never. Nothing "
            "of this chunk was taken. Fix the decoder or what it read, then re-run the command."
        )
    return {"events": len(index.events), "datagrams": len(index.datagrams)} | missing, index


def measure(index: idx.Index, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Note the sizes and checksums of the records in one event file of an index; return where they lie and their sizes.

    Raises
    ------
    MissingInputError, FormatError
        If there is no such file, it is damaged, or a line does not point at its record.
    """
    file, of_file = index.path.with_name(index.files[number]), index.events["file"] == number
    data, offsets = evt.open_evt(file).data, index.events["offset"][of_file]
    sizes = evt.record_layout(data, offsets, str(file)).sizes
    for field, column in (("sequence", "scalers_sequence"), ("apid", "ccsds_apid")):
        said, found = index.events[field][of_file], evt.context_column(data, offsets, column)
        wrong = np.flatnonzero(said != found)
        if len(wrong):
            at = wrong[0]
            raise FormatError(
                f"{index.path}: {field} {said[at]} is said to lie at byte {offsets[at]} of {file.name}, where there "
                f"is {field} {found[at]}. Nothing of this chunk was taken; decode it again."
            )
    index.events["size"][of_file], index.events["check"][of_file] = (
        sizes,
        evt.record_checks(data, offsets, sizes),
    )
    return offsets, sizes


def take_products(out: Path, home: Path, chunk: ChunkId) -> None:
    """Move checked products of `chunk` from the decoder's directory `out` to `home`, and remove `out`.

    Those that an earlier decoding of the chunk left are removed; the caller holds `nobody_reads`. Rows go first and
    come last: where they lie, they are of the evt files beside them.
    """
    for name in sorted(_products_of(home, chunk), key=lambda name: not name.endswith(SUFFIX)):
        (home / name).unlink()
    for name in sorted(_products_of(out, chunk), key=lambda name: name.endswith(SUFFIX)):
        (out / name).rename(home / name)
    fsync_directory(home)
    shutil.rmtree(out)


@contextmanager
def nobody_reads(settings: Settings, downlink: DownlinkId, chunk: ChunkId, say: Say) -> Iterator[list[RunId]]:
    """Hold the leases of the runs whose merges may read what lies there of `chunk`, while it is replaced; give these.

    Where nothing lies, or nobody knows what the downlink brings of its run, nobody is waited for.
    """
    # In one order everywhere, so that two of these never wait for each other.
    work = settings.paths.work
    every = sorted(set(_products_of(work / paths.chunks(downlink), chunk).values()))
    known = [run for run in every if (work / paths.datagrams(run, downlink)).exists()]
    with ExitStack() as held:
        for run in known:
            held.enter_context(leases.run_lease(settings, run, say))
        yield known


def _products_of(directory: Path, chunk: ChunkId) -> dict[str, RunId]:
    """Return the names of the products of `chunk` in a directory, each with its run."""
    matches = map(PRODUCT.fullmatch, os.listdir(directory))  # noqa: PTH208
    return {match.string: RunId(match["run"]) for match in matches if match and match["chunk"] == chunk}
