"""Frames of a simulated month: they agree with the events that were simulated, the receipts, and the files."""

import json
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time, TimeDelta
from hypothesis import given
from hypothesis import strategies as st

import halfpipe
from halfpipe import paths
from halfpipe.cli.printed import records
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.formats import evt, met
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import join
from halfpipe.notify.submissions import submissions
from halfpipe.state.attempts import Action, By, Outcome
from halfpipe.tables import columns
from halfpipe.tables.site_frames import SiteFrames, coverage_frame, coverage_table, find, gaps_in
from halfpipe.words import count
from halfpipe_simulator.scenario import Simulation
from tests.support.in_process import ROOT
from tests.support.month import simulated_month
from tests.support.series import damage
from tests.support.workflow import Site

WEEKS = 4
NAMES = ("downlinks", "runs", "files", "chunks", "waiting", "jobs", "records")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, list[Simulation]]:
    site, simulations = simulated_month(tmp_path_factory.mktemp("month"), WEEKS)
    site.snakemake(f"submit={simulations[0].downlinks[0]}").good()
    return site, simulations


@pytest.fixture(scope="module")
def month(made: tuple[Site, list[Simulation]]) -> Site:
    return made[0]


@pytest.fixture(scope="module")
def simulations(made: tuple[Site, list[Simulation]]) -> list[Simulation]:
    """Two downlinks in each week of a month, with lost datagrams, a run over both, and one that stays open."""
    return made[1]


@pytest.fixture(scope="module")
def frames(month: Site) -> SiteFrames:
    return halfpipe.open(month.configfile)


def test_downlinks_are_the_receipts(frames: SiteFrames, month: Site, simulations: list[Simulation]) -> None:
    found = frames.downlinks
    downlinks = [downlink for made in simulations for downlink in made.downlinks]
    receipts = [month.receipt(downlink) for downlink in downlinks]
    assert list(found.index) == sorted(downlinks)
    assert list(found["events"]) == [sum(run.delivery.events for run in each.runs) for each in receipts]
    assert list(found["waiting"]) == [
        sum(run.delivery.books.in_texts for run in each.runs) for each in receipts
    ]
    numbers = Counter(chunk.downlink for made in simulations for chunk in made.chunks)
    assert found["chunks"].to_dict() == numbers
    assert found["submitted"].dropna().to_dict() == {downlinks[0]: 1}
    assert found["handed_off"].notna().all()
    assert found["latency"].between(600, 86400).all(), "as simulated_month has set them"
    assert found["simulated"].all()
    assert found["problem"].isna().all()


def test_runs_files_and_chunks_add_up(frames: SiteFrames, month: Site, simulations: list[Simulation]) -> None:
    runs, files, chunks = frames.runs, frames.files, frames.chunks
    by_downlink = frames.downlinks["events"]
    assert runs.groupby("downlink")["events"].sum().equals(by_downlink)
    assert files.groupby("downlink")["events"].sum().equals(by_downlink[by_downlink > 0])
    assert files.groupby(["run", "downlink"]).size().equals(runs["files"][runs["files"] > 0].astype("int64"))
    for (run, downlink, name), row in files.iterrows():
        path = month.stage / downlink / RunId(run).l1 / name
        header = evt.read_header(path)
        numbers = [int(header[key]) for key in ("evtcnt", "gemseq_beg", "gemseq_end", "secs_beg", "secs_end")]
        numbers[-1] += 1  # the end of the last second
        columns_of = ["events", "first_sequence", "last_sequence", "begin_met", "end_met"]
        assert row[columns_of].to_list() == numbers
        assert row["size"] == path.stat().st_size
    for made in simulations:
        for chunk in made.chunks:
            row = chunks.loc[(chunk.downlink, chunk.number)]
            assert row["events"] + row["missing_events"] >= sum(len(d.sequences) for d in chunk.sound)
            assert row["runs"] == chunk.run
            decoded = (month.work / paths.chunks(chunk.downlink)).glob(f"*-{chunk.number}.evt")
            assert row["size"] == sum(path.stat().st_size for path in decoded)


