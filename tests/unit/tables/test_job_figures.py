"""`throughput`: what each rule took over many downlinks, and what an invocation delivered."""

import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.ids import DownlinkId
from halfpipe.pages.throughput_picture import picture
from halfpipe.process.usage import Usage
from halfpipe.tables import job_figures
from tests.support.golden_cases import GOLDEN, read_case
from tests.support.series import rewrite
from tests.support.svg import written
from tests.support.verbs import halfpipe
from tests.support.workflow import Site

CASE = read_case(GOLDEN / "split2")
RUN = "2c2e5787"
MOST_OF_A_MONTH = 50_000  # bytes of an SVG
ONE, OTHER = (DownlinkId(downlink) for downlink in CASE.downlinks)


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Two downlinks of one run: the first is processed by Snakemake, which tells what it delivered."""
    site = Site(tmp_path_factory.mktemp("throughput"))
    site.replay(CASE.directory / "in")
    site.add_retdefs(CASE.directory / "in", ONE, OTHER)
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
    path = site.work / paths.benchmark(rule, *ids)
    path.parent.mkdir(parents=True, exist_ok=True)
    usage = Usage("2024-06-28T00:00:00+00:00", "host", seconds, 2 * seconds, int(seconds * 1e6))
    with path.open("a") as out:
        out.write(json.dumps(asdict(usage)) + "\n")


def rates(site: Site, *downlinks: DownlinkId) -> dict[str, job_figures.Rate]:
    """Return the rates by rule."""
    found = job_figures.rates(job_figures.jobs(site.work, downlinks or job_figures.downlinks(site.work)))
    return {rate.rule: rate for rate in found}


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
    decoded = found["decode_chunk"]
    products = [path for path in CASE.directory.glob("in/*/*") if path.suffix in {".evt", ".idx"}]
    events = sum(path.read_text().count("EVT:") for path in products if path.suffix == ".idx")
    size = sum(path.stat().st_size for path in products)
    assert decoded == job_figures.Rate(
        "decode_chunk", 4, 2.5, 6.0, 24.0, 6_000_000, events, size, round(events / 12, 1), round(size / 12, 1)
    )
    staged = [content for step in CASE.steps for content in step.expected.files.values()]
    delivered = found["deliver_run"]
    assert (delivered.jobs, delivered.events) == (2, 130)
    assert delivered.size == sum(map(len, staged))
    assert delivered.events_per_second == 6.5
    assert found["receipt"] == job_figures.Rate("receipt", 2, 1.0, 1.5, 4.0, 1_500_000, 0, 0, 0.0, 0.0)
    assert rates(done, OTHER)["deliver_run"].max_seconds == 15.0


def test_a_job_whose_products_are_gone_makes_nobody_slow(done: Site) -> None:
    took(done, 1.0, "decode_chunk", ONE, "00001")
    alone = rates(done)["decode_chunk"]
    took(done, 99.0, "decode_chunk", ONE, "00002")
    (done.work / paths.chunk(ONE, "00002")).unlink()
    took(done, 99.0, "decode_chunk", ONE, "nonsense")
    both = rates(done)["decode_chunk"]
    assert (both.jobs, both.max_seconds) == (3, 99.0)
    assert (both.events, both.events_per_second) == (alone.events, alone.events_per_second)
    assert alone.events > 0
    manifest = done.work / paths.manifest(RUN, ONE)
    took(done, 1.0, "deliver_run", ONE, RUN)
    assert rates(done)["deliver_run"].events == 51
    rewrite(manifest, held=["why"])
    assert rates(done)["deliver_run"].events == 0


def test_the_program(done: Site) -> None:
    said = halfpipe("throughput", configfile=done.configfile).stdout
    assert said == "no job has a record of what it took\n0 downlinks, 0 jobs\n"
    took(done, 2.0, "deliver_run", ONE, RUN)
    took(done, 4.0, "deliver_run", OTHER, RUN)
    header, row, last = halfpipe("throughput", configfile=done.configfile).stdout.splitlines()
    assert " ".join(header.split()) == "rule jobs median_s max_s CPU_s max_MB_memory events MB events/s MB/s"
    assert row.split() == ["deliver_run", "2", "3.0", "4.0", "12.0", "4", "130", "0", "22", "0.0"]
    assert last == "2 downlinks, 2 jobs"
    found = json.loads(halfpipe("throughput", f"dl={OTHER}", "--json", configfile=done.configfile).stdout)
    assert found["downlinks"] == [OTHER]
    (rate,) = found["rules"]
    assert rate == asdict(rates(done, OTHER)["deliver_run"])
    assert rate["events"] == 79


def test_what_an_invocation_delivered(done: Site) -> None:
    invocation = job_figures.Invocation(done.work)
    invocation.begin()
    outputs = [
        output
        for dl in (ONE, OTHER)
        for output in (
            paths.index(RUN, dl),
            paths.manifest(RUN, dl),
            paths.receipt(dl),
            paths.chunk(dl, "00001"),
        )
    ]
    said = invocation.delivered(outputs)
    assert said.startswith("2 downlinks handed off, 2 runs with 130 events in 0 MB delivered in 0 s: ")
    # Of an invocation that fails, and of the next, which makes the receipt of what was merged before.
    said = invocation.delivered(outputs[1:2])
    assert said.startswith("0 downlinks handed off, 0 runs with 0 events in 0 MB delivered in 0 s: ")
    assert said.endswith("; 1 run with 51 events in 0 MB merged and not handed off yet")
    said = invocation.delivered([paths.receipt(ONE)])
    assert said == (
        "1 downlink handed off, 1 run with 51 events in 0 MB delivered in 0 s, of these 1 run with 51 events in 0 MB "
        "merged before: 0 events/s, 0.0 MB/s"
    )
    assert invocation.delivered([]) == "nothing was handed off or merged in 0 s"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"held": [], "files": [1]}', "\xff", None])
def test_a_damaged_manifest_is_passed_over(done: Site, content: str | None) -> None:
    manifest = done.work / paths.manifest(RUN, ONE)
    manifest.unlink()
    if content is not None:
        manifest.write_bytes(content.encode("latin-1"))
    took(done, 1.0, "deliver_run", ONE, RUN)
    assert rates(done)["deliver_run"].events == 0
    outputs = [paths.manifest(RUN, dl) for dl in (ONE, OTHER)]
    assert "1 run with 79 events" in job_figures.Invocation(done.work).delivered(outputs)


def test_rates_by_day_are_those_of_the_jobs_that_began_then(done: Site) -> None:
    took(done, 2, "decode_chunk", ONE, "00001")
    took(done, 4, "decode_chunk", ONE, "00002")
    path = done.work / paths.benchmark("decode_chunk", ONE, "00002")
    path.write_text(path.read_text().replace("2024-06-28", "2024-06-29"))
    jobs = list(job_figures.jobs(done.work, [ONE]))
    days = job_figures.rates_by_day(jobs)
    assert list(days) == ["2024-06-28", "2024-06-29"]
    assert [rate.max_seconds for of_day in days.values() for rate in of_day] == [2, 4]
    ended = halfpipe("throughput", "--by", "day", configfile=done.configfile)
    assert [line.split()[:3] for line in ended.stdout.splitlines()[1:3]] == [
        ["2024-06-28", "decode_chunk", "1"],
        ["2024-06-29", "decode_chunk", "1"],
    ]
    said = json.loads(halfpipe("throughput", "--by", "day", "--json", configfile=done.configfile).stdout)
    assert list(said["days"]) == list(days)


def test_days_are_drawn(done: Site, tmp_path: Path) -> None:
    svg = tmp_path / "days.svg"
    ended = halfpipe("throughput", "--by", "day", "-o", svg, configfile=done.configfile)
    assert ended.exit_code == 1
    assert "nothing to draw" in ended.stderr
    assert not svg.exists()
    took(done, 2, "decode_chunk", ONE, "00001")
    took(done, 4, "decode_chunk", ONE, "00002")
    took(done, 7, "a_rule_to_come", ONE)
    path = done.work / paths.benchmark("decode_chunk", ONE, "00002")
    path.write_text(path.read_text().replace("2024-06-28", "2024-07-01"))
    ended = halfpipe("throughput", "--by", "day", "-o", svg, configfile=done.configfile)
    assert ended.exit_code == 0
    assert ended.stdout.splitlines()[-1] == f"1 downlink, 3 jobs; drawn in {svg}"
    before = svg.read_bytes()
    halfpipe("throughput", "--by", "day", "--json", "-o", svg, configfile=done.configfile)
    assert svg.read_bytes() == before
    title, description, *texts = written(before)
    assert title == "Throughput from 2024-06-28 to 2024-07-01"
    assert description.startswith(
        "3 jobs on 2 days. On 2024-07-01: decode_chunk: 1 job, median 4 s, longest 4 s"
    )
    assert {"06-28", "06-29", "06-30", "07-01", "decode_chunk", "a_rule_to_come"} <= set(texts)
    assert {"million events / day", "events / s", "seconds"} <= set(texts)
    assert not any("SIMULATED" in words for words in texts)  # the site's decoder is another command
    png = tmp_path / "days.PNG"
    ended = halfpipe("throughput", "--by", "day", "-o", png, configfile=done.configfile)
    assert ended.exit_code == 0
    assert png.read_bytes().startswith(b"\x89PNG")
    assert halfpipe("throughput", "-o", svg, configfile=done.configfile).exit_code == 2
    assert halfpipe("throughput", "--by", "day", "-o", "x.gif", configfile=done.configfile).exit_code == 1


def test_a_drawing_of_what_the_built_in_decoder_read_says_simulated(done: Site, tmp_path: Path) -> None:
    took(done, 2, "decode_chunk", ONE, "00001")
    done.configure(decoder={"command": "built-in"})
    svg = tmp_path / "days.svg"
    halfpipe("throughput", "--by", "day", "-o", svg, configfile=done.configfile)
    title, description, *texts = written(svg.read_bytes())
    assert title == "Throughput on 2024-06-28"
    assert "SIMULATED" in description
    assert any("SIMULATED" in words for words in texts)


def test_the_drawing_of_a_month_is_small() -> None:
    days = {
        f"2024-06-{day:02}": [
            job_figures.Rate(rule, 9, 2.5 + day % 3, 60.0, 24.0, 10**9, 10**7, 10**9, 45000.0, 10**8)
            for rule in job_figures.RULES
        ]
        for day in range(1, 31)
    }
    assert len(picture(days, "svg")) < MOST_OF_A_MONTH
