"""Halt switches: which file holds what, for which downlink, and in which words."""

import os
from pathlib import Path

import pytest

from halfpipe.downlink import halts
from halfpipe.downlink.halts import HeldError, Switch
from halfpipe.downlink.plan import Outstanding, Plan
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from tests.support.settings import searching

DL, OTHER = DownlinkId("240601001"), DownlinkId("240601002")


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_names_are_those_that_operators_know() -> None:
    assert [str(switch) for switch in Switch] == ["haltStage", "haltL1", "haltOnline", "haltCleanup"]


@pytest.mark.parametrize("switch", Switch)
def test_a_global_switch_holds_its_kind_of_work_for_all(switch: Switch, tmp_path: Path) -> None:
    assert halts.holding(tmp_path, switch) is None
    file = put(tmp_path / "halts" / switch)
    for downlink in (None, DL, OTHER):
        assert halts.holding(tmp_path, switch, downlink) == file
        assert [halts.holding(tmp_path, other, downlink) for other in Switch if other != switch] == [None] * 3


@pytest.mark.parametrize("switch", Switch)
def test_a_switch_of_a_downlink_holds_that_one(switch: Switch, tmp_path: Path) -> None:
    file = put(tmp_path / DL / switch)
    # Clean-up is for all downlinks at once: there is no such switch.
    assert halts.holding(tmp_path, switch, DL) == (None if switch is Switch.CLEANUP else file)
    assert halts.holding(tmp_path, switch, OTHER) is None
    assert halts.holding(tmp_path, switch) is None
    everywhere = put(tmp_path / "halts" / switch)
    assert halts.holding(tmp_path, switch, DL) == everywhere


def test_a_link_that_leads_nowhere_holds_and_a_file_above_it_does_not(tmp_path: Path) -> None:
    (tmp_path / "halts").mkdir()
    link = tmp_path / "halts" / "haltL1"
    link.symlink_to("gone")
    assert halts.holding(tmp_path, Switch.L1, DL) == link
    (tmp_path / DL).touch()
    assert halts.holding(tmp_path, Switch.STAGE, DL) is None


def test_where_it_cannot_be_told_nothing_goes_on(tmp_path: Path) -> None:
    # A name that no file system takes, as root may look everywhere.
    work = tmp_path / ("x" * 300)
    with pytest.raises(HalfPipeError) as error:
        halts.holding(work, Switch.L1, DL)
    assert str(error.value) == (
        f"{work}/halts/haltL1: nobody can say whether this halt switch is there: {os.strerror(36)}. "
        "Fix this and re-run the command."
    )


def test_what_is_refused_names_the_file(tmp_path: Path) -> None:
    halts.refuse(tmp_path, Switch.STAGE, DL)
    file = put(tmp_path / DL / "haltStage")
    halts.refuse(tmp_path, Switch.STAGE, OTHER)
    with pytest.raises(HeldError) as error:
        halts.refuse(tmp_path, Switch.STAGE, DL)
    assert str(error.value) == (
        f"downlink {DL}: staging is held by {file}. Nothing was done. To let it go on: halfpipe hold stage {DL} "
        "--resume"
    )
    file.unlink()
    everywhere = put(tmp_path / "halts" / "haltStage")
    everywhere.write_text("2026-11-26 09:17:00 UTC, root on vm: disk full\n")
    with pytest.raises(
        HeldError, match=r"haltStage \(2026-11-26 09:17:00 UTC, root on vm: disk full\)\. .* stage --resume$"
    ):
        halts.refuse(tmp_path, Switch.STAGE, DL)


def test_notes_and_summary_name_the_files(tmp_path: Path) -> None:
    assert halts.notes(tmp_path, DL) == []
    stage, l1 = put(tmp_path / "halts" / "haltStage"), put(tmp_path / DL / "haltL1")
    put(tmp_path / "halts" / "haltOnline")
    assert halts.notes(tmp_path, DL) == [
        f"downlink {DL}: staging is held by {stage}",
        f"downlink {DL}: submission to Level-1 is held by {l1}",
    ]
    assert halts.notes(tmp_path, OTHER) == [f"downlink {OTHER}: staging is held by {stage}"]
    third = DownlinkId("240601003")
    assert halts.summary({}) == []
    assert halts.summary({OTHER: stage, DL: l1, third: stage}) == [
        f"held by {l1}: downlink {DL}",
        f"held by {stage}: 2 downlinks, {OTHER} to {third}",
    ]


def test_what_is_held_is_what_has_to_be_done(tmp_path: Path) -> None:
    """A downlink is held by the switch of what it needs next, and counts for nothing else then."""
    work, search = tmp_path / "work", tmp_path / "retdefs"
    for downlink in (DL, OTHER):
        put(search / downlink / f"RetDef-{downlink}-00001.xml")

    def outstanding(*, submitting: bool) -> Outstanding:
        return Plan(searching(work, search, most=2, submitting=submitting)).outstanding(4e9)

    stage, l1 = put(work / DL / "haltStage"), put(work / OTHER / "haltL1")
    for submitting in (False, True):
        found = outstanding(submitting=submitting)
        assert (found.ready, found.held) == ((OTHER,), {DL: stage})
    for downlink in (DL, OTHER):
        put(work / f"dl={downlink}")
        put(work / downlink / f"RetDef-{downlink}-00001.xml")
    found = outstanding(submitting=True)
    assert (found.ready, found.held) == ((DL,), {OTHER: l1})
    found = outstanding(submitting=False)
    assert (found.ready, found.held) == ((), {})
    put(work / f"submit={OTHER}")
    assert outstanding(submitting=True).held == {}
