"""The ledger's rows, computed from files: for a downlink, and for a run from all of its downlinks."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

import numpy as np
from sqlalchemy import Connection, Table, inspect, select

from halfpipe import paths
from halfpipe.decisions import Decisions
from halfpipe.errors import HalfPipeError, MissingInputError, Remedy, StateError
from halfpipe.formats.idx import Datagrams
from halfpipe.formats.retdef import MAX_TIME, read_retdef
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.ledger.mapping import look_up
from halfpipe.ledger.moot_file import UNSET, first_datagram, moot_of
from halfpipe.ledger.tables import (
    DATAGRAMS,
    FORMER_LINKS,
    FORMER_RUNS,
    LINKS,
    SEGMENTS,
    time_of,
)
from halfpipe.merge.late_events import listed
from halfpipe.merge.settle import KnownDatagrams, consecutive, first_and_last, is_complete, with_events
from halfpipe.settings import Settings
from halfpipe.state.deliveries import Deliveries, DeliveryHistory
from halfpipe.state.downlinks_of_run import every_downlink
from halfpipe.state.hand_offs import HandOff, last_hand_off
from halfpipe.state.merged_index import known_datagrams, read_published

Row = dict[str, Any]
# The states of a run (ground-chain §10).
IN_PROGRESS = "InProgress"
COMPLETE = "Complete"
INCOMPLETE = "Incomplete"
MOST = 2**63 - 1  # the largest number in a column of 64 bits


def is_abandoned(settings: Settings, run: RunId) -> bool:
    """Tell whether the ledger may show a run as Incomplete: the operator abandoned it, and all of it was delivered.

    Level-1 retires an Incomplete run. So a delivery must have treated the run as abandoned, and known every datagram
    that is known now. Suppose the operator takes the decision back, a downlink arrives, and the operator abandons the
    run again: then the waiting events of that downlink wait for the next delivery. The operator's list is read each
    time, because it can change during a rebuild or while the database is down.

    Raises
    ------
    HalfPipeError
        If the list, a record of a delivery or a merged index cannot be read.
    """
    work = settings.paths.work
    decisions = Decisions.read(work)
    if not decisions.is_abandoned(run):
        return False
    rows = known_datagrams(work, decisions, run).rows
    latest = Deliveries(work, run).latest().values()
    return any(each.abandoned and listed(rows, each.datagrams).all() for each in latest)


@dataclass(frozen=True)
class Part:
    """One downlink's datagrams of one run. If `refused`, Level-1 would not accept its events: they are not staged."""

    downlink: DownlinkId
    run: RunId
    scid: int
    digest: str
    refused: bool
    datagrams: KnownDatagrams

    @classmethod
    def read(
        cls, work: Path, run: RunId, downlink: DownlinkId, recorded: DeliveryHistory, *, refused: bool
    ) -> Self | None:
        """Read the part from the merged index; None if the downlink has no datagram of the run.

        `recorded` are the deliveries of the run.

        Raises
        ------
        MissingInputError
            If the merged index does not exist.
        FormatError
            If it is damaged, or not the one that was delivered.
        StateError
            If the database cannot hold its values.
        """
        path = work / paths.datagrams(run, downlink)
        try:
            datagrams = read_published(work, run, downlink, recorded).datagrams
        except MissingInputError as error:
            raise MissingInputError(
                f"{path} is missing, so the row of run {run} cannot be computed. HalfPipe never deletes this file. "
                f"Restore it from a backup, or process downlink {downlink} again (-F).",
                Remedy(f"halfpipe ledger remove {downlink}", first="Or remove the downlink from the ledger"),
            ) from error
        if not len(datagrams.rows):
            return None
        rows = datagrams.rows
        filled = with_events(rows)
        times = np.concatenate([rows.utc, filled.evtutc0, filled.evtutc1])
        if not ((times >= 0) & (times < MAX_TIME)).all() or sum(rows.nevts.tolist()) > MOST:
            raise StateError(
                f"{path}: an index line has an impossible time or number of events. Nothing was loaded. Decode the "
                "downlink's chunks of the run again (-F)."
            )
        digest = hashlib.sha256(b"\n".join(datagrams.lines)).hexdigest()
        return cls(downlink, run, int(rows.scid[0]), digest, refused, datagrams)

    def rows(self) -> dict[Table, list[Row]]:
        """Return the rows of the part for each table, sorted by key."""
        segments = []
        datagrams = []
        key = {"downlink_id": self.downlink.number, "scid": self.scid, "startedat": self.run.met}
        for apid, of_apid in self.datagrams.by_apid().items():
            for inside in consecutive(of_apid):
                first, last = first_and_last(inside)
                events = int(inside.nevts.sum())
                segments.append(key | {"apid": apid, "dgmseq0": first, "dgmseq1": last, "nevts": events})
                datagrams += [key | _datagram(inside, at) for at in sorted({0, len(inside) - 1})]
        link = key | {"digest": self.digest, "refused": int(self.refused)}
        return {LINKS: [link], SEGMENTS: segments, DATAGRAMS: datagrams}


