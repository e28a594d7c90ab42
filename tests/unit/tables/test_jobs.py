"""`show --jobs`: what each rule took over many downlinks, and what an invocation delivered."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.ids import DownlinkId
from halfpipe.process.usage import Usage
from halfpipe.status.recap import handed_off
from halfpipe.tables import jobs
from tests.support.golden_cases import GOLDEN, read_case
from tests.support.series import rewrite
from tests.support.verbs import halfpipe
from tests.support.workflow import Site

CASE = read_case(GOLDEN / "split2")
RUN = "2c2e5787"
ONE, OTHER = (DownlinkId(downlink) for downlink in CASE.downlinks)


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Two downlinks of one run: the first is processed by Snakemake, which tells what it delivered."""
    site = Site(tmp_path_factory.mktemp("throughput"))
    site.replay(CASE.directory / "in", ONE, OTHER)
    said = site.process(ONE).said
    assert re.search(
        r"^1 downlink handed off, 1 run with 51 events in 0 MB delivered in \d+ s: \d+ events/s, 0\.\d MB/s$",
        said,
        re.MULTILINE,
    )
    site.by_hand(OTHER)
    shutil.rmtree(site.work / paths.logs())
    return site


@pytest.fixture
def done(processed: Site, tmp_path: Path) -> Site:
    """The same without logs, of the test's own."""
    return processed.clone(tmp_path)


