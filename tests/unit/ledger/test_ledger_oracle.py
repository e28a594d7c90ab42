"""How a ledger in Oracle is reached: what a stand-in of the driver, which has no client or database, is given."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from halfpipe.errors import ConfigError, LedgerError
from halfpipe.ledger.database import Ledger
from halfpipe.settings import Ledger as LedgerSettings
from halfpipe.settings import Paths, Settings


@dataclass
class Driver:
    client: list[dict[str, Any]] = field(default_factory=list)
    connections: list[dict[str, Any]] = field(default_factory=list)
    has_client: bool = True


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """Put a stand-in in the place of python-oracledb: its client loads or not, no database answers."""
    given = Driver()

    class DriverError(Exception):
        pass

    class StandIn(ModuleType):
        version = "3.4.0"
        paramstyle = "named"
        Error = DriverError

        def __getattr__(self, name: str) -> Any:
            """Return a constant or an error; SQLAlchemy asks for dozens of them."""
            return type(name, (DriverError,), {}) if name.endswith("Error") else name

        def init_oracle_client(self, **options: Any) -> None:
            given.client.append(options)
            if not given.has_client:
                raise DriverError(
                    "DPI-1047: Cannot locate a 64-bit Oracle Client library. See the manual for help"
                )

        def connect(self, **options: Any) -> None:
            given.connections.append(options)
            raise DriverError("ORA-12154: cannot connect")

    monkeypatch.setitem(sys.modules, "oracledb", StandIn("oracledb"))
    return given


def ledger(**more: Any) -> Ledger:
    """Return the ledger of a site whose wallet logs in, as Level-1's ``/@isocflight``."""
    at = LedgerSettings("oracle+oracledb://isocflight", **more)
    return Ledger.of(Settings(Paths(Path("work"), Path("stage")), ledger=at), waits=())


@pytest.mark.parametrize(
    ("keys", "client", "connection"),
    [
        ({}, [], {"dsn": "isocflight"}),
        ({"tns_admin": Path("/tns")}, [], {"dsn": "isocflight", "config_dir": "/tns"}),
        ({"thick": True}, [{}], {"dsn": "isocflight"}),
        ({"thick": True, "tns_admin": Path("/tns")}, [{"config_dir": "/tns"}], {"dsn": "isocflight"}),
    ],
)
def test_driver_gets_alias_and_directory_but_no_user(
    driver: Driver, keys: dict[str, Any], client: list[object], connection: dict[str, str]
) -> None:
    with pytest.raises(LedgerError, match="ORA-12154"):
        ledger(**keys).read(lambda _: None)
    assert (driver.client, driver.connections) == (client, [connection])


def test_missing_oracle_client_is_a_config_error(driver: Driver) -> None:
    driver.has_client = False
    with pytest.raises(ConfigError, match=r"DPI-1047.*LD_LIBRARY_PATH"):
        ledger(thick=True)
    assert driver.connections == []
    Ledger("sqlite://", thick=True)  # other databases need no client


def test_missing_driver_has_an_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "oracledb", None)
    with pytest.raises(ConfigError) as caught:
        ledger()
    assert caught.value.remedy.do == (".venv/bin/python -m pip install '.[oracle]'",)
