"""Ranges of downlinks: what they stand for."""

from pathlib import Path

import pytest

from halfpipe.downlink.ranges import expand
from halfpipe.errors import ConfigError
from halfpipe.settings import Settings
from tests.support.settings import searching

ON_PATH = ("230331018", "230401001", "230401018", "230402001", "230501001", "080801001")
BEGUN, HANDED_OFF = "230402002", "230402003"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    work, home = tmp_path / "work", tmp_path / "retdefs"
    for name in ON_PATH:
        (home / name).mkdir(parents=True)
    (home / "230401777").write_text("no directory")
    (work / BEGUN).mkdir(parents=True)
    (work / f"dl={HANDED_OFF}").touch()
    (work / "logs").mkdir()
    return searching(work, home)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], []),
        (["230401999"], ["230401999"]),
        (["2023-04-01"], ["230401001", "230401018"]),
        (["2023-04"], ["230401001", "230401018", "230402001", BEGUN, HANDED_OFF]),
        (["230401002..230402001"], ["230401018", "230402001"]),
        (["230402001..230402001"], ["230402001"]),
        (["2023-03..2023-04-01"], ["230331018", "230401001", "230401018"]),
        (["230401018", "2023-04-01"], ["230401018", "230401001"]),
        (["2008-08"], ["080801001"]),
    ],
)
def test_what_a_range_stands_for(settings: Settings, words: list[str], found: list[str]) -> None:
    assert list(expand(settings, words)) == found


def test_a_range_without_any_says_where_it_looked(settings: Settings) -> None:
    with pytest.raises(ConfigError) as caught:
        expand(settings, ["2023-04-01", "2023-06"])
    assert str(caught.value) == (
        "2023-06: there is no downlink from 230600000 to 230699999; looked in "
        f"{settings.paths.retdef[0]}, {settings.paths.work}. Check the range and paths.retdef in the config; "
        "halfpipe status --all lists what there is."
    )
