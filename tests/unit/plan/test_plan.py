"""The plan: chunks and runs of a downlink, which RetDefs count, and which downlinks a range means."""

import os
from pathlib import Path

import pytest
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.decisions import Subject, What, decide
from halfpipe.errors import ConfigError, FormatError, IdError, MissingInputError
from halfpipe.files.reading import changed
from halfpipe.files.typed import write_stored
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.plan.plan import MOST_HOLES, expand, outstanding_chunks, retdef_to_stage
from halfpipe.state.deliveries import Deliveries, Delivery
from halfpipe.state.merged_chunks import MergedChunk
from tests.support.receipts import chunk_of, receive_chunks
from tests.support.settings import RUN_A, content, plan_of, put, searching

DL, OTHER = DownlinkId("240601001"), DownlinkId("240601002")
ONE, TWO, THREE = (ChunkId.of(number) for number in (1, 2, 3))
RUN_B, RUN_C = "2c2e6cc0", "2c2e8430"


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "retdefs").mkdir()
    return tmp_path / "retdefs"


def test_chunks_runs_and_files(work: Path, home: Path) -> None:
    for chunk, run in ((1, RUN_B), (2, RUN_A), (3, RUN_A)):
        put(home, chunk, run=run)
    put(home, 1, run=RUN_C, dl=OTHER)
    bad = ("00004.xml.part", "00000.xml", "00004.xml\n", "٠٠٠٠٤.xml", "$(touch evil).xml", "00004\udcff.xml")
    for name in (*(f"RetDef-{DL}-{rest}" for rest in bad), "RetDef-24060100-00005.xml"):
        (home / DL / name).write_text("")
    (home / f"{OTHER}\n").mkdir()
    plan = plan_of(work, home).of(DL)
    assert (plan.chunks, plan.runs) == ((ONE, TWO, THREE), (RUN_A, RUN_B))
    assert plan.chunks_for(RUN_A) == (ONE, TWO, THREE)
    delivered = Delivery(DL, 1, (), {}, chunks=(MergedChunk(ChunkId(TWO), {}),))
    Deliveries(work, RunId(RUN_A)).publish(delivered)
    assert plan_of(work, home).of(DL).chunks_for(RUN_A) == (TWO, THREE)
    Deliveries(work, RunId(RUN_A)).publish(replace(delivered, chunks=(MergedChunk(ChunkId(ONE), {}),)))
    assert plan_of(work, home).of(DL).chunks_for(RUN_A) == (ONE, TWO, THREE), "it is decoded again"
    assert plan.chunk_files == [f"{DL}/chunks/{chunk}.json" for chunk in plan.chunks]
    assert plan.manifests == [f"runs/{run}/{DL}/manifest.json" for run in (RUN_A, RUN_B)]
    assert plan.unreadable == []
    with pytest.raises(IdError):
        plan_of(work).of("24060100")


def test_a_downlink_without_retdefs_has_one_failing_chunk(work: Path, home: Path) -> None:
    plan = plan_of(work, home).of(DL)
    assert (plan.chunks, plan.runs) == ((ONE,), ())
    with pytest.raises(MissingInputError) as caught:
        retdef_to_stage(searching(work, home), DL, ONE)
    assert (caught.value.code, str(home / DL) in str(caught.value)) == ("no-retdefs", True)


def test_holes_and_ignored_chunks(work: Path, home: Path) -> None:
    put(home, 2)
    put(home, 5)
    ignored = [(DL, ChunkId.of(3)), (OTHER, ONE)]
    plan = plan_of(work, home, ignored=ignored).of(DL)
    assert [chunk.number for chunk in plan.chunks] == [1, 2, 4, 5]
    with pytest.raises(MissingInputError, match="00004"):
        retdef_to_stage(searching(work, home), DL, ChunkId.of(4))
    (link := home / paths.retdef(DL, ChunkId.of(4))).symlink_to("nowhere")
    with pytest.raises(MissingInputError, match="00005"):
        retdef_to_stage(searching(work, home), DL, ChunkId.of(4))
    link.unlink()
    decide(work, What.LEFT_OUT, Subject(DL, chunk=ChunkId.of(3)), None, "it came", undone=True)
    # An ignored chunk can be the last one, and is left out even if it has a RetDef.
    last = plan_of(work, home, ignored=[(DL, ChunkId.of(6)), (DL, ChunkId.of(5))]).of(DL)
    assert [chunk.number for chunk in last.chunks] == [1, 2, 3, 4]
    decide(work, What.LEFT_OUT, Subject(DL, chunk=ChunkId.of(6)), None, "it came", undone=True)
    decide(work, What.LEFT_OUT, Subject(DL, chunk=ChunkId.of(5)), None, "it came", undone=True)
    put(home, 1000)
    assert len(plan_of(work, home).of(DL).chunks) == 3 + MOST_HOLES


