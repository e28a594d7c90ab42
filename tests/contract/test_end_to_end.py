"""From simulated level-0 to the receipt: delivered is what was simulated but for the orphans, event for event.

What downlinks carry is the simulator's word (truth.json), and what must be delivered of it that of the reference.
"""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from halfpipe import paths
from tests.support.golden_cases import chunk_of
from tests.support.harness import events_of
from tests.support.in_process import ROOT, called, module
from tests.support.model import Chunk, Delivery, Outcome, Rules, decide
from tests.support.workflow import Site

SCENES = {
    "a run over three downlinks, a late EPU, losses and repeats": (
        "230401001 230401002 230401003 --parts 2 --late-epu 957 --lost-packets 3 --repeated-packets 20 "
        "--lost-datagrams 1 --repeated-datagrams 4 --equal-sequences 5 --equal-in-one 3 --l0keys 2"
    ),
    "other EPUs, LCI of all kinds, orphaned ends, large sequences, a leap second": (
        "161231001 161231002 --epus 955 958 --lci acd cal tkr --orphaned-head --orphaned-tail --big-sequences "
        "--leap-second-day"
    ),
    "early mission, no start and no stop": (
        "081107001 081107002 --small-run-ids --no-start --no-stop --lost-datagrams 2"
    ),
}


def simulate(site: Site, words: list[str]) -> dict[str, Any]:
    """Simulate downlinks for `site`; return the simulator's truth."""
    downlinks = [word for word in words if word.isdigit() and len(word) == 9]
    options = [word for word in words if word not in downlinks]
    out = site.home / "simulated"
    asked: list[object] = ["--out", out, "--seed", 7, "--events", 1500, *options, "--downlinks", *downlinks]
    assert called(module(str(ROOT / "scripts" / "simulate.py")).main, *asked).returncode == 0
    site.configure(
        paths={"retdef": [str(out / "downlinks")], "level0": str(out / "level0")},
        moot={"file": str(out / "moot.txt")},
    )
    truth: dict[str, Any] = json.loads((out / "truth.json").read_text())
    return truth


def outcomes(site: Site, run: str, downlinks: Iterable[str]) -> dict[str, Outcome]:
    """Return what the reference says of each downlink that brings `run`, by what the decoder wrote."""
    brought: dict[str, tuple[Chunk, ...]] = {}
    recorded: dict[str, list[Delivery]] = {}
    found = {}
    for downlink in downlinks:
        indexes = sorted((site.work / paths.chunks(downlink)).glob(f"*-{run}-*.idx"))
        if indexes:
            brought[downlink] = tuple(map(chunk_of, indexes))
            found[downlink] = decide(downlink, brought, recorded, Rules())
            recorded[downlink] = [found[downlink].delivery]
    return found


@pytest.mark.parametrize("scene", SCENES)
def test_delivered_is_what_was_simulated_but_for_the_orphans(scene: str, site: Site) -> None:
    truth = simulate(site, SCENES[scene].split())["carried"]
    for downlink in truth:
        site.process(downlink)
    assert not any((site.work / ".cache" / "indexes").iterdir()), "what was read of the indexes was merged"
    receipts = {downlink: site.receipt(downlink) for downlink in truth}
    runs = {run for of_downlink in truth.values() for run in of_downlink}
    assert len(runs) >= 3
    for run in runs:
        delivered: list[tuple[int, int]] = []
        for downlink, expected in outcomes(site, run, truth).items():
            (found,) = (entry for entry in receipts[downlink]["runs"] if entry["run"] == run)
            home = site.stage / downlink / found["l1_run"]
            mine = [
                event for file in found["files"] for event in events_of((home / file["name"]).read_bytes())
            ]
            assert mine == [(event.sequence, event.apid) for _, event in expected.delivered]
            for figure in ("kind", "complete", "orphans", "late"):
                assert found[figure] == getattr(expected, figure), figure
            delivered += mine
        assert len(set(delivered)) == len(delivered), "no event goes out twice"
        carried = {(row[0], row[1]) for of_downlink in truth.values() for row in of_downlink.get(run, ())}
        assert set(delivered) <= carried
        assert len(delivered) + found["orphans"] + found["late"] == len(carried)
    for downlink, receipt in receipts.items():
        text = site.stage / downlink / f"magic7_{downlink}.txt"
        assert text.exists() == any(entry["files"] for entry in receipt["runs"])
        if text.exists():
            assert text.read_text().split(" ", 3)[2] == "ATT"
    assert site.outstanding(*truth) == frozenset()
