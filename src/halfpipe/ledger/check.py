"""Compare the ledger with the files, and find out which of the two is out of date."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, select

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, LedgerError, Remedy
from halfpipe.files.reading import names_in
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.database import FOREIGN, Ledger
from halfpipe.ledger.load import enter, loaded, restore_or_remove, runs_of
from halfpipe.ledger.rows import Row, handed_off, is_known
from halfpipe.ledger.tables import DOWNLINKS, OF_A_DOWNLINK, RUNS, of_downlink
from halfpipe.process.failure_record import Failure
from halfpipe.run.downlinks_of_run import begun_downlinks, refuse_unknown_downlink
from halfpipe.run.receipt_file import last_hand_off
from halfpipe.settings import Settings
from halfpipe.words import count

MOST_NAMED = 10  # a cause names at most this many downlinks: the latest ones


def check(ledger: Ledger, settings: Settings, downlinks: Iterable[DownlinkId] = ()) -> list[Cause]:
    """Find downlinks whose rows differ from their files, by loading each one and rolling back.

    Parameters
    ----------
    ledger, settings
        As for `load`.
    downlinks
        Downlinks to compare, along with those that share a run with them. If empty, all downlinks that the files or the
        ledger contain are compared.

    Returns
    -------
    list
        Causes with the code ``ledger-lacks`` or ``restored``, or the error's code if a downlink cannot be loaded.

    Raises
    ------
    LedgerError
        If the database cannot be read or written.
    MissingInputError
        If a downlink is unknown.
    """
    work, known, selected = settings.paths.work, ledger.read(loaded), set(downlinks)
    runs = ledger.read(lambda connection: {run for dl in selected for run in runs_of(connection, dl)})
    beside = {dl for run in runs for dl in begun_downlinks(work, run) if is_known(work, dl)}
    found: list[Cause] = []
    for dl in sorted(selected | beside if selected else known.keys() | set(handed_off(work))):
        if dl not in known:
            refuse_unknown_downlink(settings, dl)
        try:
            last = last_hand_off(work, dl)
            if last is None and dl in known:
                found.append(
                    Cause("restored", Verdict.ACTION, f"downlink {dl} has no receipt", restore_or_remove(dl))
                )
            elif last and (differ := _differences(ledger, settings, dl, last.receipt)):
                do = Remedy(f"halfpipe ledger load {dl}")
                found.append(Cause("ledger-lacks", Verdict.ACTION, f"downlink {dl}: {'; '.join(differ)}", do))
        except LedgerError:
            raise
        except (HalfPipeError, OSError) as error:
            why = Failure.of(error)
            found.append(Cause(why.code, Verdict.ACTION, f"downlink {dl}: {why.text}", why.remedy))
    return found


def _differences(
    ledger: Ledger, settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any]
) -> list[str]:
    """Load a downlink, list what changed in its rows and its runs' rows, and roll back."""

    def rows(connection: Connection, runs: Iterable[RunId]) -> dict[str, list[Row]]:
        which = {table: of_downlink(table, downlink) for table in (DOWNLINKS, *OF_A_DOWNLINK)}
        found = {table.name: _rows(connection, table, of_it) for table, of_it in which.items()}
        return found | {_name(run): _rows(connection, RUNS, RUNS.c.startedat == run.met) for run in runs}

    def undone(connection: Connection) -> list[str]:
        runs = {*runs_of(connection, downlink), *(RunId(run["run"]) for run in receipt["runs"])}
        before = rows(connection, sorted(runs))
        enter(connection, settings, downlink)
        after = rows(connection, sorted(runs))
        connection.rollback()
        return [line for name in before for line in _unlike(name, before[name], after[name])]

    return ledger.write(undone)


def _rows(connection: Connection, table: Table, which: ColumnElement[bool]) -> list[Row]:
    """Return rows of a table, sorted."""
    return sorted(map(dict, connection.execute(select(table).where(which)).mappings()), key=str)


def _unlike(name: str, ledger: list[Row], files: list[Row]) -> list[str]:
    """List how the ledger's rows differ from those of the files; single rows are compared column by column."""
    if len(ledger) == len(files) == 1:
        differ = ((column, ledger[0][column], value) for column, value in files[0].items())
        return [
            f"{name}: {column} is {one}, {other} in the files"
            for column, one, other in differ
            if one != other
        ]
    return [] if ledger == files else [f"{name}: {len(ledger)} rows, {len(files)} in the files"]


def _name(run: RunId) -> str:
    return f"run {run} ({run.l1})"


