"""Which downlinks a turn of unattended processing looks at, and what it says of one that cannot begin."""

from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId
from halfpipe.site import unattended_turn
from halfpipe.site.batches import Batch, Here
from halfpipe.site.slurm import BusyError
from halfpipe.site.unattended_turn import ALL_SECONDS, FAILED, GOOD, looked_at
from halfpipe.status.account import Survey
from halfpipe.status.overview import recent
from tests.support.golden_cases import GOLDEN
from tests.support.harness import Said
from tests.support.leases import held_by_another
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
        place = tmp_path / paths.LAST_TURN
        place.parent.mkdir(parents=True)
        write_json(place, last)
    assert looked_at(tmp_path, NOW) == ((NOW, "") if looks_at_all else (NOW - 600, WEEK_AGO))


def test_old_ones_are_those_that_are_handed_off(site: Site) -> None:
    site.work.mkdir()
    for dl in ("230301001", "230301002", "230402001"):
        (site.retdefs / dl).mkdir()
        if dl != "230301002":
            (site.work / paths.receipt(dl)).touch()
    looked = Survey(site.settings)
    assert list(recent(looked, 7.0)) == ["230301001", "230301002", "230402001"]
    assert list(recent(looked, 7.0, WEEK_AGO)) == ["230301002", "230402001"]


class Refusing(Here):
    """A launcher that Slurm lets start nothing, or whose elements end without a word."""

    seconds = 0.0

    def __init__(self, refusal: str) -> None:
        super().__init__(1)
        self._refusal = refusal

    def start(self, *_: object) -> None:
        if self._refusal:
            raise BusyError(self._refusal)


@pytest.mark.parametrize(
    ("refusal", "why"), [("sbatch: the queue is full", "the queue is full"), ("", "no element")]
)
def test_one_that_cannot_begin_is_failed_and_says_why(
    site: Site, monkeypatch: pytest.MonkeyPatch, refusal: str, why: str
) -> None:
    monkeypatch.setattr(unattended_turn, "WAITS_SECONDS", 0.0)
    site.work.mkdir()
    monkeypatch.setattr(unattended_turn, "SHOWN_SECONDS", 0.0)
    shown = list[str]()
    for seconds, ends in ((60.0, why), (0.0, "out-of-time")):
        batch = Batch(site.settings, [DownlinkId("230402001")])
        assert ends in unattended_turn.follow(batch, Refusing(refusal), seconds, lambda: shown.append("x"))
        assert shown
        shown.clear()


def test_a_downlink_that_another_process_has_in_work_is_left_to_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unattended_turn, "WAITS_SECONDS", 0.0)
    dl, mails = DownlinkId("240601001"), Said()
    site.work.mkdir()
    site.add_retdefs(GOLDEN / "multi3" / "in", dl)

    def status() -> int:
        return unattended_turn.turn(site.settings, lambda: Refusing("full"), 1.0, mails)

    with held_by_another(site.work, paths.downlink_lease(dl)):
        assert status() == GOOD
    assert mails == []
    assert status() == FAILED
    assert "  it waits: full; its log: " in mails[0]


def test_what_is_amiss_with_the_site_is_told_as_status_tells_it(site: Site) -> None:
    said = Said()
    (site.work / "halts").mkdir(parents=True)
    (site.work / "halts" / "haltstage").touch()
    for _ in range(2):
        unattended_turn.turn(site.settings, lambda: Refusing(""), 1.0, said)
    (mail,) = said
    assert "site (switch-misspelt)" in mail
