"""Event files: golden bytes for any batch size and number of threads, and records that changed after decoding."""

import hashlib
import itertools
import os
import random
import signal
import time
from pathlib import Path
from typing import IO

import pytest
from msgspec.structs import replace

from halfpipe.errors import HalfPipeError, StateError
from halfpipe.files.durable import write_whole
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.moot_file import UNSET
from halfpipe.merge.decision import decide
from halfpipe.process import rule_program
from halfpipe.staging import event_files
from halfpipe.state.deliveries import EventFile, MootKey
from halfpipe.state.merged_index import merge_chunks
from tests.support.bridge import limits
from tests.support.golden_cases import decoded, read_case

# One downlink, processed once: several chunks, equal sequences, LATC, LCI, no handlers, files cut.
CASES = ["complete_multichunk", "dup_same_dl", "equal_sequence", "latc_lpa", "latc_lci", "lci_acd", "lci_cal_gap",
         "maxev_small", "runid_small", "seq_over_32bit", "three_epus", "zero_handlers"]  # fmt: skip


class CaseFiles:
    """The event files of the first run of a golden case with one downlink, from copies of its products."""

    def __init__(self, name: str, home: Path) -> None:
        self.case = read_case(name)
        step = self.case.steps[0]
        self.downlink, self.run = DownlinkId(step.downlink), RunId.from_met(step.runs[0])
        self.expected, self.out = step.expected.files, home / "out"
        self.out.mkdir()
        files: dict[Path, int] = {}
        source = self.case.directory / "in" / step.downlink
        merged, events = merge_chunks(decoded(source, home / "in", self.run), files)
        self.decision = decide(self.downlink, merged.datagrams, events, {}, limits(self.case.rules))
        self.records = event_files.Records(self.decision.events, tuple(files))
        self.described = event_files.name_files(self.records, self.decision.files, self.run)
        self.evt = max((home / "in").rglob("*.evt"))

    def write(self, latc: int | None = None, threads: int = 1) -> list[EventFile]:
        key = self.case.moot.get(self.run.met)
        header = event_files.Header(self.downlink, MootKey(*key) if key else UNSET, latc)
        return event_files.write_all(
            self.records, self.decision.files, self.described, header, self.out, threads
        )

    def unfinished(self) -> list[Path]:
        return [path for path in self.out.glob(".*") if path.is_file()]


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (2500, 2), (event_files.BATCH_BYTES, 3)])
@pytest.mark.parametrize("name", CASES)
def test_golden_bytes_for_any_batch_size_and_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, batch: int, threads: int
) -> None:
    monkeypatch.setattr(event_files, "BATCH_BYTES", batch)
    of = CaseFiles(name, tmp_path)
    made = of.write(of.case.latc, threads)
    assert {f"{of.run.l1}/{path.name}": path.read_bytes() for path in of.out.iterdir()} == of.expected
    for file, wanted in zip(made, of.described, strict=True):
        content = (of.out / file.name).read_bytes()
        assert file == replace(wanted, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def test_a_record_that_changed_after_decoding_is_refused(tmp_path: Path) -> None:
    of = CaseFiles("zero_handlers", tmp_path)
    rng, content = random.Random(1), of.evt.read_bytes()
    others = [bytearray(content) for _ in range(100)]
    for each in others:
        each[rng.randrange(evt.HEADER_SIZE, len(content))] ^= 1 << rng.randrange(8)
    others += [bytearray(content[:-1]), bytearray(content[: evt.HEADER_SIZE + 10])]
    for other in others:
        of.evt.write_bytes(other)
        with pytest.raises(StateError) as caught:
            list(of.records.batches(0, len(of.decision.events), None))
        assert caught.value.remedy.do == (f"mv {of.evt} {of.evt}.aside",)


@pytest.mark.parametrize("killed", [True, False])
def test_a_signal_or_an_error_stops_all_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.setattr(event_files, "BATCH_BYTES", 1)  # each record is a batch
    of, seen = CaseFiles("maxev_small", tmp_path), itertools.count(1)
    if not killed:
        (of.out / f".{of.described[1].name}.part").mkdir()

    def slowly(out: IO[bytes], content: bytes | memoryview) -> None:
        if next(seen) == 5 and killed:  # by then, all files are begun
            os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.02)
        write_whole(out, content)

    monkeypatch.setattr(event_files, "write_whole", slowly)
    before = signal.signal(signal.SIGTERM, rule_program.leave)
    try:
        with pytest.raises(SystemExit if killed else HalfPipeError) as caught:
            of.write()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert killed or str(of.out / of.described[1].name) in str(caught.value)
    assert next(seen) < len(of.decision.events) // 2
    assert of.unfinished() == []


@pytest.mark.parametrize("harm", ["cut", "removed", "a directory"])
def test_an_evt_file_that_cannot_be_read_leaves_no_unfinished_file(tmp_path: Path, harm: str) -> None:
    of = CaseFiles("maxev_small", tmp_path)
    content = of.evt.read_bytes()
    of.evt.unlink()
    if harm == "cut":
        of.evt.write_bytes(content[:-5])
    elif harm == "a directory":
        of.evt.mkdir()
    why = "" if harm == "cut" else "cannot be read: "
    for threads in (1, 3):
        with pytest.raises(StateError, match=f"^{of.evt}: {why}"):
            of.write(threads=threads)
    assert of.unfinished() == []
