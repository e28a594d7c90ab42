"""The plan: which chunks and runs a downlink has, which RetDefs count, and what a range stands for."""

import json
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.downlink.plan import MOST_HOLES, Plan, expand, retdef_to_stage
from halfpipe.errors import ConfigError, FormatError, IdError, MissingInputError
from halfpipe.ids import ChunkId, DownlinkId
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


def test_what_no_target_names_goes_to_its_submission_unless_that_is_held_or_by_hand(
    work: Path, home: Path
) -> None:
    plan = Plan(searching(work, home, submitting=True))
    assert (plan.target(DL), plan_of(work, home).target(DL)) == (paths.submitted(DL), paths.receipt(DL))
    (work / DL).mkdir()
    (work / DL / "haltL1").touch()
    assert (plan.target(DL), plan.target(OTHER)) == (paths.receipt(DL), paths.submitted(OTHER))


def test_chunks_runs_and_files(work: Path, home: Path) -> None:
    for chunk, run in ((1, RUN_B), (2, RUN_A), (3, RUN_A)):
        put(home, chunk, run=run)
    put(home, 1, run=RUN_C, dl=OTHER)
    for name in (
        "RetDef-240601001-00004.xml.part",
        "RetDef-24060100-00005.xml",
        "RetDef-240601001-00000.xml",
        "RetDef-240601001-00004.xml\n",
        "RetDef-240601001-00004.xml.xml",
        "RetDef-240601001-٠٠٠٠٤.xml",
        "RetDef-240601001-$(touch evil).xml",
        "RetDef-240601001-00004\udcff.xml",
        "RetDef-..-00004.xml",
    ):
        (home / DL / name).write_text("")
    (home / f"{OTHER}\n").mkdir()
    plan = plan_of(work, home).of(DL)
    assert (plan.chunks, plan.runs) == ((ONE, TWO, THREE), (RUN_A, RUN_B))
    assert plan.chunks_for(RUN_A) == (ONE, TWO, THREE)
    (work / paths.manifest(RUN_A, DL)).parent.mkdir(parents=True)
    (work / paths.manifest(RUN_A, DL)).write_text(json.dumps({"chunks": [TWO]}))
    assert plan.chunks_for(RUN_A) == (TWO, THREE)
    (work / paths.manifest(RUN_A, DL)).write_text(json.dumps({"chunks": [ONE]}))
    assert plan.chunks_for(RUN_A) == (ONE, TWO, THREE), "it is decoded again"
    assert plan.chunk_files == [f"{DL}/chunks/{chunk}.json" for chunk in plan.chunks]
    assert plan.manifests == [f"runs/{run}/{DL}/manifest.json" for run in (RUN_A, RUN_B)]
    assert plan.unreadable == []
    with pytest.raises(IdError):
        plan_of(work).of("24060100")


def test_a_downlink_without_retdefs_has_one_chunk_that_fails(work: Path, home: Path) -> None:
    plan = plan_of(work, home).of(DL)
    assert (plan.chunks, plan.runs) == ((ONE,), ())
    with pytest.raises(MissingInputError) as caught:
        retdef_to_stage(searching(work, home), DL, ONE)
    assert (caught.value.code, str(home / DL) in str(caught.value)) == ("no-retdefs", True)


def test_holes_and_ignored_chunks(work: Path, home: Path) -> None:
    put(home, 2)
    put(home, 5)
    ignored = [(DL, ChunkId.of(3), "no contact"), (OTHER, ONE, "another downlink")]
    plan = plan_of(work, home, ignored=ignored).of(DL)
    assert [chunk.number for chunk in plan.chunks] == [1, 2, 4, 5]
    with pytest.raises(MissingInputError, match="00004"):
        retdef_to_stage(searching(work, home), DL, ChunkId.of(4))
    # An ignored chunk counts as the last one too, and is left out though its RetDef is there.
    last = plan_of(work, home, ignored=[(DL, ChunkId.of(6), "lost"), (DL, ChunkId.of(5), "bad")]).of(DL)
    assert [chunk.number for chunk in last.chunks] == [1, 2, 3, 4]
    put(home, 1000)
    assert len(plan_of(work, home).of(DL).chunks) == 3 + MOST_HOLES


