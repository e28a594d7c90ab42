"""The products of a decoder: checked record by record, then moved to their place.

If a chunk is decoded again, its earlier products are kept until the downlink is handed off
(`halfpipe.state.merged_index.keep_known`). Other downlinks may still need their records, and a merge that would shrink
is refused.
"""

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.decode.announced import compare_with_events, count_unlisted
from halfpipe.decode.chunk import EVT, INDEX, ROWS, Product
from halfpipe.errors import DecoderError, FormatError
from halfpipe.files import leases
from halfpipe.files.durable import fsync_file
from halfpipe.files.leases import Say
from halfpipe.files.reading import sha256
from halfpipe.formats import evt, idx
from halfpipe.formats.retdef import MAX_TIME
from halfpipe.formats.rows import write_rows
from halfpipe.ids import LCI_APIDS, LPA_APIDS, ChunkId, DownlinkId, RunId
from halfpipe.settings import Settings

PRODUCT = re.compile(
    rf"(?P<ground>[0-9a-f]{{8}})-(?P<run>{RunId.PATTERN})-(?P<apid>[0-9]{{4}})-(?P<chunk>{ChunkId.PATTERN})"
    r"\.(?P<kind>evt|idx|rows)"
)
KINDS = (EVT, INDEX, ROWS)
EVENT_APIDS = (*LPA_APIDS, *LCI_APIDS)
REJECTED = "The products of this chunk were not used."


def check_products(
    out: Path,
    chunk: ChunkId,
    *,
    again: bool = False,
    links: bool = False,
    on_datagrams: Callable[[idx.Datagrams], object] = lambda _: None,
) -> list[Product]:
    """Check the products of one chunk: their names, each index line against its record, datagrams against events.

    The rows of each index are written next to it. They are products, too.

    Parameters
    ----------
    out
        The directory with the products.
    chunk
        The chunk that was decoded.
    again
        The same products were accepted before, so contradictions between datagrams and events are accepted, too.
    links
        Products may be symbolic links.
    on_datagrams
        Called with the datagrams of each index.

    Returns
    -------
    list of Product
        The entries for ``{chunk}.json``.

    Raises
    ------
    DecoderError
        If a product breaks the decoder contract.
    FormatError
        If an evt file or an index is damaged; the message names the file and the place.
    """
    found: dict[str, re.Match[str]] = {}
    for path in sorted(out.iterdir()):
        match = PRODUCT.fullmatch(path.name)
        name = path.name if path.name.isascii() and path.name.isprintable() else ascii(path.name)
        mode = (path.stat() if links else path.lstat()).st_mode
        if (match or path.suffix in KINDS) and not stat.S_ISREG(mode):
            raise DecoderError(
                f"{name}: the decoder wrote a link, a pipe or a directory under this name, expected a plain file. "
                f"{REJECTED} Fix the decoder."
            )
        if match and path.suffix != ROWS and match["chunk"] == chunk and int(match["apid"]) in EVENT_APIDS:
            found[path.name] = match
        elif path.suffix in KINDS:
            raise DecoderError(
                f"{name}: not the name of a product of chunk {chunk}, expected <ground id>-<run>-<apid>-{chunk}."
                "{evt,idx} with APID 955-958 or 965-968. Fix the decoder."
            )
    for name in found:
        if name.endswith(".evt") and name.replace(".evt", ".idx") not in found:
            raise DecoderError(f"{name}: the decoder wrote no index for this file, so its events are unknown")
    entries = []
    for name, match in found.items():
        product = _product(out / name, match, sha256(out / name))
        fsync_file(out / name)
        if name.endswith(INDEX):
            index, counts = _checked_index(out / name, product.run, product.apid, set(found), again=again)
            on_datagrams(index.datagrams)
            rows = (out / name).with_suffix(ROWS)
            entries.append(_product(rows, match, write_rows(rows, index)))
            product = msgspec.structs.replace(product, **counts)
        entries.append(product)
    return sorted(entries, key=lambda each: each.name)


def _product(path: Path, match: re.Match[str], checksum: str) -> Product:
    """Return the entry of a product in ``{chunk}.json``; `match` is the name of its index or evt file."""
    ground, run, apid, *_ = match.groups()
    return Product(path.name, ground, RunId(run), int(apid), path.stat().st_size, checksum)


