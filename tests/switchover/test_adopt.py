"""The legacy's tables are adopted, used for a month, and given back. Level-1 finds the legacy's runs all the time."""

import itertools
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.dialects import oracle
from sqlalchemy.exc import IntegrityError

from halfpipe.errors import LedgerError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.check import check, refuse_delivery
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.load import load, rebuild, remove
from halfpipe.ledger.tables import METADATA, OURS, SHARED, former_name
from halfpipe_switchover import adopt as adopt_module
from halfpipe_switchover.adopt import adopt, adoption, readers, way_back
from tests.support.ledger_files import Database, Datagram, process, run_rows, settings_of, whole
from tests.switchover.support.legacy_ledger import LegacyLedger

OLD, ONE, TWO, THREE, FOUR = (DownlinkId(f"24060100{n}") for n in range(5))
DONE, OPEN, NEXT = RunId("2c2e5787"), RunId("2c2e8000"), RunId("2c2ea000")
EPU0, EPU1 = whole(956, 6), whole(957, 6)
NAMES = {table.name: former_name(table) for table in SHARED}


@pytest.fixture
def legacy(database: Database) -> LegacyLedger:
    """Return the legacy's tables with a complete run and an incomplete one, of three downlinks."""
    made = LegacyLedger(database)
    made.load(OLD, {DONE: [EPU0]})
    made.load(ONE, {DONE: [EPU1[:3]], OPEN: [EPU0[:2]]})
    made.load(TWO, {DONE: [EPU1[3:]], OPEN: [EPU0[2:4], EPU1[:3]]})
    return made


def status(ledger: Ledger, run: RunId) -> tuple[str, int, int]:
    row = run_rows(ledger)[run]
    return row["status"], row["ndgms"], row["nevts"]


def test_adopt_for_a_month_and_go_back(legacy: LegacyLedger, database: Database, tmp_path: Path) -> None:
    ledger, settings = database.ledger(()), database.of(settings_of(tmp_path))
    before, answers = legacy.content(), legacy.level1(DONE, OPEN, NEXT)
    assert [rows[0][0] for rows in answers.values()] == ["Complete", "InProgress"]
    process(tmp_path, TWO, {OPEN: [*EPU0[:4], *EPU1[:3]]})
    with pytest.raises(LedgerError, match="halfpipe_lock"):
        load(ledger, settings, TWO)

    seen = adopt(ledger)
    assert (seen.problems, seen.done) == ((), False)
    assert {each.name: each.rows for each in seen.tables} == {name: len(before[name]) for name in NAMES}
    assert legacy.content() == before, "without do nothing changes"

    assert adopt(ledger, do=True).compared == 2
    adopted = legacy.content()
    assert {old: adopted[new] for old, new in NAMES.items()} == before
    assert {name: len(adopted[name]) for name in NAMES} == {name: len(rows) for name, rows in before.items()}
    assert adopted["glastops_acqsummary"] == before["glastops_acqsummary"]
    assert legacy.level1(DONE, OPEN, NEXT) == answers
    with pytest.raises(LedgerError) as caught:
        adopt(ledger, do=True)
    assert caught.value.remedy.do == (), "going back would drop runs that only HalfPipe has"
    with pytest.raises(IntegrityError):
        legacy.load(THREE, {NEXT: [EPU0]})  # the legacy's program cannot write any more

    # A takeover knows the open run, only spans of the other run, and nothing of the oldest downlink.
    assert check(ledger, settings) != []
    process(tmp_path, ONE, {OPEN: EPU0[:2]})
    for downlink in (ONE, TWO):
        load(ledger, settings, downlink)
    assert legacy.level1(DONE, OPEN, NEXT).keys() == answers.keys()
    assert status(ledger, OPEN) == ("InProgress", 7, 70)
    process(tmp_path, THREE, {OPEN: [*EPU0[4:], *EPU1[3:]]}, into=ledger)
    assert status(ledger, OPEN) == ("Complete", 12, 120)
    before_late = run_rows(ledger)
    process(tmp_path, FOUR, {DONE: [Datagram(958, 0, utc=1.8e9)], NEXT: whole(965, 2)}, into=ledger)
    late, was = run_rows(ledger)[DONE], before_late[DONE]
    assert late == was | {"dgmutc1": late["dgmutc1"], "evtutc1": late["evtutc1"]}
    assert late["evtutc1"] > was["evtutc1"]
    assert status(ledger, NEXT) == ("Complete", 2, 20)
    month = run_rows(ledger)
    refuse_delivery(settings, [ONE, TWO, THREE, FOUR])
    assert check(ledger, settings) == []
    assert rebuild(ledger, settings) == 4
    remove(ledger, settings, FOUR)
    assert run_rows(ledger) == before_late
    load(ledger, settings, FOUR)
    assert run_rows(ledger) == month

    assert (adopt(ledger, back=True).done, run_rows(ledger)) == (False, month)
    adopt(ledger, back=True, do=True)
    back = legacy.content()
    assert {name: back.get(name) for name in before} == before
    assert not {table.name for table in OURS} - set(before) & set(back)
    assert legacy.level1(DONE, OPEN, NEXT) == answers

    # The legacy processes the month again, and a second switch finds its rows.
    legacy.load(THREE, {OPEN: [EPU0[4:], EPU1[3:]], NEXT: [whole(965, 2)]})
    answers = legacy.level1(DONE, OPEN, NEXT)
    assert answers[OPEN.met][0][0] == "Complete"
    adopt(ledger, do=True)
    assert legacy.level1(DONE, OPEN, NEXT) == answers


