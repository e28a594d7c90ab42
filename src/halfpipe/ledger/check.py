"""Compare the ledger with the files, and say which of the two is behind."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, select

from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.brought import (
    Brought,
    Row,
    Rule,
    by_table,
    downlinks,
    parts_of,
    read_brought,
    read_receipt,
)
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.load import loaded, run_row, runs_of
from halfpipe.ledger.tables import DATAGRAMS, DOWNLINKS, LINKS, OF_A_DOWNLINK, RUNS, SEGMENTS

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


def check(
    ledger: Ledger, work: Path, rule: Rule, wanted: Iterable[DownlinkId] = (), runs: Iterable[RunId] = ()
) -> list[Finding]:
    """Compare rows of downlinks and of their runs with what the files say; an empty list if they agree.

    Parameters
    ----------
    ledger, work, rule
        As for `load`.
    wanted
        Downlinks; none, every one that the files or the ledger have.
    runs
        Runs to look at besides those of the downlinks.

    Raises
    ------
    LedgerError
        If the database cannot be read. What is wrong with files is a finding.
    """

    def compare(connection: Connection) -> list[Finding]:
        known = loaded(connection)
        chosen = sorted(set(wanted) or known | set(downlinks(work)))
        found: list[Finding] = []
        of_them = {*runs, *runs_of(connection, chosen)}
        for downlink in chosen:
            try:
                brought = read_brought(work, downlink) if read_receipt(work, downlink) is not None else None
            except (HalfPipeError, OSError) as error:
                found.append(Finding(f"downlink {downlink}", DAMAGED, str(error)))
                continue
            found += _downlink(connection, downlink, brought, known)
            of_them.update(brought.parts if brought else ())
        for run in sorted(of_them):
            found += _run(connection, work, run, rule)
        return found

    return ledger.read(compare)


def _downlink(
    connection: Connection, downlink: DownlinkId, brought: Brought | None, known: set[DownlinkId]
) -> Iterator[Finding]:
    where = f"downlink {downlink}"
    if brought is None:
        if downlink in known:
            detail = f"it has no receipt: process it, or scripts/ledger.py remove {downlink}"
            yield Finding(where, FILES_BEHIND, detail)
        else:
            yield Finding(where, FILES_BEHIND, "it was never handed off, and the ledger has nothing of it")
        return
    if downlink not in known:
        yield Finding(where, LEDGER_BEHIND, "it was handed off and never loaded")
        return
    (row,) = _rows(connection, DOWNLINKS, DOWNLINKS.c.id == downlink.number)
    if row["handoff"] > brought.row["handoff"]:
        detail = f"the ledger has hand-off {row['handoff']}, the receipt is of {brought.row['handoff']}"
        yield Finding(where, FILES_BEHIND, detail)
        return
    differences = _differences(brought.row, row)
    files = by_table(brought.parts.values())
    for table in OF_A_DOWNLINK:
        rows = _rows(connection, table, table.c.downlink_id == downlink.number)
        if _sorted(rows) != _sorted(files[table.name]):
            differences.append(f"{ENTRY[table.name]} differ")
    if differences:
        yield Finding(where, LEDGER_BEHIND, "; ".join(differences))


def _run(connection: Connection, work: Path, run: RunId, rule: Rule) -> Iterator[Finding]:
    where = f"run {run} ({run.l1})"
    rows = _rows(connection, RUNS, RUNS.c.startedat == run.met)
    try:
        parts = list(parts_of(work, run).values())
        expected = [run_row(connection, run, parts, rule)] if parts else []
    except (HalfPipeError, OSError) as error:
        yield Finding(where, DAMAGED, str(error))
        return
    if rows == expected:
        return
    if not expected:
        yield Finding(where, FILES_BEHIND, "no downlink that was handed off has datagrams of it")
    elif len(rows) != 1:
        yield Finding(where, LEDGER_BEHIND, f"{len(rows)} rows of it, expected one")
    else:
        yield Finding(where, LEDGER_BEHIND, "; ".join(_differences(expected[0], rows[0])))


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
