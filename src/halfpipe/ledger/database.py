"""The ledger's database: connections, transactions, retries, and the version of the tables.

If the database is down, HalfPipe tries `len(WAITS) + 1` times and then raises an error.
"""

import logging
import re
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from sqlalchemy import (
    Connection,
    Engine,
    Row,
    Update,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.pool import NullPool

from halfpipe import paths
from halfpipe.errors import ConfigError, LedgerError, Remedy
from halfpipe.files import working_directory
from halfpipe.ledger.tables import LOCK, METADATA, OURS, REVISION
from halfpipe.settings import BUILT_IN, Settings

WAITS = (1.0, 4.0, 15.0, 30.0)  # seconds between the tries
LOCK_SECONDS = 60  # for which each try waits for another writer
FOREIGN = "ledger-foreign"  # error code: another working directory uses the ledger

# How psycopg begins if it cannot connect.
CONNECTING = re.compile(r"^connection failed: connection to server .*? failed: ")
UNCHANGED = "Nothing was changed in it."

# Errors in the database's operation or its interface (PEP 249): the next try may succeed.
PASSING = (OperationalError, InterfaceError)

log = logging.getLogger(__name__)
T = TypeVar("T")


class NoLedgerError(LedgerError):
    """The ledger does not exist."""


class Ledger:
    """The ledger at a URL.

    Parameters
    ----------
    url
        An SQLAlchemy URL without a password.
    waits
        Seconds between the tries.
    owner
        The id of the working directory. The first one to write owns the ledger, and others are refused. None: not
        checked.
    thick, tns_admin
        The config's keys for Oracle.

    Raises
    ------
    ConfigError
        If the URL, its driver or Oracle's client cannot be used.
    """

    def __init__(
        self,
        url: str,
        waits: Sequence[float] = WAITS,
        owner: str | None = None,
        *,
        thick: bool = False,
        tns_admin: Path | None = None,
    ) -> None:
        try:
            parsed = make_url(url)
            self._engine = _engine(parsed, None if thick else tns_admin)
        except ImportError as error:
            extra = make_url(url).get_backend_name()
            raise ConfigError(
                f"ledger.url: the driver is not installed ({error}).",
                Remedy(f".venv/bin/python -m pip install '.[{extra}]'"),
            ) from error
        except (ArgumentError, NoSuchModuleError, ValueError) as error:
            raise ConfigError(
                f"ledger.url: cannot be used ({error}). Expected built-in, or a URL of SQLAlchemy as in "
                "postgresql+psycopg://user@host/database."
            ) from error
        if thick and parsed.get_backend_name() == "oracle":
            _load_oracle_client(self._engine.dialect.dbapi, tns_admin)
        self.name = url
        is_file = parsed.get_backend_name() == "sqlite" and parsed.database
        self._file = Path(str(parsed.database)) if is_file else None
        self._waits = tuple(waits)
        self._owner = owner

    @classmethod
    def of(cls, settings: Settings, waits: Sequence[float] = WAITS) -> Self:
        """Return the ledger of the settings.

        Raises
        ------
        ConfigError
            If the settings have no ledger, or its URL or driver cannot be used.
        """
        url = settings.ledger.url
        thick = settings.ledger.thick
        tns_admin = settings.ledger.tns_admin
        if url is None:
            raise ConfigError(
                "ledger.url is null, so there is nothing to read or load. Set it in the config."
            )
        if url == BUILT_IN:
            url = f"sqlite:///{settings.paths.work / paths.LEDGER}"
        owner = working_directory.refuse_other(settings.paths.work)
        return cls(url, waits, owner, thick=thick, tns_admin=tns_admin)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction, as the only writer. A retry runs it again.

        In an empty database, the tables are made first.

        Raises
        ------
        LedgerError
            If the database stays down, refuses the work, or has tables of another version. Nothing was changed.
        """
        # If two processes make the tables at once, one of them gets an error, which differs by database.
        self._tried(self._make, passing=(DBAPIError,))
        # Every writer locks this row first, and waits here for another writer.
        lock = update(LOCK).values(owner=func.coalesce(LOCK.c.owner, self._owner))
        return self._tried(lambda: self._once(work, lock))

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which only reads.

        Raises
        ------
        LedgerError
            As for `write`, and if the ledger does not exist.
        """
        return self._tried(lambda: self._once(work))

    def alter(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction, whatever tables the database has.

        Raises
        ------
        LedgerError
            As for `write`. But Oracle commits each change of a table, so earlier changes stay there.
        """
        kept = "Nothing was changed in it, except on Oracle."
        return self._tried(lambda: self._once(work, compare=False), kept=kept)

    def read_if_there(self, work: Callable[[Connection], T], nothing: T) -> T:
        """Read as `read` does; return `nothing` if the ledger does not exist."""
        try:
            return self.read(work)
        except NoLedgerError:
            return nothing

    def _once(
        self, work: Callable[[Connection], T], first: Update | None = None, *, compare: bool = True
    ) -> T:
        if first is None and self._file is not None and not self._file.exists():
            self._compare(None)  # otherwise reading would make the file
        with self._engine.begin() as connection:
            if first is not None:
                connection.execute(first)
            if compare:
                self._compare(lock_row(connection))
            return work(connection)

    def _make(self) -> None:
        """Make the tables if the database has none."""
        with self._engine.begin() as connection:
            if lock_row(connection) is not None:
                return
            existing = [table.name for table in OURS if inspect(connection).has_table(table.name)]
            # Another loader may have made all tables since the first query.
            if existing and lock_row(connection) is None:
                raise LedgerError(
                    f"the ledger {self.name} has {existing[0]} and no row in {LOCK.name}: another program made "
                    "its tables, or, on Oracle, a killed load left them.",
                    Remedy(first="Look whose they are; move what a killed load left away (docs/ledger.md)"),
                )
            METADATA.create_all(connection)  # skips tables that exist
            connection.execute(insert(LOCK), [{"id": 1, "revision": REVISION}])

    def _compare(self, row: Row[tuple[int, str | None, str]] | None) -> None:
        """Refuse a ledger that does not exist, has another version, or belongs to another working directory."""
        if row is None:
            raise NoLedgerError(
                f"the ledger {self.name} does not exist. The first load makes it.",
                Remedy("halfpipe ledger rebuild", first="Or make it now"),
            )
        if row.revision != REVISION:
            raise LedgerError(
                f"the ledger {self.name} has tables of version {row.revision}, expected {REVISION}.",
                Remedy("halfpipe ledger rebuild", first="Move its tables away (docs/ledger.md)"),
            )
        if row.owner is not None and self._owner not in {None, row.owner}:
            raise LedgerError(
                f"the ledger {self.name} belongs to the working directory with the id {row.owner}, and this one has "
                f"the id {self._owner} ({paths.FORMAT_MARK}).",
                Remedy(
                    first="Check paths.work and ledger.url. If the other directory is abandoned on purpose, set "
                    f"{LOCK.name}.owner to NULL in the database"
                ),
                code=FOREIGN,
            )

    def _tried(
        self, once: Callable[[], T], passing: tuple[type[DBAPIError], ...] = PASSING, kept: str = UNCHANGED
    ) -> T:
        for wait in (*self._waits, None):
            try:
                return once()
            except SQLAlchemyError as error:
                # The first line of a driver's message, without the address. Drivers print no passwords.
                lines = str(getattr(error, "orig", None) or error).strip().split("\n")
                message = CONNECTING.sub("", lines[0])
                if wait is None or not _passes(error, passing):
                    raise LedgerError(
                        f"the ledger {self.name}: {message}. {kept}", self._remedy(error)
                    ) from error
                log.warning("the ledger %s: %s; again in %g s", self.name, message, wait)
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _remedy(self, error: SQLAlchemyError) -> Remedy:
        check = "Check that the database is up, and check ledger.url and the password"
        match getattr(getattr(error, "orig", None), "sqlite_errorname", ""):
            case "SQLITE_FULL":
                return Remedy(first="Free some space on the file system of the ledger")
            case "SQLITE_NOTADB" | "SQLITE_CORRUPT":
                aside = shlex.join(["mv", str(self._file), f"{self._file}.aside"])
                return Remedy(aside, "halfpipe ledger rebuild", first="The file is damaged: make it again")
            case "SQLITE_READONLY" | "SQLITE_CANTOPEN":
                check = "Check ledger.url, and who may write to this file and its directory (ls -la)"
        return Remedy(first=check)


def _engine(url: URL, tns_admin: Path | None) -> Engine:
    """Make an engine that closes each connection after use, so that none is idle between two loads."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": LOCK_SECONDS})
        event.listen(engine, "connect", lambda driver, _: driver.execute("PRAGMA foreign_keys = ON"))
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return engine
    arguments: dict[str, object] = {}
    if url.get_backend_name() == "postgresql":
        arguments = {
            "connect_timeout": 10,  # seconds
            "tcp_user_timeout": 60_000,  # milliseconds without an answer until the connection counts as lost
            "options": f"-c lock_timeout={LOCK_SECONDS}s -c timezone=UTC",
        }
        arguments = {key: value for key, value in arguments.items() if key not in url.query}
    if url.get_backend_name() == "oracle" and tns_admin is not None:
        arguments = {"config_dir": str(tns_admin)}
    # Not the server's default: a writer that waited for the lock must see what others wrote meanwhile.
    return create_engine(url, poolclass=NullPool, connect_args=arguments, isolation_level="READ COMMITTED")


