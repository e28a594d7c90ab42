"""Loaders that are killed or run side by side, databases that are down or foreign, and files from a backup."""

import itertools
import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import ClauseElement, Connection, Engine, event, make_url, text
from sqlalchemy.dialects import oracle
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.sql.elements import TextClause

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.errors import ConfigError, HalfPipeError, LedgerError
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.ledger import database as database_module
from halfpipe.ledger import moot_update
from halfpipe.ledger.check import check, refuse_delivery, site_troubles
from halfpipe.ledger.database import Ledger, NoLedgerError
from halfpipe.ledger.load import load, rebuild, remove
from halfpipe.ledger.mapping import UNKNOWN, look_up
from halfpipe.ledger.tables import METADATA
from halfpipe.settings import Ledger as LedgerSettings
from halfpipe.settings import Settings
from tests.support.forks import ended, started
from tests.support.ledger_files import Database, content, process, run_rows, settings_of, whole
from tests.support.private_postgresql import PASSWORD, PrivatePostgresql
from tests.support.series import forget

DOWNLINKS = tuple(DownlinkId(f"24060100{n}") for n in range(1, 7))
ONE, TWO = DOWNLINKS[:2]
RUN = RunId("2c2e5787")
OTHER = RunId("2c2e8000")
BEFORE = {RUN: whole(956, 40)[:20], OTHER: whole(965, 3)}
AFTER = {RUN: whole(956, 40)[20:]}


def killed_at(moment: int, work: Callable[[], object]) -> bool:
    """Run `work` and kill it before the statement or commit number `moment`; return False if it ended before."""

    def dies() -> None:
        passed = itertools.count(1)

        def passes(*_: object) -> None:
            if next(passed) == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(Engine, "before_cursor_execute", passes)
        event.listen(Engine, "commit", passes)
        work()

    return ended(started(dies)) == -signal.SIGKILL


@pytest.mark.parametrize(
    "every", [pytest.param(5, id="some"), pytest.param(1, id="all", marks=pytest.mark.workflow)]
)
def test_a_loader_that_is_killed_at_any_statement(
    every: int, empty: Callable[[], Database], tmp_path: Path
) -> None:
    ledger = empty().ledger()
    other = empty().ledger()
    settings = settings_of(tmp_path)
    process(tmp_path, ONE, {RUN: whole(957, 40)})
    process(tmp_path, TWO, BEFORE)
    rebuild(ledger, settings)
    process(tmp_path, TWO, AFTER)
    rebuild(other, settings)
    before = content(ledger)
    after = content(other)
    for moment in itertools.count(1, every):
        if not killed_at(moment, partial(load, ledger, settings, TWO)):
            break
        assert content(ledger) == before, moment
    assert content(ledger) == after
    assert moment > 15, "reads, the rows of a downlink and of two runs, and the commit"
    for moment in itertools.count(1, 4 * every):
        fresh = empty().ledger()
        if not killed_at(moment, partial(load, fresh, settings, ONE)):
            break
        rebuild(fresh, settings)
        assert content(fresh) == after, moment
    assert moment > 15, "it makes the tables"


def test_loaders_side_by_side(empty: Callable[[], Database], tmp_path: Path) -> None:
    """They begin together in an empty database. All downlinks have one run, and three are loaded twice."""
    for number, downlink in enumerate(DOWNLINKS):
        within = slice(2 * number, 2 * number + 3)  # its last datagram is the first of the next downlink
        process(tmp_path, downlink, {RUN: [*whole(956, 12)[within], *whole(957, 12)[within]]})
    undisturbed = empty().ledger()
    fresh = empty()
    settings = settings_of(tmp_path)
    rebuild(undisturbed, settings)
    if fresh.url.startswith("postgresql"):
        # A loader that waited must see new rows, whatever the default isolation of the server is.
        name = make_url(fresh.url).database
        fresh.by_others(f"ALTER DATABASE {name} SET default_transaction_isolation TO 'repeatable read'")
    ledger = fresh.ledger()
    all_at_once = (*DOWNLINKS, *DOWNLINKS[:3])
    children = [started(partial(load, ledger, settings, downlink)) for downlink in all_at_once]
    assert [ended(child) for child in children] == [0] * len(children)
    assert content(ledger) == content(undisturbed)
    assert check(ledger, settings) == []


