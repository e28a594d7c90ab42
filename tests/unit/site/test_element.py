"""An element of `halfpipe process`: what becomes of a downlink costs no other one."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfpipe.config import write_down
from halfpipe.downlink.halts import HeldError
from halfpipe.errors import DecoderError, LockedError
from halfpipe.ids import DownlinkId
from halfpipe.process.failure import Failure
from halfpipe.process.forks import side_by_side
from halfpipe.settings import Settings
from halfpipe.site import element
from halfpipe.site.element import process_all, record
from tests.support.leases import leases
from tests.support.workflow import Site

ONE, TWO, THREE = (DownlinkId(f"24060100{number}") for number in (1, 2, 3))


@pytest.fixture
def settings(site: Site) -> Settings:
    """A site without anything."""
    site.work.mkdir()
    return site.settings


@pytest.fixture
def acts(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], None]]:
    """What the processes of downlinks do instead of their work."""
    found: dict[str, Callable[[], None]] = {}

    class Process:
        done, waits_for = True, frozenset[str]()

        def __init__(self, settings: Settings, _written: Path, downlink: DownlinkId, *_: Any) -> None:
            self.settings, self.downlink = settings, downlink

        def run(self, _say: Callable[[str], None]) -> None:
            found.get(self.downlink, lambda: None)()

    monkeypatch.setattr(element, "Process", Process)
    return found


def ends(settings: Settings, *downlinks: DownlinkId) -> list[str]:
    """Process downlinks, and return the codes of why they are not handed off; empty: of one that is."""
    process_all(settings, write_down(settings), [{"downlink": dl, "after": {}} for dl in downlinks], 0.0, 1)
    found = [Failure.read(settings.paths.work / record(dl)) for dl in downlinks]
    return [why.code if why else "" for why in found]


def raising(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def test_one_that_is_killed_or_fails_costs_no_other_one(
    settings: Settings, acts: dict[str, Callable[[], None]], capfd: pytest.CaptureFixture[str]
) -> None:
    acts[ONE] = lambda: os.kill(os.getpid(), signal.SIGKILL)
    acts[TWO] = raising(DecoderError("it ended with status 1"))
    assert ends(settings, ONE, TWO, THREE) == ["killed", "decoder", ""]
    said = capfd.readouterr().out
    assert f"downlink {TWO}: it ended with status 1\n" in said
    acts.clear()
    assert ends(settings, ONE, TWO) == ["", ""], "they were begun again"


def test_one_whose_process_ends_without_a_word_is_a_defect(
    settings: Settings, acts: dict[str, Callable[[], None]]
) -> None:
    acts[ONE] = lambda: sys.exit(0)
    assert ends(settings, ONE) == ["defect"]


def test_what_is_held_or_in_work_is_left_alone(
    settings: Settings, acts: dict[str, Callable[[], None]]
) -> None:
    acts.update({ONE: raising(HeldError("held")), TWO: raising(LockedError("it is in work"))})
    assert set(ends(settings, ONE, TWO)) == element.LEFT


def test_an_element_that_is_told_to_end_ends_its_downlink_first(
    settings: Settings, acts: dict[str, Callable[[], None]], tmp_path: Path
) -> None:
    def act() -> None:
        try:
            os.kill(os.getppid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            (tmp_path / "in order").touch()

    def element_() -> int:
        try:
            entries = [{"downlink": dl, "after": {}} for dl in (ONE, TWO)]
            process_all(settings, write_down(settings), entries, 0.0, 1)
        except SystemExit as left:
            return int(str(left.code))
        return 0

    acts[ONE] = act
    # In a fork, which has no other thread that may be told in the place of its first one.
    assert side_by_side([element_]) == [128 + signal.SIGTERM]
    assert (tmp_path / "in order").exists()
    assert leases(settings.paths.work) == []
