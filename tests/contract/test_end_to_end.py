"""From simulated level-0 to the receipt: delivered is what was simulated but for the orphans, event for event.

What must be delivered and what must stay behind is the simulator's word (truth.json), which it finds without
the merge that is tested here.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from halfpipe.formats import evt
from tests.support.in_process import ROOT, called, module
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


def events_of(path: Path) -> list[tuple[int, int]]:
    """Return (sequence, APID) of the events of an evt file, in order."""
    opened = evt.open_evt(path)
    offsets = evt.walk(opened.data, str(path))
    columns = [evt.context_column(opened.data, offsets, f) for f in ("scalers_sequence", "ccsds_apid")]
    return list(zip(*(np.asarray(column).tolist() for column in columns), strict=True))


@pytest.mark.parametrize("scene", SCENES)
def test_delivered_is_what_was_simulated_but_for_the_orphans(scene: str, site: Site) -> None:
    truth = simulate(site, SCENES[scene].split())
    downlinks = sorted(truth["carried"])
    for downlink in downlinks:
        site.process(downlink)
    assert not any((site.work / ".cache" / "indexes").iterdir()), "what was read of the indexes was merged"
    receipts = {downlink: site.receipt(downlink) for downlink in downlinks}
    assert len(truth["runs"]) >= 3
    for run_id, expected in truth["runs"].items():
        delivered: list[tuple[int, int]] = []
        for downlink, receipt in receipts.items():
            found = [entry for entry in receipt["runs"] if entry["run"] == run_id]
            mine = [
                event
                for entry in found
                for file in entry["files"]
                for event in events_of(site.stage / downlink / entry["l1_run"] / file["name"])
            ]
            assert mine == [tuple(event) for event in expected["delivered_by"].get(downlink, [])]
            delivered += mine
        assert len(set(delivered)) == len(delivered), "no event goes out twice"
        carried = {
            (sequence, apid)
            for of_downlink in truth["carried"].values()
            for sequence, apid, *_ in of_downlink.get(run_id, [])
        }
        kept_back = {tuple(event) for event in expected["orphans"]} | {
            tuple(event) for event in expected["late"]
        }
        assert set(delivered) == carried - kept_back
        last = [
            entry for receipt in receipts.values() for entry in receipt["runs"] if entry["run"] == run_id
        ][-1]
        assert (last["orphans"], last["late"]) == (len(expected["orphans"]), len(expected["late"]))
        assert (last["complete"], last["kind"]) == (expected["complete"], expected["kind"])
    for downlink, receipt in receipts.items():
        text = site.stage / downlink / f"magic7_{downlink}.txt"
        assert text.exists() == any(entry["files"] for entry in receipt["runs"])
        if text.exists():
            assert text.read_text().split(" ", 3)[2] == "ATT"
    assert site.outstanding(*downlinks) == frozenset()
