"""Why jobs failed, as the account tells it: each cause once, by the records beside the logs."""

import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import DecoderError, HalfPipeError, Remedy, rerun
from halfpipe.files.advice import NoRoomError, free_space
from halfpipe.files.reading import modified
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process import failure_record
from halfpipe.process.failure_record import Failure
from halfpipe.process.usage import recorded
from halfpipe.status.failed_jobs import end_of, failed, failed_jobs, failures, together
from tests.support.harness import job_log
from tests.support.settings import told

DL, RUN = DownlinkId("240601001"), RunId("2c2e5787")
AGAIN = f"snakemake dl={DL}"
DECODER = Failure(
    "decoder", "the decoder ended with exit status 1, saying: /level0: no such directory. Mount it"
)


def after_receipt(work: Path) -> Iterator[Cause]:
    """Yield the causes of the jobs after the receipt."""
    return failures(DL, failed_jobs(work, DL), after=modified(f"{work}/{paths.receipt(DL)}") or 0.0)


def test_a_cause_of_several_jobs_is_told_once(tmp_path: Path) -> None:
    log = job_log(tmp_path, "decode_chunk-00001", DECODER)
    job_log(tmp_path, "decode_chunk-00002", DECODER)
    job_log(tmp_path, "decode_chunk-00003")
    one, other = failures(DL, failed_jobs(tmp_path, DL))
    assert (one.code, one.verdict, str(one.remedy)) == ("decoder", Verdict.ACTION, AGAIN)
    assert one.failed == "decode_chunk 00001, 00002"
    assert (one.text, one.log) == (f"{one.failed}: {DECODER.text}", f"{log} (and 1 more)")
    assert (other.code, other.failed) == ("killed", "decode_chunk 00003"), "it said nothing"


def test_jobs_whose_product_is_there_or_that_ended_well_did_not_fail(tmp_path: Path) -> None:
    log = job_log(tmp_path, "decode_chunk-00001", DECODER)
    (tmp_path / paths.chunk(DL, "00001")).parent.mkdir(parents=True)
    (tmp_path / paths.chunk(DL, "00001")).touch()
    with recorded(job_log(tmp_path, "decode_chunk-00002")):
        pass
    job_log(tmp_path, "something-else", DECODER)
    assert failed_jobs(tmp_path, DL) == []
    (tmp_path / paths.chunk(DL, "00001")).unlink()
    log.unlink()  # as of one that could not be submitted
    assert [(job.rule, job.ids, job.why) for job in failed_jobs(tmp_path, DL)] == [
        ("decode_chunk", "00001", DECODER)
    ]


def test_equal_failures_of_several_downlinks_are_one_block(tmp_path: Path) -> None:
    downlinks = [DL, DownlinkId("240601002"), DownlinkId("240601003")]
    for number, downlink in enumerate(downlinks, 1):
        job_log(tmp_path, f"decode_chunk-{number:05d}", DECODER, downlink)
    job_log(tmp_path, "decode_chunk-00009")
    found = [
        (downlink, cause)
        for downlink in downlinks
        for cause in failures(downlink, failed_jobs(tmp_path, downlink))
    ]
    (what, one), (alone, other) = together(found)
    assert (what, one.text) == (", ".join(downlinks), DECODER.text)
    assert one.remedy.do == (f"snakemake {' '.join(f'dl={downlink}' for downlink in downlinks)}",)
    assert one.log.endswith("decode_chunk-00001.log (of 3 downlinks)")
    assert (alone, other.code, other.failed) == (DL, "killed", "decode_chunk 00009")


def full(place: Path, size: int) -> Failure:
    """Return what a job records whose file found no room on a disk."""
    error = HalfPipeError(f"{place}/x.evt: cannot be written", code="file-system")
    error.__cause__ = NoRoomError(errno.ENOSPC, size)
    error.__cause__.filename = str(place / "x.evt")
    return Failure.of(error)


def test_a_full_disk_is_told_once_with_its_place_and_sizes(tmp_path: Path) -> None:
    mount, *_ = free_space(tmp_path)
    job_log(tmp_path, "deliver_run-2c2e5787", full(tmp_path, 2_000_000))
    job_log(tmp_path, "deliver_run-2c2e6cc0", full(tmp_path / "not there", 100_000))
    said = Failure.of(DecoderError(f"cp: {tmp_path}/y.evt: No space left on device", code="disk-full"))
    job_log(tmp_path, "decode_chunk-00001", said)
    (one,) = failures(DL, failed_jobs(tmp_path, DL))
    assert (one.code, one.failed) == ("disk-full", "decode_chunk 00001; deliver_run 2c2e5787, 2c2e6cc0")
    assert re.search(
        rf": DISK FULL {mount}: [\d.,]+ .?B free of [\d.,]+ .B; 2.1 MB needed for 3 jobs$", one.text
    )
    assert one.remedy.steps == [f"Free some space there (df -h {mount})", AGAIN]
    assert one.log.endswith("decode_chunk-00001.log (and 2 more)")


