"""The ledger in the config: where it is, and that no password stands in a URL."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe.config import Settings, load
from halfpipe.errors import ConfigError

ROOT = Path(__file__).parents[2]


def with_config(tmp_path: Path, **sections: Any) -> Settings:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(sections))
    return load(ROOT, [path])


def test_where_the_ledger_is(tmp_path: Path) -> None:
    settings = load(ROOT)
    assert settings.ledger_url == f"sqlite:///{ROOT}/work/ledger.sqlite"
    assert (settings.ledger_password, settings.moot_update) == (None, None)
    elsewhere = with_config(tmp_path, paths={"work": str(tmp_path)})
    assert elsewhere.ledger_url == f"sqlite:///{tmp_path}/ledger.sqlite"
    assert with_config(tmp_path, ledger={"url": None}).ledger_url is None
    url = "postgresql+psycopg://ledger@db.example/fermi?sslmode=require"
    assert with_config(tmp_path, ledger={"url": url}).ledger_url == url


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
    with pytest.raises(
        ConfigError, match=r"^ledger\.url: holds a password.* ledger\.password_file"
    ) as caught:
        with_config(tmp_path, ledger={"url": url})
    assert "ses" not in str(caught.value)


def test_what_is_no_url(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^ledger\.url: is no URL"):
        with_config(tmp_path, ledger={"url": "ledger.sqlite"})
    with pytest.raises(ConfigError, match=r"^ledger\.password_file: /no/such is no file"):
        with_config(tmp_path, ledger={"password_file": "/no/such"})


def test_a_mapping_wants_a_ledger(tmp_path: Path) -> None:
    assert not load(ROOT).moot_mapping
    assert with_config(tmp_path, moot={"mapping": True}).moot_mapping
    with pytest.raises(ConfigError, match=r"^moot\.mapping: is true, and ledger\.url is null"):
        with_config(tmp_path, moot={"mapping": True}, ledger={"url": None})


def test_the_receipt_does_not_say_where_the_ledger_is() -> None:
    assert "ledger" not in str(load(ROOT).that_matter)