def test_a_loader_waits_for_another_writer_and_then_fails(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_SECONDS", 1)
    process(tmp_path, ONE, {RUN: whole(965, 2)})
    holder = database.ledger()
    waiting = database.ledger((0.1,))
    holder.write(lambda _: None)

    def while_held(_: object) -> None:
        begin = time.monotonic()
        with pytest.raises(LedgerError) as caught:
            load(waiting, settings_of(tmp_path), ONE)
        assert 2 <= time.monotonic() - begin < 20, "two tries of a second"
        assert PASSWORD not in str(caught.value)

    holder.write(while_held)
    load(waiting, settings_of(tmp_path), ONE)


def test_foreign_tables_are_refused_at_once(database: Database, tmp_path: Path) -> None:
    process(tmp_path, ONE, {RUN: whole(965, 2)})
    ledger = database.ledger((5.0,))
    loads = partial(load, ledger, settings_of(tmp_path), ONE)
    begin = time.monotonic()
    with pytest.raises(NoLedgerError):
        content(ledger)
    database.by_others("CREATE TABLE glastops_downlink (id INTEGER)")
    with pytest.raises(LedgerError):
        loads()
    database.by_others("DROP TABLE glastops_downlink")
    ledger.write(lambda _: None)
    for harm in ("UPDATE halfpipe_lock SET revision = '0000'", "DELETE FROM halfpipe_lock"):
        database.by_others(harm)
        for act in (loads, partial(content, ledger)):
            with pytest.raises(LedgerError):
                act()
    assert time.monotonic() - begin < 5, "at once"


@pytest.mark.postgresql
def test_a_server_that_is_down_is_waited_for(tmp_path: Path, server: PrivatePostgresql) -> None:
    name = "away"
    database = Database(server.make_database(name))
    process(tmp_path, ONE, {RUN: whole(965, 2)})
    ledger = database.ledger((0.1, 0.1))
    ledger.write(lambda _: None)
    server.stop()
    try:
        with pytest.raises(LedgerError) as caught:
            load(ledger, settings_of(tmp_path), ONE)
        assert PASSWORD not in str(caught.value)
        child = started(lambda: load(database.ledger((1.0,) * 30), settings_of(tmp_path), ONE))
    finally:
        server.start()
    assert ended(child) == 0, "it waits for the server"
    assert len(content(ledger)["glastops_acqsummary"]) == 1

    # A connection that is lost in a transaction: the transaction is repeated.
    cuts = [b"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'away'"]

    def cut_off(connection: Connection) -> object:
        while cuts:
            with server.connect() as admin:
                admin.execute(cuts.pop())
        return connection.execute(text("SELECT 1")).scalar()

    assert ledger.write(cut_off) == 1
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


def test_a_database_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("halfpipe.ledger.database.time.sleep", lambda _: pytest.fail("it waits"))
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"no database" * 1000)
    for place in (garbage, tmp_path / "no" / "such"):
        with pytest.raises(LedgerError):
            Ledger(f"sqlite:///{place}").write(lambda _: None)
    with pytest.raises(NoLedgerError):
        content(Ledger(f"sqlite:///{tmp_path / 'nothing'}"))
    assert not (tmp_path / "nothing").exists(), "reading makes no file"
    for url in ("no url", "nosuch://x/y", "sqlite+nosuch:///x", None):
        with pytest.raises(ConfigError, match="cannot be used" if url else "null"):
            Ledger.of(replace(settings_of(tmp_path), ledger=LedgerSettings(url)))
    assert Ledger.of(settings_of(tmp_path)).name == f"sqlite:///{tmp_path}/ledger.sqlite"


@pytest.mark.parametrize(("kind", "tries"), [(OperationalError, 2), (ProgrammingError, 1)])
def test_only_an_error_of_the_connection_is_tried_again(
    kind: type[OperationalError | ProgrammingError], tries: int, tmp_path: Path
) -> None:
    tried = []

    def work(_: object) -> None:
        tried.append(1)
        raise kind("SELECT 1", None, Exception("ORA-12541: no listener"))

    with pytest.raises(LedgerError):
        Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", waits=(0.0,)).write(work)
    assert len(tried) == tries