def test_the_first_hit_counts_and_what_is_staged_before_all(work: Path, tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    for chunk in (1, 2, 3):
        put(far, chunk, run=RUN_C)
    put(near, 1, run=RUN_A)
    put(near, 2, run=RUN_A)
    staged = put(work, 1, run=RUN_B)
    plan = plan_of(work, near, far)
    found = {ONE: staged, TWO: near / paths.retdef(DL, TWO), THREE: far / paths.retdef(DL, THREE)}
    assert (plan.of(DL).retdefs, plan.of(DL).runs) == (found, (RUN_A, RUN_B, RUN_C))
    # What is to be staged anew is what the search path says, and only without it what is staged.
    assert retdef_to_stage(searching(work, near, far), DL, ONE) == content(1, RUN_A).encode()
    assert retdef_to_stage(searching(work, tmp_path / "nowhere"), DL, ONE) == content(1, RUN_B).encode()
    assert retdef_to_stage(searching(work, far, near), DL, ONE) == content(1, RUN_C).encode()
    # A bad one does not pass though a good one is staged.
    bad = put(near, 1, text="")
    with pytest.raises(FormatError, match=str(bad)):
        retdef_to_stage(searching(work, near, far), DL, ONE)


def test_runs_that_only_the_decoder_knew(work: Path, home: Path) -> None:
    put(home, 1, run=RUN_A)
    put(home, 2, run=RUN_A)
    vouches = work / paths.chunk(DL, "00001")
    vouches.parent.mkdir(parents=True)
    vouches.write_text(json.dumps({"runs": [RUN_A, RUN_B]}))
    plan = plan_of(work, home).of(DL)
    assert plan.runs == (RUN_A, RUN_B)
    assert plan.runs_of[ChunkId(ONE)] == {RUN_A, RUN_B}
    for damaged in ("", "[]", "{}", '{"runs": ["x"]}', '{"runs": 1}', "\xff"):
        vouches.write_text(damaged)
        assert plan_of(work, home).of(DL).runs == (RUN_A,), damaged


def test_a_retdef_that_cannot_be_read_costs_its_own_runs_only(work: Path, home: Path) -> None:
    put(home, 1, run=RUN_A)
    bad = put(home, 2, text="<retdef>")
    plan = plan_of(work, home).of(DL)
    assert (plan.chunks, plan.runs) == ((ONE, TWO), (RUN_A,))
    (error,) = plan.unreadable
    assert str(bad) in str(error)


BEGUN, HANDED_OFF = "230402002", "230402003"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], []),
        (["230401999"], ["230401999"]),
        (["2023-04-01"], ["230401001", "230401018"]),
        (["2023-04"], ["230401001", "230401018", "230402001", BEGUN, HANDED_OFF]),
        (["230401002..230402001"], ["230401018", "230402001"]),
        (["2023-03..2023-04-01"], ["230331018", "230401001", "230401018"]),
        (["230401018", "2023-04-01"], ["230401018", "230401001"]),
        (["2023-04-01", "2023-06"], None),
    ],
)
def test_what_a_range_stands_for(work: Path, home: Path, words: list[str], found: list[str] | None) -> None:
    for name in ("230331018", "230401001", "230401018", "230402001", "230501001"):
        (home / name).mkdir()
    (work / BEGUN).mkdir()
    (work / f"dl={HANDED_OFF}").touch()
    (work / "logs").mkdir()
    if found is None:
        with pytest.raises(ConfigError, match="2023-06: there is no downlink"):
            expand(searching(work, home), words)
    else:
        assert list(expand(searching(work, home), words)) == found


@pytest.mark.parametrize(
    ("word", "gone"),
    [
        ("230401001..230401005", ["230401002", "230401003", "230401005"]),
        ("230401001..230402002", ["230401002", "230401003", "230402002"]),
        ("2023-04", []),
    ],
)
def test_downlinks_of_a_range_that_are_not_there_are_named(
    work: Path, home: Path, word: str, gone: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("230401001", "230401004", "230402001", "230402003"):
        (home / name).mkdir()
    expand(searching(work, home), [word])
    told = [record.getMessage().rpartition(": ")[2].split(", ") for record in caplog.records]
    assert told == ([gone] if gone else [])
