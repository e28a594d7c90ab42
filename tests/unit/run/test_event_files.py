"""Event files: golden bytes whatever the batch, the LATC override, and records that are not there any more."""

import hashlib
import itertools
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from halfpipe.errors import HalfPipeError, StateError
from halfpipe.formats import idx
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.decision import Decision, decide
from halfpipe.process import rule_program
from halfpipe.process.progress import Progress
from halfpipe.run import event_files, merged_index
from halfpipe.run import event_records as reading
from halfpipe.run.chunk_files import ChunkProducts
from halfpipe.run.event_records import Records, Times, evt_files_of
from halfpipe.run.event_table import EventTable, load_events
from halfpipe.run.moot_keys import UNSET, Moot
from halfpipe.settings import Merge
from tests.support.golden_cases import GOLDEN, Case, read_case

# One downlink, processed once: several chunks, equal sequences, LATC, LCI, no handlers, files cut.
CASES = ["complete_multichunk", "dup_same_dl", "equal_sequence", "latc_lpa", "latc_lci", "lci_acd", "lci_cal_gap",
         "maxev_small", "runid_small", "seq_over_32bit", "three_epus", "zero_handlers"]  # fmt: skip
LATC_FROM_END = 16  # LATC_master, LATC_ignore, SBS and LPA_db are the last four words of an LPA record


def decided(case: Case, source: Path, home: Path) -> tuple[Decision, dict[DownlinkId, EventTable]]:
    """Decide what the only downlink of `case` delivers of its first run, with products from `source`."""
    step = case.steps[0]
    downlink, run = DownlinkId(step.downlink), RunId.from_met(step.runs[0])
    chunks: dict[str, dict[str, int]] = {}
    for path in sorted(source.glob(f"*-{run}-????-?????.*")):
        chunks.setdefault(path.stem[-5:], {})[path.name] = path.stat().st_size
    merged = merged_index.build(
        (ChunkProducts(ChunkId(c), files, True), source) for c, files in chunks.items()
    )
    merged_index.save(merged, home, run, downlink)
    table = load_events(home, run, downlink)
    limits = Merge(case.max_events, case.chunk_scale, case.chunk_floor, case.min_events, case.min_epus)
    decision = decide(downlink, merged.datagrams, {downlink: table.keys(0)}, {}, limits)
    return decision, {downlink: table}


def records_in(source: Path, decision: Decision, tables: dict[DownlinkId, EventTable]) -> Records:
    """Return the records that a decision delivers, whose evt files lie in `source`."""
    places = {(dl, file): source / tables[dl].files[file] for dl, file in evt_files_of(decision)}
    return Records(decision, tables, places)


def records_of(case: Case, source: Path, home: Path) -> tuple[Decision, Records]:
    decision, tables = decided(case, source, home)
    return decision, records_in(source, decision, tables)


def written(case: Case, home: Path, latc: int | None, threads: int = 1) -> dict[str, bytes]:
    source = case.directory / "in" / case.steps[0].downlink
    decision, records = records_of(case, source, home / "work")
    downlink, run = DownlinkId(case.steps[0].downlink), RunId.from_met(case.steps[0].runs[0])
    moot = Moot(*case.moot[run.met]) if run.met in case.moot else UNSET
    header = event_files.Header(downlink, moot, latc)
    described = event_files.describe(records, decision.files, run)
    out = home / "out"
    out.mkdir()
    made = event_files.write_all(records, decision.files, described, header, out, threads)
    for (file, times), wanted, (begin, end) in zip(made, described, decision.files, strict=True):
        content = (out / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert (file.name, file.events, file.sequences, file.seconds) == (
            wanted.name, wanted.events, wanted.sequences, wanted.seconds,
        )  # fmt: skip
        utc = utc_of(source, run, decision.events[begin:end])
        assert times == Times(utc[0], utc[-1], min(utc), max(utc))
    return {f"{run.l1}/{path.name}": path.read_bytes() for path in sorted(out.iterdir())}


def utc_of(source: Path, run: RunId, events: NDArray[np.void]) -> list[float]:
    """Return the times of `events` as the indexes have them."""
    found: dict[tuple[int, int], float] = {}
    for path in sorted(source.glob(f"*-{run}-*.idx")):
        for event in idx.read_index(path).events:
            found.setdefault((int(event["sequence"]), int(event["apid"])), float(event["utc"]))
    return [found[int(event["sequence"]), int(event["apid"])] for event in events]


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (2500, 2), (reading.BATCH_BYTES, 3)])
@pytest.mark.parametrize("name", CASES)
def test_golden_bytes_whatever_the_batch_and_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, batch: int, threads: int
) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", batch)
    case = read_case(GOLDEN / name)
    assert written(case, tmp_path, case.latc, threads) == case.steps[0].expected.files


