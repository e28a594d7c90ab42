"""The MOOT mapping over the rows that others have entered, and when it is asked."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, insert, text

from halfpipe import paths
from halfpipe.errors import LedgerError, StateError
from halfpipe.formats.idx import Datagrams
from halfpipe.ids import RunId, RunKind
from halfpipe.ledger import moot_key
from halfpipe.ledger.database import Ledger, NoLedgerError
from halfpipe.ledger.mapping import UNKNOWN, look_up
from halfpipe.ledger.moot_file import UNSET
from halfpipe.ledger.tables import ACQUISITIONS, DEFAULTS
from halfpipe.settings import Moot, Paths, Settings
from halfpipe.state.deliveries import MootKey

RUN = RunId("2c2e5787")
OTHER = RunId("2c2e8000")
GROUND = 2**32 - 1
START = datetime(2024, 6, 28, 2, 29, 27)

Row = dict[str, Any]


@pytest.fixture(scope="module")
def engine() -> Engine:
    made = create_engine("sqlite://")
    for table in (DEFAULTS, ACQUISITIONS):
        table.create(made)
    return made


def default(seconds: float, key: int | None, **other: object) -> Row:
    at = START - timedelta(seconds=seconds)
    return {"tcompleted": at, "moot_key": key, "moot_alias": f"of{key}"} | other


def request(seconds: float, key: int | None, **other: object) -> Row:
    row = {"trequested": START - timedelta(seconds=seconds), "moot_key": key, "moot_alias": f"of{key}"}
    return row | {"id": GROUND, "startedat": None, "type": "LPA"} | other


def mapped(engine: Engine, defaults: list[Row], requests: list[Row], kind: RunKind = RunKind.LPA) -> MootKey:
    with engine.connect() as connection:  # nothing is committed
        for table, rows in ((DEFAULTS, defaults), (ACQUISITIONS, requests)):
            if rows:
                connection.execute(insert(table), rows)
        return look_up(connection, RUN, kind, GROUND, START)


DEFAULT_ROWS = [default(9, 1), default(1, 2), default(0.5, None), default(0, 3), default(-5, 3)]


@pytest.mark.parametrize(
    ("defaults", "requests", "lpa", "lci"),
    [
        ([], [], None, None),
        (DEFAULT_ROWS, [], 2, None),
        (DEFAULT_ROWS[::-1], [], 2, None),
        ([default(1, 5), default(1, 4)], [], 5, None),
        (DEFAULT_ROWS, [request(2, 7), request(1, 8)], 8, 8),
        (DEFAULT_ROWS, [request(1, 8), request(2, 7)], 8, 8),
        (DEFAULT_ROWS, [request(1, 7), request(1, None), request(1, 8), request(3, 9)], 8, 8),
        (DEFAULT_ROWS, [request(0, 7), request(-1, 7)], 2, None),
        (DEFAULT_ROWS, [request(1, 7, id=0), request(1, 7, startedat=OTHER.met)], 2, None),
        (DEFAULT_ROWS, [request(1, 7, startedat=RUN.met)], 7, 7),
        (DEFAULT_ROWS, [request(1, None), request(2, 7)], 2, None),
        (DEFAULT_ROWS, [request(1, 0)], 2, None),
        ([], [request(2, 7, type="LPA"), request(3, 8, type="LCI")], 7, 7),
        ([], [request(3, 7, type="LPA"), request(2, 8, type="LCI  ")], 8, 8),
        ([], [*(request(1, 7, type=other) for other in (None, "", "lpa", "MAGIC7")), request(2, 8)], 8, 8),
    ],
)
def test_row_of_the_moot_key(
    engine: Engine, defaults: list[Row], requests: list[Row], lpa: int | None, lci: int | None
) -> None:
    for kind, key in ((RunKind.LPA, lpa), (RunKind.LCI, lci)):
        expected = UNKNOWN if key is None else MootKey(key, f"of{key}")
        assert mapped(engine, defaults, requests, kind) == expected


def test_key_or_alias_that_does_not_fit_is_refused(engine: Engine) -> None:
    assert mapped(engine, [default(1, 0, moot_alias=" x ")], []) == MootKey(0, "x")
    assert mapped(engine, [default(1, 9, moot_alias=None)], []) == MootKey(9, "UNKNOWN")
    for key, alias in ((2**32, "x"), (-1, "x"), (9, "a b")):
        with pytest.raises(StateError):
            mapped(engine, [default(1, key, moot_alias=alias)], [])


def test_key_is_looked_up_only_for_a_first_datagram_with_a_good_time(tmp_path: Path) -> None:
    settings = Settings(Paths(tmp_path, tmp_path / "stage"), moot=Moot(mapping=True))
    first = Datagrams.zeros(1)
    first.utc[:] = 1719541767.0
    assert moot_key.of_run(settings, RUN, first[:0]) == UNSET
    assert moot_key.of_run(replace(settings, moot=Moot()), RUN, first) == UNSET
    with pytest.raises(LedgerError, match=RUN) as caught:
        moot_key.of_run(settings, RUN, first)
    assert isinstance(caught.value.__cause__, NoLedgerError)
    Ledger(f"sqlite:///{tmp_path / paths.LEDGER}", waits=()).write(lambda _: None)
    assert moot_key.of_run(settings, RUN, first) == UNSET
    three = first[[0, 0, 0]]
    three.utc[:] = (1e15, first.utc[0], 1e15)
    assert moot_key.of_run(settings, RUN, three) == UNSET
    first.utc[:] = 1e15
    with pytest.raises(LedgerError, match=RUN):
        moot_key.of_run(settings, RUN, first)


def test_a_full_disk_under_sqlite_asks_for_space(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / paths.LEDGER}", waits=())
    ledger.write(lambda _: None)

    def fill(connection: Connection) -> None:
        connection.execute(text("PRAGMA max_page_count = 1"))  # as many as there are
        connection.execute(text("CREATE TABLE filler AS SELECT randomblob(1000000) AS content"))

    with pytest.raises(LedgerError) as caught:
        ledger.write(fill)
    assert "space" in caught.value.remedy.first