def took(site: Site, seconds: float, rule: str, *ids: str) -> None:
    """Record that a job took `seconds`, twice that of processors, and a MB of memory for each."""
    path = site.work / paths.usage(ids[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    job = "-".join([rule, *ids[1:]])
    usage = Usage(job, "2024-06-28T00:00:00+00:00", "host", seconds, 2 * seconds, int(seconds * 1e6))
    with path.open("a") as out:
        out.write(json.dumps(asdict(usage)) + "\n")


def rates(site: Site, *downlinks: DownlinkId) -> dict[str, Any]:
    """Return the rates by rule."""
    found = jobs.rates(jobs.jobs(site.work, downlinks or jobs.downlinks(site.work)))
    return {one["rule"]: one for one in found.to_dict("records")}


def test_rates_are_what_was_made_by_the_time_it_took(done: Site) -> None:
    for downlink, factor in ((ONE, 1.0), (OTHER, 3.0)):
        took(done, 1000.0, "decode_chunk", downlink, "00001")  # an earlier try
        took(done, factor, "decode_chunk", downlink, "00001")
        took(done, 2 * factor, "decode_chunk", downlink, "00002")
        took(done, 5 * factor, "deliver_run", downlink, RUN)
        took(done, 0.5 * factor, "receipt", downlink)
    took(done, 7.0, "a_rule_to_come", ONE)
    (done.work / paths.logs() / "unattended").mkdir()
    found = rates(done)
    assert list(found) == ["decode_chunk", "deliver_run", "receipt", "a_rule_to_come"]
    products = [path for path in CASE.directory.glob("in/*/*") if path.suffix in {".evt", ".idx"}]
    events = sum(path.read_text().count("EVT:") for path in products if path.suffix == ".idx")
    size = sum(path.stat().st_size for path in products)
    assert list(found["decode_chunk"].values()) == [
        "decode_chunk", 4, 2.5, 6.0, 24.0, 6, events, round(size / 1e6), round(events / 12), round(size / 12e6, 3)
    ]  # fmt: skip
    delivered = found["deliver_run"]
    staged = sum(len(content) for step in CASE.steps for content in step.expected.files.values())
    assert (delivered["jobs"], delivered["events"], delivered["MB"]) == (2, 130, round(staged / 1e6))
    assert (delivered["events/s"], delivered["MB/s"]) == (round(6.5), round(staged / 20e6, 3))
    assert list(found["receipt"].values()) == ["receipt", 2, 1.0, 1.5, 4.0, 2, 0, 0, 0, 0.0]
    assert rates(done, OTHER)["deliver_run"]["max_s"] == 15.0


def test_a_job_whose_products_are_gone_makes_nobody_slow(done: Site) -> None:
    took(done, 1.0, "decode_chunk", ONE, "00001")
    alone = rates(done)["decode_chunk"]
    took(done, 99.0, "decode_chunk", ONE, "00002")
    (done.work / paths.chunk(ONE, "00002")).unlink()
    took(done, 99.0, "decode_chunk", ONE, "nonsense")
    both = rates(done)["decode_chunk"]
    assert (both["jobs"], both["max_s"]) == (3, 99.0)
    assert (both["events"], both["events/s"]) == (alone["events"], alone["events/s"])
    assert alone["events"] > 0
    manifest = done.work / paths.manifest(RUN, ONE)
    took(done, 1.0, "deliver_run", ONE, RUN)
    assert rates(done)["deliver_run"]["events"] == 51
    rewrite(manifest, held=["why"])
    assert rates(done)["deliver_run"]["events"] == 0


def test_the_verb(done: Site) -> None:
    def shown(*words: str | Path) -> Any:
        return json.loads(halfpipe("show", "--jobs", *words, "--json", configfile=done.configfile).stdout)

    assert (shown()["downlinks"], shown()["jobs"]) == ([], [])
    took(done, 2.0, "deliver_run", ONE, RUN)
    took(done, 4.0, "deliver_run", OTHER, RUN)
    header, row, last = halfpipe("show", "--jobs", configfile=done.configfile).stdout.splitlines()
    assert header.split() == list(rates(done)["deliver_run"])
    assert row.split() == ["deliver_run", "2", "3.0", "4.0", "12.0", "4", "130", "0", "22", "0.0"]
    assert last == "2 downlinks, 2 jobs"
    found = shown(f"dl={OTHER}")
    assert (found["downlinks"], found["jobs"]) == ([OTHER], [rates(done, OTHER)["deliver_run"]])
    assert found["jobs"][0]["events"] == 79


def test_what_an_invocation_handed_off(done: Site) -> None:
    outputs = [name for dl in (ONE, OTHER) for name in (paths.manifest(RUN, dl), paths.receipt(dl))]
    said = handed_off(done.work, outputs, 10.0)
    assert (
        said
        == "2 downlinks handed off, 2 runs with 130 events in 0 MB delivered in 10 s: 13 events/s, 0.0 MB/s"
    )
    assert handed_off(done.work, [paths.manifest(RUN, ONE), paths.receipt("240601009")], 0.0).startswith(
        "nothing"
    )


@pytest.mark.parametrize("content", ["[]", '{"held": [], "files": [1]}', "\xff", None])
def test_a_damaged_manifest_is_passed_over(done: Site, content: str | None) -> None:
    manifest = done.work / paths.manifest(RUN, ONE)
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content.encode("latin-1"))
    took(done, 1.0, "deliver_run", ONE, RUN)
    assert rates(done)["deliver_run"]["events"] == 0


def test_days_are_told_apart(done: Site) -> None:
    took(done, 2, "decode_chunk", ONE, "00001")
    took(done, 4, "decode_chunk", ONE, "00002")
    took(done, 7, "a_rule_to_come", ONE)
    path = done.work / paths.usage(ONE)
    first, second, third = path.read_text().splitlines(keepends=True)
    path.write_text(first + second.replace("2024-06-28", "2024-07-01") + third)
    ended = halfpipe("show", "--jobs", "--by", "day", "--json", configfile=done.configfile)
    assert [(one["day"], one["rule"], one["max_s"]) for one in json.loads(ended.stdout)["jobs"]] == [
        ("2024-06-28", "decode_chunk", 2), ("2024-06-28", "a_rule_to_come", 7), ("2024-07-01", "decode_chunk", 4)
    ]  # fmt: skip