def test_the_events_are_those_that_were_simulated(frames: SiteFrames, simulations: list[Simulation]) -> None:
    for made in simulations:
        for run in made.runs:
            known = {(seq, apid) for of in made.carried.values() for seq, apid, _ in of.get(run, ())}
            found = frames.run(run).events()
            assert set(zip(found.index, found["epu"], strict=True)) == known
            assert len(found) == len(known)
            by_downlink = found["delivered"].value_counts()
            events = frames.runs.loc[run]["events"]
            assert by_downlink.to_dict() == events[events > 0].to_dict()
            left = frames.waiting["waiting"].get(run, 0)
            late = frames.runs.loc[run]["late"].iloc[-1]
            assert found["delivered"].isna().sum() == left + late
            assert found["utc"].is_monotonic_increasing
            assert found["met"].between(RunId(run).met, RunId(run).met + 3600).all()
    name = simulations[0].downlinks[0]
    assert len(frames.downlink(name).events()) == frames.downlinks["events"][name]


def test_coverage_and_gaps_are_the_run(frames: SiteFrames) -> None:
    for run, files in frames.files.groupby("run"):
        of = frames.run(run)
        covered, gaps = of.coverage(), of.gaps()
        assert len(of.coverage_table()) == len(covered)
        whole = files["end_met"].max() - files["begin_met"].min()
        assert covered["seconds"].sum() + gaps["seconds"].sum() == whole
        around = of.gaps(files["begin_met"].min() - 5, files["end_met"].max() + 2)
        assert around["seconds"].sum() == gaps["seconds"].sum() + 7
    waits = frames.waiting.index[frames.waiting["waiting"] > 0]
    assert len(waits) > 0


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9))), st.integers(0, 30), st.integers(31, 80))
def test_intervals_and_gaps_divide_any_time(parts: list[tuple[int, int]], begin: int, end: int) -> None:
    seconds = {second for first, length in parts for second in range(first, first + length)}
    covered = join((first, first + length) for first, length in parts)
    assert {second for first, last in covered for second in range(int(first), int(last))} == seconds
    assert all(one[1] < other[0] for one, other in pairwise(covered))
    gaps = gaps_in(covered, begin, end)
    assert all(first < last for first, last in gaps)
    left = {second for first, last in gaps for second in range(int(first), int(last))}
    assert left == set(range(begin, end)) - seconds


def test_records_and_jobs(frames: SiteFrames, month: Site, simulations: list[Simulation]) -> None:
    actions = frames.records.reset_index()["action"].value_counts()
    assert actions.to_dict() == {"hand-off": 2 * WEEKS, "submit": 1}
    assert frames.records["outcome"].dropna().to_list() == ["submitted"]
    jobs = frames.jobs.reset_index()
    decoded = jobs[jobs["job"].str.startswith("decode_chunk")]
    assert len(decoded) == sum(len(made.chunks) for made in simulations)
    assert (jobs["cpu_seconds"] >= 0).all()


def test_a_damaged_receipt_costs_its_row(month: Site, simulations: list[Simulation], tmp_path: Path) -> None:
    site, downlink = month.clone(tmp_path / "other"), simulations[1].downlinks[0]
    whole = halfpipe.open(site.configfile).downlinks
    pointer, records = (
        site.work / paths.receipt(downlink),
        list(site.work.rglob(f"{downlink}/receipts/*.json")),
    )
    pointer.write_bytes((site.work / paths.receipt(simulations[0].downlinks[0])).read_bytes())
    assert halfpipe.open(site.configfile).downlinks.equals(whole), "no pointer is read"
    for path in records:
        path.write_text("{")
    submissions(site.work, downlink).intend((), outcome=Outcome.SUBMITTED, by=By.PERSON, action=Action.SUBMIT)
    found = halfpipe.open(site.configfile)
    assert found.records.query("downlink == @downlink").reset_index()["action"].to_list() == ["submit"]
    assert found.downlinks.drop(downlink).equals(whole.drop(downlink))
    assert "record 1" in found.downlinks["problem"][downlink]
    assert downlink not in found.runs.reset_index()["downlink"].unique()


