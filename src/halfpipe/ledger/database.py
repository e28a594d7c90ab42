"""The database of the ledger: connections, transactions one after another, retries, and its version.

A database that is down is tried `len(WAITS) + 1` times and then is an error of ours: nothing waits longer.
"""

import logging
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
LOCK_SECONDS = 60  # that another writer is waited for, at each try
FOREIGN = "ledger-foreign"  # of the error that it belongs to another working directory

UNCHANGED = "Nothing was changed in it."

# The connection, another transaction or an operator was in the way (PEP 249).
PASSING = (OperationalError, InterfaceError)

log = logging.getLogger(__name__)
T = TypeVar("T")


class NoLedgerError(LedgerError):
    """There is no ledger yet, or no more."""


class Ledger:
    """The ledger at a URL.

    Parameters
    ----------
    url
        As SQLAlchemy has it, without a password.
    waits
        Seconds between the tries.
    owner
        The id of the working directory; the first that writes has the ledger. None: of nobody, and refused nowhere.
    thick, tns_admin
        As in the config, for Oracle.

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
        self._waits, self._owner = tuple(waits), owner

    @classmethod
    def of(cls, settings: Settings, waits: Sequence[float] = WAITS) -> Self:
        """Return the ledger of the settings.

        Raises
        ------
        ConfigError
            If there is none, or its URL or its driver cannot be used.
        """
        url, thick, tns_admin = settings.ledger.url, settings.ledger.thick, settings.ledger.tns_admin
        if url is None:
            raise ConfigError("ledger.url is null: there is no ledger. Set it in the config.")
        if url == BUILT_IN:
            url = f"sqlite:///{settings.paths.work / paths.LEDGER}"
        owner = working_directory.refuse_other(settings.paths.work)
        return cls(url, waits, owner, thick=thick, tns_admin=tns_admin)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction of its own, while nobody else writes; it may be run several times.

        An empty database gets its tables first.

        Raises
        ------
        LedgerError
            If the database is down for longer than the tries take, refuses, or is of another version.
            Then nothing was changed.
        """
        # Of two that make the tables at a time one is told so, in as many ways as there are databases.
        self._tried(self._make, passing=(DBAPIError,))
        # Whoever writes locks this row first, and waits here for another one.
        lock = update(LOCK).values(owner=func.coalesce(LOCK.c.owner, self._owner))
        return self._tried(lambda: self._once(work, lock))

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which changes nothing.

        Raises
        ------
        LedgerError
            As `write`, and if there is no ledger yet.
        """
        if self._file is not None and not self._file.exists():
            self._compare(None)
        return self._tried(lambda: self._once(work))

    def alter(self, work: Callable[[Connection], T]) -> T:
        """Run `work`, which changes tables, in a transaction, whatever tables there are.

        Raises
        ------
        LedgerError
            As `write`. Oracle commits at each change of a table: there the changes before the error stay.
        """
        if self._file is not None and not self._file.exists():
            self._compare(None)
        kept = "What was changed before that stays." if self._engine.dialect.name == "oracle" else UNCHANGED
        return self._tried(lambda: self._begun(work), kept=kept)

    def read_if_there(self, work: Callable[[Connection], T], nothing: T) -> T:
        """Read as `read` does; return `nothing` if there is no ledger yet, or no more."""
        try:
            return self.read(work)
        except NoLedgerError:
            return nothing

    def _once(self, work: Callable[[Connection], T], first: Update | None = None) -> T:
        with self._engine.begin() as connection:
            if first is not None:
                connection.execute(first)
            self._compare(lock_row(connection))
            return work(connection)

    def _begun(self, work: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    def _make(self) -> None:
        """Make the tables where there are none."""
        with self._engine.begin() as connection:
            if lock_row(connection) is not None:
                return
            strangers = [table.name for table in OURS if inspect(connection).has_table(table.name)]
            # Asked again: another loader may have made them all since.
            if strangers and lock_row(connection) is None:
                raise LedgerError(
                    f"{self.name}: has {', '.join(strangers)} and no row in {LOCK.name}: these are the legacy's "
                    "tables, or, on Oracle, leftovers of a killed load.",
                    Remedy("halfpipe ledger adopt", first="See which"),
                )
            METADATA.create_all(connection)  # those of others that are there stay
            connection.execute(insert(LOCK), [{"id": 1, "revision": REVISION}])

    def _compare(self, row: Row[Any] | None) -> None:
        """Refuse that there is no ledger, tables of another version, and the ledger of another working directory."""
        if row is None:
            raise NoLedgerError(
                f"there is no ledger {self.name} yet: the first downlink that is loaded makes it, and so does halfpipe "
                "ledger rebuild."
            )
        if row.revision != REVISION:
            raise LedgerError(
                f"{self.name}: its tables have version {row.revision}, this program wants {REVISION}.",
                Remedy("halfpipe ledger rebuild", first="Move its tables away (docs/ledger.md)"),
            )
        if row.owner is not None and self._owner not in {None, row.owner}:
            raise LedgerError(
                f"the ledger {self.name} is that of the working directory with the id {row.owner}, and this one has "
                f"the id {self._owner} ({paths.FORMAT_MARK}).",
                Remedy(
                    first="See that paths.work and ledger.url are those you mean. If that one is abandoned on purpose, "
                    f"set {LOCK.name}.owner to NULL in the database"
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
                said = " ".join(
                    str(getattr(error, "orig", None) or error).split()
                )  # drivers say no passwords
                if wait is None or not _passes(error, passing):
                    raise LedgerError(
                        f"the ledger {self.name}: {said}. {kept} Fix this (is "
                        "the database up, are ledger.url and the password right?), then re-run the command."
                    ) from error
                log.warning("the ledger %s: %s; again in %g s", self.name, said, wait)
                time.sleep(wait)
        raise AssertionError("the last try returns or raises")


def _engine(url: URL, tns_admin: Path | None) -> Engine:
    """Make an engine that keeps no connection, so that nothing idles in a database between two loads."""
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": LOCK_SECONDS})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return engine
    arguments: dict[str, Any] = {}
    if url.get_backend_name() == "postgresql":
        arguments = {
            "connect_timeout": 10,  # seconds
            "tcp_user_timeout": 60_000,  # milliseconds, after which a server that says nothing is taken to be gone
            "options": f"-c lock_timeout={LOCK_SECONDS}s -c timezone=UTC",
        }
        arguments = {key: value for key, value in arguments.items() if key not in url.query}
    if url.get_backend_name() == "oracle" and tns_admin is not None:
        arguments = {"config_dir": str(tns_admin)}
    # Whatever a server has as its default: who has waited for the lock must see what was written meanwhile.
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
            f"ledger.thick: the Oracle client cannot be loaded ({str(error).partition('. See ')[0]}). Put the directory of "
            "its libclntsh.so into LD_LIBRARY_PATH, for jobs too."
        ) from error


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # Python's module would begin transactions by itself
    connection.execute("PRAGMA foreign_keys = ON")


def lock_row(connection: Connection) -> Row[Any] | None:
    """Return what the ledger says of itself, None if there is none."""
    return connection.execute(select(LOCK)).first() if inspect(connection).has_table(LOCK.name) else None


def _passes(error: SQLAlchemyError, passing: tuple[type[DBAPIError], ...]) -> bool:
    """Tell whether what is wrong may be right at the next try; of SQLite only that somebody else is at work."""
    if not isinstance(error, DBAPIError):
        return False
    name = getattr(error.orig, "sqlite_errorname", "SQLITE_BUSY")
    return name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) and (
        isinstance(error, passing) or error.connection_invalidated
    )
