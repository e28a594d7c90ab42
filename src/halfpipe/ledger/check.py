"""The ledger against the files: what it lacks of what was entered, and which of the two is behind."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, select

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, LedgerError, Remedy
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.database import FOREIGN, Ledger
from halfpipe.ledger.load import loaded, runs_of
from halfpipe.ledger.rows import Entry, Part, Row, handed_off, last_receipt, parts_of, read_entry, run_row
from halfpipe.ledger.tables import DOWNLINKS, OF_A_DOWNLINK, RUNS, of_downlink
from halfpipe.settings import BUILT_IN, Settings
from halfpipe.words import count

LEDGER_BEHIND, FILES_BEHIND, DAMAGED = "ledger is behind", "files are behind", "files cannot be compared"
MOST_NAMED = 10  # downlinks that a cause names, the last ones


@dataclass(frozen=True)
class Finding:
    """A difference in one downlink or run, and which side is behind."""

    where: str
    behind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.behind} ({self.detail})"


def check(ledger: Ledger, settings: Settings, wanted: Iterable[DownlinkId] = ()) -> list[Finding]:
    """Compare rows of downlinks and of their runs with what the files say; an empty list if they agree.

    Parameters
    ----------
    ledger, settings
        As for `load`.
    wanted
        Downlinks; none, every one that the files or the ledger have.

    Raises
    ------
    LedgerError
        If the database cannot be read. What is wrong with files is a finding.
    """
    work = settings.paths.work
    chosen = sorted(set(wanted) or ledger.read(loaded).keys() | set(handed_off(work)))
    found: list[Finding] = []
    of_them = set(ledger.read(lambda connection: runs_of(connection, chosen)))
    # A transaction for each: while one reads, nobody can write into SQLite, and a mission takes hours.
    for item in chosen:
        try:
            entry = read_entry(work, item) if last_receipt(work, item) is not None else None
        except (HalfPipeError, OSError) as error:
            found.append(Finding(f"downlink {item}", DAMAGED, str(error)))
            continue
        found += ledger.read(partial(_downlink, downlink=item, entry=entry))
        of_them.update(entry.parts if entry else ())
    for run in sorted(of_them):
        try:
            parts = parts_of(work, run)
            found += ledger.read(partial(_run, run=run, parts=parts, settings=settings))
        except LedgerError:
            raise
        except (HalfPipeError, OSError) as error:
            found.append(Finding(_name(run), DAMAGED, str(error)))
    return found


def _downlink(connection: Connection, downlink: DownlinkId, entry: Entry | None) -> list[Finding]:
    where, which = f"downlink {downlink}", of_downlink(DOWNLINKS, downlink)
    has = connection.execute(select(DOWNLINKS.c.handoff).where(which)).scalar()
    if entry is None:
        remedy = f"process it, or halfpipe ledger remove {downlink}"
        return [Finding(where, FILES_BEHIND, f"it has no receipt: {remedy}")]
    if has is not None and has > entry.row["handoff"]:
        detail = f"the ledger has hand-off {has}, the receipt is of {entry.row['handoff']}"
        return [Finding(where, FILES_BEHIND, detail)]
    rows = entry.rows()
    differences = [
        each
        for table in (DOWNLINKS, *OF_A_DOWNLINK)
        for each in _differences(connection, table, of_downlink(table, downlink), rows[table.name])
    ]
    return [Finding(where, LEDGER_BEHIND, "; ".join(differences))] if differences else []


def _run(connection: Connection, run: RunId, parts: list[Part], settings: Settings) -> list[Finding]:
    expected = [run_row(connection, run, parts, settings)] if parts else []
    differences = _differences(connection, RUNS, RUNS.c.startedat == run.met, expected)
    behind = LEDGER_BEHIND if parts else FILES_BEHIND
    return [Finding(_name(run), behind, "; ".join(differences))] if differences else []


def _name(run: RunId) -> str:
    return f"run {run} ({run.l1})"


def _differences(
    connection: Connection, table: Table, which: ColumnElement[bool], files: list[Row]
) -> list[str]:
    """Say how the rows of a table differ from those that files give: of a single row column by column."""
    ledger = [dict(row) for row in connection.execute(select(table).where(which)).mappings()]
    if len(ledger) == len(files) == 1:
        return [
            f"{column} {ledger[0][column]}, in the files {value}"
            for column, value in files[0].items()
            if ledger[0][column] != value
        ]
    for rows in (ledger, files):
        rows.sort(key=lambda row: [row[column.name] for column in table.primary_key])
    return [] if ledger == files else [f"{table.name} has {len(ledger)} rows, the files {len(files)}"]


def lacks(settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any]) -> Cause | None:
    """Return which rows of a hand-off the ledger lacks, that Level-1 looks for; None if it has them all.

    Parameters
    ----------
    settings, downlink
        The settings, which have a ledger, and the downlink.
    receipt
        Its receipt: each run with event files needs a row.

    Raises
    ------
    ConfigError, LedgerError
        If the ledger cannot be reached or used.
    """
    ledger = Ledger.of(settings)
    runs = [RunId(run["run"]) for run in receipt["runs"] if run["files"]]

    def missing(connection: Connection) -> list[str]:
        of_it = select(DOWNLINKS.c.handoff).where(of_downlink(DOWNLINKS, downlink))
        has, wanted = connection.execute(of_it).scalar(), receipt["handoff"]
        found = [] if has == wanted else [f"hand-off {wanted}, it has {has or 'none'}"]
        rows = {run: select(RUNS.c.scid).where(RUNS.c.startedat == run.met) for run in runs}
        return found + [_name(run) for run, row in rows.items() if connection.execute(row).first() is None]

    if not (found := ledger.read_if_there(missing, ["all rows, there is none"])):
        return None
    text = f"the ledger {ledger.name} lacks {', '.join(found)}, so Level-1 would fail on downlink {downlink}"
    return Cause("ledger-lacks", Verdict.ACTION, text, Remedy(f"halfpipe ledger load {downlink}"))


def site_troubles(
    settings: Settings, downlinks: Iterable[DownlinkId], compared: Iterable[DownlinkId] = ()
) -> Iterator[Cause]:
    """Find downlinks that were entered and that the ledger has no more: one question for all of them.

    Parameters
    ----------
    settings
        The settings, which have a ledger.
    downlinks
        Those that are looked at; what vouches for one that was entered is ``{dl}/ledger.json``.
    compared
        Those of which the numbers of the hand-offs are compared, too.

    Yields
    ------
    Cause
        ``ledger-lacks``, ``ledger-down``, ``ledger-foreign``, ``work-restored``.
    """
    work = settings.paths.work
    entered = {dl for dl in downlinks if os.path.exists(f"{work}/{paths.loaded(dl)}")}  # noqa: PTH110 - of them all
    if not entered and settings.ledger.url == BUILT_IN:
        return
    try:
        ledger = Ledger.of(settings, waits=())
        known = ledger.read_if_there(loaded, dict[DownlinkId, int]())
    except HalfPipeError as error:
        if error.code == FOREIGN:
            yield Cause(FOREIGN, Verdict.ACTION, error.text.rstrip("."), error.remedy)
        else:
            yield Cause("ledger-down", Verdict.NOTE, str(error), Remedy("halfpipe ledger check"))
        return
    yield from _ahead(settings, ledger, known, compared)
    if lost := sorted(entered - known.keys()):
        do = f"halfpipe ledger load {lost[0]}" if len(lost) == 1 else "halfpipe ledger rebuild"
        few = f"{count(len(lost), 'downlink')} ({', '.join(lost[-MOST_NAMED:])})"
        text = f"the ledger {ledger.name} has lost {few}, so Level-1 finds no row of their runs"
        yield Cause("ledger-lacks", Verdict.ACTION, text, Remedy(do))


def refuse_delivery(settings: Settings, downlinks: Iterable[DownlinkId]) -> None:
    """Refuse a ledger that another working directory uses, and a working directory that lacks what the ledger knows.

    A database that is down is passed over, for no hand-off waits for one. Of the built-in ledger, which lies in the
    working directory, nobody asks.

    Parameters
    ----------
    settings
        The settings, which have a ledger that is not the built-in one.
    downlinks
        Those that are about to be processed: of them the numbers of the hand-offs are compared, too.

    Raises
    ------
    LedgerError
        If it is so; nothing was changed.
    """
    for cause in site_troubles(settings, (), downlinks):
        if cause.verdict is Verdict.ACTION:
            raise cause.refused("Nothing was done.", LedgerError)


def _ahead(
    settings: Settings, ledger: Ledger, known: Mapping[DownlinkId, int], downlinks: Iterable[DownlinkId]
) -> Iterator[Cause]:
    """Yield that the ledger has hand-offs that the working directory lacks: it was put back from a backup."""
    work = settings.paths.work
    names = set(os.listdir(work))  # noqa: PTH208 - one look for all
    lost = {dl for dl in known if dl not in names and paths.receipt(dl) not in names}
    for dl in known.keys() & set(downlinks):
        with suppress(HalfPipeError):  # whoever reads it says what is wrong
            receipt = last_receipt(work, dl)
            lost |= {dl} if receipt is None or receipt["handoff"] < known[dl] else set()
    if not lost:
        return
    few = sorted(lost)[-MOST_NAMED:]
    yield Cause(
        "work-restored",
        Verdict.ACTION,
        f"the ledger {ledger.name} has hand-offs of {count(len(lost), 'downlink')} that {work} lacks: "
        f"{', '.join(few)}. It was put back from a backup, and what was delivered since would be delivered and "
        "submitted again",
        Remedy(
            f"halfpipe ledger remove {' '.join(few)}",
            first="put a newer backup in its place. If there is none: roll back in Level-1 what it got since then, and "
            "when it has nothing of it any more",
        ),
    )