def test_frames_have_the_documented_columns(frames: SiteFrames, tmp_path: Path) -> None:
    empty = Site(tmp_path)
    empty.work.mkdir()
    nothing = halfpipe.open(empty.configfile)
    assert str(empty.work) in repr(nothing)
    for name in NAMES:
        described = columns.FRAMES[name]
        for found in (getattr(frames, name), getattr(nothing, name)):
            assert list(found.index.names) == [column.name for column in described.index]
            assert list(found.columns) == [column.name for column in described.data]
            assert found.index.is_monotonic_increasing
        assert getattr(frames, name).dtypes.equals(getattr(nothing, name).dtypes)
    with pytest.raises(MissingInputError):
        frames.run("00000001")
    with pytest.raises(MissingInputError):
        frames.downlink("990101001")
    with pytest.raises(HalfPipeError):
        halfpipe.open("no-such-profile")


LEAPS = [datetime(year, month, 1, tzinfo=UTC) for year, month in ((2009, 1), (2012, 7), (2015, 7), (2017, 1))]
KEYWORDS = {
    "EXTNAME": "COVERAGE", "TELESCOP": "GLAST", "INSTRUME": "LAT", "HDUCLASS": "OGIP", "ORIGIN": "SIMULATED",
}  # fmt: skip
KEYWORDS |= {"TIMESYS": "TT", "TIMEUNIT": "s", "TUNIT1": "s", "TUNIT2": "s"}


@pytest.mark.parametrize("after", LEAPS, ids=lambda when: f"{when - timedelta(days=1):%Y}")
def test_a_table_of_coverage_is_valid_fits_across_leap_seconds(after: datetime, tmp_path: Path) -> None:
    begin = met.unix_to_met(after.timestamp() - 10)
    end = met.unix_to_met(after.timestamp() + 10)
    assert end - begin == 21, "a leap second is a second"
    found = coverage_frame([(begin, end)])
    assert found["seconds"].to_list() == [21]
    coverage_table(found, "r0000000000", simulated=True).write(tmp_path / "coverage.fits")
    with fits.open(tmp_path / "coverage.fits", checksum=True) as hdus:
        hdus.verify("exception")
        header, data = hdus[1].header, hdus[1].data
    assert {key: header[key] for key in KEYWORDS} == KEYWORDS
    assert (header["TSTART"], header["TSTOP"]) == (begin, end) == (data["START"][0], data["STOP"][-1])
    reference = Time(header["MJDREFI"], header["MJDREFF"], format="mjd", scale="tt")
    assert abs((reference - Time("2001-01-01T00:00:00", scale="utc")).to_value("s")) < 1e-6
    dates = ((begin, found["begin"][begin], "DATE-OBS"), (end, found["end"][begin], "DATE-END"))
    for edge, utc, key in dates:
        instant = reference + TimeDelta(edge, format="sec")
        assert abs((instant - Time(utc.to_pydatetime(), scale="utc")).to_value("s")) < 1e-6
        assert abs((instant - Time(header[key], scale="tt")).to_value("s")) < 1e-3


@given(st.integers(0, 10**15))
def test_met_to_utc_and_back_is_exact_to_a_microsecond(microseconds: int) -> None:
    seconds = microseconds / 1e6
    utc = columns.utc(met.met_to_unix(pd.Series([seconds])))
    back = met.unix_to_met(utc.astype("int64").to_numpy() / 1e6)[0]
    in_leap_second = met.met_to_unix(seconds) == met.met_to_unix(seconds + 1)
    assert abs(back - seconds - in_leap_second) < 1.5e-6


def test_the_questions_of_the_documentation(frames: SiteFrames, month: Site) -> None:
    text = (ROOT / "docs" / "frames.md").read_text()
    lines = re.findall(r"^\| [^|]+\? \| `([^`]+)` \|$", text, re.MULTILINE)
    answers = [eval(line, {"site": frames}) for line in lines]
    receipts = [month.receipt(downlink) for downlink in frames.downlinks.index]
    runs = [run for last in receipts for run in last.runs]
    files = [file for run in runs if run.run == "29d7d35d" for file in run.delivery.files]
    assert answers[1].sum() == sum(run.delivery.events for run in runs)
    assert answers[14].sum() == frames.run("29d7d35d").events()["delivered"].isna().sum()
    assert answers[11] == sum(chunk.missing_events for last in receipts for chunk in last.receipt.chunks)
    assert answers[12] > 1 << 20, "bytes of a program"
    counts = {
        0: len(receipts),
        2: 1,
        3: 0,
        4: 0,
        5: len(receipts) - 1,
        6: 2,
        7: WEEKS,
        10: len(frames.waiting),
    }
    counts[8] = sum(file.seconds[0] <= 702010210 <= file.seconds[1] for file in files)
    counts[9] = sum(file.sequences[0] <= 1500 <= file.sequences[1] for file in files)
    counts[13] = len(frames.run("29d7d35d").gaps())
    assert {n: len(answers[n]) for n in counts} == counts
    assert {*range(len(answers))} - {*counts} == {1, 11, 12, 14}