def test_a_refused_late_part_keeps_level1_from_retiring_the_run(
    legacy: LegacyLedger, database: Database, tmp_path: Path
) -> None:
    ledger = database.ledger(())
    adopt(ledger, do=True)
    process(tmp_path, FOUR, {DONE: [Datagram(958, 0)]}, refused=[DONE], into=ledger)
    assert status(ledger, DONE)[0] == "InProgress"
    process(tmp_path, FOUR, {DONE: [Datagram(958, 0)]}, handoff=2, into=ledger)
    assert status(ledger, DONE)[0] == "Complete"


@pytest.mark.parametrize(
    ("table", "column", "becomes"),
    [
        ("acqsummary", "moot_alias", None), ("acqsummary", "status", "INTEGER"), ("acqsummary", "evtutc0", "INTEGER"),
        ("downlink", "l0key", "VARCHAR(9)"), ("downlink", "indir", "VARCHAR(2000)"), ("downlink", "record", "INTEGER"),
        ("downlink_seg", "downlink_id", None), ("downlink_acqsummary", "", None),
    ],
)  # fmt: skip
def test_a_column_that_does_not_fit_is_named_and_nothing_is_done(
    legacy: LegacyLedger, database: Database, table: str, column: str, becomes: str | None
) -> None:
    name = f"glastops_{table}"
    if not column:
        database.by_others(f"DROP TABLE {name}")
    elif column != "record":
        # SQLite does not drop a column that a constraint names.
        database.by_others(f"ALTER TABLE {name} RENAME COLUMN {column} TO other")
    if becomes:
        database.by_others(f"ALTER TABLE {name} ADD COLUMN {column} {becomes}")
    before = legacy.content()
    found = adopt(database.ledger(()), do=True)
    ((place, why),) = (each.split(": ") for each in found.problems)
    assert (place, why == "missing") == (f"{name}.{column}".rstrip("."), becomes is None)
    assert not found.done
    assert legacy.content() == before


