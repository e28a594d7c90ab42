"""Halt switches: which file holds what, and for which downlink."""

from pathlib import Path

import pytest

from halfpipe.downlink import halts
from halfpipe.downlink.halts import Switch
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId

DL, OTHER = DownlinkId("240601001"), DownlinkId("240601002")


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


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


def test_where_it_cannot_be_told_nothing_goes_on(tmp_path: Path) -> None:
    work = tmp_path / ("x" * 300)  # a name that no file system takes, as root may look everywhere
    with pytest.raises(HalfPipeError, match=str(work)):
        halts.holding(work, Switch.L1, DL)
