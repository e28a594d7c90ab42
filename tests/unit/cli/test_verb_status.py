"""`halfpipe status`: how each downlink stands, and which need action. The account behind it has tests of its own."""

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.config import load
from halfpipe.downlink import submit
from halfpipe.ids import DownlinkId
from halfpipe.process.failure import Failure
from tests.support.leases import held_by_another
from tests.support.series import damage, sealed_text
from tests.support.verbs import halfpipe, on_terminal
from tests.support.worked_site import FIRST, HALF_WAY, SECOND
from tests.support.workflow import Site

LONG_AGO = 1_717_200_000


def found(configfile: Path, *words: str, person: bool = False) -> dict[str, dict[str, Any]]:
    """Return what is said of each downlink, in its order; the exit status says whether action is needed."""
    ended = halfpipe("status", "--json", *words, configfile=configfile)
    assert ended.exit_code == person, ended.output
    return {one["dl"]: one for one in json.loads(ended.stdout)["downlinks"]}


def codes(one: dict[str, Any]) -> list[str]:
    """Return the codes of the causes of a downlink."""
    return [cause["code"] for cause in one["causes"]]


def test_what_was_processed_and_what_is_outstanding(shared: Path) -> None:
    every = found(shared)
    assert list(every) == [HALF_WAY, SECOND, FIRST]
    first = {
        "state": "submitted 2",
        "verdict": "good",
        "handoff": 2,
        "submitted": 2,
        "events": 72,
        "orphans": 12,
    }
    assert every[FIRST] == {"dl": FIRST, "causes": []} | first
    assert (every[SECOND]["state"], every[SECOND]["verdict"]) == ("handed off 1", "note")
    assert (every[SECOND]["events"], codes(every[SECOND])) == (35, ["not-submitted"])
    assert (every[HALF_WAY]["state"], every[HALF_WAY]["handoff"]) == ("outstanding", None)
    (cause,) = every[HALF_WAY]["causes"]
    assert (cause["code"], cause["do"]) == ("outstanding", f"snakemake dl={HALF_WAY}")


def test_which_downlinks(configfile: Path) -> None:
    assert list(found(configfile, f"dl={FIRST}")) == [FIRST]
    work, retdefs = configfile.parent / "work", configfile.parent / "retdefs"
    for place in (work / f"dl={FIRST}", *([retdefs / FIRST] if (retdefs / FIRST).exists() else [])):
        os.utime(place, (LONG_AGO, LONG_AGO))
    assert list(found(configfile)) == [HALF_WAY, SECOND], "the last week, and what is not done"
    assert list(found(configfile, "--all")) == [HALF_WAY, SECOND, FIRST]
    assert list(found(configfile, "--days", "100000")) == [HALF_WAY, SECOND, FIRST]


def test_one_that_wanted_a_person_is_not_lost_sight_of(configfile: Path) -> None:
    work = configfile.parent / "work"
    damage(work, paths.receipts(FIRST))
    os.utime(work / f"dl={FIRST}", (LONG_AGO, LONG_AGO))
    for place in (configfile.parent / "retdefs").glob(FIRST):
        os.utime(place, (LONG_AGO, LONG_AGO))
    assert FIRST not in found(configfile)
    assert found(configfile, "--all", person=True)[FIRST]["verdict"] == "action"
    assert FIRST in found(configfile, person=True)


def test_lines_in_a_pipe(shared: Path) -> None:
    now, head, half_way, _, first, last = halfpipe("status", configfile=shared).stdout.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", now)
    assert head.split() == [
        "downlink", "state", "chunks", "runs", "events", "waiting", "hand-off", "level-1", "when_(UTC)", "what"
    ]  # fmt: skip
    assert half_way.split(maxsplit=9)[:9] == [HALF_WAY, "outstanding", "3/6", "-", "-", "-", "-", "-", "-"]
    assert half_way.endswith("! note: it is not handed off yet")
    assert first.split()[:8] == [FIRST, "submitted_2", "5/5", "2", "72", "12", "2", "2"]
    assert last == "no downlink needs action"


@pytest.mark.parametrize("place", ["halts", HALF_WAY])
def test_what_is_held(configfile: Path, place: str) -> None:
    switch = configfile.parent / "work" / place / "haltStage"
    switch.parent.mkdir(exist_ok=True)
    switch.touch()
    one = found(configfile)[HALF_WAY]
    assert (one["state"], one["verdict"], codes(one)) == ("held", "note", ["switch-holds"])
    assert str(switch) in one["causes"][0]["text"]
    assert one["causes"][0]["do"].startswith("halfpipe hold stage")


def test_what_waits_for_retdefs(configfile: Path) -> None:
    retdefs = sorted((configfile.parent / "retdefs" / HALF_WAY).iterdir())
    configfile.write_text(configfile.read_text().replace("settle_seconds: 0", "settle_seconds: 60"))
    one = found(configfile)[HALF_WAY]
    assert (one["state"], codes(one)) == ("waiting for RetDefs", ["settling"])
    retdefs[-2].unlink()
    (configfile.parent / "work" / HALF_WAY / retdefs[-2].name).unlink()
    one = found(configfile, "--config", "alarm.late_hours=1000000000")[HALF_WAY]
    assert (one["state"], one["verdict"], codes(one)) == ("waiting for RetDefs", "note", ["waits-retdef"])
    assert "chunk 00005" in one["causes"][0]["text"]
    assert found(configfile, person=True)[HALF_WAY]["verdict"] == "action", "they are of long ago"


