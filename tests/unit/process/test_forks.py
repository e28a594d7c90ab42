"""Forks side by side: how each ended, how many at a time, and none outlives who started them."""

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from halfpipe.process.forks import DEFECT, side_by_side
from halfpipe.process.rule_program import leave

PATIENCE = 60.0  # seconds, on a machine that is busy with other tests


def wait_for(what: Callable[[], bool]) -> int:
    end = time.monotonic() + PATIENCE
    while not what():
        if time.monotonic() > end:
            return 1
        time.sleep(0.01)
    return 0


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
        alone = wait_for(lambda: len(list(tmp_path.glob("come-*"))) >= most)
        at_work = len(list(tmp_path.glob("at-work-*")))
        mine.unlink()
        return DEFECT if alone else at_work

    counted = side_by_side([partial(one, number) for number in range(2 * most + 1)], most)
    assert 1 <= min(counted) <= max(counted) <= most


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_they_end_in_order_before_who_started_them_and_is_told_to_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    def one(name: str) -> int:
        (tmp_path / f"begun-{name}").touch()
        try:
            time.sleep(PATIENCE)
        finally:
            (tmp_path / f"ended-{name}").touch()
        return 0

    def tell() -> None:
        wait_for(lambda: len(list(tmp_path.glob("begun-*"))) == 2)
        os.kill(os.getpid(), number)

    before = signal.signal(number, leave)
    try:
        threading.Thread(target=tell).start()
        with pytest.raises(SystemExit) as left:
            side_by_side([partial(one, "a"), partial(one, "b"), partial(one, "c")], 2)
    finally:
        signal.signal(number, before)
    assert left.value.code == 128 + number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun-a", "begun-b", "ended-a", "ended-b"]
