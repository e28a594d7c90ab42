"""`halfpipe status`: the state of each downlink, and which need action. Its accounts have their own tests."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.errors import Remedy
from halfpipe.ids import DownlinkId
from halfpipe.process.failure_record import Failure
from halfpipe.state.closed import last_change, write_closed
from tests.support.harness import job_log
from tests.support.leases import held_by_another
from tests.support.series import damage
from tests.support.servers import put_program
from tests.support.verbs import on_terminal
from tests.support.worked_site import FIRST, HALF_WAY, SECOND
from tests.support.workflow import LONG_AGO, Site


def found(own: Site, *words: str, person: bool = False) -> dict[str, dict[str, Any]]:
    """Return each downlink in the order of the output; the exit status shows whether action is needed."""
    ended = own.halfpipe("status", "--format", "json", *words)
    assert ended.status == person, ended.said
    return {one["dl"]: one for one in json.loads(ended.out)["downlinks"]}


def seen(one: dict[str, Any]) -> tuple[str, str, list[str]]:
    """Return state, verdict, and the codes of the causes of a downlink."""
    return one["state"], one["verdict"], [cause["code"] for cause in one["causes"]]


def test_what_was_processed_and_what_is_outstanding(shared: Site) -> None:
    every = found(shared)
    assert list(every) == [HALF_WAY, SECOND, FIRST]
    assert [every[FIRST][name] for name in ("handoff", "submitted", "events")] == [2, 2, 72]
    assert (every[FIRST]["waiting"], every[SECOND]["waiting"]) == (0, 11), "those of the run merged last"
    assert seen(every[FIRST]) == ("submitted 2", "good", [])
    assert seen(every[SECOND]) == ("handed off 1", "note", ["not-submitted"])
    assert seen(every[HALF_WAY]) == ("outstanding", "note", ["outstanding"])
    assert every[HALF_WAY]["causes"][0]["do"] == f"snakemake dl={HALF_WAY}"
    lines = shared.halfpipe("status").out.splitlines()
    table = next(number for number, line in enumerate(lines) if line.startswith("downlink "))
    head, half_way, _, first, *_ = lines[table:]
    assert head.split() == [
        "downlink", "state", "chunks", "runs", "events", "waiting", "hand-off", "level-1", "when_(UTC)", "what"
    ]  # fmt: skip
    assert half_way.split()[:9] == [HALF_WAY, "outstanding", "3/6", "·", "·", "13", *"---"], (
        "not known yet, merged, and none"
    )
    assert first.split()[:8] == [FIRST, "submitted_2", "5/5", "2", "72", "0", "2", "2"]


def test_without_downlinks_the_searched_places_are_named(site: Site) -> None:
    site.work.mkdir()
    ended = site.halfpipe("status")
    assert (ended.status, f"no downlinks found in {site.retdefs}, {site.work}" in ended.out) == (0, True)
    assert "needs action" not in ended.out


def test_which_downlinks(own: Site) -> None:
    work = own.work
    assert list(found(own, f"dl={FIRST}")) == [FIRST]
    assert list(found(own, "--days", "0")) == [HALF_WAY, SECOND, FIRST], "not noted as closed yet"
    first = DownlinkId(FIRST)
    write_closed(own.settings, {first: last_change(own.settings, first)})
    assert list(found(own, "--days", "0")) == [HALF_WAY, SECOND], "only what is not closed"
    assert list(found(own, "--all")) == [HALF_WAY, SECOND, FIRST]
    assert list(found(own)) == [HALF_WAY, SECOND, FIRST], "the last week"
    damage(work, paths.receipts(FIRST))
    assert found(own, "--all", person=True)[FIRST]["verdict"] == "action"


def test_downlinks_in_work_or_taken_by_level_1(own: Site) -> None:
    with held_by_another(own.work, paths.downlink_lease(SECOND), silent=40):
        assert found(own)[SECOND]["state"] == "in progress"
    shutil.rmtree(own.stage / FIRST, ignore_errors=True)
    assert seen(found(own)[FIRST]) == ("taken by Level-1", "good", [])


def test_slurms_queue_is_shown_for_the_site_and_for_a_downlink_in_work(
    own: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3DF may set a facility to zero nodes: then the jobs of all downlinks wait."""
    put_program(tmp_path, "squeue", "echo 'halfpipe_a|AssocGrpNodeLimit|N/A'", monkeypatch)
    with held_by_another(own.work, paths.downlink_lease(SECOND)):
        told = own.told("status")
        assert [one["verdict"] for one in told["site"] if one["code"] == "queue-waits"] == ["action"]
        waits = [one["dl"] for one in told["downlinks"] if "queue-waits" in seen(one)[2]]
        assert waits == [SECOND]
        assert "AssocGrpNodeLimit" in own.halfpipe("show", SECOND).out


def test_what_needs_action_comes_first_with_its_command(own: Site) -> None:
    words = ("--config", "submit.command=null")
    own.halfpipe("submit", SECOND, *words).good()
    every = found(own, person=True)
    assert list(every) == [SECOND, HALF_WAY, FIRST], "it comes first"
    assert seen(every[SECOND])[2] == ["written-for-person"]
    settle = f"halfpipe submit {SECOND} --settle submitted"
    assert every[SECOND]["causes"][0]["do"].endswith(settle)
    said = own.halfpipe("status").out
    assert "\n1 of 3 downlinks needs action\n" in said
    assert said.splitlines()[-1].endswith(settle)


@pytest.mark.workflow
def test_on_a_narrow_terminal_reasons_have_their_own_lines(own: Site) -> None:
    why, remedy = "the stage is away." + " It is long." * 60, Remedy("halfpipe hold", first="To see it")
    log = job_log(own.work, "deliver_run-2c2e5787", Failure("stage-differs", why, remedy), HALF_WAY)
    lines = on_terminal("status", "--configfile", own.configfile, env={"NO_COLOR": "1"}).splitlines()
    first = next(
        n for n, line in enumerate(lines) if line.startswith(f"✗ {HALF_WAY}: deliver_run 2c2e5787: ")
    )
    block = lines[first:]
    assert len(block) < 20
    assert all(len(line) <= 80 for line in block), "paths are broken at a slash"
    assert "".join(block).replace(" ", "").endswith(f"log:{log}")
    assert "  To see it:" in lines
    steps = [line.removeprefix("  → ") for line in lines if line.startswith("  → ")]
    assert steps == ["halfpipe doctor", "halfpipe hold", f"snakemake dl={HALF_WAY}"], "whole"
    assert any(re.match(rf"{SECOND} .* ! note: ", line) for line in lines)
    assert max(map(len, lines[2 : lines.index("1 of 3 downlinks needs action")])) <= 80


def test_a_lost_downlink_needs_action(own: Site) -> None:
    work = own.work
    (work / f"dl={FIRST}").unlink()
    for place in (work / FIRST, work / paths.copies(FIRST), own.retdefs / FIRST):
        shutil.rmtree(place, ignore_errors=True)
    for mark in (own.stage / paths.STAGE_MARK, work / paths.STAGE_MARK_COPY):
        shutil.rmtree(mark)  # it knows the receipts: else nothing is done
    assert list(work.glob(f"runs/*/{FIRST}")), "its data of runs are known"
    one = found(own, person=True)[FIRST]
    assert seen(one)[1:] == ("action", ["damaged", "damaged"])
    assert one["causes"][0]["do"] == f"snakemake dl={FIRST}"
    for run in work.glob("runs/*"):
        os.utime(run, (LONG_AGO, LONG_AGO))
    assert [FIRST in found(own, *words, person=True) for words in ((), ("--all",))] == [False, True]