def old_too(name: str) -> list[str]:
    return ["--days", "0"] if name == "waiting" else []


def test_tables_in_files_are_the_frames(frames: SiteFrames, month: Site, tmp_path: Path) -> None:
    for name in NAMES:
        files = {form: tmp_path / f"{name}.{form}" for form in ("csv", "json", "ecsv")}
        for file in files.values():
            month.halfpipe("show", "--table", name, "-o", file, *old_too(name))
        expected = records(getattr(frames, name))
        document = json.loads(files["json"].read_text())
        assert document["simulated"] is True
        assert [list(row) for row in document[name]] == [list(row) for row in expected]
        whole = getattr(frames, name).assign(simulated=True)
        expected = records(whole)
        assert len(files["csv"].read_text().splitlines()) == len(expected) + 1
        table = Table.read(files["ecsv"])
        assert (len(table), table.colnames) == (len(expected), list(expected[0]))
        assert table["simulated"].all()
        units = {column.name: column.unit for column in columns.FRAMES[name].data if column.unit}
        assert {key: str(table[key].unit) for key in units} == units


@pytest.mark.parquet
@pytest.mark.parametrize("name", NAMES)
def test_parquet_files_are_the_frames(frames: SiteFrames, month: Site, tmp_path: Path, name: str) -> None:
    file = tmp_path / f"{name}.parquet"
    month.halfpipe("show", "--table", name, "-o", file, *old_too(name))
    whole = getattr(frames, name).assign(simulated=True)
    assert pd.read_parquet(file).reset_index().astype(str).equals(whole.reset_index().astype(str))


def test_without_pyarrow_parquet_is_refused_and_the_file_of_before_stays(month: Site, tmp_path: Path) -> None:
    file = tmp_path / "runs.parquet"
    file.write_bytes(b"before")
    asked = month.halfpipe("show", "--table", "runs", "-o", file)
    assert (asked.status, "pyarrow" in asked.errors, file.read_bytes()) == (2, True, b"before")
    month.halfpipe("show", "--table", "runs", "--format", "csv", "-o", "/dev/null").good()
    assert Path("/dev/null").is_char_device()


def test_events_of_a_run_and_of_a_file(frames: SiteFrames, month: Site) -> None:
    run, downlink, name = frames.files.index[0]
    file = month.stage / downlink / RunId(run).l1 / name
    in_file = month.halfpipe("events", file, "--format", "json").good()
    assert json.loads(in_file.out)["simulated"] is True
    of_run = month.halfpipe("events", run, "--format", "json").good()
    delivered = [one for one in json.loads(of_run.out)["events"] if one["delivered"] == downlink]
    listed = json.loads(in_file.out)["events"]
    sequences = range(listed[0]["sequence"], listed[-1]["sequence"] + 1)
    assert [(one["sequence"], one["epu"]) for one in listed] == [
        (one["sequence"], one["epu"]) for one in delivered if one["sequence"] in sequences
    ]


