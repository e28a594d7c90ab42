"""A turn of a timer."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from halfpipe.downlink.plan import Plan
from halfpipe.ids import DownlinkId
from halfpipe.site import unattended_turn
from tests.support.settings import searching


def test_downlinks_that_snakemake_left_without_a_reason_have_failed(tmp_path: Path) -> None:
    snakemake: Any = SimpleNamespace(command=lambda *_: ["false"], is_remote=False)
    unused: Any = None
    turn = unattended_turn.Turn(searching(tmp_path), snakemake, 60.0, unused, unused)
    plan, left, done = Plan(turn.settings), DownlinkId("240601001"), DownlinkId("240601002")
    (tmp_path / plan.target(done)).touch()
    found = turn._process(plan, [left, done], 0.0)
    assert [(dl, cause.code, cause.remedy.do) for dl, cause in found.items()] == [
        (left, "failed", (f"snakemake {plan.target(left)}",))
    ]
