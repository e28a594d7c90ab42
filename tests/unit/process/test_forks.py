"""Forks side by side: how each ended, how many at a time, and none outlives who started them."""

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from halfpipe.process.forks import DEFECT, side_by_side
from tests.support.servers import wait_for

PATIENCE = 60.0  # seconds, on a machine that is busy with other tests


def raising() -> int:
    raise ValueError("x")


def killed() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_of_each_it_is_said_how_it_ended() -> None:
    work: list[Callable[[], int]] = [lambda: 0, raising, killed, lambda: 3]
    assert side_by_side(work) == side_by_side(work, 3) == [0, DEFECT, -signal.SIGKILL, 3]
    assert side_by_side([]) == []


@pytest.mark.parametrize("most", [1, 3])
def test_so_many_are_at_work_at_a_time(tmp_path: Path, most: int) -> None:
    def one(number: int) -> int:
        mine = tmp_path / f"at-work-{number}"
        mine.touch()
        (tmp_path / f"come-{number}").touch()
        wait_for("others", lambda: len(list(tmp_path.glob("come-*"))) >= most, PATIENCE)
        at_work = len(list(tmp_path.glob("at-work-*")))
        mine.unlink()
        return at_work

    counted = side_by_side([partial(one, number) for number in range(2 * most + 1)], most)
    assert 1 <= min(counted) <= max(counted) <= most


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_they_end_in_order_before_who_started_them_and_is_told_to_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    def one(name: str) -> int:
        """Wait to be told to end; the second one tells who started it, as soon as the first one has begun."""
        try:
            (tmp_path / f"begun-{name}").touch()
            if name == "b":
                wait_for("the first one", (tmp_path / "begun-a").exists, PATIENCE)
                os.kill(os.getppid(), number)
            time.sleep(PATIENCE)
        finally:
            (tmp_path / f"ended-{name}").touch()
        return 0

    def parent() -> int:
        try:
            side_by_side([partial(one, name) for name in "abc"], 2)
        except SystemExit as left:
            return int(str(left.code))
        return 0

    # In a fork, which has no other thread that may be told in the place of its first one.
    assert side_by_side([parent]) == [128 + number]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun-a", "begun-b", "ended-a", "ended-b"]