def test_a_job_that_could_not_report_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = job_log(tmp_path, "decode_chunk-00001")
    assert failed("decode_chunk", log).why.code == "killed"
    monkeypatch.setattr(failure_record, "free_space", lambda _: (tmp_path, 4096, 10**12))
    assert failed("decode_chunk", log).why.code == "disk-full"
    other = Failure("interrupted", "the job was ended by Ctrl-C")
    assert failed("decode_chunk", log, other).why is other


def test_a_job_that_ended_well_and_whose_product_cannot_be_seen(tmp_path: Path) -> None:
    log = job_log(tmp_path, "decode_chunk-00001")
    assert failed("decode_chunk", log).why.code == "killed"
    log.unlink()
    assert failed("decode_chunk", log).why.code == "killed", "it was not begun"
    with recorded(job_log(tmp_path, "decode_chunk-00001")):
        pass
    assert failed("decode_chunk", log).why.code == "unseen"
    log.touch()  # as Snakemake does
    assert failed("decode_chunk", log).why.code == "unseen"
    assert failed_jobs(tmp_path, DL) == []


def test_a_remedy_is_told_whole_however_long_the_cause(tmp_path: Path) -> None:
    why = f"what the legacy recorded cannot be read: {'/a/long/path/saved.pkl; ' * 60}and that is all."
    remedy = Remedy(
        f"halfpipe show {RUN}", f"halfpipe takeover {DL} --do", first="To see it, and read it again"
    )
    job_log(tmp_path, f"deliver_run-{RUN}", Failure("other-system", why, remedy))
    (one,) = failures(DL, failed_jobs(tmp_path, DL))
    commands = (*remedy.do, AGAIN)
    assert (one.code, one.remedy.do) == ("other-system", commands)
    assert one.text.endswith("and that is all")
    assert len(one.text) < 600


def test_only_the_end_of_a_log_is_read_and_long_lines_are_cut(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\n" * 100_000)
    assert len(end_of(log, 100_000)) == 65536
    log.write_bytes(b"x" * 1000)
    assert [len(line) for line in end_of(log)] == [600]


def test_after_the_receipt_the_jobs_that_lead_to_level1_count(tmp_path: Path) -> None:
    down = Failure("ledger", "the ledger cannot be used")
    job_log(tmp_path, "decode_chunk-00001", DECODER)
    job_log(tmp_path, "submit")  # it was killed, and what was attempted says more
    job_log(tmp_path, "ledger", down)
    (late,) = after_receipt(tmp_path)
    assert told([late]) == [("ledger", Verdict.ACTION, f"snakemake {DL}/ledger.json")]
    product = tmp_path / paths.loaded(DL)
    product.parent.mkdir()
    product.touch()
    assert list(after_receipt(tmp_path)) == []
    for code, shown in (("stage-differs", True), ("submission", False), ("held", False)):
        job_log(tmp_path, "submit", Failure(code, "why", rerun(DL, "receipt")))
        found = [cause.remedy.do[-1] for cause in after_receipt(tmp_path)]
        assert found == [f"snakemake submit={DL}"] * shown, "after the new hand-off, too"
    job_log(tmp_path, "submit", Failure("stage-differs", "why", rerun(DL, "deliver_run")))
    (again,) = after_receipt(tmp_path)
    assert (again.remedy.hands_off, len(again.remedy.do)) == (True, 2)


def test_what_failed_before_the_receipt_was_written_again_is_answered(tmp_path: Path) -> None:
    log = job_log(tmp_path, "submit", Failure("stage-differs", "checksum mismatch"))
    receipt = tmp_path / paths.receipt(DL)
    receipt.touch()
    failed = log.with_suffix(paths.FAILURE_SUFFIX)
    for seconds, shown in ((-1, True), (1, False)):
        os.utime(receipt, (0, failed.stat().st_mtime + seconds))
        assert bool(list(after_receipt(tmp_path))) is shown
