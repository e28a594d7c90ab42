"""Compare the ledger with the files, and say which of the two is behind."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import ColumnElement, Connection, Table, select

from halfpipe.errors import HalfPipeError, LedgerError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.load import loaded, run_row, runs_of
from halfpipe.ledger.rows import Entry, Part, Row, Standing, handed_off, last_receipt, parts_of, read_entry
from halfpipe.ledger.tables import DOWNLINKS, OF_A_DOWNLINK, RUNS, of_downlink
from halfpipe.settings import Settings

LEDGER_BEHIND, FILES_BEHIND, DAMAGED = "ledger is behind", "files are behind", "files cannot be compared"


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
            parts = list(parts_of(work, run).values())
            found += ledger.read(partial(_run, run=run, parts=parts, standing=standing))
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


def _run(connection: Connection, run: RunId, parts: list[Part], standing: Standing) -> list[Finding]:
    expected = [run_row(connection, run, parts, standing)] if parts else []
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
