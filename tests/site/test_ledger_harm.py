"""Loaders that are killed, that run side by side, and databases that are away."""

import itertools
import os
import signal
import time
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import (
    ClauseElement,
    Connection,
    Engine,
    create_engine,
    delete,
    event,
    func,
    insert,
    make_url,
    select,
    text,
    update,
)
from sqlalchemy.dialects import oracle
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable
from sqlalchemy.sql.elements import TextClause

from halfpipe.errors import ConfigError, LedgerError
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.ledger import database as database_module
from halfpipe.ledger import moot_update
from halfpipe.ledger.check import check
from halfpipe.ledger.database import Ledger, NoLedgerError
from halfpipe.ledger.load import load, rebuild, remove
from halfpipe.ledger.mapping import UNKNOWN, look_up
from halfpipe.ledger.tables import DEFAULTS, LOCK, METADATA
from tests.support.forks import ended, started
from tests.support.ledger_files import (
    GROUND_ID,
    Database,
    Datagram,
    content,
    process,
    run_rows,
    settings_of,
    whole,
)
from tests.support.private_postgresql import PASSWORD, PrivatePostgresql

DOWNLINKS = tuple(DownlinkId(f"24060100{n}") for n in range(1, 7))
RUN, OTHER = RunId("2c2e5787"), RunId("2c2e8000")
BEFORE = {RUN: whole(956, 40)[:20], OTHER: whole(965, 3)}
AFTER = {RUN: whole(956, 40)[20:]}


def loader(database: Database, work: Path, downlink: DownlinkId) -> Callable[[], object]:
    """Return what loads a downlink."""
    return lambda: load(database.ledger(), settings_of(work), downlink)


def killed_at(moment: int, work: Callable[[], object]) -> bool:
    """Run `work` and kill it right before the statement or commit with the number `moment`; tell whether it came."""

    def dies() -> None:
        passed = itertools.count(1)

        def passes(*_: object) -> None:
            if next(passed) == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(Engine, "before_cursor_execute", passes)
        event.listen(Engine, "commit", passes)
        work()

    return ended(started(dies)) == -signal.SIGKILL


def test_a_loader_that_is_killed_at_each_statement(empty: Callable[[], Database], tmp_path: Path) -> None:
    one, two = DOWNLINKS[:2]
    process(tmp_path, one, {RUN: whole(957, 40)})
    database, other, wanted = empty(), empty().ledger(), []
    ledger = database.ledger()
    for brought in (BEFORE, AFTER):
        process(tmp_path, two, brought)
        rebuild(other, settings_of(tmp_path))
        wanted.append(content(other))
    for downlink in (one, two):
        process(tmp_path, two, BEFORE)
        load(ledger, settings_of(tmp_path), downlink)
    process(tmp_path, two, AFTER)
    for moment in itertools.count(1):
        if not killed_at(moment, loader(database, tmp_path, two)):
            break
        assert content(ledger) == wanted[0], moment
    assert content(ledger) == wanted[1]
    assert moment > 15, "it passes the reads, the rows of a downlink and of two runs, and the commit"
    for moment in itertools.count(1, 4):
        fresh = empty()
        if not killed_at(moment, loader(fresh, tmp_path, one)):
            break
        for downlink in (one, two):
            load(fresh.ledger(), settings_of(tmp_path), downlink)
        assert content(fresh.ledger()) == wanted[1], moment
    assert moment > 15, "it makes the tables"


def test_loaders_side_by_side(empty: Callable[[], Database], tmp_path: Path) -> None:
    """All at once into an empty database, some of them twice; they have a run in common."""
    for number, downlink in enumerate(DOWNLINKS):
        parts = [
            Datagram(apid, n, "start" if n == 0 else "continue", "stop" if n == 11 else "continue")
            for apid in (956, 957)
            for n in range(2 * number, 2 * number + 3)  # the last is the next one's first
            if n < 12
        ]
        process(tmp_path, downlink, {RUN: parts})
    undisturbed = empty().ledger()
    rebuild(undisturbed, settings_of(tmp_path))
    wanted = content(undisturbed)
    fresh = empty()
    children = [started(loader(fresh, tmp_path, downlink)) for downlink in (*DOWNLINKS, *DOWNLINKS[:3])]
    assert [ended(child) for child in children] == [0] * len(children)
    assert content(fresh.ledger()) == wanted
    assert check(fresh.ledger(), settings_of(tmp_path)) == []