def test_batches_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", 3000)
    case = read_case(GOLDEN / "complete_multichunk")
    source = case.directory / "in" / case.steps[0].downlink
    decision, records = records_of(case, source, tmp_path)
    sizes = [len(content) for content, _ in records.batches(0, len(decision.events), None)]
    assert len(sizes) > 20
    assert max(sizes) <= 3000
    assert all(one + other > 3000 for one, other in itertools.pairwise(sizes)), "no smaller than need be"
    assert sum(sizes) == int(decision.events["size"].sum())


def test_an_override_changes_latc_master_of_lpa_records_and_nothing_else(tmp_path: Path) -> None:
    case = read_case(GOLDEN / "complete_multichunk")
    plain, over = (written(case, tmp_path / str(latc), latc) for latc in (None, 0x12345678))
    ((name, content),) = plain.items()
    changed = bytearray(content)
    decision, _ = decided(case, case.directory / "in" / case.steps[0].downlink, tmp_path)
    end = 176
    for size in decision.events["size"].tolist():
        end += size
        changed[end - LATC_FROM_END : end - LATC_FROM_END + 4] = bytes.fromhex("78563412")
    assert end == len(content)
    assert over[name] == bytes(changed) != content


def copied(case: Case, home: Path) -> Path:
    home.mkdir()
    for path in (case.directory / "in" / case.steps[0].downlink).glob("*-*-*-*.*"):
        (home / path.name).write_bytes(path.read_bytes())
    return home


def test_an_evt_that_changed_since_it_was_indexed(tmp_path: Path) -> None:
    case = read_case(GOLDEN / "runid_small")
    source = copied(case, tmp_path / "in")
    decision, tables = decided(case, source, tmp_path)
    table = tables[DownlinkId(case.steps[0].downlink)]
    path = source / table.files[0]
    content = path.read_bytes()
    first = int(table.events["offset"][decision.events["file"] == 0].min())
    spoilt = bytearray(content)
    spoilt[first + 104] ^= 1  # a bit of the sequence
    read = records_in(source, decision, tables)
    for other in (bytes(spoilt), content[:-1], content[: first + 10]):
        path.write_bytes(other)
        with pytest.raises(StateError) as caught:
            list(read.batches(0, len(decision.events), None))
        said = str(caught.value)
        assert said.startswith(f"{path} at byte ")
        assert said.endswith("Process the downlink of that chunk again.")


def test_a_record_that_is_not_whole_any_more_leaves_nothing(tmp_path: Path) -> None:
    case = read_case(GOLDEN / "maxev_small")
    source = copied(case, tmp_path / "in")
    decision, records = records_of(case, source, tmp_path)
    run = RunId.from_met(case.steps[0].runs[0])
    described = event_files.describe(records, decision.files, run)
    path = max(source.glob("*.evt"))
    path.write_bytes(path.read_bytes()[:-5])
    header = event_files.Header(DownlinkId(case.steps[0].downlink), UNSET, None)
    (tmp_path / "out").mkdir()
    for threads in (1, 3):
        with pytest.raises(StateError, match=f"^{path} at byte "):
            event_files.write_all(records, decision.files, described, header, tmp_path / "out", threads)
    assert not list((tmp_path / "out").glob(".*")), "no file that is half written"


def test_a_record_that_cannot_be_overridden_is_named(tmp_path: Path) -> None:
    case = read_case(GOLDEN / "latc_lpa")
    source = copied(case, tmp_path / "in")
    decision, records = records_of(case, source, tmp_path)
    path = max(source.glob("*.evt"))
    spoilt = bytearray(path.read_bytes())
    spoilt[176 + 296 + 4] ^= 1  # a bit of the marker of the first record's event
    path.write_bytes(spoilt)
    list(records.batches(0, len(decision.events), None))
    with pytest.raises(StateError, match=rf"{path}.*: a record is not what it was .*EBF marker.* again\.$"):
        list(records.batches(0, len(decision.events), 7))


