"""An element of `halfpipe process`: what becomes of a downlink costs no other one."""

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfpipe.config import load, write_down
from halfpipe.downlink.halts import HeldError
from halfpipe.errors import DecoderError, LockedError
from halfpipe.ids import DownlinkId
from halfpipe.process.forks import side_by_side
from halfpipe.settings import Settings
from halfpipe.site import element
from halfpipe.site.element import End, process_all
from tests.support.leases import leases
from tests.support.workflow import Site

ONE, TWO, THREE = (DownlinkId(f"24060100{number}") for number in (1, 2, 3))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A site without anything."""
    site = Site(tmp_path)
    site.work.mkdir()
    return load([site.configfile])


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
    monkeypatch.setattr(element, "FULL_SECONDS", 0.0)
    return found


def ends(settings: Settings, said: pytest.CaptureFixture[str], *downlinks: DownlinkId) -> list[End]:
    process_all(settings, write_down(settings), [{"downlink": dl, "after": {}} for dl in downlinks], 0.0, 1)
    return [end for end in map(End.read, said.readouterr().out.splitlines()) if end]


def raising(error: Exception) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def test_one_that_is_killed_or_fails_costs_no_other_one(
    settings: Settings, acts: dict[str, Callable[[], None]], capfd: pytest.CaptureFixture[str]
) -> None:
    acts[ONE] = lambda: os.kill(os.getpid(), signal.SIGKILL)
    acts[TWO] = raising(DecoderError("it ended with status 1"))
    found = ends(settings, capfd, ONE, TWO, THREE)
    assert [(one.downlink, one.end, one.code) for one in found] == [
        (ONE, "killed", "killed"),
        (TWO, "failed", "decoder"),
        (THREE, "handed-off", ""),
    ]


def test_who_finds_a_disk_full_tries_again(
    settings: Settings,
    acts: dict[str, Callable[[], None]],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    def act() -> None:
        tries = tmp_path / "tries"
        tries.touch()
        with tries.open("a") as out:
            out.write("x")
        if len(tries.read_text()) < 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    acts[ONE] = act
    assert [one.end for one in ends(settings, capfd, ONE)] == ["full", "full", "handed-off"]


def test_what_is_held_or_in_work_is_left_alone(
    settings: Settings, acts: dict[str, Callable[[], None]], capfd: pytest.CaptureFixture[str]
) -> None:
    acts.update({ONE: raising(HeldError("held")), TWO: raising(LockedError("it is in work"))})
    found = [(one.end, one.code) for one in ends(settings, capfd, ONE, TWO)]
    assert found == [("left", "held"), ("left", "locked")]


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
