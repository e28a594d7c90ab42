"""The board of SIMULATED downlinks, one in twenty with a problem: time, memory, and size of the page."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.conftest import Race
from benchmarks.history import History, build
from benchmarks.measure import Figure, Launcher
from benchmarks.sizes import Sizes
from halfpipe import paths

DOWNLINKS = 1_998  # whole groups of the history, so that no run lacks a downlink
ONE_IN = 20  # has a problem
NEED_ACTION = 10  # of those; the others are not handed off yet
CUT = 100  # bytes off the end of a damaged receipt
ASKED = ("--config", "board.days=10000")
SECONDS, PAGE = 10.0, 300_000  # limits: seconds, and bytes of the page of the site
ROW = re.compile(r"<tbody>\n(.*?)</tbody>", re.DOTALL)
PROGRAM = Path(sys.executable).with_name("halfpipe")


@pytest.fixture(scope="session")
def history(sizes: Sizes) -> History:
    """Downlinks, one in twenty with a problem; the ten oldest problems need action."""
    history = build(sizes.home / "board", DOWNLINKS)
    marked = history.home / "troubled"
    if not marked.exists():
        receipts = sorted((history.home / "work").glob(paths.receipt("*")))[ONE_IN - 1 :: ONE_IN]
        for number, receipt in enumerate(receipts):
            if number < NEED_ACTION:
                content = receipt.read_bytes()
                receipt.write_bytes(content[:-CUT])
            else:
                receipt.unlink()
        marked.touch()
    return history


def bench_board(race: Race, launcher: Launcher, history: History, scratch: Path) -> None:
    """Make the pages of all downlinks for the first time; those that need action must come first."""
    out = scratch / "board"

    def ready() -> None:
        shutil.rmtree(out, ignore_errors=True)

    race.rounds = min(race.rounds, 3)
    race.run(
        f"halfpipe board, {DOWNLINKS:,} downlinks, 5 % with trouble, for the first time",
        lambda: launcher.run(
            [PROGRAM, "board", "-o", out, *ASKED, "--profile", history.home],
            statuses=(1,),
        ),
        {},
        ready=ready,
        seconds=SECONDS,
    )
    race.add(Figure("CPU seconds", tuple(usage.cpu for usage in race.usages), "s"))
    page = (out / paths.BOARD).read_text()
    found = ROW.search(page)
    assert found is not None
    verdicts = re.findall(r"^<tr(?: class=(\w))?>", found[1], re.MULTILINE)
    assert [verdicts.count(each) for each in ("a", "n", "")] == [10, 89, 1899]
    assert verdicts[:NEED_ACTION] == ["a"] * NEED_ACTION
    race.add(Figure("the page of the site", (len(page.encode()),), "bytes", PAGE))
