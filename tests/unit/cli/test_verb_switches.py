"""`halfpipe hold` and `force`: files with who, when and why."""

import re

import pytest

from halfpipe.downlink import halts
from halfpipe.downlink.halts import Switch
from halfpipe.files.heartbeat import whoami
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run import abandoned_runs
from tests.support.worked_site import FIRST, HALF_WAY, SECOND, SPREAD
from tests.support.workflow import Site

RUN = RunId(SPREAD)
ME = whoami()
WHO = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC, {re.escape(ME.user)} on {re.escape(ME.host)}"


def status(own: Site, *words: str) -> int:
    return own.halfpipe(*words).status


def listed(own: Site, verb: str, key: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = own.told(verb)[key]
    return found


@pytest.mark.parametrize("switch", list(Switch))
def test_a_switch_for_all_downlinks(own: Site, switch: Switch) -> None:
    work, name = own.work, switch.called
    file = work / "halts" / switch
    ended = own.halfpipe("hold", name, "--reason", "disk full")
    content = file.read_text()
    _, row, _, resume = ended.out.splitlines()
    assert resume.endswith(f": halfpipe hold {name} --resume")
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
    said = own.halfpipe("hold", name, "--resume").errors
    assert content in said, "who held it, and why"
    assert halts.holding(work, switch) is None
    assert status(own, "hold", name, "--resume") == 1


def test_a_switch_for_some_downlinks(own: Site) -> None:
    work = own.work
    ended = own.halfpipe("hold", "l1", FIRST, f"dl={SECOND}", "--reason", "wait for N. N.").good()
    assert f": halfpipe hold l1 {FIRST} {SECOND} --resume\n" in ended.out
    for downlink in (FIRST, SECOND):
        assert halts.holding(work, Switch.L1, DownlinkId(downlink)) == work / downlink / "haltL1"
    assert halts.holding(work, Switch.L1, DownlinkId(HALF_WAY)) is None
    assert [one["downlink"] for one in listed(own, "hold", "held")] == [FIRST, SECOND]
    assert status(own, "hold", "l1", "--reason", "all") == 0
    for wanted in (0, 1):  # the switch for all downlinks still holds it
        ended = own.halfpipe("hold", "l1", FIRST, "--resume")
        assert (ended.status, f"{work}/halts/haltL1" in ended.said) == (wanted, True)


def test_a_file_made_by_hand_is_a_switch_too(own: Site) -> None:
    work = own.work
    (work / "halts").mkdir()
    (work / "halts" / "haltStage").symlink_to("nowhere")
    (work / FIRST / "haltOnline").touch()
    (work / SECOND / "haltOnline").write_text("\x1b[2J N. N.:\n  disk\tfull\n")
    assert status(own, "hold", "stage", "--reason", "x") == 0
    assert [one["says"] for one in listed(own, "hold", "held")] == ["", "", "?[2J N. N.: disk full"]
    assert status(own, "hold", "stage", "--resume") == 0
    assert not (work / "halts").exists(), "only a switch was in it"
    assert not (work / "halts" / "nowhere").exists()


def test_a_run_is_abandoned_and_that_is_taken_back(own: Site) -> None:
    work = own.work
    file = work / "force" / RUN.l1
    ended = own.halfpipe("force", RUN, "--reason", "EPU 1 was off")
    assert ended.status == 0
    assert ended.errors.endswith(f": snakemake dl={SECOND} {SECOND}/ledger.json -R deliver_run\n")
    assert set(abandoned_runs.read(work).runs) == {RUN}
    content = file.read_text()
    assert re.fullmatch(rf"{WHO}: EPU 1 was off\n", content)
    assert status(own, "force", RUN.l1, "--reason", "another") == 0
    assert file.read_text() == content

    _, row, _ = ended.out.splitlines()
    assert row.split(maxsplit=2) == [RUN, RUN.l1, content.strip()]
    assert listed(own, "force", "runs") == [{"run": RUN, "l1_run": RUN.l1, "says": content.strip()}]

    by_hand = work / "force" / f"00770101-{RUN}"
    by_hand.touch()
    other = work / "force" / "r0741246000"  # of a run that stays abandoned
    other.touch()
    ended = own.halfpipe("force", RUN.l1, "--take-back")
    assert list(other.parent.iterdir()) == [other]
    other.unlink()
    assert [str(one) in ended.errors for one in (by_hand, file)] == [True, True]
    assert not abandoned_runs.read(work).runs
    assert status(own, "force", RUN, "--take-back") == 1
    assert listed(own, "force", "runs") == []


def test_errors_are_reported(own: Site) -> None:
    work = own.work
    assert status(own, "force", "2c2e0000", "--reason", "x") == 1, "the run is unknown"
    assert not (work / "force").exists()
    (work / "force").mkdir()
    (work / "force" / "README").touch()
    ended = own.halfpipe("force")
    assert ended.status == 1
    assert f"{work}/force/README: " in ended.out
    (work / "halts").write_text("in the way")
    ended = own.halfpipe("hold", "stage", "--reason", "x")
    assert ended.status == 1
    assert f"error: {work}/halts: " in ended.errors
