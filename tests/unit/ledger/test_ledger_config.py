"""The ledger in the config: where it is, and that no password stands in a URL."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy.exc import OperationalError, ProgrammingError

from halfpipe.config import load
from halfpipe.errors import ConfigError, LedgerError
from halfpipe.ledger.database import Ledger, NoLedgerError
from halfpipe.settings import Settings


def with_config(tmp_path: Path, **sections: Any) -> Settings:
    path = tmp_path / "config.yaml"
    places = {"work": str(tmp_path / "work"), "stage": str(tmp_path / "stage")}
    path.write_text(yaml.safe_dump({"paths": places, **sections}))
    return load([path])


def test_where_the_ledger_is(tmp_path: Path) -> None:
    built_in = f"sqlite:///{tmp_path}/work/ledger.sqlite"
    assert Ledger.of(with_config(tmp_path)).name == built_in
    assert Ledger.of(with_config(tmp_path, ledger={"url": "built-in"})).name == built_in
    for url in ("postgresql+psycopg://ledger@db.example/fermi?sslmode=require", "sqlite:////data/a {b}/x"):
        assert Ledger.of(with_config(tmp_path, ledger={"url": url})).name == url
    with pytest.raises(ConfigError, match="null"):
        Ledger.of(with_config(tmp_path, ledger={"url": None}))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://ledger:sesame@host/db",
        "postgresql://ledger:ses/ame?x#y@host/db",
        "postgresql://host/db?user=ledger&password=sesame",
        "postgresql://host/db?sslpassword=sesame",
        "oracle+oracledb://ledger:sesame@isocflight",
        "postgresql://:sesame@/db",
    ],
)
def test_a_password_in_the_url_is_refused_and_not_shown(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match="holds a password") as caught:
        with_config(tmp_path, ledger={"url": url})
    assert "ses" not in str(caught.value)


def test_a_mapping_wants_a_ledger(tmp_path: Path) -> None:
    assert not with_config(tmp_path).moot.mapping
    assert with_config(tmp_path, moot={"mapping": True}).moot.mapping
    with pytest.raises(ConfigError, match=r"moot\.mapping"):
        with_config(tmp_path, moot={"mapping": True}, ledger={"url": None})


def test_the_receipt_does_not_say_where_the_ledger_is(tmp_path: Path) -> None:
    assert "ledger" not in str(with_config(tmp_path).provenance)


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
