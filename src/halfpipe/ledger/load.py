"""Enter downlinks into the ledger, take them out, and make it anew, from files alone.

A downlink's rows are replaced, and the rows of its runs computed from all downlinks that the ledger has of
them, in one transaction; while it lasts nobody else writes. So the order in which downlinks are loaded does
not matter, nor how often, nor where a loader is killed.
"""

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import IO

from sqlalchemy import Connection, delete, insert, select, update

from halfpipe import paths
from halfpipe.errors import HalfPipeError, LedgerError, Remedy, StateError
from halfpipe.files import leases
from halfpipe.files.durable import remove_file
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger import moot_update
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.rows import Entry, Part, handed_off, legacy_row, read_entry, run_row
from halfpipe.ledger.tables import COPIED, DOWNLINKS, LINKS, OF_A_DOWNLINK, PENDING, RUNS, of_downlink
from halfpipe.settings import Settings

log = logging.getLogger(__name__)


def load_downlink(settings: Settings, downlink: DownlinkId, output: IO[str]) -> None:
    """Load a downlink, tell the MOOT database of its runs, and write last that it is in the ledger.

    Parameters
    ----------
    settings, downlink
        The settings, and a downlink that was handed off.
    output
        Takes what the command `moot.update` prints.

    Raises
    ------
    LockedError
        If somebody else is at work on the downlink.
    ConfigError, MissingInputError, StateError, LedgerError
        As `Ledger.of` and `load`.
    """
    ledger, marker = Ledger.of(settings), settings.paths.work / paths.loaded(downlink)
    with leases.downlink_job(settings.paths.work, downlink):
        remove_file(marker)
        entry = load(ledger, settings, downlink)
        if settings.moot.update is not None:
            moot_update.send(ledger, settings.moot.update, output, sorted(entry.parts))
        write_json(marker, entry.as_json())


def remove_downlink(ledger: Ledger, settings: Settings, downlink: DownlinkId) -> list[RunId]:
    """Take a downlink out of the ledger; its files stay, and loading it again is outstanding.

    Returns
    -------
    list
        The runs that it had.

    Raises
    ------
    HalfPipeError
        As `load_downlink`.
    """
    with leases.downlink_job(settings.paths.work, downlink):
        remove_file(settings.paths.work / paths.loaded(downlink))
        return remove(ledger, settings, [downlink])


def load(ledger: Ledger, settings: Settings, downlink: DownlinkId) -> Entry:
    """Enter what `downlink` brought, instead of what the ledger had of it.

    With `moot.update`, which runs have changed is noted for `moot_update.send` in the same transaction, so
    none is lost.

    Parameters
    ----------
    ledger, settings
        The ledger and the settings.
    downlink
        A downlink that was handed off.

    Returns
    -------
    Entry
        What was entered.

    Raises
    ------
    ConfigError, MissingInputError, StateError
        If a file is gone, cannot be read, or holds what cannot be entered.
    LedgerError
        If the database is down or refuses. In all cases nothing was changed.
    """
    return ledger.write(lambda connection: enter(connection, settings, downlink))


def enter(connection: Connection, settings: Settings, downlink: DownlinkId) -> Entry:
    """Enter a downlink in a transaction of `Ledger.write`; as `load`."""
    # Read while nobody else writes: `rebuild` must not put older files in the place of newer ones.
    entry = read_entry(settings.paths.work, downlink)
    _refuse_older(connection, entry)
    runs = {*runs_of(connection, [downlink]), *entry.parts}
    _store(connection, entry)
    for run in sorted(runs):
        _sum_up(connection, run, settings, entry.parts.get(run))
    for run in entry.staged:
        # Without it Level-1 would fail on the whole downlink.
        if connection.execute(select(RUNS.c.scid).where(RUNS.c.startedat == run.met)).first() is None:
            raise StateError(
                f"run {run} ({run.l1}): downlink {downlink} has event files of it, and no datagram of it is known, "
                "so it cannot have a row, without which Level-1 fails. Was it abandoned (force/)? Take that back, "
                "and have its chunks decoded again (-F)."
            )
    return entry


def remove(ledger: Ledger, settings: Settings, gone: Collection[DownlinkId]) -> list[RunId]:
    """Take downlinks out of the ledger, all or none; return the runs that they had.

    Raises
    ------
    ConfigError, MissingInputError, StateError, LedgerError
        As `load`.
    """

    def take_out(connection: Connection) -> list[RunId]:
        runs = runs_of(connection, gone)
        for downlink in gone:
            connection.execute(delete(DOWNLINKS).where(of_downlink(DOWNLINKS, downlink)))
        for run in runs:
            _sum_up(connection, run, settings)
        return runs

    return ledger.write(take_out)


def rebuild(
    ledger: Ledger,
    settings: Settings,
    *,
    tell_moot: bool = True,
    shown: Callable[[Collection[DownlinkId]], Iterable[DownlinkId]] = iter,
) -> int:
    """Make the ledger say what the files say; return the number of downlinks.

    One transaction a downlink, so that others can load meanwhile, and a rebuild that is killed has done
    what it has done.

    Parameters
    ----------
    ledger, settings
        As for `load`.
    tell_moot
        False: the MOOT database knows all of it already.
    shown
        Wraps the downlinks, to show progress.

    Raises
    ------
    StateError
        If downlinks could not be entered, which keeps no other from it; each is logged.
    ConfigError, LedgerError
        As `load`; it ends it.
    """
    if not tell_moot:
        settings = replace(settings, moot=replace(settings.moot, update=None))
    there = handed_off(settings.paths.work)
    stale = sorted(ledger.write(loaded).keys() - set(there))
    if stale:
        log.warning("not handed off, or all files are gone: %s", ", ".join(stale))
        remove(ledger, settings, stale)
    failed: list[DownlinkId] = []
    for downlink in shown(there):
        try:
            load(ledger, settings, downlink)
        except LedgerError:
            raise
        except (HalfPipeError, OSError) as error:
            log.error("downlink %s cannot be entered: %s", downlink, error)
            failed.append(downlink)
    if failed:
        raise StateError(
            f"{len(failed)} of {len(there)} downlinks could not be entered, and all others were: {', '.join(failed)}. "
            "Mend what is said of each above, then re-run the command."
        )
    return len(there)