def test_what_is_in_work(configfile: Path) -> None:
    with held_by_another(configfile.parent / "work", paths.downlink_lease(SECOND), silent=40) as holder:
        one = found(configfile)[SECOND]
    assert one["state"] == "in work"
    assert re.fullmatch(
        f"in work by {re.escape(str(holder))}, last heard of 4. s ago; taken over at 300 s",
        one["causes"][0]["text"],
    )
    assert one["events"] == 35, "of the receipt that is still there"


def test_retdefs_that_are_gone_need_action(configfile: Path) -> None:
    for path in (configfile.parent / "retdefs" / HALF_WAY).iterdir():
        path.unlink()
    one = found(configfile, person=True)[HALF_WAY]
    assert "retdefs-gone" in codes(one)


def test_level_1_has_taken_it_only_after_a_submission(configfile: Path) -> None:
    stage = configfile.parent / "stage"
    for downlink in (FIRST, SECOND):
        if (stage / downlink).exists():
            (stage / downlink).rename(configfile.parent / f"taken-{downlink}")
    every = found(configfile, person=True)
    assert (every[FIRST]["state"], every[FIRST]["verdict"]) == ("taken by Level-1", "good")
    assert (every[SECOND]["verdict"], codes(every[SECOND])[0]) == ("action", "stage-gone")


def test_a_person_is_wanted_and_told_what_for(configfile: Path) -> None:
    work, words = configfile.parent / "work", ("--config", "submit.command=null")
    assert halfpipe("submit", SECOND, *words, configfile=configfile).exit_code == 0
    every = found(configfile, person=True)
    assert list(every) == [SECOND, HALF_WAY, FIRST], "it comes first"
    assert codes(every[SECOND]) == ["written-for-person"]
    settle = f"halfpipe submit {SECOND} --settle submitted"
    assert every[SECOND]["causes"][0]["do"].endswith(settle)
    said = halfpipe("status", configfile=configfile).stdout
    assert "\n1 of 3 downlinks needs action\n" in said
    assert said.splitlines()[-1].endswith(settle)
    seen = on_terminal("status", "--configfile", configfile, env={"NO_COLOR": "1"})
    assert "1 of 3 downlinks needs action" in seen
    assert f"✗ {SECOND}: " in seen
    assert re.search(rf"^ +{HALF_WAY} +! note: it is not handed off yet *$", seen, re.MULTILINE)
    assert max(map(len, seen.partition("1 of 3 downlinks")[0].splitlines()[2:])) <= 80

    submit.settle(load([configfile]), DownlinkId(SECOND), submitted=True)
    assert found(configfile)[SECOND]["verdict"] == "good"
    receipt = work / f"dl={SECOND}"
    content = json.loads(receipt.read_text())
    receipt.write_text(sealed_text(content | {"handoff": 2}))
    one = found(configfile, person=True)[SECOND]
    assert "handoff-not-submitted" in codes(one)
    content["runs"][0]["held"] = True
    receipt.write_text(sealed_text(content))
    assert "run-held" in codes(found(configfile, person=True)[SECOND])


def test_on_a_narrow_terminal_reasons_have_lines_of_their_own(configfile: Path) -> None:
    log = configfile.parent / "work" / "logs" / HALF_WAY / "deliver_run-2c2e5787.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    why, remedy = "the stage is away." + " It is long." * 60, "To see it: halfpipe hold"
    Failure("stage", why, remedy).write(log)
    seen = on_terminal("status", "--configfile", configfile, env={"NO_COLOR": "1"}).splitlines()
    assert len(seen) < 20
    (told,) = [
        line for line in seen if line.startswith(f"✗ {HALF_WAY}: deliver_run 2c2e5787: the stage is away.")
    ]
    assert f"It is long; its log: {log}, since " in told
    assert f"  → {remedy}; then: snakemake dl={HALF_WAY}" in seen, "whole"


def test_an_earlier_hand_off_is_not_forgotten(configfile: Path) -> None:
    (configfile.parent / "work" / f"dl={FIRST}").unlink()
    line = next(
        x for x in halfpipe("status", configfile=configfile).stdout.splitlines() if x.startswith(FIRST)
    )
    assert line.split()[6] == "(2)"


def test_a_downlink_that_only_runs_know_is_named(configfile: Path) -> None:
    work = configfile.parent / "work"
    for place in (work / FIRST, work / paths.copies(FIRST), configfile.parent / "retdefs" / FIRST):
        shutil.rmtree(place, ignore_errors=True)
    (work / f"dl={FIRST}").unlink()
    for mark in (configfile.parent / "stage" / paths.stage_mark(), work / paths.stage_mark_copy()):
        shutil.rmtree(mark)  # it knows the receipts: else nothing is done
    assert list(work.glob(f"runs/*/{FIRST}")), "what it brought is known"
    one = found(configfile, person=True)[FIRST]
    assert (one["verdict"], codes(one)) == ("action", ["receipt-lost", "receipt-lost"])
    assert one["causes"][0]["do"] == f"snakemake dl={FIRST}"


def test_a_week_is_told_at_once(shared: Path) -> None:
    begun = time.monotonic()
    found(shared)
    print(f"status took {time.monotonic() - begun:.2f} s")


def test_a_site_without_downlinks_says_so(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.configure()
    site.work.mkdir()
    ended = halfpipe("status", configfile=site.configfile)
    assert ended.exit_code == 0
    assert str(site.work) in ended.stdout.splitlines()[-1]
