"""Deliveries are never forgotten: losses, lost records, and what operators accept and reopen."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.downlink.handoff_causes import contradictions
from halfpipe.downlink.receipt import state_word
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.receipt_file import last_hand_off
from halfpipe.status.failed_jobs import failures
from tests.support.golden_cases import Case, build, copied
from tests.support.series import homes, values
from tests.support.workflow import Site

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")
RUN = RunId("2c2e5787")


def on_site(home: Path, name: str = "dup_later_dl", **merge: Any) -> tuple[Site, Case, Path]:
    """Return a site for a golden case, and a copy of the products that the test may change."""
    site = Site(home)
    case = build(copied(name, site), site)
    site.configure(merge=merge, ledger={"url": None})
    return site, case, case.directory / "in"


def without(source: Path, downlink: str, gone: Callable[[int], bool]) -> None:
    """Remove events from the products of a downlink: those whose sequence is `gone`."""
    for path in (source / downlink).glob("*.idx"):
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not (line.startswith("EVT:") and gone(int(line.split()[2])))]
        path.write_text("".join(kept))


def codes(site: Site, downlink: str) -> dict[str, Verdict]:
    last = last_hand_off(site.work, DownlinkId(downlink))
    found = contradictions(
        site.settings, DownlinkId(downlink), [RUN], last.receipt if last else None, is_current=False
    )
    return {cause.code: cause.verdict for cause in found}


def recorded(site: Site, downlink: str) -> dict[str, bytes]:
    """Return the delivery records of the run, and what a downlink contains of it."""
    home = site.work / "runs" / RUN
    brought = [home / downlink / "datagrams.idx"]
    records = [*(home / "deliveries").glob("*.json"), *(site.work / paths.receipts(downlink)).glob("*.json")]
    return {str(path.relative_to(site.work)): path.read_bytes() for path in [*brought, *records]}


@pytest.mark.parametrize("content", [b"", b"{"])
def test_a_delivery_that_is_lost_in_both_copies_stops_the_run(tmp_path: Path, content: bytes) -> None:
    """Otherwise the other downlink of the run would deliver the same events again."""
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


def test_a_smaller_delivery_is_refused(tmp_path: Path) -> None:
    """No record and no staged file changes, and when the input is back, everything is good."""
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
    site.snakemake(f"dl={FIRST}").bad()  # nor does a plain command deliver less
    assert recorded(site, FIRST) == before

    # Meanwhile other downlinks of the run go on, with what the first one delivered and contains.
    site.process(SECOND)
    assert site.staged(SECOND) == case.steps[1].expected.files

    shutil.copytree(whole, source, dirs_exist_ok=True)
    site.snakemake(f"dl={FIRST}", "-R", "decode_chunk").good()
    assert site.staged(FIRST) == staged
    assert site.receipt(FIRST)["handoff"] == 2
    assert codes(site, FIRST) == {}


def test_an_accepted_loss_stays_closed_until_it_is_reopened(tmp_path: Path) -> None:
    """Level-1 may have the lost events, so another downlink must not deliver its copies of them."""
    site, case, source = on_site(tmp_path)
    site.process(FIRST)
    assert site.receipt(FIRST)["runs"][0]["shrunk"] == 0
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
    # Processed again the downlink delivers the same, and the accepted loss is kept.
    site.process(FIRST, again=True)
    (again,) = site.receipt(FIRST)["runs"]
    assert again["shrunk"] == 0
    assert all(again[key] == run[key] for key in ("spans", "closed", "accepted"))

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


def test_a_run_without_datagrams_is_refused(tmp_path: Path) -> None:
    """An abandoned run of which only events are known cannot be in a text for Level-1."""
    site, _, source = on_site(tmp_path)
    for path in (source / FIRST).glob("*.idx"):
        kept = [line for line in path.read_text().splitlines(keepends=True) if line.startswith("EVT:")]
        path.write_text("".join(kept))
    site.abandon("r0741234567")
    site.process(FIRST)
    (run,) = site.receipt(FIRST)["runs"]
    assert run["refused"]
    assert state_word(run) == "REFUSED"
    assert run["known"] == run["refused_events"] == 70
    assert site.staged(FIRST) == {}
    assert codes(site, FIRST) == {"level1-refuses": Verdict.ACTION}
