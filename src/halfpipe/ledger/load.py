"""Load downlinks into the ledger, remove them, and rebuild the ledger, from files alone.

One transaction replaces a downlink's rows and recomputes its runs' rows from all loaded downlinks with data of them.
Writers take turns. So the result does not depend on the order of loads, on repeated loads, or on killed loaders.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, NamedTuple

from sqlalchemy import Connection, delete, insert, select, update

from halfpipe import paths
from halfpipe.errors import HalfPipeError, LedgerError, Remedy, StateError
from halfpipe.files import leases
from halfpipe.files.durable import remove_file
from halfpipe.files.pointers import point
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger import moot_update
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.rows import Entry, Part, former_row, handed_off, read_entry, run_row
from halfpipe.ledger.tables import COPIED, DOWNLINKS, LINKS, OF_A_DOWNLINK, PENDING, RUNS, of_downlink
from halfpipe.settings import Settings
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.hand_offs import series

# Error codes: the ledger lacks a receipt, or the working directory lacks a receipt that the ledger was loaded from.
LACKS = "ledger-lacks"
RESTORED = "restored"

log = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """The receipt that a downlink was loaded from: the number of its record, and its seal."""

    record: int
    seal: str


def load_downlink(settings: Settings, downlink: DownlinkId, output: IO[str]) -> None:
    """Load a downlink, notify the MOOT database of its runs, and point ``{dl}/ledger.json`` to its receipt last.

    Parameters
    ----------
    settings, downlink
        The settings, and a downlink that was handed off.
    output
        Receives the output of the command `moot.update`.

    Raises
    ------
    LockedError
        If another process works on the downlink.
    ConfigError, MissingInputError, StateError, LedgerError
        As for `Ledger.of` and `load`.
    """
    ledger = Ledger.of(settings)
    marker = settings.paths.work / paths.loaded(downlink)
    with leases.downlink_job(settings, downlink):
        remove_file(marker)
        entry = load(ledger, settings, downlink)
        if settings.moot.update is not None:
            moot_update.send(ledger, settings.moot.update, output, sorted(entry.parts))
        point(marker, series(settings.paths.work, downlink).records[entry.handed.record - 1])


def remove_downlink(ledger: Ledger, settings: Settings, downlink: DownlinkId) -> list[RunId]:
    """Remove a downlink from the ledger. Its files stay, and it must be loaded again before it is submitted.

    Returns
    -------
    list
        The runs for which it had rows.

    Raises
    ------
    HalfPipeError
        As for `load_downlink`.
    """
    with leases.downlink_job(settings, downlink):
        remove_file(settings.paths.work / paths.loaded(downlink))
        return remove(ledger, settings, downlink)


def load(ledger: Ledger, settings: Settings, downlink: DownlinkId) -> Entry:
    """Replace a downlink's rows in the ledger by rows computed from its files.

    If `moot.update` is set, the same transaction notes the changed runs for `moot_update.send`, so none is lost.

    Parameters
    ----------
    ledger, settings
        The ledger and the settings.
    downlink
        A downlink that was handed off.

    Returns
    -------
    Entry
        What was loaded.

    Raises
    ------
    ConfigError, MissingInputError, StateError
        If a file is missing, cannot be read, or has values that cannot be loaded.
    LedgerError
        If the database is down or refuses the rows. In all of these cases nothing was changed.
    """
    return ledger.write(lambda connection: enter(connection, settings, downlink))


def enter(connection: Connection, settings: Settings, downlink: DownlinkId) -> Entry:
    """Load a downlink in a transaction of `Ledger.write`, as `load` does."""
    # Read under the lock. Otherwise `rebuild` could replace the rows of newer files by those of older ones.
    entry = read_entry(settings.paths.work, downlink)
    _refuse_older(connection, settings.paths.work, downlink)
    runs = {*runs_of(connection, downlink), *entry.parts}
    _store(connection, entry)
    for run in sorted(runs):
        _sum_up(connection, run, settings, entry.parts.get(run))
    for one in entry.handed.runs:
        # Without this row Level-1 fails on the whole downlink.
        row = select(RUNS.c.scid).where(RUNS.c.startedat == one.run.met)
        if one.delivery.files and connection.execute(row).first() is None:
            raise StateError(
                f"run {one.run} ({one.run.l1}) has event files in downlink {downlink}, but none of its datagrams is "
                "known, so it cannot have the row that Level-1 needs. If it was abandoned (force/), take that back. "
                "Then decode its chunks again (-F)."
            )
    return entry


def remove(ledger: Ledger, settings: Settings, downlink: DownlinkId) -> list[RunId]:
    """Remove a downlink from the ledger; return the runs for which it had rows.

    Raises
    ------
    ConfigError, MissingInputError, StateError, LedgerError
        As for `load`.
    """

    def take_out(connection: Connection) -> list[RunId]:
        runs = runs_of(connection, downlink)
        connection.execute(delete(DOWNLINKS).where(of_downlink(DOWNLINKS, downlink)))
        for run in runs:
            _sum_up(connection, run, settings)
        return runs

    return ledger.write(take_out)


def rebuild(
    ledger: Ledger,
    settings: Settings,
    *,
    shown: Callable[[Collection[DownlinkId]], Iterable[DownlinkId]] = iter,
) -> int:
    """Load all downlinks that were handed off, and remove all others; return the number of downlinks.

    Each downlink is a transaction, so other loads can run in between, and a killed rebuild keeps what it has done.

    Parameters
    ----------
    ledger, settings
        As for `load`.
    shown
        Wraps the downlinks, to show progress.

    Raises
    ------
    StateError
        At the end, if downlinks could not be loaded. Each is logged.
    ConfigError, LedgerError
        As for `load`, at once.
    """
    there = handed_off(settings.paths.work)
    for stale in sorted(ledger.write(loaded).keys() - set(there)):
        log.warning("removing downlink %s, which has no receipt", stale)
        remove(ledger, settings, stale)
    failed: list[DownlinkId] = []
    for downlink in shown(there):
        try:
            load(ledger, settings, downlink)
        except LedgerError:
            raise
        except (HalfPipeError, OSError) as error:
            log.error("downlink %s cannot be loaded: %s", downlink, error)
            failed.append(downlink)
    if failed:
        raise StateError(
            f"{len(failed)} of {len(there)} downlinks could not be loaded: {', '.join(failed)}. The reasons are above. "
            "Fix them, then rerun the command."
        )
    return len(there)


def note_submitted(settings: Settings, downlink: DownlinkId, seal: str) -> None:
    """Write the seal of the receipt that Level-1 has into the downlink's row, if there is one.

    Raises
    ------
    ConfigError, LedgerError
        As for `load`.
    """
    row = update(DOWNLINKS).where(of_downlink(DOWNLINKS, downlink)).values(submitted=seal)
    Ledger.of(settings).write(lambda c: c.execute(row))


def submitted(settings: Settings, downlink: DownlinkId) -> str | None:
    """Return the seal of the receipt that Level-1 has, according to the ledger; None if none was submitted.

    Raises
    ------
    ConfigError, LedgerError
        If the ledger cannot be reached or used.
    """
    row = select(DOWNLINKS.c.submitted).where(of_downlink(DOWNLINKS, downlink))
    return Ledger.of(settings, waits=()).read_if_there(lambda c: c.execute(row).scalar(), None)


def loaded(connection: Connection, downlink: DownlinkId | None = None) -> dict[DownlinkId, Loaded]:
    """Return the downlinks that were loaded, each with its receipt; only `downlink`, if it is given."""
    columns = (DOWNLINKS.c.id, DOWNLINKS.c.record, DOWNLINKS.c.receipt)
    which = select(*columns).where(DOWNLINKS.c.receipt != COPIED)
    if downlink is not None:
        which = which.where(of_downlink(DOWNLINKS, downlink))
    return {
        _downlink(number): Loaded(int(record), seal) for number, record, seal in connection.execute(which)
    }


def standing(work: Path, downlink: DownlinkId, has: Loaded | None) -> str:
    """Compare the seal in the ledger's row of a downlink with the seal of its last receipt.

    Returns
    -------
    str
        Empty if they are equal. `RESTORED` if the records lack the seal of the row: they are never removed, so the
        working directory was restored from a backup. `LACKS` if the row has an earlier receipt, or there is none.

    Raises
    ------
    HalfPipeError
        If the records cannot be read.
    """
    seals = [record.seal for record in series(work, downlink, only_look=True).records]
    if has is None:
        return LACKS
    if has.seal not in seals:
        return RESTORED
    return "" if has.seal == seals[-1] else LACKS


def _downlink(number: int) -> DownlinkId:
    return DownlinkId(f"{int(number):09d}")


def runs_of(connection: Connection, downlink: DownlinkId) -> list[RunId]:
    """Return the runs with rows of a downlink, in order."""
    of_it = select(LINKS.c.startedat).where(of_downlink(LINKS, downlink)).order_by(LINKS.c.startedat)
    return [RunId.from_met(int(met)) for met in connection.execute(of_it).scalars()]


def restore_or_remove(*downlinks: DownlinkId) -> Remedy:
    """Return the remedy if the ledger is ahead of the records of downlinks."""
    return Remedy(
        f"halfpipe ledger remove {' '.join(downlinks)}",
        first="Restore a newer backup. If you have none, roll back in Level-1 what it got since this backup, then",
    )


def _refuse_older(connection: Connection, work: Path, downlink: DownlinkId) -> None:
    """Refuse files that are older than the ledger's rows: they were restored from a backup."""
    has = loaded(connection, downlink).get(downlink)
    if has is not None and standing(work, downlink, has) == RESTORED:
        raise StateError(
            f"downlink {downlink}: the ledger was loaded from a receipt that its records lack. They were restored from "
            "a backup. Nothing was loaded.",
            restore_or_remove(downlink),
            code=RESTORED,
        )


