"""Event files: golden bytes whatever the batch, the LATC override, and records that are not there any more."""

import hashlib
import itertools
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

import pytest

from halfpipe.errors import HalfPipeError, StateError
from halfpipe.files.durable import write_whole
from halfpipe.formats import evt
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.decision import decide
from halfpipe.process import rule_program
from halfpipe.run import event_files
from halfpipe.run import event_records as reading
from halfpipe.run.deliveries import EventFile
from halfpipe.run.event_records import Records
from halfpipe.run.merged_index import merge_chunks
from halfpipe.run.moot_keys import UNSET, MootKey
from tests.support.bridge import limits
from tests.support.golden_cases import decoded, read_case

# One downlink, processed once: several chunks, equal sequences, LATC, LCI, no handlers, files cut.
CASES = ["complete_multichunk", "dup_same_dl", "equal_sequence", "latc_lpa", "latc_lci", "lci_acd", "lci_cal_gap",
         "maxev_small", "runid_small", "seq_over_32bit", "three_epus", "zero_handlers"]  # fmt: skip


class Delivery:
    """What the only downlink of a golden case delivers of its first run, from copies of its products."""

    def __init__(self, name: str, home: Path) -> None:
        self.case = read_case(name)
        step = self.case.steps[0]
        self.downlink, self.run = DownlinkId(step.downlink), RunId.from_met(step.runs[0])
        self.expected = step.expected.files
        self.source, self.out = home / "in", home / "out"
        self.out.mkdir()
        chunks = decoded(self.case.directory / "in" / step.downlink, self.source, self.run)
        files: dict[Path, int] = {}
        merged, events = merge_chunks(chunks, files)
        known = {self.downlink: events}
        self.decision = decide(self.downlink, merged.datagrams, known, {}, limits(self.case.rules))
        self.records = Records(self.decision, files)
        self.described = event_files.describe(self.records, self.decision.files, self.run)
        self.evt = max(self.source.rglob("*.evt"))

    def write(self, latc: int | None = None, threads: int = 1) -> list[EventFile]:
        key = self.case.moot.get(self.run.met)
        header = event_files.Header(self.downlink, MootKey(*key) if key else UNSET, latc)
        return event_files.write_all(
            self.records, self.decision.files, self.described, header, self.out, threads
        )

    def read(self, latc: int | None = None) -> list[int]:
        """Read all records; return the sizes of the batches."""
        return [len(content) for content in self.records.batches(0, len(self.decision.events), latc)]

    def half_written(self) -> list[Path]:
        return [path for path in self.out.glob(".*") if path.is_file()]


@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (2500, 2), (reading.BATCH_BYTES, 3)])
@pytest.mark.parametrize("name", CASES)
def test_golden_bytes_whatever_the_batch_and_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, batch: int, threads: int
) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", batch)
    of = Delivery(name, tmp_path)
    made = of.write(of.case.latc, threads)
    assert {f"{of.run.l1}/{path.name}": path.read_bytes() for path in of.out.iterdir()} == of.expected
    for file, wanted in zip(made, of.described, strict=True):
        content = (of.out / file.name).read_bytes()
        assert file == replace(wanted, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def test_a_record_that_is_not_what_was_decoded(tmp_path: Path) -> None:
    of = Delivery("zero_handlers", tmp_path)
    rng, content = random.Random(1), of.evt.read_bytes()
    assert sum(of.read()) == int(of.decision.events["size"].sum())
    others = [bytearray(content) for _ in range(100)]
    for each in others:
        each[rng.randrange(evt.HEADER_SIZE, len(content))] ^= 1 << rng.randrange(8)
    others += [bytearray(content[:-1]), bytearray(content[: evt.HEADER_SIZE + 10])]
    for other in others:
        of.evt.write_bytes(other)
        with pytest.raises(StateError) as caught:
            of.read()
        assert caught.value.remedy.do == (f"mv {of.evt} {of.evt}.aside",)


@pytest.mark.parametrize("end", ["the program's", "the second file's"])
def test_the_first_end_is_told_and_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", 1)  # each record is a batch
    of, killed, seen = Delivery("maxev_small", tmp_path), end == "the program's", itertools.count(1)
    if not killed:
        (of.out / f".{of.described[1].name}.part").mkdir()

    def slowly(out: IO[bytes], content: bytes | memoryview) -> None:
        if next(seen) == 5 and killed:  # by then all are waited for
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
    assert of.half_written() == []


def test_what_cannot_be_read_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    of = Delivery("maxev_small", tmp_path)
    content = of.evt.read_bytes()
    for threads in (1, 3):
        of.evt.write_bytes(content[:-5])
        with pytest.raises(StateError, match=f"^{of.evt}: damaged"):
            of.write(threads=threads)
    of.evt.unlink()
    for _ in ("not there", "a directory"):
        with pytest.raises(StateError, match=f"^{of.evt}: "):
            of.write()
        of.evt.mkdir(exist_ok=True)
    assert of.half_written() == []


def test_a_size_that_is_not_what_was_announced(tmp_path: Path) -> None:
    of = Delivery("runid_small", tmp_path)
    of.described = [replace(file, size=file.size + 1) for file in of.described]
    with pytest.raises(StateError, match=str(of.described[0].size)):
        of.write()