def test_screens_show_the_numbers_of_the_frames(frames: SiteFrames, month: Site, tmp_path: Path) -> None:
    """Also those that docs/frames.md names as computed elsewhere."""
    accounts = {one["dl"]: one for one in month.told("status", "--all")["downlinks"]}
    of_status = ["handoff", "submitted", "events"]
    expected = frames.downlinks[of_status]
    assert [[accounts[name][key] for key in of_status] for name in expected.index] == [
        [row[key] for key in of_status] for row in records(expected)
    ]
    waiting = frames.waiting["waiting"].sum()
    assert sum(one["waiting"] for one in accounts.values()) == waiting > 0
    month.halfpipe("board", "-o", tmp_path, "--config", "board.days=100000")
    for name in expected.index:
        page = (tmp_path / paths.board_page(name)).read_text()
        said = re.findall(r"<tr><th>(\d{5})<td>([^<]*)<td>[^<]*<td[^>]*>([\d,]+)<td[^>]*>(\d*)", page)
        assert [(chunk, runs, int(n.replace(",", "")), int(e or 0)) for chunk, runs, n, e in said] == [
            (row["chunk"], row["runs"], row["events"], row["exceptions"])
            for row in records(frames.chunks.loc[[name]])
        ]
        assert f"<span>{expected['events'][name]:,} events, " in page
    for run in frames.runs.index.unique("run"):
        of_run, rows = month.halfpipe("show", run).good(), frames.runs.loc[run]
        assert f"in all {count(rows['events'].sum(), 'event')} staged" in of_run.out
        assert f": {count(rows['events'].sum(), 'event')} delivered, " in month.halfpipe("explain", run).out


RUN = RunId("2c2e5787")
FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")


@pytest.fixture
def half_done(worked: Callable[..., Site]) -> Site:
    return worked("split2", FIRST)


def found_on(site: Site, when: float | None, *runs: RunId, outstanding: bool = False) -> list[dict[str, Any]]:
    found, failed = find(site.settings, when, runs)
    assert failed == []
    return records(found[found["outstanding"] == outstanding])


def test_the_time_of_a_delivered_event(half_done: Site) -> None:
    (file,) = half_done.receipt(FIRST).runs[0].delivery.files
    begin, last = file.seconds
    (one,) = records(SiteFrames(half_done.settings).files)
    assert (one["downlink"], one["run"], one["name"]) == (FIRST, RUN, file.name)
    assert (one["events"], one["begin_met"], one["end_met"]) == (file.events, begin, last + 1)
    for when in (begin, last, last + 0.9):
        assert found_on(half_done, when) == [one | {"outstanding": False}]
    assert found_on(half_done, begin - 1) == found_on(half_done, last + 1) == []


def test_a_time_in_an_outstanding_chunk(half_done: Site) -> None:
    outstanding = found_on(half_done, None, RUN, outstanding=True)
    assert {one["downlink"] for one in found_on(half_done, None, RUN)} == {FIRST}
    assert {one["downlink"] for one in outstanding} == {SECOND}
    for one in outstanding:
        at_begin = found_on(half_done, one["begin_met"], outstanding=True)
        assert one["name"] in {other["name"] for other in at_begin}
    assert found_on(half_done, min(each["begin_met"] for each in outstanding) - 1, outstanding=True) == []
    assert found_on(half_done, None, RunId("00000001")) == []
    half_done.by_hand(SECOND)
    assert found_on(half_done, None, RUN, outstanding=True) == []


def test_the_verb(half_done: Site) -> None:
    (begin, _) = half_done.receipt(FIRST).runs[0].delivery.files[0].seconds
    utc = f"{met.utc_datetime(met.met_to_unix(begin)):%Y-%m-%dT%H:%M:%S}"
    by_time = [["--utc", utc], ["--utc", f"{utc}+00:00"], ["--met", str(begin)]]
    assert len({half_done.halfpipe("find", *words).good().said for words in by_time}) == 1
    said = half_done.told("find", "--run", "r0741234567")
    states = {one["downlink"]: (one["state"], one["outstanding"]) for one in said["found"]}
    assert (said["do"], states[FIRST]) == (f"snakemake dl={SECOND}", ("handed off 1", False))
    assert states[SECOND] == ("outstanding", True)
    assert half_done.halfpipe("find", "--met", "1").status == 1


@pytest.mark.parametrize("place", [paths.receipts(FIRST), paths.deliveries(RUN)])
def test_a_damaged_record_is_reported_and_hides_no_other_downlink(half_done: Site, place: str) -> None:
    damage(half_done.work, place)
    ended = half_done.halfpipe("find", "--run", RUN)
    assert ended.status == 1
    assert all(words in ended.said for words in (place, f"snakemake dl={SECOND}"))
