"""Pictures through the workflow: made when somebody asks for them, and nothing else is touched by it."""

import re
import zipfile
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.files.json_files import read_json
from tests.support.golden_cases import GOLDEN, build, read_case
from tests.support.in_process import ROOT
from tests.support.workflow import Job, Site

pytestmark = pytest.mark.either

DL = "240601001"
PICTURES = Job("pictures", DL)


def state(site: Site) -> dict[str, tuple[bytes, int]]:
    """Return what vouches for the hand-off, with the times of its files."""
    names = [paths.receipt(DL), f"{paths.receipts(DL)}/000001.json"]
    return {name: ((site.work / name).read_bytes(), (site.work / name).stat().st_mtime_ns) for name in names}


def test_pictures_are_made_after_the_receipt_and_leave_it_alone(site: Site) -> None:
    build(read_case(GOLDEN / "gap_one"), site)
    assert PICTURES not in site.process(DL).jobs, "not by default"
    before = state(site)
    assert site.snakemake(f"pictures={DL}").good().jobs == {PICTURES}
    assert state(site) == before
    assert site.outstanding(DL) == frozenset()
    made = read_json(site.work / paths.drawn(DL))
    assert made == {
        "downlink": DL,
        "handoff": 1,
        "pictures": [f"downlink-{DL}.svg", "run-2c2e5787.svg"],
    }
    home = site.work / paths.pictures(DL)
    assert sorted(path.name for path in home.glob("[!.]*")) == made["pictures"]
    assert site.snakemake("-n", f"pictures={DL}").good().jobs == frozenset()

    # Gone they make nothing outstanding but themselves, and after another hand-off they are drawn anew.
    (site.work / paths.drawn(DL)).unlink()
    assert site.outstanding(DL) == frozenset()
    site.snakemake(f"pictures={DL}").good()
    again = site.snakemake(f"pictures={DL}", "-R", "deliver_run").good().jobs
    assert {job.rule for job in again} == {"deliver_run", "receipt", "pictures"}
    assert read_json(site.work / paths.drawn(DL))["handoff"] == 2


def test_pictures_that_cannot_be_drawn_leave_the_receipt(site: Site) -> None:
    build(read_case(GOLDEN / "gap_one"), site)
    site.process(DL)
    before = state(site)
    (site.work / paths.datagrams("2c2e5787", DL)).write_bytes(b"damaged\n")
    site.snakemake(f"pictures={DL}").bad("pictures")
    assert state(site) == before
    assert site.outstanding(DL) == frozenset()


def test_a_report_holds_the_pictures_with_captions_and_makes_nothing(site: Site, tmp_path: Path) -> None:
    build(read_case(GOLDEN / "gap_one"), site)
    site.process(DL)
    site.snakemake(f"pictures={DL}").good()
    # As they were made before they were in reports: without what Snakemake has noted of their directory.
    (site.work / paths.pictures(DL) / ".snakemake_timestamp").unlink()
    tree = site.tree()
    assert site.snakemake("-n", f"pictures={DL}").good().jobs == frozenset()
    made = tmp_path / "report.zip"
    site.snakemake(f"pictures={DL}", "--report", str(made)).good()
    with zipfile.ZipFile(made) as archive:
        names = {Path(name).name for name in archive.namelist()}
        page = archive.read("report/report.html").decode()
    assert names == {"report.html", f"downlink-{DL}.svg", "run-2c2e5787.svg"}
    assert f"Downlink {DL}" in page
    assert "halfpipe explain 2c2e5787" in page
    assert f"halfpipe show {DL}" in page
    assert site.tree() == tree
    assert site.outstanding(DL) == frozenset()

    site.snakemake(f"dl={DL}", "--report", str(made)).good()
    with zipfile.ZipFile(made) as archive:
        assert archive.namelist() == ["report/report.html"], (
            "of what is downstream of its targets it knows nothing"
        )


def test_what_comes_after_the_receipt_does_not_withdraw_it() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    rules = {body.split(":")[0]: body for body in re.split(r"^rule ", text, flags=re.MULTILINE)[1:]}
    after = {
        name
        for name, body in rules.items()
        if re.search(r"input:.*paths\.receipt\(\).*output:", body, re.DOTALL)
    }
    assert after == {"ledger", "submit", "pictures"}
    named = re.search(
        r"^AFTER_RECEIPT = \{(.*?)\}", (ROOT / "workflow" / "head.smk").read_text(), re.MULTILINE
    )
    assert named is not None
    assert after == set(re.findall(r'"(\w+)"', named[1]))
