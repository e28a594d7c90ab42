"""Why jobs failed, as the account tells it: each cause once, in the words of a command's end."""

from pathlib import Path

from halfpipe.account.failures import failures
from halfpipe.causes import Verdict
from halfpipe.ids import DownlinkId, RunId
from halfpipe.runs.receipt_file import sealed
from halfpipe.storage import paths
from halfpipe.storage.json_files import write_json
from tests.support.settings import searching

DL, RUN = DownlinkId("240601001"), RunId("2c2e5787")
ERROR = "2024-06-01 00:00:01,000 ERROR   error: "
DECODER = (
    f"{ERROR}the decoder ended with exit status 1: /usr/bin/python /a/decoder.py -o /b/8d1c\nIts last lines were:\n"
    "/level0: no such directory. Mount it\nNothing of this chunk was taken.\n"
)


def write(work: Path, name: str, said: str) -> Path:
    log = work / paths.benchmarks(DL) / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(said)
    return log


def test_a_cause_of_several_jobs_is_told_once_in_the_words_of_the_decoder(tmp_path: Path) -> None:
    log = write(tmp_path, "decode_chunk-00001", DECODER)
    write(tmp_path, "decode_chunk-00002", DECODER)
    write(tmp_path, "decode_chunk-00003", "2024-06-01 00:00:01,000 INFO    python decode_chunk.py\n")
    one, other = failures(searching(tmp_path), DL)
    assert one.text == (
        "decode_chunk 00001, 00002: the decoder ended with exit status 1, saying: /level0: no such directory. Mount "
        f"it; its log: {log}"
    )
    assert (one.verdict, one.do) == (Verdict.PERSON, f"snakemake dl={DL}")
    assert other.text.startswith(
        "decode_chunk 00003: the job was killed, or cut off by a crash of the machine"
    )


def test_a_remedy_is_told_whole_however_long_the_cause(tmp_path: Path) -> None:
    why = f"/w/journal.jsonl lacks deliveries: {'/a/long/path/manifest.json; ' * 60}and that is all"
    remedy = f"To see it: halfpipe repair {RUN}; to do it: halfpipe repair {RUN} --do; then"
    write(tmp_path, f"deliver_run-{RUN}", f"{ERROR}{why}. {remedy} give the same command again.\n")
    (one,) = failures(searching(tmp_path), DL)
    assert one.do == f"{remedy} snakemake dl={DL}."
    assert one.text.startswith(f"deliver_run {RUN}: /w/journal.jsonl lacks deliveries: ")
    assert "and that is all; its log: " in one.text
    assert len(one.text) < 700


def test_what_a_contradiction_explains_is_only_told(tmp_path: Path) -> None:
    said = {"events": 3, "sequences": [1, 2], "chunks": []}
    (tmp_path / paths.refused(RUN, DL)).parent.mkdir(parents=True)
    write_json(tmp_path / paths.refused(RUN, DL), said)
    content = {"downlink": DL, "handoff": 1, "runs": [{"run": RUN, "held": False, "spans": [], "files": []}]}
    copy = tmp_path / paths.receipt_history(DL, 1)
    copy.parent.mkdir(parents=True)
    copy.write_text(sealed(content))
    write(tmp_path, f"deliver_run-{RUN}", f"{ERROR}run {RUN} SHRINKS. To go on: snakemake dl={DL}\n")
    write(tmp_path, "deliver_run-2c2e8430", f"{ERROR}the disk is full\n")
    one, other = failures(searching(tmp_path), DL)
    assert one.text.startswith(f"deliver_run {RUN}: it failed for that; its log: ")
    assert (one.verdict, one.do) == (Verdict.TOLD, ""), "what is to be done ends with the command"
    assert (other.verdict, other.do) == (Verdict.PERSON, f"snakemake dl={DL}")

    (tmp_path / paths.refused(RUN, DL)).unlink()
    (tmp_path / paths.journal(RUN)).write_text("{\n")
    one, other = failures(searching(tmp_path), DL)
    assert (one.verdict, one.do) == (Verdict.TOLD, f"once that is done: snakemake dl={DL}")