def test_the_end_of_the_program_ends_the_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", 1)
    case = read_case(GOLDEN / "maxev_small")
    decision, records = records_of(case, copied(case, tmp_path / "in"), tmp_path)
    run = RunId.from_met(case.steps[0].runs[0])
    described = event_files.describe(records, decision.files, run)
    (tmp_path / "out").mkdir()
    header = event_files.Header(DownlinkId(case.steps[0].downlink), UNSET, None)
    seen = []

    class Ending(Progress):
        def add(self, *, events: int = 0, size: int = 0) -> None:
            seen.append((events, size))
            if len(seen) == 5:  # by then all are waited for
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)

    before = signal.signal(signal.SIGTERM, rule_program._end)
    try:
        with pytest.raises(SystemExit):
            event_files.write_all(records, decision.files, described, header, tmp_path / "out", 1, Ending(""))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert len(seen) < len(decision.events) // 2
    assert not list((tmp_path / "out").glob(".*")), "no file that is half written"


def test_what_cannot_be_read_is_named_and_not_what_is_written(tmp_path: Path) -> None:
    case = read_case(GOLDEN / "maxev_small")
    source = copied(case, tmp_path / "in")
    decision, records = records_of(case, source, tmp_path)
    run = RunId.from_met(case.steps[0].runs[0])
    described = event_files.describe(records, decision.files, run)
    header = event_files.Header(DownlinkId(case.steps[0].downlink), UNSET, None)
    (tmp_path / "out").mkdir()
    path = max(source.glob("*.evt"))
    path.unlink()
    for cause in ("No such file or directory", "Is a directory"):
        with pytest.raises(StateError, match=f"^{path}: cannot be read: {cause}"):
            event_files.write_all(records, decision.files, described, header, tmp_path / "out")
        path.mkdir(exist_ok=True)


def test_the_first_error_is_told_and_ends_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", 1)  # each record is a batch
    case = read_case(GOLDEN / "maxev_small")
    decision, records = records_of(case, copied(case, tmp_path / "in"), tmp_path)
    run = RunId.from_met(case.steps[0].runs[0])
    described = event_files.describe(records, decision.files, run)
    out = tmp_path / "out"
    (out / f".{described[1].name}.part").mkdir(parents=True)
    seen = []

    class Slow(Progress):
        def add(self, *, events: int = 0, size: int = 0) -> None:
            seen.append((events, size))
            time.sleep(0.02)

    bar = Slow("writing")
    header = event_files.Header(DownlinkId(case.steps[0].downlink), UNSET, None)
    with pytest.raises(HalfPipeError, match=f"^{out / described[1].name}: cannot be written: Is a directory"):
        event_files.write_all(records, decision.files, described, header, out, 1, bar)
    assert len(seen) <= decision.files[0][1] // 2, "the first file was not written to its end"
    assert [path.name for path in out.iterdir() if path.is_file()] == []


def test_only_evt_files_of_delivered_events_are_wanted(tmp_path: Path) -> None:
    case = read_case(GOLDEN / "complete_multichunk")
    downlink = DownlinkId(case.steps[0].downlink)
    decision, tables = decided(case, case.directory / "in" / downlink, tmp_path)
    files = range(len(tables[downlink].files))
    assert evt_files_of(decision) == [(downlink, file) for file in files]
    events = decision.events[decision.events["file"] == 1]
    assert evt_files_of(replace(decision, events=events)) == [(downlink, 1)]
    assert evt_files_of(replace(decision, events=events[:0])) == []


def test_a_size_that_is_not_what_was_announced(tmp_path: Path) -> None:
    case = read_case(GOLDEN / "runid_small")
    decision, records = records_of(case, case.directory / "in" / case.steps[0].downlink, tmp_path)
    (file,) = event_files.describe(records, decision.files, RunId("0dbba3e9"))
    header = event_files.Header(DownlinkId("240601001"), UNSET, None)
    wrong = type(file)(file.name, file.events, file.sequences, file.seconds, file.size + 1, "")
    with pytest.raises(StateError, match=rf"{file.size} bytes were written, {file.size + 1} expected"):
        event_files.write(records, decision.files[0], wrong, header, tmp_path)