def _checked_index(
    path: Path, run: RunId, apid: int, products: set[str], *, again: bool
) -> tuple[idx.Index, dict[str, int]]:
    """Check an index against its name, the names of all `products`, and its evt files; return it with its counts."""
    index = idx.read_index(path)
    if others := index.runs - {run.met}:
        raise FormatError(
            f"{path}: it has lines of run {min(others)}, but its name has run {run.met} ({run})"
        )
    for what, apids in (("EVT", index.events.apid), ("DGM", index.datagrams.apid)):
        others = apids[apids != apid]
        if others.size:
            raise FormatError(f"{path}: {what} lines of APID {others[0]}, but its name has APID {apid}")
    times = index.events.utc
    wrong = np.flatnonzero((times < 0) | (times >= MAX_TIME))
    if len(wrong):
        raise FormatError(
            f"{path}: sequence {index.events.sequence[wrong[0]]} has time {times[wrong[0]]:g}, expected 0 to "
            f"{MAX_TIME} Unix seconds. {REJECTED} Decode it again."
        )
    if unknown := sorted(set(index.files) - products):
        raise FormatError(
            f"{path}: lists the event file {unknown[0]}, but the decoder did not write it. {REJECTED} Fix the decoder, "
            "then rerun the command."
        )
    unlisted = [
        count_unlisted(path.with_name(name), *_measure(index, number))
        for number, name in enumerate(index.files)
    ]
    own = path.with_suffix(".evt")
    if own.name in products - set(index.files):  # no line names this file, but it may contain records
        unlisted.append(count_unlisted(own, np.empty(0, np.int64), np.empty(0, np.int64)))
    uncovered = sum(size for size, _ in unlisted)
    records = sum(number for _, number in unlisted)
    counts, contradiction = compare_with_events(index, uncovered, records)
    if contradiction is not None and not again:
        raise FormatError(
            f"{path}: {contradiction}. With such datagrams, events would be delivered too early or never. "
            f"{REJECTED} Fix the decoder or its input, then rerun the command."
        )
    return index, {"events": len(index.events), "datagrams": len(index.datagrams)} | counts


def _measure(index: idx.Index, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Put the sizes and checksums of the records in one event file into an index; return their offsets and sizes.

    Raises
    ------
    MissingInputError, FormatError
        If the file is missing or damaged, or a line does not point at its record.
    """
    file = index.path.with_name(index.files[number])
    of_file = index.events.file == number
    data = evt.open_evt(file).data
    offsets = index.events.offset[of_file]
    sizes = evt.record_layout(data, offsets, str(file)).sizes
    for field, listed, column in (
        ("sequence", index.events.sequence[of_file], "scalers_sequence"),
        ("apid", index.events.apid[of_file], "ccsds_apid"),
    ):
        found = evt.context_column(data, offsets, column)
        wrong = np.flatnonzero(listed != found)
        if len(wrong):
            at = wrong[0]
            raise FormatError(
                f"{index.path}: {field} {listed[at]} is listed at byte {offsets[at]} of {file.name}, but the record "
                f"there has {field} {found[at]}. {REJECTED} Decode it again."
            )
    index.events.length[of_file] = sizes
    index.events.check[of_file] = evt.record_checks(data, offsets, sizes)
    return offsets, sizes


def publish_products(out: Path, home: Path, chunk: ChunkId) -> None:
    """Move checked products of `chunk` from the decoder's directory `out` to `home`, and remove `out`.

    Products of an earlier decoding are removed first; the caller holds `no_merges`. Rows are the first to go and the
    last to appear, so existing rows always belong to the evt files next to them.
    """
    for name in sorted(_products_of(home, chunk), key=lambda name: not name.endswith(ROWS)):
        (home / name).unlink()
    for name in sorted(_products_of(out, chunk), key=lambda name: name.endswith(ROWS)):
        (out / name).rename(home / name)
    shutil.rmtree(out)


@contextmanager
def no_merges(settings: Settings, downlink: DownlinkId, chunk: ChunkId, say: Say) -> Iterator[list[RunId]]:
    """Hold the leases of all runs whose merges may read published products of `chunk`; yield these runs.

    A run in which the downlink has not published its datagrams is not locked, because no merge reads its products.
    """
    work = settings.paths.work
    # Leases are taken in the same order everywhere, so that two processes never wait for each other.
    every = sorted(set(_products_of(work / paths.chunks(downlink), chunk).values()))
    known = [run for run in every if (work / paths.datagrams(run, downlink)).exists()]
    with ExitStack() as leased:
        for run in known:
            leased.enter_context(leases.run_lease(settings, run, say))
        yield known


def _products_of(directory: Path, chunk: ChunkId) -> dict[str, RunId]:
    """Return the names of the products of `chunk` in a directory, each with its run."""
    matches = map(PRODUCT.fullmatch, os.listdir(directory))  # noqa: PTH208
    return {match.string: RunId(match["run"]) for match in matches if match and match["chunk"] == chunk}
