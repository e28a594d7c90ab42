"""A ledger of a test's own, on each kind of database."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from halfpipe.ledger.database import Ledger
from tests.ledger.private_postgresql import PrivatePostgresql, private_postgresql

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgresql)


@dataclass(frozen=True)
class Database:
    """An empty database: what a program needs to reach it."""

    url: str
    password_file: Path | None

    def ledger(self, waits: tuple[float, ...] = (0.1, 0.2, 0.4)) -> Ledger:
        """Return a ledger in it; a test does not wait as long as a night does."""
        return Ledger.of(self.url, self.password_file, waits)

    def options(self) -> list[str]:
        """Return the options of a job."""
        password = [] if self.password_file is None else ["--password-file", str(self.password_file)]
        return ["--url", self.url, *password]

    def configuration(self) -> dict[str, str | None]:
        """Return the section ``ledger`` of a config."""
        return {"url": self.url, "password_file": str(self.password_file) if self.password_file else None}


@pytest.fixture(scope="session")
def server() -> Iterator[PrivatePostgresql]:
    with private_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", POSTGRESQL])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Return an empty database."""
    if request.param == "sqlite":
        yield Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}", None)
        return
    server: PrivatePostgresql = request.getfixturevalue("server")
    name = f"ledger_{secrets.token_hex(4)}"
    yield Database(server.make_database(name), server.password_file)
    server.drop_database(name)


@pytest.fixture
def ledger(database: Database) -> Ledger:
    """Return a ledger in an empty database."""
    return database.ledger()


@pytest.fixture
def other_database(tmp_path: Path) -> Database:
    """Return an empty SQLite database besides."""
    return Database(f"sqlite:///{tmp_path / 'other.sqlite'}", None)