def _store(connection: Connection, entry: Entry) -> None:
    same = update(DOWNLINKS).where(of_downlink(DOWNLINKS, entry.downlink)).values(entry.row)
    if not connection.execute(same).rowcount:
        connection.execute(insert(DOWNLINKS), [entry.row])
    for table in OF_A_DOWNLINK:
        connection.execute(delete(table).where(of_downlink(table, entry.downlink)))
    for part in entry.parts.values():
        for table, rows in part.rows().items():
            connection.execute(insert(table), rows)


def _sum_up(connection: Connection, run: RunId, settings: Settings, own: Part | None = None) -> None:
    """Compute the row of `run` again; `own` is the part that was just read, so its file is not read again."""
    work = settings.paths.work
    parts = []
    recorded = Deliveries(work, run)
    columns = (LINKS.c.downlink_id, LINKS.c.refused, LINKS.c.digest)
    links = connection.execute(
        select(*columns)
        .where(LINKS.c.startedat == run.met, LINKS.c.digest != COPIED)
        .order_by(LINKS.c.downlink_id)
    )
    for number, refused, digest in links.all():
        downlink = _downlink(number)
        same = own is not None and own.downlink == downlink
        part = own if same else Part.read(work, run, downlink, recorded, refused=bool(refused))
        if part is not None:
            # If the downlink was processed again, only loading it will show whether its run is refused.
            parts.append(part if part.digest == digest else replace(part, refused=True))
    before = connection.execute(select(RUNS).where(RUNS.c.startedat == run.met)).mappings().all()
    former = former_row(connection, run, {part.downlink.number for part in parts})
    known = run_row(connection, run, parts, settings, former) if parts else former
    after = [] if known is None else [known]
    if [dict(row) for row in before] == after:
        return
    connection.execute(delete(RUNS).where(RUNS.c.startedat == run.met))
    if after:
        connection.execute(insert(RUNS), after)
    notifies_moot = settings.moot.update is not None
    if notifies_moot or not after:
        connection.execute(delete(PENDING).where(PENDING.c.startedat == run.met))
    if notifies_moot and after:
        moot_update.note(connection, after[0])
