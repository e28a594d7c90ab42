"""What Level-1 may have is never forgotten: losses, lost records, and what people accept and release."""

import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.downlink.deliver_run import deliver_run
from halfpipe.downlink.handoff_causes import contradictions
from halfpipe.downlink.receipt import state_of
from halfpipe.files import leases
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run import stage
from halfpipe.run.receipt_file import last_hand_off
from halfpipe.status.failures import failures
from tests.support.golden_cases import Case, build, copied
from tests.support.series import homes, values
from tests.support.workflow import Site

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")
RUN = RunId("2c2e5787")


def on_site(home: Path, name: str = "dup_later_dl", **merge: Any) -> tuple[Site, Case, Path]:
    """Return a site for a golden case, and where its products are taken from: a copy that a test may change."""
    site = Site(home)
    case = build(copied(name, site), site)
    site.configure(merge=merge, ledger={"url": None})
    return site, case, case.directory / "in"


def without(source: Path, downlink: str, gone: Callable[[int], bool]) -> None:
    """Take the events out of the products of a downlink of whose sequences `gone` says so."""
    for path in (source / downlink).glob("*.idx"):
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not (line.startswith("EVT:") and gone(int(line.split()[2])))]
        path.write_text("".join(kept))


def codes(site: Site, downlink: str) -> dict[str, Verdict]:
    last = last_hand_off(site.work, DownlinkId(downlink))
    found = contradictions(
        site.settings, DownlinkId(downlink), [RUN], last.receipt if last else None, vouches=False
    )
    return {cause.code: cause.verdict for cause in found}


def recorded(site: Site, downlink: str) -> dict[str, bytes]:
    """Return what says what was delivered of the run, and what a downlink brought of it."""
    home = site.work / "runs" / RUN
    brought = [home / downlink / "datagrams.idx"]
    records = [*(home / "deliveries").glob("*.json"), *(site.work / paths.receipts(downlink)).glob("*.json")]
    return {str(path.relative_to(site.work)): path.read_bytes() for path in [*brought, *records]}


@pytest.mark.parametrize("content", [b"", b"{"])
def test_a_delivery_that_is_lost_in_both_copies_stops_the_run(tmp_path: Path, content: bytes) -> None:
    """Row 1: the other downlink of the run would deliver the same events again."""
    site, case, _ = on_site(tmp_path)
    site.process(FIRST)
    files = [home / "000001.json" for home in homes(site.work, paths.deliveries(RUN))]
    before = files[0].read_bytes()
    for path in files:
        path.write_bytes(content)
    site.snakemake(f"dl={SECOND}").bad(*map(str, files))
    assert site.staged(SECOND) == {}
    assert codes(site, FIRST) == {"damaged": Verdict.ACTION}
    files[1].write_bytes(before)
    site.process(SECOND)
    assert site.staged(SECOND) == case.steps[1].expected.files
    assert codes(site, FIRST) == {}
    assert [path.read_bytes() for path in files] == [before, before]


def test_what_would_deliver_less_is_refused(tmp_path: Path) -> None:
    """Rows 4 and 5: nothing recorded, staged or handed off changes; the input comes back, and all is good."""
    site, case, source = on_site(tmp_path)
    site.process(FIRST)
    before, staged = recorded(site, FIRST), site.staged(FIRST)
    whole = tmp_path / "whole"
    shutil.copytree(source, whole)
    without(source, FIRST, lambda sequence: sequence > 1060)
    site.snakemake(f"dl={FIRST}", "-F").bad(
        "51 delivered events",
        "chunk 00001",
        f"snakemake dl={FIRST} -R decode_chunk",
        f'dl: "{FIRST}", run: "{RUN}"',
    )
    assert recorded(site, FIRST) == before
    assert site.staged(FIRST) == staged
    assert not site.has_receipt(FIRST)
    assert [cause.code for cause in failures(site.settings, FIRST)] == ["shrunk"]
    site.snakemake(f"dl={FIRST}").bad()  # a plain command does not slip it in
    assert recorded(site, FIRST) == before

    # Other downlinks of the run go on meanwhile, with what the first one delivered and brought.
    site.process(SECOND)
    assert site.staged(SECOND) == case.steps[1].expected.files

    shutil.copytree(whole, source, dirs_exist_ok=True)
    site.snakemake(f"dl={FIRST}", "-R", "decode_chunk").good()
    assert site.staged(FIRST) == staged
    assert site.receipt(FIRST)["handoff"] == 2
    assert codes(site, FIRST) == {}


