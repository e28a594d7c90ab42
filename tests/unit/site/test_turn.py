"""Which downlinks a turn of unattended processing looks at."""

from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.files.json_files import write_json
from halfpipe.site.unattended_turn import ALL_SECONDS, looked_at
from halfpipe.status.account import Site as Looked
from halfpipe.status.overview import recent
from tests.support.workflow import Site

NOW = 1_680_393_600.0  # 2023-04-02 00:00 UTC
WEEK_AGO = "230326000"


@pytest.mark.parametrize(
    ("last", "looks_at_all"),
    [
        ({"all": NOW - 600, "ended": NOW}, False),
        ({"all": NOW - ALL_SECONDS, "ended": NOW}, True),
        ({"all": NOW + 600, "ended": NOW}, True),
        ({"all": "x", "ended": NOW}, True),
        ({"ended": NOW - 600}, True),
        (None, True),
    ],
)
def test_all_once_a_day(tmp_path: Path, last: dict[str, object] | None, looks_at_all: bool) -> None:
    if last is not None:
        place = tmp_path / paths.last_turn()
        place.parent.mkdir(parents=True)
        write_json(place, last)
    assert looked_at(tmp_path, NOW) == ((NOW, "") if looks_at_all else (NOW - 600, WEEK_AGO))


def test_old_ones_are_those_that_are_handed_off(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.work.mkdir()
    for dl in ("230301001", "230301002", "230402001"):
        (site.retdefs / dl).mkdir()
        if dl != "230301002":
            (site.work / paths.receipt(dl)).touch()
    looked = Looked(site.settings)
    assert list(recent(looked, 7.0)) == ["230301001", "230301002", "230402001"]
    assert list(recent(looked, 7.0, WEEK_AGO)) == ["230301002", "230402001"]
