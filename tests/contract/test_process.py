"""`halfpipe process`: many downlinks, interrupted at any time and continued."""

import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe_simulator.scenario import Scenario
from tests.support.leases import leases
from tests.support.servers import command_lines
from tests.support.verbs import COMMAND
from tests.support.workflow import Ended, Running, Site

pytestmark = pytest.mark.workflow

MONTH = [f"2304{day:02d}{number:03d}" for day in (1, 2) for number in (1, 2)]


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with runs over two downlinks each. Tests copy it and do not change it."""
    home = tmp_path_factory.mktemp("month")
    scenario = Scenario(seed=3, downlinks=MONTH)
    for first in range(len(MONTH) - 1):
        scenario.lci_run(events=40, parts=2, first=first, per_datagram=5)
    site = Site(home)
    site.simulate(scenario)
    site.configure(
        # This must not run: `halfpipe process` submits nothing.
        submit={"automatic": True, "command": f"touch {home}/submitted-{{dl}}"}
    )
    site.work.mkdir()
    return site


def process(site: Site, *words: str) -> Ended:
    return site.halfpipe("process", *words, "--cores", "2")


def killed(site: Site, how: int, *words: str) -> str:
    """Start the command, end it after the next hand-off, and return what it printed."""
    before = receipts(site)
    command = [*COMMAND, "process", *words, "--cores", "2", "--configfile", str(site.configfile)]
    running = Running(command, site.home)
    running.wait_for("a hand-off", lambda: receipts(site) not in (before, {}))
    running.process.send_signal(how)
    ended = running.ended()
    assert ended.status == 128 + how, ended.said
    assert leases(site.work) == []
    assert command_lines(str(site.home)).keys() <= {os.getpid()}
    return ended.said


def receipts(site: Site) -> dict[str, int]:
    found = {}
    for path in site.work.glob("dl=*"):
        with suppress(FileNotFoundError):  # it is made again
            found[path.name] = path.stat().st_ino
    return found


def handed_off(site: Site) -> dict[str, Any]:
    """Return the stage, and all receipts without numbers of hand-offs and checksums."""
    found: dict[str, Any] = {
        name: content for name, content in site.tree().items() if name.startswith("stage/")
    }
    for name in receipts(site):
        found[name] = re.sub(r'"(checksum|handoff)": .*', "", (site.work / name).read_text())
    return found


def test_an_interrupted_command_continues_and_again_gives_the_same(month: Site, tmp_path: Path) -> None:
    straight, site = month.clone(tmp_path / "straight"), month.clone(tmp_path / "killed")
    ended = process(straight, "2023-04").good()
    assert "4 of 4 downlinks outstanding\n" in ended.said
    assert "\n4 of 4 handed off, " in ended.said
    for how in (signal.SIGTERM, signal.SIGINT):
        said = killed(site, how, "2023-04")
        assert re.search(r"^ended: [1-3] of [2-4] handed off", said, re.MULTILINE), said
        same = f"halfpipe process 2023-04 --cores 2 --configfile {site.configfile}"
        assert f"to continue: {same}\n" in said
    process(site, "230401001..230402002").good()
    nothing = process(site, "2023-04").good()
    assert nothing.said == "0 of 4 downlinks outstanding\n"
    assert handed_off(site) == handed_off(straight)

    products = sorted(path for dl in MONTH for path in (site.work / paths.chunks(dl)).glob("0*"))
    assert len(products) > 12
    for path in products[::2]:
        path.unlink()
    killed(site, signal.SIGHUP, "2023-04", "--again")
    rest = sum(not site.has_receipt(dl) or site.receipt(dl)["handoff"] == 1 for dl in MONTH)
    (record,) = site.work.glob(paths.reprocessing("230401001-230402002-*"))
    ended = process(site, "2023-04", "--again").good()
    assert f"{rest} of 4 downlinks to be regenerated\n" in ended.said
    assert f"first: rm {record}\n" in ended.said
    unchanged = re.findall(r"^([0-9]+) of \1 downlinks?: the same events", ended.said, re.MULTILINE)
    assert sum(map(int, unchanged)) == rest
    process(straight, "2023-04", "--again").good()
    assert handed_off(site) == handed_off(straight)
    assert [site.receipt(dl)["handoff"] for dl in MONTH] == [2] * 4
    assert not record.exists()
    assert list(site.home.glob("submitted-*")) == []


def test_single_commands_and_both_mixed_give_the_same(month: Site, tmp_path: Path) -> None:
    single, mixed = month.clone(tmp_path / "single"), month.clone(tmp_path / "mixed")
    late = max((month.retdefs / MONTH[1]).iterdir()).name
    for site in (single, mixed):
        (site.retdefs / MONTH[1] / late).rename(site.home / late)
    for dl in MONTH:
        single.process(dl)
    for dl in MONTH[:2]:
        mixed.process(dl)
    process(mixed, "2023-04").good()
    assert mixed.tree() == single.tree()
    for site in (single, mixed):
        (site.home / late).rename(site.retdefs / MONTH[1] / late)
    single.process(MONTH[1])
    process(mixed, "2023-04").good()
    assert mixed.tree() == single.tree()
    for product in (paths.chunk(MONTH[2], "00001"), paths.receipt(MONTH[2])):
        for site in (single, mixed):
            (site.work / product).unlink()
    single.process(MONTH[2])
    process(mixed, "2023-04").good()
    assert mixed.tree() == single.tree()
    assert mixed.outstanding(*MONTH) == frozenset()