def test_a_writer_that_holds_on_is_waited_for_and_then_named(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_SECONDS", 1)
    process(tmp_path, DOWNLINKS[0], {RUN: whole(965, 2)})
    holder, waiting = database.ledger(), database.ledger((0.1,))
    holder.write(lambda _: None)

    def while_held(_: object) -> None:
        begin = time.monotonic()
        with pytest.raises(LedgerError) as caught:
            load(waiting, settings_of(tmp_path), DOWNLINKS[0])
        assert 2 <= time.monotonic() - begin < 20, "two tries of a second"
        assert PASSWORD not in str(caught.value)

    holder.write(while_held)
    load(waiting, settings_of(tmp_path), DOWNLINKS[0])


def test_who_has_waited_sees_what_was_written_meanwhile(database: Database) -> None:
    """Whatever isolation a server has as its default."""
    database.ledger().write(lambda _: None)
    if not database.is_file:
        name = make_url(database.url).database
        say = f"ALTER DATABASE {name} SET default_transaction_isolation TO 'repeatable read'"
        database.ledger().write(lambda c: c.execute(text(say)))

    def last(connection: Connection) -> int | None:
        found: int | None = connection.execute(select(func.max(DEFAULTS.c.moot_key))).scalar()
        return found

    def add(connection: Connection) -> None:
        key = (last(connection) or 0) + 1
        time.sleep(0.3)  # the others wait meanwhile
        row = {"tcompleted": datetime(2024, 1, 1), "moot_key": key, "moot_alias": "a"}
        connection.execute(insert(DEFAULTS), [row])

    children = [started(lambda: database.ledger().write(add)) for _ in range(4)]
    assert [ended(child) for child in children] == [0] * 4
    assert database.ledger().read(last) == 4


def test_a_ledger_without_its_lock_is_neither_written_nor_read(database: Database, tmp_path: Path) -> None:
    process(tmp_path, DOWNLINKS[0], {RUN: whole(965, 2)})
    ledger = database.ledger()
    ledger.write(lambda _: None)
    ledger.write(lambda c: c.execute(delete(LOCK)))
    for act in (partial(load, ledger, settings_of(tmp_path), DOWNLINKS[0]), partial(content, ledger)):
        with pytest.raises(LedgerError):
            act()


def by_others(database: Database, *statements: str) -> None:
    """Do something in a database that is not the ledger's yet."""
    engine = create_engine(database.url, poolclass=NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_tables_of_acquisitions_that_others_have_made_stay(database: Database, tmp_path: Path) -> None:
    by_others(
        database,
        "CREATE TABLE glastops_acquisition (who VARCHAR(9), id NUMERIC(12), trequested TIMESTAMP, startedat "
        "NUMERIC(12), type CHAR(16), moot_key NUMERIC(12), moot_alias CHAR(64))",
        f"INSERT INTO glastops_acquisition VALUES ('me', {GROUND_ID}, '2024-06-28 00:00:00.000000', NULL, "
        "'LPA', 9, 'x')",
    )
    process(tmp_path, DOWNLINKS[0], {RUN: whole(956, 2)})
    load(database.ledger(), settings_of(tmp_path), DOWNLINKS[0])
    row = run_rows(database.ledger())[RUN]
    assert (row["moot_key"], row["moot_alias"]) == (9, "x")
    assert check(database.ledger(), settings_of(tmp_path)) == []


def test_tables_of_others_or_of_another_version_stay(database: Database, tmp_path: Path) -> None:
    process(tmp_path, DOWNLINKS[0], {RUN: whole(965, 2)})

    def refused(*uses: Callable[[Ledger], object]) -> None:
        begin = time.monotonic()
        for use in uses:
            with pytest.raises(LedgerError):
                use(database.ledger((5.0,)))
        assert time.monotonic() - begin < 5, "at once"

    def loads(one: Ledger) -> object:
        return load(one, settings_of(tmp_path), DOWNLINKS[0])

    with pytest.raises(NoLedgerError):
        content(database.ledger())
    by_others(database, "CREATE TABLE glastops_downlink (id INTEGER)")
    refused(loads)
    by_others(database, "DROP TABLE glastops_downlink")
    ledger = database.ledger()
    ledger.write(lambda _: None)
    ledger.write(lambda c: c.execute(update(LOCK).values(revision="0000")))
    refused(loads, content)


@pytest.mark.postgresql
def test_a_server_that_is_away(tmp_path: Path, server: PrivatePostgresql) -> None:
    name = "away"
    database = Database(server.make_database(name))
    process(tmp_path, DOWNLINKS[0], {RUN: whole(965, 2)})
    ledger = database.ledger((0.1, 0.1))
    ledger.write(lambda _: None)
    server.stop()
    try:
        with pytest.raises(LedgerError) as caught:
            load(ledger, settings_of(tmp_path), DOWNLINKS[0])
        assert PASSWORD not in str(caught.value)
        child = started(lambda: load(database.ledger((1.0,) * 30), settings_of(tmp_path), DOWNLINKS[0]))
    finally:
        server.start()
    assert ended(child) == 0, "it waits until the server is there again"
    assert len(content(ledger)["glastops_acqsummary"]) == 1

    # Cut off in the middle of a transaction: it is begun again.
    cut = []

    def cut_off(connection: object) -> int:
        cut.append(connection)
        if len(cut) == 1:
            with server.connect() as admin:
                admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'away'")
        return len(connection.execute(text("SELECT 1")).all())  # type: ignore[attr-defined]

    assert ledger.write(cut_off) == 1
    assert len(cut) == 2
    server.drop_database(name)


@pytest.mark.postgresql
def test_a_wrong_password_is_not_shown(server: PrivatePostgresql, tmp_path: Path) -> None:
    wrong = tmp_path / "pgpass"
    wrong.touch(mode=0o600)
    wrong.write_text("*:*:*:*:not the password\n")
    with pytest.raises(LedgerError, match="password authentication failed") as caught:
        Ledger(f"{server.url.partition('&')[0]}&passfile={wrong}", ()).write(lambda _: None)
    assert "not the password" not in str(caught.value)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(host=str(server.home / "server"), user="ledger", dbname="postgres")


def test_what_is_no_database(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no database" * 1000)
    for place in (garbage, tmp_path / "no" / "such"):
        with pytest.raises(LedgerError):
            Ledger(f"sqlite:///{place}").write(lambda _: None)
    with pytest.raises(NoLedgerError):
        content(Ledger(f"sqlite:///{tmp_path / 'nothing'}"))
    assert not (tmp_path / "nothing").exists(), "reading makes no file"
    for url in ("no url", "nosuch://x/y", "sqlite+nosuch:///x"):
        with pytest.raises(ConfigError):
            Ledger(url)


def test_identifiers_fit_oracle_and_the_sql_is_generic() -> None:
    for table in METADATA.sorted_tables:
        names = [table.name, *table.columns.keys()]
        names += [str(index.name) for index in table.indexes]
        names += [str(constraint.name) for constraint in table.constraints if constraint.name]
        assert max(map(len, names)) <= 30, names
        made = str(CreateTable(table).compile(dialect=oracle.dialect()))  # type: ignore[no-untyped-call]
        assert not any(word in made for word in ("BOOLEAN", "TEXT", "CLOB", " DATE", "IDENTITY")), made


def test_each_statement_is_one_that_oracle_has(tmp_path: Path) -> None:
    """None can be run on one here; that they compile, and hold no list that grows, is what can be seen."""
    seen: set[str] = set()

    def note(_: Connection, statement: ClauseElement, *_more: object) -> None:
        if not isinstance(statement, TextClause):
            seen.add(str(statement.compile(dialect=oracle.dialect())))  # type: ignore[no-untyped-call]

    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", waits=())
    ledger.write(lambda _: None)
    event.listen(Engine, "before_execute", note)
    try:
        process(tmp_path, DOWNLINKS[0], BEFORE)
        process(tmp_path, DOWNLINKS[1], AFTER)
        rebuild(ledger, settings_of(tmp_path, "true"))
        load(ledger, settings_of(tmp_path, "true"), DOWNLINKS[0])
        assert check(ledger, settings_of(tmp_path)) == []
        with (tmp_path / "output").open("w") as output:
            assert moot_update.send(ledger, "true", output) == []
        mapped = partial(look_up, run=RUN, kind=RunKind.LPA, ground_id=1, start=datetime(2001, 9, 9))
        assert ledger.read(mapped) == UNKNOWN
        remove(ledger, settings_of(tmp_path), DOWNLINKS[:2])
    finally:
        event.remove(Engine, "before_execute", note)
    assert len(seen) > 20
    for statement in seen:
        assert not any(word in statement for word in (" IN (", "LIMIT", "RETURNING", "ON CONFLICT")), (
            statement
        )
