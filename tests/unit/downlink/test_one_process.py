"""A downlink in one process: which jobs are to be done, and what one that is killed costs."""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.config import write_down
from halfpipe.downlink import one_process
from halfpipe.downlink.one_process import Process
from halfpipe.downlink.plan import Plan
from halfpipe.files import leases
from halfpipe.files.json_files import write_json
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.run.merged_index import ChunkProducts, MergedIndex
from halfpipe.settings import Settings
from halfpipe.status.failures import failed_jobs
from tests.support.golden_cases import GOLDEN
from tests.support.workflow import Site

DL = DownlinkId("240601001")
CORES = 3


def merged(work: Path, run: RunId, chunks: Sequence[str]) -> None:
    """Leave what a merge of some chunks leaves for others: that it brought nothing."""
    products = tuple(ChunkProducts(ChunkId(chunk), {}) for chunk in chunks)
    MergedIndex(KnownDatagrams.of(()), products).save(work, run, DL)


@pytest.fixture
def settings(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A site with a downlink whose programs note that they ran, and write products; those of `killed` are killed."""
    site.add_retdefs(GOLDEN / "complete_multichunk" / "in", DL)
    site.work.mkdir()
    found = site.settings

    def program(rule: str) -> Callable[[], int]:
        def main() -> int:
            words = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=False))
            (site.home / f"did-{time.monotonic_ns()}-{rule}").touch()
            if words.get("--chunk") in {path.name[-5:] for path in site.home.glob("killed-*")}:
                os.kill(os.getpid(), signal.SIGKILL)
            if rule == "decode_chunk":
                write_json(site.work / paths.chunk(DL, words["--chunk"]), {})
            elif rule == "deliver_run":
                chunks = sys.argv[sys.argv.index("--chunks") + 1 : sys.argv.index("--runs")]
                merged(site.work, RunId(words["--run"]), chunks)
                write_json(site.work / paths.manifest(words["--run"], DL), {})
            else:
                write_json(site.work / paths.receipt(DL), {})
            return 0

        return main

    monkeypatch.setattr(one_process, "program", program)
    monkeypatch.setattr(Process, "_begin", lambda *_: Plan(found).of(DL))
    monkeypatch.chdir(site.work)
    monkeypatch.setenv(leases.HEAD_VARIABLE, "")  # which is set, and is to be as before
    yield found
    leases.give_back_downlinks()


def processed(settings: Settings, since: float = 0.0) -> tuple[bool, dict[str, int]]:
    """Process it; return whether it is done, and how many jobs of each rule there were."""
    home = settings.paths.work.parent
    for path in home.glob("did-*"):
        path.unlink()
    one = Process(settings, write_down(settings), DL, since, cores=CORES)
    one.run(lambda _: None)
    return one.done, Counter(path.name.rpartition("-")[2] for path in home.glob("did-*"))


def test_what_is_missing_older_or_made_of_other_chunks_is_made(settings: Settings) -> None:
    of = Plan(settings).of(DL)
    every = {"decode_chunk": len(of.chunks), "deliver_run": len(of.runs), "receipt": 1}
    assert len(of.chunks) > CORES
    assert processed(settings) == (True, every)
    assert processed(settings) == (True, {})
    work, run, chunk = settings.paths.work, of.runs[0], of.chunks[0]
    (work / paths.receipt(DL)).unlink()
    assert processed(settings) == (True, {"receipt": 1})
    later = time.time() + 1
    os.utime(work / paths.chunk(DL, chunk), (later, later))
    assert processed(settings)[1]["decode_chunk"] == 0
    assert processed(settings)[1]["deliver_run"] == 1, "the chunk is of a time to come"
    os.utime(work / paths.chunk(DL, chunk), (1, 1))
    merged(work, run, [])
    assert processed(settings)[1]["deliver_run"] == 1
    assert processed(settings, since=time.time() + 1) == (True, every)


def test_a_chunk_that_is_killed_costs_its_runs_alone(settings: Settings) -> None:
    of = Plan(settings).of(DL)
    chunk = of.chunks[1]
    (settings.paths.work.parent / f"killed-{chunk}").touch()
    done, did = processed(settings)
    other = [run for run in of.runs if chunk not in of.chunks_with(run)]
    assert (done, did) == (
        False,
        {"decode_chunk": len(of.chunks), **({"deliver_run": len(other)} if other else {})},
    )
    assert [(job.ids, job.why.code) for job in failed_jobs(settings.paths.work, DL)] == [(chunk, "killed")]
    (settings.paths.work.parent / f"killed-{chunk}").unlink()
    done, did = processed(settings)
    assert (done, did["decode_chunk"], did["receipt"]) == (True, 1, 1)