def test_an_adoption_that_would_lose_rows_changes_nothing(
    legacy: LegacyLedger, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = legacy.content()
    monkeypatch.setattr(adopt_module, "_copy", lambda table: text(f"DELETE FROM {table.name}"))
    with pytest.raises(LedgerError, match="glastops_downlink has 0 rows"):
        adopt(database.ledger(()), do=True)
    assert legacy.content() == before
    monkeypatch.undo()
    adopt(database.ledger(()), do=True)
    database.by_others("DELETE FROM halfpipe_lock")
    with pytest.raises(LedgerError, match="cut off") as cut:
        adopt(database.ledger(()), do=True)
    assert cut.value.remedy.do == ("halfpipe adopt --undo --do", "halfpipe adopt --do")


def test_a_column_that_only_the_legacy_has_stays_with_its_table(
    legacy: LegacyLedger, database: Database
) -> None:
    database.by_others(
        "ALTER TABLE glastops_acqsummary ADD COLUMN remark VARCHAR(9)",
        "UPDATE glastops_downlink_dgm SET downlink_id = NULL WHERE apid = 957 AND datagrams = 5",
    )
    found = adopt(database.ledger(()), do=True)
    assert {each.name: each.not_copied for each in found.tables if each.not_copied} == {
        "glastops_downlink_dgm": 1
    }
    adopt(database.ledger(()), back=True, do=True)
    (row, _) = legacy.content()["glastops_acqsummary"]
    assert "remark" in row


def test_an_adoption_cannot_be_repeated_nor_undone_twice(
    legacy: LegacyLedger, database: Database, empty: Callable[[], Database]
) -> None:
    other, ledger = empty().ledger(()), database.ledger(())
    other.write(lambda _: None)  # a ledger that HalfPipe made
    for back in (False, True):
        with pytest.raises(LedgerError):
            adopt(other, do=True, back=back)
    with pytest.raises(LedgerError):
        adopt(ledger, do=True, back=True)
    adopt(ledger, do=True)
    with pytest.raises(LedgerError):
        adopt(ledger, do=True)


@pytest.mark.postgresql
@pytest.mark.parametrize("empty", ["postgresql"], indirect=True)
def test_readers_of_the_legacys_tables_can_read_ours(legacy: LegacyLedger, database: Database) -> None:
    name = f"Level1-{secrets.token_hex(4)}"
    user = f'"{name}"'
    database.by_others(f"CREATE ROLE {user}", f"GRANT SELECT, INSERT ON glastops_acqsummary TO {user}")
    answers = legacy.level1(DONE, OPEN)
    assert legacy.level1(DONE, OPEN, user=user) == answers
    ledger = database.ledger(())
    found = adopt(ledger, do=True)
    assert {each.name: each.readers for each in found.tables if each.readers} == {
        "glastops_acqsummary": (name,)
    }
    assert legacy.level1(DONE, OPEN, user=user) == answers
    adopt(ledger, do=True, back=True)
    assert legacy.level1(DONE, OPEN, user=user) == answers


@pytest.mark.postgresql
@pytest.mark.parametrize("empty", ["postgresql"], indirect=True)
def test_another_answer_to_level1_undoes_the_adoption(legacy: LegacyLedger, database: Database) -> None:
    """Our column has no blanks at the end, unlike a column of fixed width."""
    database.by_others("ALTER TABLE glastops_acqsummary ALTER COLUMN status TYPE CHAR(16)")
    before = legacy.content()
    with pytest.raises(LedgerError, match="Level-1"):
        adopt(database.ledger(()), do=True)
    assert legacy.content() == before


@contextmanager
def cut_off_at(moment: int) -> Iterator[None]:
    """Raise an error before change number `moment`."""
    passed = itertools.count(1)

    def fails(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if not statement.lstrip().startswith("SELECT") and next(passed) == moment:
            raise KeyboardInterrupt

    event.listen(Engine, "before_cursor_execute", fails)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", fails)


@pytest.mark.postgresql
@pytest.mark.parametrize("empty", ["postgresql"], indirect=True)
def test_an_interrupted_adoption_can_be_undone_where_each_statement_is_final(
    legacy: LegacyLedger, database: Database, tmp_path: Path
) -> None:
    """Oracle cannot undo a change of a table. Here each statement is committed."""
    ledger = database.ledger(())
    ledger._engine = ledger._engine.execution_options(isolation_level="AUTOCOMMIT")
    process(tmp_path, FOUR, {NEXT: whole(965, 2)})
    before, answers = legacy.content(), legacy.level1(DONE, OPEN)
    cut_off = set()
    for moment in itertools.count(1):
        try:
            with cut_off_at(moment):
                adopt(ledger, do=True)
            break
        except KeyboardInterrupt:
            pass
        if not _can_be_adopted(ledger):
            with pytest.raises(LedgerError):
                load(database.ledger(()), settings_of(tmp_path), FOUR)
            with pytest.raises(LedgerError) as caught:
                adopt(ledger, do=True)
            assert "halfpipe adopt --undo --do" in caught.value.remedy.do
            adopt(ledger, back=True, do=True)
            cut_off.add(moment)
        assert legacy.level1(DONE, OPEN) == answers
        assert {name: legacy.content().get(name) for name in before} == before
    assert cut_off == {*range(2, moment)}, "all but the first"
    assert moment > 15, "renames, tables, an index, rows and the lock"
    adopt(ledger, back=True, do=True)
    for moment in itertools.count(1):
        adopt(ledger, do=True)
        try:
            with cut_off_at(moment):
                adopt(ledger, back=True, do=True)
            break
        except KeyboardInterrupt:
            if not _can_be_adopted(ledger):
                adopt(ledger, back=True, do=True)
        assert {name: legacy.content().get(name) for name in before} == before
        assert legacy.level1(DONE, OPEN) == answers


def _can_be_adopted(ledger: Ledger) -> bool:
    try:
        return not adopt(ledger).problems
    except LedgerError:
        return False


def test_each_statement_compiles_for_oracle() -> None:
    dialect = oracle.dialect()  # type: ignore[no-untyped-call]
    may_read = {"glastops_acqsummary": ("LEVEL1", "PUBLIC")}
    others = {"glastops_acqdefaults", "glastops_acquisition"}
    steps = adoption(dialect, {*NAMES, *others}, may_read)
    back = way_back(dialect, {*NAMES, *NAMES.values(), *others, "halfpipe_lock", "halfpipe_moot_pending"})
    said = [" ".join(str(step.compile(dialect=dialect)).split()) for step in (*steps, *back)]
    assert said[:2] == [
        "ALTER SESSION SET ddl_lock_timeout = 60",
        "ALTER TABLE glastops_downlink RENAME TO former_downlink",
    ]
    made = [name for each in said for name in re.findall(r"CREATE TABLE (\w+)", each)]
    assert set(made) == set(METADATA.tables) - others
    # Level-1's table is exchanged last, and gets its grants before its rows.
    last = said.index("ALTER TABLE glastops_acqsummary RENAME TO former_acqsummary")
    assert [" ".join(each.split()[:3]) for each in said[last + 1 : last + 6]] == [
        "CREATE TABLE glastops_acqsummary", "GRANT SELECT ON", "GRANT SELECT ON",
        "INSERT INTO glastops_acqsummary", "INSERT INTO halfpipe_lock",
    ]  # fmt: skip
    assert {each.rpartition(" ")[2] for each in said if each.startswith("GRANT")} == {'"LEVEL1"', "PUBLIC"}
    assert len([each for each in said if each.startswith("INSERT INTO glastops")]) == len(SHARED)
    assert said[-1] == "ALTER TABLE former_acqsummary RENAME TO glastops_acqsummary"
    query = readers(dialect, SHARED[0])
    assert query is not None
    said.append(str(query.compile(dialect=dialect)))
    not_there = r" IN \(|LIMIT|RETURNING|ON CONFLICT|BOOLEAN|TEXT|CLOB| DATE|IDENTITY|printf|\w{31}"
    assert [statement for statement in said if re.search(not_there, statement)] == []