def note_submitted(settings: Settings, downlink: DownlinkId, handoff: int) -> None:
    """Write into the row of a downlink, if there is one, which hand-off of it Level-1 has.

    Raises
    ------
    ConfigError, LedgerError
        As `load`.
    """
    row = update(DOWNLINKS).where(of_downlink(DOWNLINKS, downlink)).values(submitted=handoff)
    Ledger.of(settings).write(lambda c: c.execute(row))


def submitted(settings: Settings, downlink: DownlinkId) -> int | None:
    """Return the number of the hand-off that Level-1 has as the ledger knows it; None if it knows of none.

    Raises
    ------
    ConfigError, LedgerError
        If the ledger cannot be reached or used.
    """
    row = select(DOWNLINKS.c.submitted).where(of_downlink(DOWNLINKS, downlink))
    return Ledger.of(settings, waits=()).read_if_there(lambda c: c.execute(row).scalar(), None)


def loaded(connection: Connection) -> dict[DownlinkId, int]:
    """Return the downlinks that the ledger has, each with the number of its hand-off."""
    rows = connection.execute(
        select(DOWNLINKS.c.id, DOWNLINKS.c.handoff).where(DOWNLINKS.c.handoff > COPIED["handoff"])
    )
    return {_downlink(number): int(handoff) for number, handoff in rows}


def _downlink(number: int) -> DownlinkId:
    return DownlinkId(f"{int(number):09d}")


def runs_of(connection: Connection, downlinks: Iterable[DownlinkId]) -> list[RunId]:
    """Return the runs that the ledger has of `downlinks`."""
    found: set[int] = set()
    # One by one: the values that a statement may hold are limited, in Oracle to a thousand.
    for downlink in downlinks:
        of_it = select(LINKS.c.startedat).where(of_downlink(LINKS, downlink))
        found.update(map(int, connection.execute(of_it).scalars()))
    return sorted(map(RunId.from_met, found))


def forget(downlink: DownlinkId) -> Remedy:
    """Return what is to be done where the ledger knows of more than the files do."""
    return Remedy(
        f"halfpipe ledger remove {downlink}",
        first="Put a newer backup in their place; or, once Level-1 has nothing of it any more",
    )


def _refuse_older(connection: Connection, entry: Entry) -> None:
    """Refuse files that are older than what the ledger has: they were put back from a backup."""
    which = of_downlink(DOWNLINKS, entry.downlink)
    has = connection.execute(select(DOWNLINKS.c.handoff).where(which)).scalar()
    if has is not None and has > entry.row["handoff"]:
        raise StateError(
            f"downlink {entry.downlink}: the ledger has hand-off {has}, and the files have {entry.row['handoff']}: "
            "they were put back from a backup. Nothing was entered.",
            forget(entry.downlink),
            code="work-restored",
        )


def _store(connection: Connection, entry: Entry) -> None:
    rows = entry.rows()
    same = update(DOWNLINKS).where(of_downlink(DOWNLINKS, entry.downlink)).values(entry.row)
    if not connection.execute(same).rowcount:
        connection.execute(insert(DOWNLINKS), [entry.row])
    for table in OF_A_DOWNLINK:
        connection.execute(delete(table).where(of_downlink(table, entry.downlink)))
        if rows[table.name]:
            connection.execute(insert(table), rows[table.name])


def _sum_up(connection: Connection, run: RunId, settings: Settings, own: Part | None = None) -> None:
    """Bring the row of `run` up to date; `own` is the part that was just read, which is not read again."""
    parts = []
    columns = (LINKS.c.downlink_id, LINKS.c.held, LINKS.c.digest)
    links = connection.execute(
        select(*columns)
        .where(LINKS.c.startedat == run.met, LINKS.c.digest != COPIED["digest"])
        .order_by(LINKS.c.downlink_id)
    )
    for number, held, digest in links.all():
        downlink = _downlink(number)
        same = own is not None and own.downlink == downlink
        part = own if same else Part.read(settings.paths.work, run, downlink, held=bool(held))
        if part is not None:
            # It was processed again since, and whether its run is held now is not known before it is loaded.
            parts.append(part if part.digest == digest else replace(part, held=True))
    before = connection.execute(select(RUNS).where(RUNS.c.startedat == run.met)).mappings().all()
    legacy = legacy_row(connection, run, {part.downlink.number for part in parts})
    known = run_row(connection, run, parts, settings, legacy) if parts else legacy
    after = [] if known is None else [known]
    if [dict(row) for row in before] == after:
        return
    connection.execute(delete(RUNS).where(RUNS.c.startedat == run.met))
    if after:
        connection.execute(insert(RUNS), after)
    tells_moot = settings.moot.update is not None
    if tells_moot or not after:
        connection.execute(delete(PENDING).where(PENDING.c.startedat == run.met))
    if tells_moot and after:
        moot_update.note(connection, after[0])
