"""Adopt the legacy's tables: compare and rename them, make HalfPipe's tables, copy the rows; and undo that.

Level-1 reads ``GLASTOPS_ACQSUMMARY`` by name, so only one system can own that name. The legacy's tables are kept,
unchanged, under other names (`former_name`). PostgreSQL and SQLite do all of it in one transaction. Oracle commits
after each change of a table. There the table that Level-1 reads is replaced last, so Level-1 misses it only while its
rows are copied, and Level-1 retries for two minutes (ground-chain §6). The row of ``halfpipe_lock`` is written at the
very end. Without that row no load uses the tables, and an adoption that was cut off can be undone.

When a table is renamed, its grants stay with it. So HalfPipe's tables get grants for the same readers.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sqlalchemy import (
    DDL,
    Connection,
    DateTime,
    Dialect,
    Integer,
    Numeric,
    Select,
    String,
    Table,
    TableClause,
    and_,
    column,
    func,
    insert,
    inspect,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy import table as sql_table
from sqlalchemy.schema import CreateIndex, CreateTable, DropTable
from sqlalchemy.types import TypeEngine

from halfpipe.errors import LedgerError, Remedy
from halfpipe.ledger.database import LOCK_SECONDS, Ledger, lock_row
from halfpipe.ledger.tables import (
    COPIED,
    LOCK,
    METADATA,
    PENDING,
    REVISION,
    RUNS,
    SHARED,
    former_name,
)

OTHERS = [table for table in SHARED if table is not RUNS]
LEVEL1_COLUMNS = ("STARTEDAT", "STATUS", "MOOT_KEY", "MOOT_ALIAS", "EVTUTC0", "EVTUTC1")
# HalfPipe's own columns in a row that is copied. Its records are numbered from 1.
MARKS = {"record": 0, "receipt": COPIED, "digest": COPIED, "refused": 0}
SAMPLE = 200  # number of runs to compare, evenly spread from the latest to the first of the mission

Answer = tuple[Any, ...]


@dataclass(frozen=True)
class TableLook:
    """One of the legacy's tables.

    Attributes
    ----------
    name, adopted_name
        Its name before and after the adoption.
    rows, not_copied
        Number of its rows, and of those that are not copied because they have NULL in HalfPipe's key.
    readers
        Database users who may read it, besides its owner.
    """

    name: str
    adopted_name: str
    rows: int
    not_copied: int
    readers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Adoption:
    """Result of an adoption, or of undoing one.

    Attributes
    ----------
    back
        Whether this undoes an adoption.
    tables
        The legacy's tables.
    statements
        The SQL, in order.
    problems
        Columns whose values cannot be copied, each with the reason. If there are any, the tables cannot be adopted.
    compared
        Number of runs with the same answer to Level-1's query before and after an adoption.
    done
        Whether the tables were changed.
    """

    back: bool
    tables: tuple[TableLook, ...] = ()
    statements: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    compared: int = 0
    done: bool = False


def adopt(ledger: Ledger, *, do: bool = False, back: bool = False) -> Adoption:
    """Adopt the legacy's tables, or undo that; without `do` only look.

    Parameters
    ----------
    ledger
        The ledger. Its database user must own the tables.
    do
        Change the tables, unless a column cannot be copied.
    back
        Undo an adoption. HalfPipe's tables are dropped; their rows can be rebuilt from files. Level-1 finds a run that
        only HalfPipe has after the legacy has processed its downlinks.

    Raises
    ------
    LedgerError
        If the database is in another state, or if row counts or answers to Level-1's query differ after an adoption.
        Then nothing was changed, except on Oracle.
    """
    return ledger.alter(partial(_bring_back if back else _adopt, ledger.name, do=do))


def read_as_level1(connection: Connection, runs: Sequence[int]) -> list[Answer]:
    """Run Level-1's query for some runs (ground-chain §6).

    Parameters
    ----------
    connection
        A connection to the database that Level-1 reads.
    runs
        Starts of at most 1000 runs, in mission elapsed time.

    Returns
    -------
    list of tuple
        The values of `LEVEL1_COLUMNS` in each row, sorted. A run without a row is missing.
    """
    which = ", ".join(map(str, runs)) or "NULL"
    query = f"SELECT {', '.join(LEVEL1_COLUMNS)} FROM GLASTOPS_ACQSUMMARY WHERE STARTEDAT IN ({which})"  # noqa: S608 - numbers
    return sorted(map(tuple, connection.execute(text(query))), key=str)


def adoption(dialect: Dialect, names: Iterable[str], readers: Mapping[str, Sequence[str]]) -> list[Any]:
    """Return the statements that adopt the legacy's tables.

    Parameters
    ----------
    dialect
        The kind of database.
    names
        The tables that exist.
    readers
        Users who may read each of the legacy's tables.
    """
    stay = set(names) - {table.name for table in SHARED}
    steps = [*_patience(dialect), *(_rename(table.name, former_name(table)) for table in OTHERS)]
    for table in METADATA.sorted_tables:
        if table is not RUNS and table.name not in stay:
            steps += _made(table, dialect, readers)
    steps += map(_copy, OTHERS)
    steps += [_rename(RUNS.name, former_name(RUNS)), *_made(RUNS, dialect, readers), _copy(RUNS)]
    return [*steps, insert(LOCK).values(id=1, revision=REVISION)]


def way_back(dialect: Dialect, names: Iterable[str]) -> list[Any]:
    """Return the statements that undo an adoption, or the part of it that was done; parameters as for `adoption`."""
    there = set(names)
    # Drop the lock first: without it no load uses the other tables.
    steps = [*_patience(dialect), *(DropTable(table) for table in (LOCK, PENDING) if table.name in there)]
    for table in (*reversed(OTHERS), RUNS):
        if former_name(table) in there:
            steps += [DropTable(table)] if table.name in there else []
            steps.append(_rename(former_name(table), table.name))
    return steps


def _adopt(name: str, connection: Connection, *, do: bool) -> Adoption:
    names = set(inspect(connection).get_table_names())
    _refuse(name, connection, names)
    if problems := tuple(each for table in SHARED for each in _problems(connection, table, names)):
        return Adoption(back=False, problems=problems)
    tables = tuple(_table(connection, table) for table in SHARED)
    steps = adoption(connection.dialect, names, {each.name: each.readers for each in tables})
    found = Adoption(False, tables, _sql(connection, steps))
    if not do:
        return found
    every = sorted(map(int, connection.execute(select(RUNS.c.startedat)).scalars()))
    runs = every[:: -(len(every) // SAMPLE + 1)]
    before = read_as_level1(connection, runs)
    for step in steps:
        connection.execute(step)
    for each in tables:
        if (rows := _count(connection, each.name)) != each.rows - each.not_copied:
            raise _differs(name, f"{each.name} has {rows} rows, expected {each.rows - each.not_copied}")
    if differ := sorted({*before} ^ {*read_as_level1(connection, runs)}, key=str):
        raise _differs(name, f"Level-1's query has other answers: {len(differ)} rows, first {differ[:2]}")
    return replace(found, done=True, compared=len({run for run, *_ in before}))


def _refuse(name: str, connection: Connection, names: set[str]) -> None:
    """Refuse a database that has no tables of the legacy to adopt."""
    if any(former_name(table) in names for table in SHARED):
        if lock_row(connection) is not None:
            # No command here: going back drops the rows of runs that only HalfPipe has.
            raise LedgerError(f"the ledger {name}: the legacy's tables are adopted already.")
        remedy = Remedy("halfpipe adopt --undo --do", "halfpipe adopt --do")
        raise LedgerError(f"the ledger {name}: an adoption was cut off.", remedy)
    if LOCK.name in names or not any(table.name in names for table in SHARED):
        raise LedgerError(
            f"the ledger {name} has no tables of the legacy. Check that ledger.url connects as their owner."
        )


def _bring_back(name: str, connection: Connection, *, do: bool) -> Adoption:
    names = set(inspect(connection).get_table_names())
    renamed = [table for table in SHARED if former_name(table) in names]
    if not renamed:
        raise LedgerError(f"the ledger {name} has no adopted tables, so there is nothing to undo.")
    tables = tuple(
        TableLook(each.name, former_name(each), _count(connection, former_name(each)), 0) for each in renamed
    )
    steps = way_back(connection.dialect, names)
    for step in steps if do else ():
        connection.execute(step)
    return Adoption(True, tables, _sql(connection, steps), done=do)


def _table(connection: Connection, table: Table) -> TableLook:
    source = sql_table(table.name, *(column(each.name) for each in table.primary_key.columns))
    keyless = select(func.count()).select_from(source).where(or_(*(each.is_(None) for each in source.c)))
    left = int(connection.execute(keyless).scalar_one())
    query = readers(connection.dialect, table)
    names = () if query is None else tuple(sorted(connection.execute(query).scalars()))
    return TableLook(table.name, former_name(table), _count(connection, table.name), left, names)


def _problems(connection: Connection, table: Table, names: set[str]) -> Iterator[str]:
    """Yield the reasons why the rows of a legacy table cannot be copied, each after the name of the column."""
    if table.name not in names:
        yield f"{table.name}: missing"
        return
    legacy = {each["name"]: each["type"] for each in inspect(connection).get_columns(table.name)}
    shared = _former(table).c
    for each in table.columns:
        theirs = legacy.get(each.name)
        if (theirs is None) == (each.name in shared):
            why = "missing" if theirs is None else "HalfPipe has a column of its own with this name"
            yield f"{table.name}.{each.name}: {why}"
        elif theirs is not None and not _fits(theirs, each.type):
            as_sql = partial(TypeEngine.compile, dialect=connection.dialect)
            yield f"{table.name}.{each.name}: {as_sql(theirs)} does not fit into {as_sql(each.type)}"


def _fits(theirs: TypeEngine[Any], ours: TypeEngine[Any]) -> bool:
    """Tell whether a legacy column's values fit into HalfPipe's column."""
    kind = next((each for each in (String, DateTime) if isinstance(ours, each)), (Integer, Numeric))
    length, most = getattr(theirs, "length", None), getattr(ours, "length", None)
    return isinstance(theirs, kind) and (most is None or (length is not None and length <= most))


def readers(dialect: Dialect, table: Table) -> Select[tuple[str]] | None:
    """Return the query for the users who may read a table, besides its owner; None if the database has no users."""
    if dialect.name == "postgresql":
        names = ("grantee", "table_schema", "table_name", "privilege_type")
        granted = sql_table("table_privileges", *map(column, names), schema="information_schema")
        where = (granted.c.table_schema == func.current_schema()) & (granted.c.table_name == table.name)
        user = literal_column("current_user", String)
        privilege = granted.c.privilege_type
    elif dialect.name == "oracle":
        granted = sql_table("user_tab_privs", *map(column, ("grantee", "owner", "table_name", "privilege")))
        user = literal_column("USER", String)
        privilege = granted.c.privilege
        where = (granted.c.owner == user) & (granted.c.table_name == table.name.upper())
    else:
        return None
    may_read = or_(privilege == "SELECT", privilege == "READ")
    return select(granted.c.grantee).distinct().where(where, may_read, granted.c.grantee != user)


def _former(table: Table) -> TableClause:
    """Return the legacy's table after its adoption, with the columns that it shares with `table`."""
    shared = (each for each in table.columns if each.name not in {*MARKS, "submitted"})
    return sql_table(former_name(table), *(column(each.name, each.type) for each in shared))


