"""`halfpipe acknowledge`: who is on what is shown beside its causes, ends by itself, and silences nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from halfpipe.files.leases import whoami
from halfpipe.ids import DownlinkId
from halfpipe.process.failure import Failure
from halfpipe.status.acknowledged import read, say
from tests.support.golden_cases import GOLDEN, read_case
from tests.support.harness import job_log
from tests.support.workflow import Site

CASE = read_case(GOLDEN / "split3")
FAILED, OUTSTANDING, _ = (DownlinkId(downlink) for downlink in CASE.downlinks)
RUN, LAST_CENTURY, NEXT_CENTURY = "2c2e5787", "1999-01-01", "2100-01-01"


@pytest.fixture
def site(site: Site) -> Site:
    """A downlink whose merge failed, another one that is outstanding, and a site with a switch of a wrong name."""
    site.add_retdefs(CASE.directory / "in", FAILED, OUTSTANDING)
    (site.work / "halts").mkdir(parents=True)
    (site.work / "halts" / "haltStagge").touch()
    job_log(site.work, f"deliver_run-{RUN}", Failure("merge", f"run {RUN} is odd"), FAILED)
    return site


def on_it(site: Site) -> dict[str, tuple[str, str]]:
    """Return the verdict of each cause of status, and who is on it, by downlink and code."""
    ended = site.halfpipe("status", "--all", "--json")
    assert ended.status == 1, "nothing is silenced"
    found: dict[str, Any] = json.loads(ended.out)
    every = [("", found["site"]), *((one["dl"], one["causes"]) for one in found["downlinks"])]
    return {f"{dl} {c['code']}".strip(): (c["verdict"], c["on_it"]) for dl, causes in every for c in causes}


@pytest.mark.parametrize(
    ("what", "where"),
    [
        (FAILED, {f"{FAILED} merge"}),
        (RUN, {f"{FAILED} merge"}),
        ("r0741234567", {f"{FAILED} merge"}),
        ("outstanding", {f"{OUTSTANDING} outstanding"}),
        ("switch-misspelt", {"switch-misspelt"}),
    ],
)
def test_a_downlink_a_run_and_a_cause(site: Site, what: str, where: set[str]) -> None:
    before = on_it(site)
    assert {who for _, who in before.values()} == {""}
    words = ("acknowledge", what, "--until", NEXT_CENTURY, "--reason", "asks for it")
    site.halfpipe(*words).good()
    (listed,) = site.told("acknowledge")["acknowledged"]
    said = listed["says"]
    assert said.startswith("somebody is on it until 2100-01-01 00:00:00 UTC: ")
    assert said.endswith(f" UTC, {whoami().user} on {whoami().host}: asks for it")
    assert on_it(site) == {key: (of, said if key in where else "") for key, (of, _) in before.items()}
    assert said in site.halfpipe("status", "--all").out
    over = ("acknowledge", what, "--until", LAST_CENTURY, "--reason", "done")
    site.halfpipe(*over).good()
    assert on_it(site) == before, "one that is over ends it"


def test_it_ends_by_itself_and_one_that_is_said_again_replaces_it(tmp_path: Path) -> None:
    say(tmp_path, "timer-dead", 2000.0, "x")
    say(tmp_path, "timer-dead", 1000.0, "y")
    ((what, who),) = read(tmp_path, 999.0).items()
    assert (what, who[-3:]) == ("timer-dead", ": y")
    assert read(tmp_path, 1000.0) == {}
