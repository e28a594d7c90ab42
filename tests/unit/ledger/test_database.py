"""The ledger of the settings, and what is told of a database that cannot be used."""

from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError

from halfpipe.errors import ConfigError, LedgerError
from halfpipe.ledger.database import Ledger, NoLedgerError
from halfpipe.settings import Ledger as LedgerSettings
from halfpipe.settings import Paths, Settings


@pytest.mark.parametrize(
    "url", [None, "postgresql+psycopg://me@db.example/fermi?sslmode=require", "sqlite:////data/a {b}/x"]
)
def test_where_the_ledger_is(url: str | None, tmp_path: Path) -> None:
    ledger = LedgerSettings() if url is None else LedgerSettings(url)
    named = Ledger.of(Settings(Paths(tmp_path, tmp_path), ledger=ledger)).name
    assert named == (url or f"sqlite:///{tmp_path}/ledger.sqlite")
    with pytest.raises(ConfigError, match="null"):
        Ledger.of(Settings(Paths(tmp_path, tmp_path), ledger=LedgerSettings(None)))


def test_a_database_without_tables_is_no_ledger_yet(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").touch()
    with pytest.raises(NoLedgerError):
        Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", waits=()).read(lambda _: None)


@pytest.mark.parametrize(("kind", "tries"), [(OperationalError, 2), (ProgrammingError, 1)])
def test_an_error_without_a_state_is_told_by_its_kind(
    kind: type[OperationalError | ProgrammingError], tries: int, tmp_path: Path
) -> None:
    tried = []

    def work(_: object) -> None:
        tried.append(1)
        raise kind("SELECT 1", None, Exception("ORA-12541: no listener"))

    with pytest.raises(LedgerError):
        Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", waits=(0.0,)).write(work)
    assert len(tried) == tries