def test_the_first_retdef_on_the_search_path_counts_after_a_staged_one(work: Path, tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    for chunk in (1, 2, 3):
        put(far, chunk, run=RUN_C)
    put(near, 1, run=RUN_A)
    put(near, 2, run=RUN_A)
    staged = put(work, 1, run=RUN_B)
    plan = plan_of(work, near, far)
    found = {ONE: staged, TWO: near / paths.retdef(DL, TWO), THREE: far / paths.retdef(DL, THREE)}
    assert (plan.of(DL).retdefs, plan.of(DL).runs) == (found, (RUN_A, RUN_B, RUN_C))
    # Staged again is the RetDef of the search path, and without one the staged RetDef.
    assert retdef_to_stage(searching(work, near, far), DL, ONE) == content(1, RUN_A).encode()
    assert retdef_to_stage(searching(work, tmp_path / "nowhere"), DL, ONE) == content(1, RUN_B).encode()
    assert retdef_to_stage(searching(work, far, near), DL, ONE) == content(1, RUN_C).encode()
    # A damaged RetDef fails even if a good one is staged.
    bad = put(near, 1, text="")
    with pytest.raises(FormatError, match=str(bad)):
        retdef_to_stage(searching(work, near, far), DL, ONE)


def test_a_decoder_may_find_other_runs(work: Path, home: Path) -> None:
    put(home, 1, run=RUN_A)
    put(home, 2, run=RUN_A)
    product = work / paths.chunk(DL, "00001")
    product.parent.mkdir(parents=True)
    write_stored(product, chunk_of(DL, 1, RUN_A, RUN_B))
    plan = plan_of(work, home).of(DL)
    assert plan.runs == (RUN_A, RUN_B)
    assert plan.runs_of[ChunkId(ONE)] == {RUN_A, RUN_B}
    for damaged in ("", "[]", "{}", '{"runs": ["x"]}', '{"runs": 1}', "\xff"):
        product.write_text(damaged)
        assert plan_of(work, home).of(DL).runs == (RUN_A,), damaged


BEGUN, HANDED_OFF = "230402002", "230402003"


def test_ranges_of_known_downlinks(work: Path, home: Path) -> None:
    def found(*words: str) -> list[str]:
        return list(expand(searching(work, home), words))

    for name in ("230331018", "230401001", "230401018", "230402001", "230501001"):
        (home / name).mkdir()
    (work / BEGUN).mkdir()
    (work / f"dl={HANDED_OFF}").touch()
    (work / "logs").mkdir()
    assert (found(), found("230401999")) == ([], ["230401999"])
    assert found("2023-04-01") == ["230401001", "230401018"]
    assert found("2023-04") == ["230401001", "230401018", "230402001", BEGUN, HANDED_OFF]
    assert found("230401002..230402001") == ["230401018", "230402001"]
    assert found("2023-03..2023-04-01") == ["230331018", "230401001", "230401018"]
    assert found("230401018", "2023-04-01") == ["230401018", "230401001"]
    with pytest.raises(ConfigError, match="2023-06"):
        found("2023-04-01", "2023-06")


@pytest.mark.parametrize(("before", "found"), [(-90, ["00002"]), (-30, ["00002"]), (30, ["00002"]), (90, [])])
def test_later_chunks_are_outstanding(work: Path, home: Path, before: float, found: list[str]) -> None:
    """The clocks of two file systems may be a minute apart; a directory that is older is not read."""
    put(home, 1, 2)
    receipt = work / paths.receipt(DL)
    receive_chunks(work, DL, 1)
    came = changed(str(home / DL)) or 0.0
    os.utime(receipt, (came + before, came + before))
    assert [each.chunk for each in outstanding_chunks(plan_of(work, home))] == found