def _patience(dialect: Dialect) -> list[Any]:
    """Let Oracle wait while others use a table; PostgreSQL's connections always do (`halfpipe.ledger.database`)."""
    return [_ddl(f"ALTER SESSION SET ddl_lock_timeout = {LOCK_SECONDS}")] if dialect.name == "oracle" else []


def _rename(name: str, becomes: str) -> DDL:
    return _ddl(f"ALTER TABLE {name} RENAME TO {becomes}")


def _ddl(statement: str) -> DDL:
    return DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]


def _made(table: Table, dialect: Dialect, may_read: Mapping[str, Sequence[str]]) -> list[Any]:
    """Return the statements that make a table and let its readers read it."""
    quote = dialect.identifier_preparer.quote
    names = (each if each == "PUBLIC" else quote(each) for each in may_read.get(table.name, ()))
    grants = (_ddl(f"GRANT SELECT ON {table.name} TO {name}") for name in names)
    return [CreateTable(table), *map(CreateIndex, table.indexes), *grants]


def _copy(table: Table) -> Any:
    """Return the statement that copies a table's rows, except those with NULL in HalfPipe's key."""
    source = _former(table)
    marks: dict[str, Any] = {
        name: literal_column(repr(value)) for name, value in MARKS.items() if name in table.c
    }
    values = {**source.c, **marks}
    keys = and_(*(source.c[each.name].is_not(None) for each in table.primary_key.columns))
    return insert(table).from_select(list(values), select(*values.values()).where(keys))


def _sql(connection: Connection, steps: Iterable[Any]) -> tuple[str, ...]:
    options = {"literal_binds": True}
    compiled = (
        step.compile(dialect=connection.dialect, compile_kwargs=options if step.is_insert else {})
        for step in steps
    )
    return tuple(" ".join(str(each).split()) for each in compiled)


def _count(connection: Connection, name: str) -> int:
    return int(connection.execute(select(func.count()).select_from(sql_table(name))).scalar_one())


def _differs(name: str, what: str) -> LedgerError:
    return LedgerError(
        f"the ledger {name}: {what}. Nothing was changed, except on Oracle.", Remedy("halfpipe adopt")
    )