@dataclass(frozen=True)
class Entry:
    """What the ledger must contain for a downlink that was handed off: its own row, and its parts."""

    handed: HandOff
    row: Row
    parts: Mapping[RunId, Part]

    @property
    def downlink(self) -> DownlinkId:
        """The downlink."""
        return self.handed.receipt.downlink


def read_entry(work: Path, downlink: DownlinkId) -> Entry:
    """Read receipt, RetDef and merged indexes of a downlink.

    Raises
    ------
    MissingInputError
        If the downlink has no receipt, or a merged index does not exist.
    StateError
        If the database cannot hold a value, or a record is gone.
    """
    last = last_hand_off(work, downlink)
    if last is None:
        raise MissingInputError(
            f"downlink {downlink} has no receipt, and only downlinks that were handed off can be loaded.",
            Remedy(f"snakemake dl={downlink}", first="Process it first"),
        )
    parts = {}
    for one in last.runs:
        if one.delivery.index:  # of another system's delivery only the spans may be known
            refused = bool(one.delivery.refused)
            part = Part.read(work, one.run, downlink, last.read(one.run), refused=refused)
            if part is not None:
                parts[one.run] = part
    # If another system handed the downlink off, there are only the RetDefs of chunks that still exist.
    chunks = [chunk.chunk for chunk in last.receipt.chunks if chunk.files or not last.receipt.origin]
    # In a RetDef -1 means that the key is unknown (ground-chain §4).
    keys = [read_retdef(work / paths.retdef(downlink, chunk)).l0key for chunk in sorted(chunks)[:1]]
    row = {
        "id": downlink.number,
        "l0key": next((key for key in keys if 0 <= key <= MOST), None),
        "indir": str(work / downlink),
        "outbase": str(work),
        "record": last.record,
        "receipt": last.seal,
    }
    return Entry(last, row, parts)


def handed_off(work: Path) -> list[DownlinkId]:
    """Return all downlinks that were handed off; those of another system only if more than their spans is known."""
    return [dl for dl in every_downlink(work) if is_known(work, dl)]


def is_known(work: Path, downlink: DownlinkId) -> bool:
    """Tell whether a downlink was handed off and its datagrams are known, rather than only another system's spans."""
    try:
        last = last_hand_off(work, downlink)
        return last is not None and (not last.receipt.origin or any(one.delivery.index for one in last.runs))
    except HalfPipeError:
        return True  # reading it reports the damage


