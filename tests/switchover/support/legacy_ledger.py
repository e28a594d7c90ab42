"""The legacy's tables, and a stand-in for the program that fills them, here with SIMULATED downlinks.

Names, types and keys are those of the legacy's AcqSummary.py (ground-chain §10), with Oracle's integers.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, MetaData, Table, create_engine, select, text
from sqlalchemy.pool import NullPool

from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.tables import time_of
from halfpipe.merge.settle import KnownDatagrams
from halfpipe_switchover.adopt import Answer, read_as_level1
from tests.support.ledger_files import SCID, Database, Datagram

N, DGM, SEG = "NUMERIC(38)", "glastops_downlink_dgm", "glastops_downlink_seg"
OF_DOWNLINK = f"downlink_id {N} REFERENCES glastops_downlink (id) ON DELETE CASCADE"
OF_DATAGRAM = f"REFERENCES {DGM} (scid, startedat, apid, datagrams)"
TABLES = {
    "glastops_downlink": f"id {N} PRIMARY KEY, l0key {N}, indir VARCHAR(256), outbase VARCHAR(256)",
    "glastops_acqsummary": f"""scid {N}, startedat {N}, type VARCHAR(16) CHECK (type IN ('LPA', 'LCI')),
        analysis VARCHAR(64), status VARCHAR(16) CHECK (status IN ('InProgress', 'Complete', 'Incomplete')),
        ndgms {N}, nevts {N}, dgmutc0 TIMESTAMP, dgmutc1 TIMESTAMP, evtutc0 TIMESTAMP, evtutc1 TIMESTAMP,
        hwkey {N}, swkey {N}, moot_key {N}, moot_alias VARCHAR(64), PRIMARY KEY (scid, startedat)""",
    DGM: f"""{OF_DOWNLINK}, startedat {N}, utc TIMESTAMP, scid {N}, apid {N}, datagrams {N}, groundid {N},
        modechanges {N}, modename VARCHAR(16), oaction VARCHAR(16), oreason VARCHAR(16), caction VARCHAR(16),
        creason VARCHAR(16), platform VARCHAR(16), origin VARCHAR(16), evtutc0 TIMESTAMP, evtseq0 {N},
        evtutc1 TIMESTAMP, evtseq1 {N}, nevts {N}, hwkey {N}, swkey {N},
        PRIMARY KEY (startedat, scid, apid, datagrams)""",
    SEG: f"""scid {N}, startedat {N}, apid {N}, nevts {N}, dgmseq0 {N}, dgmseq1 {N} NOT NULL, {OF_DOWNLINK},
        PRIMARY KEY (scid, startedat, apid, dgmseq0), FOREIGN KEY (scid, startedat, apid, dgmseq0) {OF_DATAGRAM},
        FOREIGN KEY (scid, startedat, apid, dgmseq1) {OF_DATAGRAM}""",
    "glastops_downlink_acqsummary": f"""{OF_DOWNLINK}, scid {N}, startedat {N},
        PRIMARY KEY (downlink_id, scid, startedat),
        FOREIGN KEY (scid, startedat) REFERENCES glastops_acqsummary (scid, startedat)""",
}

Brought = Mapping[RunId, Sequence[Sequence[Datagram]]]  # chunks of each run
Content = dict[str, list[dict[str, Any]]]


def tables_of(connection: Connection) -> Mapping[str, Table]:
    """Return all tables of a database, whatever their names."""
    found = MetaData()
    found.reflect(connection)
    return found.tables


def of_row(row: np.void, name: str) -> int | str | datetime | None:
    """Return a field of an index's line as the ledger has it."""
    if "utc" in name:
        return time_of(row[name])
    return row[name].decode() if isinstance(row[name], bytes) else int(row[name])


