"""The legacy's tables, and a stand-in for the program that fills them, here with SIMULATED downlinks.

Names, types and keys are those of the legacy's AcqSummary.py (ground-chain §10), with Oracle's integers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    TIMESTAMP,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    MetaData,
    Numeric,
    String,
    Table,
    create_engine,
    delete,
    insert,
    select,
    text,
)
from sqlalchemy.pool import NullPool

from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.adopt import Answer, read_as_level1
from halfpipe.ledger.tables import time_of
from halfpipe.merge.settle import KnownDatagrams
from tests.support.ledger_files import SCID, Database, Datagram

INTEGER = Numeric(38, 0)
WORDS = ("modename", "oaction", "oreason", "caction", "creason", "platform", "origin")
METADATA = MetaData()

Brought = Mapping[RunId, Sequence[Sequence[Datagram]]]  # chunks of each run
Content = dict[str, list[dict[str, Any]]]


def _numbers(*names: str, **options: Any) -> list[Column[Any]]:
    return [Column(name, INTEGER, **options) for name in names]


def _times(*names: str) -> list[Column[Any]]:
    return [Column(name, TIMESTAMP) for name in names]


def _downlink(**options: Any) -> Column[Any]:
    return Column("downlink_id", INTEGER, ForeignKey("glastops_downlink.id", ondelete="CASCADE"), **options)


def _to(table: str, columns: Sequence[str], others: Sequence[str]) -> ForeignKeyConstraint:
    return ForeignKeyConstraint(columns, [f"{table}.{other}" for other in others])


DOWNLINK = Table(
    "glastops_downlink", METADATA, *_numbers("id", primary_key=True, autoincrement=False), *_numbers("l0key"),
    Column("indir", String(256)), Column("outbase", String(256)),
)  # fmt: skip
ACQSUMMARY = Table(
    "glastops_acqsummary", METADATA, *_numbers("scid", "startedat", primary_key=True, autoincrement=False),
    Column("type", String(16), CheckConstraint("type in ('LPA', 'LCI')")), Column("analysis", String(64)),
    Column("status", String(16), CheckConstraint("status in ('InProgress', 'Complete', 'Incomplete')")),
    *_numbers("ndgms", "nevts"), *_times("dgmutc0", "dgmutc1", "evtutc0", "evtutc1"),
    *_numbers("hwkey", "swkey", "moot_key"), Column("moot_alias", String(64)),
)  # fmt: skip
DGM = Table(
    "glastops_downlink_dgm", METADATA, _downlink(), *_numbers("startedat", primary_key=True, autoincrement=False),
    *_times("utc"), *_numbers("scid", "apid", "datagrams", primary_key=True, autoincrement=False),
    *_numbers("groundid", "modechanges"), *(Column(name, String(16)) for name in WORDS),
    *_times("evtutc0"), *_numbers("evtseq0"), *_times("evtutc1"), *_numbers("evtseq1", "nevts", "hwkey", "swkey"),
)  # fmt: skip
SEG_KEY = ("scid", "startedat", "apid", "dgmseq0")
DGM_KEY = ("scid", "startedat", "apid", "datagrams")
SEG = Table(
    "glastops_downlink_seg", METADATA, *_numbers("scid", "startedat", "apid", primary_key=True, autoincrement=False),
    *_numbers("nevts"), *_numbers("dgmseq0", primary_key=True, autoincrement=False),
    *_numbers("dgmseq1", nullable=False), _downlink(),
    _to("glastops_downlink_dgm", SEG_KEY, DGM_KEY),
    _to("glastops_downlink_dgm", (*SEG_KEY[:3], "dgmseq1"), DGM_KEY),
)  # fmt: skip
LINK = Table(
    "glastops_downlink_acqsummary", METADATA, _downlink(primary_key=True),
    *_numbers("scid", "startedat", primary_key=True, autoincrement=False),
    _to("glastops_acqsummary", ("scid", "startedat"), ("scid", "startedat")),
)  # fmt: skip


class LegacyLedger:
    """The legacy's tables in a database."""

    def __init__(self, database: Database) -> None:
        self.engine = create_engine(database.url, poolclass=NullPool)

    def load(self, downlink: DownlinkId, brought: Brought) -> None:
        """Enter a downlink: each chunk becomes a segment, with its first and last datagrams only."""
        with self.engine.begin() as connection:
            METADATA.create_all(connection)
            self._forget(connection, downlink.number)
            where = {"indir": f"/u42/{downlink}", "outbase": "/u42"}
            connection.execute(insert(DOWNLINK), [{"id": downlink.number, "l0key": 1234567, **where}])
            for run, chunks in brought.items():
                for chunk in chunks:
                    self._enter(connection, downlink.number, run, chunk)
                self._summarize(connection, run)
                connection.execute(
                    insert(LINK), [{"downlink_id": downlink.number, "scid": SCID, "startedat": run.met}]
                )

    def _forget(self, connection: Connection, number: int) -> None:
        for table in (LINK, SEG, DGM):
            connection.execute(delete(table).where(table.c.downlink_id == number))
        connection.execute(delete(DOWNLINK).where(DOWNLINK.c.id == number))

    def _enter(self, connection: Connection, number: int, run: RunId, chunk: Sequence[Datagram]) -> None:
        rows = KnownDatagrams.of([datagram.line(run) for datagram in chunk]).rows
        key = {"scid": SCID, "startedat": run.met, "apid": int(rows["apid"][0]), "downlink_id": number}
        for row in (rows[0], rows[-1])[: len(rows)]:
            values = {
                name: int(row[name]) for name in ("groundid", "modechanges", "evtseq0", "evtseq1", "nevts")
            }
            values |= {name: int(row[name]) for name in ("hwkey", "swkey")}
            times = {name: time_of(row[name]) for name in ("utc", "evtutc0", "evtutc1")}
            words = {name: row[name].decode() for name in WORDS}
            datagram = key | {"datagrams": int(row["datagram"])} | values | times | words
            connection.execute(insert(DGM), [datagram])
        ends = {"dgmseq0": int(rows["datagram"][0]), "dgmseq1": int(rows["datagram"][-1])}
        connection.execute(insert(SEG), [key | ends | {"nevts": int(rows["nevts"].sum())}])

    def _summarize(self, connection: Connection, run: RunId) -> None:
        segments = connection.execute(select(SEG).where(SEG.c.startedat == run.met)).mappings().all()
        ends = {
            (int(row["apid"]), int(row["datagrams"])): row
            for row in connection.execute(select(DGM).where(DGM.c.startedat == run.met)).mappings()
        }
        parts = sorted((int(s["apid"]), int(s["dgmseq0"]), int(s["dgmseq1"])) for s in segments)
        firsts = [ends[apid, first] for apid, first, _ in parts]
        lasts = [ends[apid, last] for apid, _, last in parts]
        complete = True
        for apid in {apid for apid, _, _ in parts}:
            own = [(first, last) for each, first, last in parts if each == apid]
            whole = sum(last - first + 1 for first, last in own) == own[-1][1] - own[0][0] + 1
            starts, stops = ends[apid, own[0][0]]["oaction"], ends[apid, own[-1][1]]["caction"]
            complete &= whole and starts == "start" and stops in {"stop", "abort", "pause"}
        row = {
            "scid": SCID, "startedat": run.met, "type": "LCI" if parts[0][0] == 965 else "LPA", "analysis": None,
            "status": "Complete" if complete else "InProgress",
            "ndgms": sum(last - first + 1 for _, first, last in parts),
            "nevts": sum(int(s["nevts"]) for s in segments),
            "dgmutc0": min(r["utc"] for r in firsts), "dgmutc1": max(r["utc"] for r in lasts),
            "evtutc0": min(r["evtutc0"] for r in firsts), "evtutc1": max(r["evtutc1"] for r in lasts),
            "hwkey": firsts[0]["hwkey"], "swkey": firsts[0]["swkey"], "moot_key": 2959, "moot_alias": "nomSciOps",
        }  # fmt: skip
        same = (ACQSUMMARY.c.scid == SCID) & (ACQSUMMARY.c.startedat == run.met)
        if not connection.execute(ACQSUMMARY.update().where(same).values(row)).rowcount:
            connection.execute(insert(ACQSUMMARY), [row])

    def content(self) -> Content:
        """Return all rows of all tables of the database, whatever their names."""
        found: Content = {}
        with self.engine.connect() as connection:
            tables = MetaData()
            tables.reflect(connection)
            for name, table in tables.tables.items():
                rows = (dict(row) for row in connection.execute(select(table)).mappings())
                found[name] = sorted(rows, key=str)
        return found

    def level1(self, *runs: RunId, user: str = "") -> dict[int, list[Answer]]:
        """Return what Level-1's query finds, as the role `user` if given."""
        with self.engine.connect() as connection:
            if user:
                connection.execute(text(f"SET ROLE {user}"))
            every = read_as_level1(connection, [run.met for run in runs])
        return {run.met: found for run in runs if (found := [row[1:] for row in every if row[0] == run.met])}
