"""Fixtures: a ledger on each kind of database, and the private Slurm."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from halfpipe.ledger.database import Ledger
from tests.support.ledger_files import Database
from tests.support.private_postgresql import PrivatePostgresql, private_postgresql
from tests.support.private_slurm import PrivateSlurm, private_slurm

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgresql)


@pytest.fixture(scope="session")
def server() -> Iterator[PrivatePostgresql]:
    with private_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", POSTGRESQL])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Return a function that makes an empty database of one kind."""
    with ExitStack() as held:

        def make() -> Database:
            name = f"ledger_{secrets.token_hex(4)}"
            if request.param == "sqlite":
                return Database(f"sqlite:///{tmp_path / name}.sqlite")
            server: PrivatePostgresql = request.getfixturevalue("server")
            held.callback(server.drop_database, name)
            return Database(server.make_database(name))

        yield make


@pytest.fixture
def database(empty: Callable[[], Database]) -> Database:
    """Return an empty database."""
    return empty()


@pytest.fixture
def ledger(database: Database) -> Ledger:
    """Return a ledger in an empty database."""
    return database.ledger()


@pytest.fixture(scope="session")
def private() -> Iterator[PrivateSlurm | None]:
    """Return the private Slurm; None where the tests use the site's."""
    if os.environ.get("HALFPIPE_SLURM") == "site":
        yield None
        return
    with private_slurm() as slurm:
        yield slurm


@pytest.fixture
def daemons(private: PrivateSlurm | None) -> PrivateSlurm:
    """Return the private Slurm for a test that needs a Slurm of its own."""
    if private is None:
        pytest.skip("only on a private Slurm")
    return private
