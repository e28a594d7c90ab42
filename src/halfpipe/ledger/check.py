"""Compare the ledger with the files, and say which of the two is behind."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Table, select

from halfpipe.errors import HalfPipeError, LedgerError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.load import loaded, run_row, runs_of
from halfpipe.ledger.rows import (
    Entry,
    Part,
    Row,
    Standing,
    by_table,
    handed_off,
    last_receipt,
    parts_of,
    read_entry,
)
from halfpipe.ledger.tables import DATAGRAMS, DOWNLINKS, LINKS, OF_A_DOWNLINK, RUNS, SEGMENTS
from halfpipe.settings import Settings

LEDGER_BEHIND, FILES_BEHIND, DAMAGED = "ledger is behind", "files are behind", "files cannot be compared"
ENTRY = {LINKS.name: "runs", SEGMENTS.name: "segments", DATAGRAMS.name: "datagrams"}


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
    HalfPipeError
        As `Standing`.
    """
    work, standing = settings.paths.work, Standing(settings, all_runs=True)
    chosen = sorted(set(wanted) or ledger.read(loaded).keys() | set(handed_off(work)))
    found: list[Finding] = []
    of_them = set(ledger.read(lambda connection: runs_of(connection, chosen)))
    # A transaction for each: while one reads, nobody can write into SQLite, and a mission takes hours.
    for downlink in chosen:
        try:
            entry = read_entry(work, downlink) if last_receipt(work, downlink) is not None else None
        except (HalfPipeError, OSError) as error:
            found.append(Finding(f"downlink {downlink}", DAMAGED, str(error)))
            continue
        found += ledger.read(partial(_downlink, downlink=downlink, entry=entry))
        of_them.update(entry.parts if entry else ())
    for run in sorted(of_them):
        try:
            parts = list(parts_of(work, run).values())
            found += ledger.read(partial(_run, run=run, parts=parts, standing=standing))
        except LedgerError:
            raise
        except (HalfPipeError, OSError) as error:
            found.append(Finding(_name(run), DAMAGED, str(error)))
    return found


def _downlink(connection: Connection, downlink: DownlinkId, entry: Entry | None) -> list[Finding]:
    where = f"downlink {downlink}"
    known = _rows(connection, DOWNLINKS, DOWNLINKS.c.id == downlink.number)
    if entry is None:
        detail = "it was never handed off, and the ledger has nothing of it"
        if known:
            detail = f"it has no receipt: process it, or halfpipe ledger remove {downlink}"
        return [Finding(where, FILES_BEHIND, detail)]
    if not known:
        return [Finding(where, LEDGER_BEHIND, "it was handed off and never loaded")]
    (row,) = known
    if row["handoff"] > entry.row["handoff"]:
        detail = f"the ledger has hand-off {row['handoff']}, the receipt is of {entry.row['handoff']}"
        return [Finding(where, FILES_BEHIND, detail)]
    differences = _differences(entry.row, row)
    files = by_table(entry.parts.values())
    for table in OF_A_DOWNLINK:
        rows = _rows(connection, table, table.c.downlink_id == downlink.number)
        if _sorted(rows) != _sorted(files[table.name]):
            differences.append(f"{ENTRY[table.name]} differ")
    return [Finding(where, LEDGER_BEHIND, "; ".join(differences))] if differences else []


def _run(connection: Connection, run: RunId, parts: list[Part], standing: Standing) -> list[Finding]:
    rows = _rows(connection, RUNS, RUNS.c.startedat == run.met)
    expected = [run_row(connection, run, parts, standing)] if parts else []
    if rows == expected:
        return []
    if not expected:
        detail = "no downlink that was handed off has datagrams of it"
        return [Finding(_name(run), FILES_BEHIND, detail)]
    if len(rows) != 1:
        return [Finding(_name(run), LEDGER_BEHIND, f"{len(rows)} rows of it, expected one")]
    return [Finding(_name(run), LEDGER_BEHIND, "; ".join(_differences(expected[0], rows[0])))]


def _name(run: RunId) -> str:
    return f"run {run} ({run.l1})"


def _differences(files: Mapping[str, Any], ledger: Mapping[str, Any]) -> list[str]:
    return [
        f"{column} {ledger[column]}, in the files {value}"
        for column, value in files.items()
        if ledger[column] != value
    ]


def _rows(connection: Connection, table: Table, of_it: Any) -> list[Row]:
    return [dict(row) for row in connection.execute(select(table).where(of_it)).mappings()]


def _sorted(rows: Iterable[Row]) -> list[list[tuple[str, Any]]]:
    """Order rows for comparison; what may be NULL comes behind the keys, which differ."""
    keys = ("startedat", "apid", "dgmseq0", "datagrams")
    return [sorted(row.items()) for row in sorted(rows, key=lambda row: [row.get(key, 0) for key in keys])]