def run_row(
    connection: Connection, run: RunId, parts: Sequence[Part], settings: Settings, former: Row | None = None
) -> Row:
    """Compute the row of a run from all of its parts, and from another system's row if that covers more.

    If several downlinks have a datagram, it counts once, with the line that sorts first. Ground id and keys are those
    of the `first_datagram`. A run with a refused part stays InProgress. Otherwise Level-1 would retire it before the
    rest is delivered.

    Raises
    ------
    ConfigError, FormatError
        If `moot.file` cannot be read, or has two keys for the run.
    StateError
        If the datagrams come from several spacecraft, or the MOOT key is bad.
    """
    scids = {(int(scid), part.downlink) for part in parts for scid in np.unique(part.datagrams.rows.scid)}
    if len({scid for scid, _ in scids}) > 1:
        listing = ", ".join(f"{scid} by downlink {downlink}" for scid, downlink in sorted(scids))
        raise StateError(
            f"run {run} ({run.l1}) has several spacecraft: {listing}.",
            Remedy(
                "halfpipe ledger remove",
                first="Process the wrong downlink again (-F), or remove it from the ledger",
            ),
        )
    known = KnownDatagrams.together(part.datagrams for part in parts)
    rows = known.rows
    segments = known.segments()
    first = first_datagram(rows)
    filled = with_events(rows)
    status = COMPLETE if is_complete(segments, settings.merge.min_epus) else IN_PROGRESS
    if refused := any(part.refused for part in parts):
        status = IN_PROGRESS
    elif status != COMPLETE and is_abandoned(settings, run):
        status = INCOMPLETE
    kind = RunKind.of(segments)
    begun = time_of(rows.utc.min())
    moot = named = moot_of(run, settings.moot.file)
    if named == UNSET:
        moot = look_up(connection, run, kind, int(rows.groundid[first]), begun)
    row = {
        "scid": parts[0].scid,
        "startedat": run.met,
        "type": str(kind),
        "analysis": None,
        "status": status,
        "ndgms": len(rows),
        "nevts": int(rows.nevts.sum()),
        "dgmutc0": begun,
        "dgmutc1": time_of(rows.utc.max()),
        "evtutc0": time_of(filled.evtutc0.min()) if len(filled) else None,
        "evtutc1": time_of(filled.evtutc1.max()) if len(filled) else None,
        "hwkey": int(rows.hwkey[first]),
        "swkey": int(rows.swkey[first]),
        "moot_key": moot.key,
        "moot_alias": moot.alias,
    }
    if former is None:
        return row
    by_hand = {} if named == UNSET else {"moot_key": named.key, "moot_alias": named.alias}
    return _joined(former, row, refused=refused) | by_hand


def former_row(connection: Connection, run: RunId, loaded: Collection[int]) -> Row | None:
    """Return another system's row of a run, if it covers downlinks that were not loaded.

    The datagrams of such a downlink are known only if its products still exist. Otherwise the other system's row is all
    there is, and Level-1 must still find it after a late downlink of the run.

    Parameters
    ----------
    connection, run
        A connection to the ledger's database, and the run.
    loaded
        Numbers of the loaded downlinks with datagrams of the run.

    Returns
    -------
    dict or None
        The row of ``glastops_acqsummary``. None if no other system had such a run, or `loaded` contains all of its
        downlinks with data of the run.
    """
    if not inspect(connection).has_table(FORMER_RUNS.name):
        return None
    if loaded:
        links = select(FORMER_LINKS.c.downlink_id).where(FORMER_LINKS.c.startedat == run.met)
        if {int(number) for number in connection.execute(links).scalars()} <= set(loaded):
            return None
    of_run = select(FORMER_RUNS).where(FORMER_RUNS.c.startedat == run.met)
    row = connection.execute(of_run).mappings().first()
    if row is None:
        return None
    # Databases return a NUMBER or NUMERIC without a scale as a Decimal.
    return {name: int(value) if isinstance(value, Decimal) else value for name, value in row.items()}


def _joined(former: Row, own: Row, *, refused: bool) -> Row:
    """Combine another system's row of a run with the row that follows from HalfPipe's files.

    The times cover both rows. The larger counts are kept, because the other system's row does not show which
    datagrams it counted. Type and keys are those of that row. The run is Complete or Incomplete if either row is and
    no part is refused.
    """
    status = next(
        (status for status in (COMPLETE, INCOMPLETE) if status in {former["status"], own["status"]}),
        IN_PROGRESS,
    )
    row = former | {"status": IN_PROGRESS if refused else status}
    for choose, columns in (
        (min, ("dgmutc0", "evtutc0")),
        (max, ("dgmutc1", "evtutc1", "ndgms", "nevts")),
    ):
        for name in columns:
            row[name] = choose((one[name] for one in (former, own) if one[name] is not None), default=None)
    return row


def _datagram(rows: Datagrams, at: int) -> Row:
    numbers = ("apid", "groundid", "modechanges", "hwkey", "swkey")
    words = ("modename", "oaction", "oreason", "caction", "creason", "platform", "origin")
    row = rows.view(np.ndarray)[at]
    events = int(rows.nevts[at])
    return {
        **{name: int(row[name]) for name in numbers},
        "datagrams": int(rows.datagram[at]),
        "utc": time_of(rows.utc[at]),
        **{name: row[name].decode("ascii", "replace") for name in words},
        # In the line of a datagram without events these fields mean nothing.
        **{name: time_of(row[name]) if events else None for name in ("evtutc0", "evtutc1")},
        **{name: int(row[name]) if events and row[name] <= MOST else None for name in ("evtseq0", "evtseq1")},
        "nevts": events,
    }
