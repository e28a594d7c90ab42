"""Halt switches: which file holds what, and for which downlink."""

from pathlib import Path

import pytest

from halfpipe.downlink import halts
from halfpipe.downlink.halts import HeldError, Switch
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId

DL, OTHER = DownlinkId("240601001"), DownlinkId("240601002")


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_names_are_those_that_operators_know() -> None:
    assert [str(switch) for switch in Switch] == ["haltStage", "haltL1", "haltOnline", "haltCleanup"]


@pytest.mark.parametrize("switch", Switch)
def test_a_switch_holds_its_kind_of_work_of_all_or_of_one(switch: Switch, tmp_path: Path) -> None:
    file = put(tmp_path / DL / switch)
    # Clean-up is for all downlinks at once: there is no such switch.
    assert halts.holding(tmp_path, switch, DL) == (None if switch is Switch.CLEANUP else file)
    assert halts.holding(tmp_path, switch, OTHER) is None
    assert halts.holding(tmp_path, switch) is None
    everywhere = put(tmp_path / "halts" / switch)
    for downlink in (None, DL, OTHER):
        assert halts.holding(tmp_path, switch, downlink) == everywhere
        assert [halts.holding(tmp_path, other, downlink) for other in Switch if other != switch] == [None] * 3


def test_a_link_that_leads_nowhere_holds_and_a_file_above_it_does_not(tmp_path: Path) -> None:
    (tmp_path / "halts").mkdir()
    link = tmp_path / "halts" / "haltL1"
    link.symlink_to("gone")
    assert halts.holding(tmp_path, Switch.L1, DL) == link
    (tmp_path / DL).touch()
    assert halts.holding(tmp_path, Switch.STAGE, DL) is None


def test_where_it_cannot_be_told_nothing_goes_on(tmp_path: Path) -> None:
    work = tmp_path / ("x" * 300)  # a name that no file system takes, as root may look everywhere
    with pytest.raises(HalfPipeError, match=str(work)):
        halts.holding(work, Switch.L1, DL)


def test_what_is_refused_names_the_file_and_what_it_says(tmp_path: Path) -> None:
    halts.refuse(tmp_path, Switch.STAGE, DL)
    file = put(tmp_path / DL / "haltStage")
    halts.refuse(tmp_path, Switch.STAGE, OTHER)
    with pytest.raises(HeldError) as error:
        halts.refuse(tmp_path, Switch.STAGE, DL)
    assert (str(file) in error.value.text, f"stage {DL} --resume" in str(error.value.remedy)) == (True, True)
    put(tmp_path / "halts" / "haltStage").write_text("root on vm:\n\x1b disk full\n")
    with pytest.raises(HeldError, match=r"haltStage \(root on vm: \? disk full\)\. .* stage --resume$"):
        halts.refuse(tmp_path, Switch.STAGE, DL)