def test_an_accepted_loss_stays_closed_until_it_is_released(tmp_path: Path) -> None:
    """Row 4: Level-1 may have the events that were lost, so another downlink must not deliver its copies."""
    site, case, source = on_site(tmp_path)
    site.process(FIRST)
    without(source, FIRST, lambda sequence: 1060 < sequence <= 1102)
    accepted = {"dl": str(FIRST), "run": str(RUN), "reason": "the tape is gone"}
    site.configure(shrink={"accept": [{**accepted, "events": 1}]})
    site.snakemake(f"dl={FIRST}", "-F").bad("of 51 delivered events")
    site.configure(shrink={"accept": [accepted]})
    site.process(FIRST, again=True)
    (run,) = site.receipt(FIRST)["runs"]
    last = run["spans"][-1][1]
    assert last <= 1060
    assert run["closed"] == [[last + 1, 1102]]
    assert run["accepted"] == "the tape is gone"
    assert run["shrunk"] == 51 - run["delivered"] > 0
    assert codes(site, FIRST) == {"shrunk": Verdict.NOTE, "closed": Verdict.NOTE}
    # Again the same, for nothing is less than before; and what was accepted is not forgotten.
    site.process(FIRST, again=True)
    (again,) = site.receipt(FIRST)["runs"]
    assert (again["spans"], again["closed"], again["accepted"]) == (
        run["spans"],
        run["closed"],
        run["accepted"],
    )
    assert again["shrunk"] == 0

    site.process(SECOND)
    assert site.staged(SECOND) == case.steps[1].expected.files, "as if nothing had been lost"
    before = site.staged(SECOND)

    site.halfpipe("force", RUN, "--reopen", FIRST).bad()
    site.halfpipe("force", RUN, "--reopen", FIRST, "--reason", "rolled back").good()
    said = values(site.work, paths.deliveries(RUN))[-1]
    assert (said["kind"], said["downlink"], said["reason"]) == ("release", FIRST, "rolled back")
    site.halfpipe("force", RUN, "--reopen", FIRST, "--reason", "again").bad()
    site.process(SECOND, again=True)
    (second,) = site.receipt(SECOND)["runs"]
    assert last < second["spans"][0][0] <= 1102, "now they go with the second downlink"
    assert site.staged(SECOND) != before


def test_a_run_that_nobody_brings_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A RetDef that is issued again without a run: there is no job of that run that could refuse."""
    site, _, _ = on_site(tmp_path, "multi3")
    site.process(FIRST)
    other = RunId("2c2e8430")
    runs = {run["run"]: run for run in site.receipt(FIRST)["runs"]}
    gone = runs[other]
    assert gone["delivered"] > 0
    chunks = [c["chunk"] for c in site.receipt(FIRST)["chunks"] if other in c["runs"]]
    ignored = [{"dl": str(FIRST), "chunk": chunk, "reason": "lost on ground"} for chunk in chunks]
    site.configure(ignore={"chunks": ignored})
    site.snakemake(f"dl={FIRST}", "-F").bad(other, f"{gone['delivered']} delivered events", chunks[0])
    assert not site.has_receipt(FIRST)
    assert [cause.code for cause in failures(site.settings, FIRST)] == ["shrunk"]
    site.configure(shrink={"accept": [{"dl": str(FIRST), "run": str(other), "reason": "it was noise"}]})
    with monkeypatch.context() as killed, leases.downlink_job(site.settings, FIRST) as lease:
        killed.setattr(stage, "place", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            deliver_run(site.settings, lease, FIRST, other, (), threads=1, output=StringIO())
    site.process(FIRST)
    (left,) = [run for run in site.receipt(FIRST)["runs"] if run["run"] == other]
    assert (left["brought"], left["delivered"], left["files"]) == (0, 0, [])
    assert left["accepted"] == "it was noise"
    assert left["closed"] == gone["spans"]
    assert left["handoff"] == site.receipt(FIRST)["handoff"] == 2
    assert not any(gone["l1_run"] in name for name in site.staged(FIRST))
    assert codes(site, FIRST) == {"shrunk": Verdict.NOTE, "closed": Verdict.NOTE}
    site.halfpipe("force", other, "--reopen", FIRST, "--reason", "rolled back").good()


def test_a_run_without_datagrams_is_held(tmp_path: Path) -> None:
    """Row 21: a run that was abandoned, of which only events are known, can stand in no text."""
    site, _, source = on_site(tmp_path)
    for path in (source / FIRST).glob("*.idx"):
        kept = [line for line in path.read_text().splitlines(keepends=True) if line.startswith("EVT:")]
        path.write_text("".join(kept))
    site.give_up("r0741234567")
    site.process(FIRST)
    (run,) = site.receipt(FIRST)["runs"]
    assert run["held"]
    assert state_of(run) == "HELD"
    assert run["known"] == run["held_events"] == 70
    assert site.staged(FIRST) == {}
    assert codes(site, FIRST) == {"level1-refuses": Verdict.ACTION}
