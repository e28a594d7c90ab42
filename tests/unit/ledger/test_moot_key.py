"""Where a run's MOOT key comes from: the operators' file, or else the tables of the ledger."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import insert

from halfpipe import paths
from halfpipe.errors import LedgerError
from halfpipe.formats.idx import DATAGRAM
from halfpipe.ids import RunId
from halfpipe.ledger import moot_key
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import ACQUISITIONS, DEFAULTS
from halfpipe.run.moot_keys import UNSET, Moot
from halfpipe.settings import Moot as MootSettings
from halfpipe.settings import Paths, Settings

RUN = RunId("2c2e5787")
GROUND = 7799117
START = 1719541767.0  # 2024-06-28 02:29:27
MAPPED = Moot(9, "calibOps")


def datagrams(*apids: int) -> np.ndarray:
    """Return a datagram of each APID, a second after one another; the ground id of the first one counts."""
    rows = np.zeros(len(apids), DATAGRAM)
    rows["apid"] = apids
    rows["utc"] = START + np.arange(len(apids))
    rows["groundid"] = GROUND + np.arange(len(apids))
    return rows[::-1]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A site whose ledger has a default for LPA runs, and a request under the ground id."""
    ledger = Ledger(f"sqlite:///{tmp_path / paths.LEDGER}", waits=())
    default = {"tcompleted": datetime(2024, 6, 1), "moot_key": 5, "moot_alias": "nomSciOps"}
    request = {"id": GROUND, "trequested": datetime(2024, 6, 2), "type": "LCI", "moot_key": 9}
    ledger.write(lambda _: None)
    ledger.write(lambda c: c.execute(insert(DEFAULTS), [default]))
    ledger.write(lambda c: c.execute(insert(ACQUISITIONS), [request | {"moot_alias": "calibOps"}]))
    return Settings(Paths(work=tmp_path, stage=tmp_path / "stage"), moot=MootSettings(mapping=True))


def test_the_ledger_is_asked_by_kind_and_first_datagram(settings: Settings) -> None:
    assert moot_key.of_run(settings, RUN, datagrams(965, 966)) == MAPPED
    later = datagrams(955, 956)[:1]  # of another ground id: only the default holds
    assert moot_key.of_run(settings, RUN, later) == Moot(5, "nomSciOps")
    later["apid"] = 965
    assert moot_key.of_run(settings, RUN, later) == UNSET
    later["utc"] = 1e15
    with pytest.raises(LedgerError, match="cannot be looked up"):
        moot_key.of_run(settings, RUN, later)


def test_the_file_goes_before_the_ledger(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "moot.txt"
    file.write_text(f"{RUN.l1} 2959 byHand\n")
    by_hand = replace(settings, moot=MootSettings(file=file, mapping=True))
    assert moot_key.of_run(by_hand, RUN, datagrams(965)) == Moot(2959, "byHand")
    file.write_text(f"{RunId('2c2e8000').l1} 2959 byHand\n")
    assert moot_key.of_run(by_hand, RUN, datagrams(965)) == MAPPED


def test_without_a_datagram_and_without_mapping_nobody_is_asked(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / paths.LEDGER).unlink()
    assert moot_key.of_run(settings, RUN, datagrams()) == UNSET
    assert moot_key.of_run(replace(settings, moot=MootSettings()), RUN, datagrams(965)) == UNSET
    with pytest.raises(
        LedgerError, match=f"^run {RUN} .* its MOOT key cannot be looked up: there is no ledger"
    ):
        moot_key.of_run(settings, RUN, datagrams(965))
