"""Why jobs failed, as the account tells it: each cause once, by the records beside the logs."""

import os
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.errors import Remedy, rerun
from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.failure import Failure
from halfpipe.process.usage import recorded
from halfpipe.status.failures import failed, failed_jobs, failures
from tests.support.harness import job_log
from tests.support.settings import searching

DL, RUN = DownlinkId("240601001"), RunId("2c2e5787")
AGAIN = f"snakemake dl={DL}"
DECODER = Failure(
    "decoder", "the decoder ended with exit status 1, saying: /level0: no such directory. Mount it"
)


def test_a_cause_of_several_jobs_is_told_once(tmp_path: Path) -> None:
    log = job_log(tmp_path, "decode_chunk-00001", DECODER)
    job_log(tmp_path, "decode_chunk-00002", DECODER)
    job_log(tmp_path, "decode_chunk-00003")
    one, other = failures(searching(tmp_path), DL)
    assert (one.code, one.verdict, str(one.remedy)) == ("decoder", Verdict.ACTION, AGAIN)
    assert one.failed == "decode_chunk 00001, 00002"
    assert one.text == f"{one.failed}: {DECODER.text}; its log: {log}"
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
    job_log(tmp_path, f"deliver_run-{RUN}", Failure("takeover-refused", why, remedy))
    (one,) = failures(searching(tmp_path), DL)
    commands = (*remedy.do, AGAIN)
    assert (one.code, one.remedy.do) == ("takeover-refused", commands)
    assert "and that is all; its log: " in one.text
    assert len(one.text) < 700


def test_after_the_receipt_the_jobs_that_lead_to_level1_count(tmp_path: Path) -> None:
    down = Failure("ledger", "the ledger cannot be used")
    job_log(tmp_path, "decode_chunk-00001", DECODER)
    job_log(tmp_path, "submit")  # it was killed, and what was attempted says more
    job_log(tmp_path, "ledger", down)
    (late,) = failures(searching(tmp_path), DL, after_receipt=True)
    assert (late.code, late.verdict, str(late.remedy)) == ("ledger", Verdict.ACTION, f"snakemake submit={DL}")
    product = tmp_path / paths.loaded(DL)
    product.parent.mkdir()
    product.touch()
    assert list(failures(searching(tmp_path), DL, after_receipt=True)) == []
    for code, told in (("stage", True), ("submission", False), ("held", False)):
        job_log(tmp_path, "submit", Failure(code, "why", rerun(DL, "receipt")))
        found = [cause.remedy.do[-1] for cause in failures(searching(tmp_path), DL, after_receipt=True)]
        assert found == [f"snakemake submit={DL}"] * told, "after the new hand-off, too"
    job_log(tmp_path, "submit", Failure("stage", "why", rerun(DL, "deliver_run")))
    (again,) = failures(searching(tmp_path), DL, after_receipt=True)
    assert (again.remedy.hands_off, len(again.remedy.do)) == (True, 2)


def test_what_failed_before_the_receipt_was_written_again_is_answered(tmp_path: Path) -> None:
    log = job_log(tmp_path, "submit", Failure("stage", "checksum mismatch"))
    receipt = tmp_path / paths.receipt(DL)
    receipt.touch()
    failed = log.with_suffix(paths.FAILURE_SUFFIX)
    for seconds, told in ((-1, True), (1, False)):
        os.utime(receipt, (0, failed.stat().st_mtime + seconds))
        assert bool(list(failures(searching(tmp_path), DL, after_receipt=True))) is told