class LegacyLedger:
    """The legacy's tables in a database."""

    def __init__(self, database: Database) -> None:
        self.engine = create_engine(database.url, poolclass=NullPool)

    def load(self, downlink: DownlinkId, brought: Brought) -> None:
        """Enter a downlink: each chunk becomes a segment, with its first and last datagrams only."""
        number = downlink.number
        with self.engine.begin() as connection:
            for name, columns in TABLES.items():
                connection.execute(text(f"CREATE TABLE IF NOT EXISTS {name} ({columns})"))
            tables = [tables_of(connection)[name] for name in TABLES]
            downlinks, _, datagrams, segments, links = tables
            for table in (links, segments, datagrams):
                connection.execute(table.delete().where(table.c.downlink_id == number))
            connection.execute(downlinks.delete().where(downlinks.c.id == number))
            where = {"indir": f"/u42/{downlink}", "outbase": "/u42"}
            connection.execute(downlinks.insert(), [{"id": number, "l0key": 1234567, **where}])
            for run, chunks in brought.items():
                for chunk in chunks:
                    rows = KnownDatagrams.of([datagram.line(run) for datagram in chunk]).rows
                    key = {
                        "scid": SCID,
                        "startedat": run.met,
                        "apid": int(rows["apid"][0]),
                        "downlink_id": number,
                    }
                    names = {column.name for column in datagrams.c} & set(rows.dtype.names or ()) - key.keys()
                    for row in rows.view(np.ndarray)[[0, -1][: len(rows)]]:
                        values = {name: of_row(row, name) for name in names}
                        connection.execute(
                            datagrams.insert(), [key | values | {"datagrams": int(row["datagram"])}]
                        )
                    first, last = rows["datagram"][[0, -1]].tolist()
                    ends = {"dgmseq0": first, "dgmseq1": last, "nevts": int(rows["nevts"].sum())}
                    connection.execute(segments.insert(), [key | ends])
                self._summarize(connection, run, tables)
                link = {"downlink_id": number, "scid": SCID, "startedat": run.met}
                connection.execute(links.insert(), [link])

    def _summarize(self, connection: Connection, run: RunId, tables: Sequence[Table]) -> None:
        _, runs, datagrams, segments, _ = tables
        found, ends = (
            connection.execute(select(table).where(table.c.startedat == run.met)).mappings().all()
            for table in (segments, datagrams)
        )
        by_key = {(int(row["apid"]), int(row["datagrams"])): row for row in ends}
        parts = sorted((int(s["apid"]), int(s["dgmseq0"]), int(s["dgmseq1"])) for s in found)
        firsts = [by_key[apid, first] for apid, first, _ in parts]
        lasts = [by_key[apid, last] for apid, _, last in parts]
        complete = True
        for apid in {apid for apid, _, _ in parts}:
            own = [(first, last) for each, first, last in parts if each == apid]
            whole = sum(last - first + 1 for first, last in own) == own[-1][1] - own[0][0] + 1
            starts, stops = by_key[apid, own[0][0]]["oaction"], by_key[apid, own[-1][1]]["caction"]
            complete &= whole and starts == "start" and stops in {"stop", "abort", "pause"}
        row = {
            "scid": SCID, "startedat": run.met, "type": "LCI" if parts[0][0] == 965 else "LPA", "analysis": None,
            "status": "Complete" if complete else "InProgress",
            "ndgms": sum(last - first + 1 for _, first, last in parts), "nevts": sum(int(s["nevts"]) for s in found),
            "dgmutc0": min(r["utc"] for r in firsts), "dgmutc1": max(r["utc"] for r in lasts),
            "evtutc0": min(r["evtutc0"] for r in firsts), "evtutc1": max(r["evtutc1"] for r in lasts),
            "hwkey": firsts[0]["hwkey"], "swkey": firsts[0]["swkey"], "moot_key": 2959, "moot_alias": "nomSciOps",
        }  # fmt: skip
        same = (runs.c.scid == SCID) & (runs.c.startedat == run.met)
        if not connection.execute(runs.update().where(same).values(row)).rowcount:
            connection.execute(runs.insert(), [row])

    def content(self) -> Content:
        """Return all rows of all tables of the database, whatever their names."""
        with self.engine.connect() as connection:
            return {
                name: sorted((dict(row) for row in connection.execute(select(table)).mappings()), key=str)
                for name, table in tables_of(connection).items()
            }

    def level1(self, *runs: RunId, user: str = "") -> dict[int, list[Answer]]:
        """Return what Level-1's query finds, as the role `user` if given."""
        with self.engine.connect() as connection:
            if user:
                connection.execute(text(f"SET ROLE {user}"))
            every = read_as_level1(connection, [run.met for run in runs])
        return {run.met: found for run in runs if (found := [row[1:] for row in every if row[0] == run.met])}
