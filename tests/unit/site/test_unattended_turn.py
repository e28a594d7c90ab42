"""A turn of a timer: when it looks at all downlinks, and when only at new ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from halfpipe import paths
from halfpipe.downlink.plan import Plan
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId
from halfpipe.site import unattended_turn
from tests.support.settings import searching

NOW = 1717200000.0  # 2024-06-01
HOUR = 3600.0


def test_all_downlinks_are_looked_at_once_a_day(tmp_path: Path) -> None:
    def looked(ago: float) -> tuple[float, str]:
        write_json(tmp_path / paths.LAST_TURN, {"ended": NOW, "all": NOW - ago})
        return unattended_turn._last_look_at_all(tmp_path, NOW)

    assert unattended_turn._last_look_at_all(tmp_path, NOW) == (NOW, ""), "no turn has ended"
    for ago in (HOUR, 0.0):
        assert looked(ago) == (NOW - ago, "240525000")
    for ago in (25 * HOUR, -HOUR):  # a clock that was set back tells no time
        assert looked(ago) == (NOW, "")


def test_downlinks_that_snakemake_left_without_a_reason_have_failed(tmp_path: Path) -> None:
    snakemake: Any = SimpleNamespace(command=lambda *_: ["false"], is_remote=False)
    unused: Any = None
    turn = unattended_turn.Turn(searching(tmp_path), snakemake, 60.0, unused, unused, "")
    plan, left, done = Plan(turn.settings), DownlinkId("240601001"), DownlinkId("240601002")
    (tmp_path / plan.target(done)).touch()
    found = turn._process(plan, [left, done], 0.0)
    assert [(dl, cause.code, cause.remedy.do) for dl, cause in found.items()] == [
        (left, "failed", (f"snakemake {plan.target(left)}",))
    ]
