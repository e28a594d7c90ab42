"""Drills: each of the twelve troubles is told as an alarm, cured by what is told, and looked at afterwards."""

import json
import re
import shlex
from pathlib import Path

import pytest

from halfpipe_simulator.scenario import MARK, Scenario
from halfpipe_simulator.troubles import BY_NAME, TROUBLES
from tests.support.workflow import Site

QUICK = {"disk-full"}  # begins without Snakemake


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a simulated site as scripts/simulate.py makes one, with the settings of the tests."""
    made = Scenario(seed=3).lpa_run(events=100).write(tmp_path / "simulated")
    site = Site(made.path)
    site.use(made)
    site.configure(magic7={"command": None})
    site.work.mkdir()
    return site


def commands(said: str) -> list[list[str]]:
    """Return the commands of a message, without those that do without something."""
    to_do = said.partition("or do without:")[0]
    return [shlex.split(line) for line in re.findall(r"→ ((?:snakemake|halfpipe) .*)", to_do)]


def second(site: Site) -> str:
    downlink: str = json.loads((site.home / "drill.json").read_text())["second"]
    return downlink


@pytest.mark.parametrize(
    "name",
    [pytest.param(one.name, marks=[] if one.name in QUICK else pytest.mark.workflow) for one in TROUBLES],
)
def test_a_drill_is_cured_by_what_the_shift_is_told(name: str, site: Site) -> None:
    told = site.halfpipe("drill", "--do", name).good().said
    assert "\nSubject: HalfPipe: " in told
    assert site.halfpipe("drill", "--do").status == 2, "another one at the same time"
    site.halfpipe("drill").bad("Not cured:")
    called = site.halfpipe("drill", "--call")
    assert called.status == (0 if BY_NAME[name].others else 1), called.said
    for program, *words in commands(told):
        (site.snakemake if program == "snakemake" else site.halfpipe)(*words).good()
    site.process(second(site))
    ended = site.halfpipe("drill").good()
    assert "300 events: 0 not delivered, 0 delivered twice\n" in ended.said
    site.halfpipe("drill").bad("there is no drill")


def test_what_is_decided_in_a_drill_is_told_with_what_is_lost(site: Site) -> None:
    site.halfpipe("drill", "--do", "retdef-missing").good()
    subject = f"{second(site)}/00001"
    site.halfpipe("accept", subject, "left-out", "--reason", "the ISOC has none").good()
    site.process(second(site))
    ended = site.halfpipe("drill").bad(f"you decided: {subject} left-out: the ISOC has none (")
    lost = re.search(r"300 events: (\d+) not delivered, 0 delivered twice", ended.said)
    assert lost is not None
    assert int(lost[1]) > 0
    site.halfpipe("drill", "--do", "disk-full").good()
    assert BY_NAME["disk-full"].lesson in site.halfpipe("drill", "--undo").good().said


def test_a_drill_needs_a_simulated_site(site: Site, tmp_path: Path) -> None:
    (site.home / MARK).rename(tmp_path / MARK)
    assert site.halfpipe("drill", "--do").status == 2
    (tmp_path / MARK).rename(site.home / MARK)
    site.configure(decoder={"command": "flight-decoder {level0}"})
    assert site.halfpipe("drill", "--do").status == 2
    site.configure(decoder={"command": "built-in"}, paths={"stage": str(tmp_path / "stage")})
    assert site.halfpipe("drill", "--do").status == 2
    assert not (site.home / "drills").exists()
