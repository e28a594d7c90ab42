"""Fixtures: a ledger, and the private Slurm."""

import os
from collections.abc import Iterator

import pytest

from halfpipe.ledger.database import Ledger
from tests.support.ledger_files import Database
from tests.support.private_slurm import PrivateSlurm, private_slurm


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
