"""`halfpipe hold`: files with who, when and why; and what `halfpipe accept` refuses."""

import re
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.files.heartbeat import whoami
from halfpipe.ids import DownlinkId, RunId
from halfpipe.state import halts
from halfpipe.state.halts import Switch
from tests.support.worked_site import FIRST, HALF_WAY, SECOND, SPREAD
from tests.support.workflow import Site

RUN = RunId(SPREAD)
ME = whoami()
WHO = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC, {re.escape(ME.user)} on {re.escape(ME.host)}"


def status(own: Site, *words: str) -> int:
    return own.halfpipe(*words).status


def listed(own: Site, verb: str, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = own.told(verb)[key]
    return found


@pytest.mark.parametrize("switch", list(Switch))
def test_a_switch_for_all_downlinks(own: Site, switch: Switch) -> None:
    work, name = own.work, switch.called
    file = work / "halts" / switch
    ended = own.halfpipe("hold", name, "--reason", "disk full")
    content = file.read_text()
    _, row, _, resume = ended.out.splitlines()
    assert resume.endswith(f": halfpipe hold {name} --undo")
    assert row.split(maxsplit=3) == [switch, "-", str(file), content.strip()]
    assert re.fullmatch(rf"{WHO}: disk full\n", content)
    assert halts.holding(work, switch) == file
    for verb in {"online", "cleanup"} & {name}:
        assert str(file) in own.halfpipe(verb).good().out
    assert status(own, "hold", name, "--reason", "another one") == 0
    assert file.read_text() == content
    assert listed(own, "hold", "held") == [
        {"switch": switch, "downlink": None, "file": str(file), "says": content.strip()}
    ]
    said = own.halfpipe("hold", name, "--undo").errors
    assert content in said, "who held it, and why"
    assert halts.holding(work, switch) is None
    assert status(own, "hold", name, "--undo") == 1


def test_a_switch_for_some_downlinks(own: Site) -> None:
    work = own.work
    ended = own.halfpipe("hold", "l1", FIRST, f"dl={SECOND}", "--reason", "wait for N. N.").good()
    assert f": halfpipe hold l1 {FIRST} {SECOND} --undo\n" in ended.out
    for downlink in (FIRST, SECOND):
        assert halts.holding(work, Switch.L1, DownlinkId(downlink)) == work / downlink / "haltL1"
    assert halts.holding(work, Switch.L1, DownlinkId(HALF_WAY)) is None
    assert [one["downlink"] for one in listed(own, "hold", "held")] == [FIRST, SECOND]
    assert status(own, "hold", "l1", "--reason", "all") == 0
    for wanted in (0, 1):  # the switch for all downlinks still holds it
        ended = own.halfpipe("hold", "l1", FIRST, "--undo")
        assert (ended.status, f"{work}/halts/haltL1" in ended.said) == (wanted, True)


def test_a_file_made_by_hand_is_a_switch_too(own: Site) -> None:
    work = own.work
    (work / "halts").mkdir()
    (work / "halts" / "haltStage").symlink_to("nowhere")
    (work / FIRST / "haltOnline").touch()
    (work / SECOND / "haltOnline").write_text("\x1b[2J N. N.:\n  disk\tfull\n")
    assert status(own, "hold", "stage", "--reason", "x") == 0
    assert [one["says"] for one in listed(own, "hold", "held")] == ["", "", "?[2J N. N.: disk full"]
    assert status(own, "hold", "stage", "--undo") == 0
    assert not (work / "halts").exists(), "only a switch was in it"
    assert not (work / "halts" / "nowhere").exists()


def test_the_command_that_delivers_an_abandoned_run_is_printed(own: Site) -> None:
    ended = own.halfpipe("accept", RUN.l1, "abandoned", "--reason", "EPU 1 was off")
    assert ended.status == 0
    assert f": snakemake dl={SECOND} {SECOND}/ledger.json -R deliver_run\n" in ended.errors
    assert [one["subject"] for one in listed(own, "accept", "decisions")] == [RUN]


def test_what_is_not_open_cannot_be_accepted(own: Site) -> None:
    for subject, what in {
        "2c2e0000": "abandoned",
        f"{SECOND}/2c2e0000": "late=1",
        "240603001/00001": "left-out",
        f"{SECOND}/00099": "left-out",
        f"{SECOND}/00001": "events=12",
        f"{SECOND}/{RUN}": "shrunk=1",
    }.items():
        assert status(own, "accept", subject, what, "--reason", "x") == 1, (subject, what)
        assert status(own, "accept", subject, what.partition("=")[0], "--undo", "--reason", "x") == 1
    good = ("accept", f"{SECOND}/00001", "left-out")
    assert status(own, *good, f"{SECOND}/00099", "left-out", "--reason", "x") == 1, "none of several"
    assert not (own.work / paths.DECISIONS).exists()


def test_errors_are_reported(own: Site) -> None:
    work = own.work
    (work / "halts").write_text("in the way")
    ended = own.halfpipe("hold", "stage", "--reason", "x")
    assert ended.status == 1
    assert f"error: {work}/halts: " in ended.errors