def test_each_statement_compiles_for_oracle(tmp_path: Path) -> None:
    """There is no Oracle here. Names must be short, and no statement may have a list that grows."""
    seen: set[str] = set()

    def note(_: Connection, statement: ClauseElement, *_more: object) -> None:
        if not isinstance(statement, TextClause):
            seen.add(str(statement.compile(dialect=oracle.dialect())))  # type: ignore[no-untyped-call]

    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", waits=())
    event.listen(Engine, "before_execute", note)
    try:
        process(tmp_path, ONE, BEFORE)
        process(tmp_path, TWO, AFTER)
        rebuild(ledger, settings_of(tmp_path, "true"))
        load(ledger, settings_of(tmp_path, "true"), ONE)
        assert check(ledger, settings_of(tmp_path)) == []
        with (tmp_path / "output").open("w") as output:
            assert moot_update.send(ledger, "true", output) == []
        mapped = partial(look_up, run=RUN, kind=RunKind.LPA, ground_id=1, start=datetime(2001, 9, 9))
        assert ledger.read(mapped) == UNKNOWN
        for downlink in DOWNLINKS[:2]:
            remove(ledger, settings_of(tmp_path), downlink)
    finally:
        event.remove(Engine, "before_execute", note)
    assert len([statement for statement in seen if "CREATE" not in statement]) > 20
    assert len([statement for statement in seen if "CREATE TABLE" in statement]) == len(METADATA.tables)
    not_there = r" IN \(|LIMIT|RETURNING|ON CONFLICT|BOOLEAN|TEXT|CLOB| DATE|IDENTITY|\w{31}"
    assert [statement for statement in seen if re.search(not_there, statement)] == []


def site(database: Database, work: Path) -> Settings:
    """Return the settings of a site with a processed downlink and this ledger."""
    process(work, ONE, {RUN: whole(965, 3)})
    return database.of(settings_of(work))


def code(act: Callable[[], object]) -> str:
    """Return the code of the error that `act` raises, or an empty text."""
    try:
        act()
    except HalfPipeError as error:
        return error.code
    return ""


def refused(settings: Settings, *downlinks: DownlinkId) -> tuple[str, dict[str, Verdict]]:
    """Return the code with which processing is refused, and the site's causes."""
    told = {cause.code: cause.verdict for cause in site_troubles(settings, {})}
    return code(lambda: refuse_delivery(settings, downlinks)), told


def test_a_ledger_belongs_to_the_first_working_directory(database: Database, tmp_path: Path) -> None:
    mine = site(database, tmp_path / "mine")
    other = site(database, tmp_path / "other")
    assert refused(mine) == refused(other) == ("", {})
    has = Ledger.of(mine)
    ledger = Ledger.of(other)
    for _ in range(2):
        load(has, mine, ONE)
    assert refused(mine, ONE) == ("", {})
    assert refused(other, TWO) == ("ledger-foreign", {"ledger-foreign": Verdict.ACTION})
    before = run_rows(has)
    acts = (partial(load, ledger, other, ONE), partial(rebuild, ledger, other), partial(run_rows, ledger))
    assert [code(act) for act in acts] == ["ledger-foreign"] * 3
    assert run_rows(has) == before
    # The id moves with the working directory.
    moved = replace(mine, paths=replace(mine.paths, work=(tmp_path / "mine").rename(tmp_path / "moved")))
    assert refused(moved, ONE) == ("", {})


def test_a_working_directory_from_a_backup_is_refused(database: Database, tmp_path: Path) -> None:
    work = tmp_path / "work"
    settings = site(database, work)
    ledger = database.ledger()
    load(ledger, settings, ONE)
    shutil.copytree(work, tmp_path / "backup")
    process(work, TWO, {OTHER: whole(965, 2)}, into=ledger)
    (work / paths.receipt(ONE)).unlink()  # while it is reprocessed
    assert refused(settings, ONE, TWO) == ("", {})
    shutil.rmtree(work)
    (tmp_path / "backup").rename(work)
    assert refused(settings) == ("restored", {"restored": Verdict.ACTION})
    remove(ledger, settings, TWO)
    assert refused(settings, ONE, TWO) == ("", {})
    # Files of an earlier hand-off do not replace a later one.
    process(work, ONE, {RUN: whole(965, 3)}, handoff=2, into=ledger)
    forget(work, paths.receipts(ONE), 2)
    assert code(partial(load, ledger, settings, ONE)) == "restored"
    assert refused(settings) == ("restored", {"restored": Verdict.ACTION})
    # Nor do those that were made since the backup.
    process(work, ONE, {RUN: whole(965, 4)}, handoff=2)
    assert code(partial(load, ledger, settings, ONE)) == "restored"
    assert (refused(settings), refused(settings, ONE)[0]) == (("", {}), "restored")
    remove(ledger, settings, ONE)
    load(ledger, settings, ONE)
    assert refused(settings, ONE) == ("", {})
    process(work, ONE, {RUN: whole(965, 3)}, handoff=3)
    assert refused(settings, ONE) == ("", {}), "a row that is only behind stops no processing"


def test_a_database_that_is_down_does_not_stop_processing(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 100)
    settings = site(Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}"), tmp_path / "work")
    assert refused(settings, ONE) == ("", {"ledger": Verdict.NOTE})