def _load_oracle_client(driver: Any, tns_admin: Path | None) -> None:
    """Have python-oracledb use the Oracle client, before this process connects to any Oracle database.

    Raises
    ------
    ConfigError
        If the client cannot be loaded.
    """
    try:
        driver.init_oracle_client(**({} if tns_admin is None else {"config_dir": str(tns_admin)}))
    except driver.Error as error:
        raise ConfigError(
            f"ledger.thick: the Oracle client cannot be loaded ({str(error).partition('. See ')[0]}). Put the "
            "directory of its libclntsh.so into LD_LIBRARY_PATH, for jobs too."
        ) from error


def lock_row(connection: Connection) -> Row[tuple[int, str | None, str]] | None:
    """Return the ledger's version and owner; None if the ledger does not exist."""
    return connection.execute(select(LOCK)).first() if inspect(connection).has_table(LOCK.name) else None


def _passes(error: SQLAlchemyError, passing: tuple[type[DBAPIError], ...]) -> bool:
    """Tell whether the next try may succeed; with SQLite, only if the error is that another process is writing."""
    if not isinstance(error, DBAPIError):
        return False
    name = getattr(error.orig, "sqlite_errorname", "SQLITE_BUSY")
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) and (
        isinstance(error, passing) or error.connection_invalidated
    )
