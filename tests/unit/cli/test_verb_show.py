"""`halfpipe show`: the deliveries of a run and the state of a downlink."""

import json
import shutil
from typing import Any

from halfpipe import paths
from halfpipe.ids import RunId
from halfpipe.process.failure_record import Failure
from tests.support.golden_cases import build
from tests.support.series import forget
from tests.support.workflow import Site

RUN, L1 = RunId("2c2e5787"), "r0741234567"


def shown(site: Site, *words: str) -> dict[str, Any]:
    (one,) = site.told("show", *words)["shown"]
    return dict(one)


def test_a_run_of_two_downlinks(site: Site) -> None:
    build("split2", site, "240601001")
    first = shown(site, RUN)
    assert (first["run"], first["l1_run"], first["met"]) == (RUN, L1, 741234567)
    assert first["started"] == "2024-06-28T02:29:22+00:00"
    name = f"{L1}-e00000000000000001000.evt"
    (file,) = first["files"]
    assert (file["name"], file["events"]) == (name, 51)
    assert (file["first_sequence"], file["last_sequence"]) == (1000, 1104)
    assert (file["begin_met"], file["end_met"]) == (741234567, 741234584)
    assert [{"run": RUN, **file}] == site.told("show", "--table", "files")["files"]
    (part,) = first["parts"]
    times = "2024-06-28T02:29:27", "2024-06-28T02:29:43"
    assert (part["begin"][:19], part["end"][:19]) == times
    assert (part["downlink"], part["handoff"], part["events"], part["state"]) == ("240601001", 1, 51, "open")
    lines = site.halfpipe("show", RUN).out.splitlines()
    assert [lines[n].split()[:2] for n in (0, 2, 4)] == [
        ["run", f"{RUN},"], ["240601001", "1"], ["240601001", name]
    ]  # fmt: skip
    assert lines[-1] == "in all 51 events staged, 0 of them submitted, by 1 downlink"

    site.by_hand("240601002")
    shutil.rmtree(site.stage / "240601002")  # the records stay after Level-1 has taken the files
    assert shown(site, L1) == shown(site, RUN)
    parts = shown(site, RUN)["parts"]
    assert [(part["handoff"], part["events"], part["state"]) for part in parts] == [
        (1, 51, "open"), (1, 79, "complete")
    ]  # fmt: skip

    forget(site.work, paths.receipts("240601002"))
    (site.work / paths.receipt("240601002")).unlink()
    for mark in (site.stage / paths.STAGE_MARK, site.work / paths.STAGE_MARK_COPY):
        shutil.rmtree(mark)  # it lists the receipt that is gone
    part = shown(site, RUN)["parts"][1]
    assert (part["handoff"], part["events"], part["state"]) == (1, 79, "complete"), "of its delivery"
    assert shown(site, "240601002")["running"] == []
    (site.work / paths.manifest(RUN, "240601002")).unlink()  # as its job does
    log = site.work / paths.log("deliver_run", "240601002", RUN)
    log.write_text("begun\nrun 2c2e5787: 3 event files to be written\n")
    line = "deliver_run-2c2e5787: run 2c2e5787: 3 event files to be written"
    assert shown(site, "240601002")["running"] == [line]
    assert f"  {line}\n" in site.halfpipe("show", "240601002").out
    Failure("killed", "gone").write(log)
    assert shown(site, "240601002")["running"] == [], "its cause is shown instead"


def test_events_whose_chunk_products_are_gone_are_counted_as_not_listed(site: Site) -> None:
    build("split2", site, "240601001")
    every = site.told("events", RUN)
    assert (len(every["events"]) >= 51, every["failed"]) == (True, [])
    for path in (site.work / paths.chunks("240601001")).glob("*.rows"):
        path.unlink()
    ended = site.halfpipe("events", RUN, "--format", "json")
    left = json.loads(ended.out)
    assert (ended.status, left["events"]) == (1, [])
    (failed,) = left["failed"]
    assert "240601001" in failed
