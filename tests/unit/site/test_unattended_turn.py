"""A turn of a timer: when it looks at all downlinks, and when only at new ones."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.downlink.plan import Plan
from halfpipe.files.json_files import write_json
from halfpipe.ids import DownlinkId
from halfpipe.site import unattended_turn
from tests.support.settings import searching

NOW = 1717200000.0  # 2024-06-01
HOUR = 3600.0


@pytest.mark.parametrize(
    ("ago", "since"),
    [
        (HOUR, "240525000"),
        (0.0, "240525000"),
        (25 * HOUR, ""),
        (-HOUR, ""),  # the clock was set back: nobody knows when
        (None, ""),
    ],
)
def test_all_downlinks_are_looked_at_once_a_day(ago: float | None, since: str, tmp_path: Path) -> None:
    if ago is not None:
        write_json(tmp_path / paths.LAST_TURN, {"ended": NOW, "all": NOW - ago})
    expected = (NOW - ago if since and ago is not None else NOW, since)
    assert unattended_turn._last_look_at_all(tmp_path, NOW) == expected


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
