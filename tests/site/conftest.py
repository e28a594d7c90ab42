"""A ledger of a test's own, on each kind of database."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from halfpipe.ledger.database import Ledger
from tests.support.ledger_files import Database
from tests.support.private_postgresql import PrivatePostgresql, private_postgresql

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgresql)


@pytest.fixture(scope="session")
def server() -> Iterator[PrivatePostgresql]:
    with private_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", POSTGRESQL])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Return an empty database."""
    if request.param == "sqlite":
        yield Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
        return
    server: PrivatePostgresql = request.getfixturevalue("server")
    name = f"ledger_{secrets.token_hex(4)}"
    yield Database(server.make_database(name))
    server.drop_database(name)


@pytest.fixture
def ledger(database: Database) -> Ledger:
    """Return a ledger in an empty database."""
    return database.ledger()


@pytest.fixture
def other_database(tmp_path: Path) -> Database:
    """Return an empty SQLite database besides."""
    return Database(f"sqlite:///{tmp_path / 'other.sqlite'}")