def lacks(settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any]) -> Cause | None:
    """Return a cause if the ledger lacks rows that Level-1 will look for; None if it has them all.

    Parameters
    ----------
    settings, downlink
        The settings of a site with a ledger, and the downlink.
    receipt
        The downlink's receipt. Each run with event files needs a row.

    Raises
    ------
    ConfigError, LedgerError
        If the ledger cannot be reached or used.
    """
    ledger = Ledger.of(settings)
    runs = [RunId(run["run"]) for run in receipt["runs"] if run["files"]]

    def missing(connection: Connection) -> list[str]:
        of_it = select(DOWNLINKS.c.handoff).where(of_downlink(DOWNLINKS, downlink))
        has, needed = connection.execute(of_it).scalar(), receipt["handoff"]
        found = [] if has == needed else [f"hand-off {needed} (it has {has or 'none'})"]
        rows = {run: select(RUNS.c.scid).where(RUNS.c.startedat == run.met) for run in runs}
        return found + [_name(run) for run, row in rows.items() if connection.execute(row).first() is None]

    if not (found := ledger.read_if_there(missing, ["all rows (it does not exist)"])):
        return None
    text = f"the ledger {ledger.name} lacks {', '.join(found)}, so Level-1 would fail on downlink {downlink}"
    return Cause("ledger-lacks", Verdict.ACTION, text, Remedy(f"halfpipe ledger load {downlink}"))


def site_troubles(
    settings: Settings, downlinks: Mapping[DownlinkId, int], compared: Iterable[DownlinkId] = ()
) -> Iterator[Cause]:
    """Find downlinks that were loaded but are no longer in the ledger, or only as before, with one query for all.

    Parameters
    ----------
    settings
        The settings of a site with a ledger.
    downlinks
        Downlinks to look for, with the number of the hand-off that Level-1 has; 0 if it has none. ``{dl}/ledger.json``
        records that a downlink was loaded.
    compared
        Downlinks whose hand-off numbers are compared, too.

    Yields
    ------
    Cause
        ``ledger-lacks``, ``ledger``, ``ledger-foreign``, ``restored``.
    """
    work = settings.paths.work
    entered = {dl for dl in downlinks if os.path.exists(f"{work}/{paths.loaded(dl)}")}  # noqa: PTH110 - thousands of files
    try:
        ledger = Ledger.of(settings, waits=())
        known = ledger.read_if_there(loaded, dict[DownlinkId, int]())
    except HalfPipeError as error:
        if error.code == FOREIGN:
            yield Cause(FOREIGN, Verdict.ACTION, error.text.rstrip("."), error.remedy)
        else:
            yield Cause("ledger", Verdict.NOTE, error.text.rstrip("."), error.remedy)
        return
    yield from _ahead(settings, ledger, known, compared)
    if lost := sorted(dl for dl in entered if dl not in known or known[dl] < downlinks[dl]):
        do = f"halfpipe ledger load {lost[0]}" if len(lost) == 1 else "halfpipe ledger rebuild"
        few = f"{count(len(lost), 'downlink')} ({', '.join(lost[-MOST_NAMED:])})"
        text = f"the ledger {ledger.name} has lost hand-offs of {few}, so Level-1 finds old rows of their runs, or none"
        yield Cause("ledger-lacks", Verdict.ACTION, text, Remedy(do))


def refuse_delivery(settings: Settings, downlinks: Iterable[DownlinkId]) -> None:
    """Refuse to deliver if another working directory uses the ledger, or if this one lacks hand-offs of the ledger.

    A database that is down is ignored, because no hand-off waits for the ledger. The built-in ledger is in the working
    directory, so it has no hand-offs that the directory lacks.

    Parameters
    ----------
    settings
        The settings of a site with a ledger other than the built-in one.
    downlinks
        Downlinks that are about to be processed. Their hand-off numbers are compared, too.

    Raises
    ------
    LedgerError
        In either case. Nothing was changed.
    """
    for cause in site_troubles(settings, {}, downlinks):
        if cause.verdict is Verdict.ACTION:
            raise cause.refused("Nothing was done.", LedgerError)


def _ahead(
    settings: Settings, ledger: Ledger, known: Mapping[DownlinkId, int], downlinks: Iterable[DownlinkId]
) -> Iterator[Cause]:
    """Yield a cause if the working directory lacks hand-offs of the ledger, because it was restored from a backup."""
    work = settings.paths.work
    names = set(names_in(work))  # listed once for all
    lost = {dl for dl in known if dl not in names and paths.receipt(dl) not in names}
    for dl in known.keys() & set(downlinks):
        with suppress(HalfPipeError):  # a damaged record is reported where it is needed
            last = last_hand_off(work, dl)
            lost |= {dl} if last is None or last.number < known[dl] else set()
    if not lost:
        return
    few = sorted(lost)[-MOST_NAMED:]
    yield Cause(
        "restored",
        Verdict.ACTION,
        f"the ledger {ledger.name} has hand-offs of {count(len(lost), 'downlink')} that {work} lacks: "
        f"{', '.join(few)}. The directory was restored from a backup. What was delivered since the backup would be "
        "delivered and submitted again",
        Remedy(
            f"halfpipe ledger remove {' '.join(few)}",
            first="Restore a newer backup. If you have none, roll back in Level-1 what it got since this backup, then",
        ),
    )
