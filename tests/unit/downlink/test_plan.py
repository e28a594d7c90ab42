"""The plan: which chunks and runs a downlink has, and which downlinks are outstanding."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfpipe import paths
from halfpipe.downlink.plan import MOST_HOLES, Plan, retdef_to_stage
from halfpipe.errors import ConfigError, FormatError, IdError, MissingInputError
from halfpipe.ids import ChunkId, DownlinkId
from tests.support.settings import RUN_A, content, plan_of, searching

DL, OTHER = DownlinkId("240601001"), DownlinkId("240601002")
ONE, TWO, THREE = (ChunkId.of(number) for number in (1, 2, 3))
RUN_B, RUN_C = "2c2e6cc0", "2c2e8430"
NOW = 1_800_000_000.0
OLD = NOW - 3600


def put(
    home: Path, chunk: int, run: str = RUN_A, dl: str = DL, when: float = OLD, text: str | None = None
) -> Path:
    """Write a RetDef below `home`, a place of the search path."""
    path = home / paths.retdef(dl, f"{chunk:05d}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content(chunk, run) if text is None else text)
    os.utime(path, (when, when))
    return path


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
        put(home, chunk, run)
    put(home, 1, RUN_C, dl=OTHER)
    (home / DL / "RetDef-240601001-00004.xml.part").write_text("")
    (home / DL / "RetDef-24060100-00005.xml").write_text("")
    (home / DL / "RetDef-240601001-00000.xml").write_text("")
    plan = plan_of(work, home).of(DL)
    assert plan.chunks == (ONE, TWO, THREE)
    assert plan.holes == ()
    assert plan.runs == (RUN_A, RUN_B)
    assert plan.chunks_with(RUN_A) == (TWO, THREE)
    assert plan.chunk_files_with(RUN_B) == [f"{DL}/chunks/00001.json"]
    assert plan.chunk_files == [f"{DL}/chunks/{chunk}.json" for chunk in plan.chunks]
    assert plan.manifests == [f"runs/{run}/{DL}/manifest.json" for run in (RUN_A, RUN_B)]
    assert plan.complaints() == []


def test_a_downlink_without_retdefs_has_one_chunk_that_fails(work: Path, home: Path) -> None:
    plan = plan_of(work, home).of(DL)
    assert plan.chunks == (ONE,)
    assert plan.holes == (ONE,)
    assert plan.runs == ()
    with pytest.raises(MissingInputError, match=rf"downlink {DL} has no RetDefs; looked in {home / DL}"):
        retdef_to_stage(searching(work, home), DL, ONE)


def test_what_is_no_downlink(work: Path) -> None:
    with pytest.raises(IdError, match="'24060100' is not a downlink id"):
        plan_of(work).of("24060100")


def test_holes_and_ignored_chunks(work: Path, home: Path) -> None:
    put(home, 2)
    put(home, 5)
    plan = plan_of(
        work, home, ignored=[(DL, ChunkId.of(3), "no contact"), (OTHER, ONE, "another downlink")]
    ).of(DL)
    assert [chunk.number for chunk in plan.chunks] == [1, 2, 4, 5]
    assert plan.holes == (ONE, ChunkId.of(4))
    assert plan.ignored == {THREE: "no contact"}
    assert [line.split(":")[1] for line in plan.complaints()] == [
        " chunk 00001 has no RetDef on the search path (paths.retdef)",
        " chunk 00004 has no RetDef on the search path (paths.retdef)",
    ]
    with pytest.raises(
        MissingInputError, match=r"chunk 00004 of downlink 240601001 has no RetDef, .* up to chunk 00005"
    ):
        retdef_to_stage(searching(work, home), DL, ChunkId.of(4))
    # An ignored chunk counts as the last one too, and is left out though its RetDef is there.
    last = plan_of(work, home, ignored=[(DL, ChunkId.of(6), "lost"), (DL, ChunkId.of(5), "bad")]).of(DL)
    assert [chunk.number for chunk in last.chunks] == [1, 2, 3, 4]


@given(st.sets(st.integers(1, 40)), st.sets(st.integers(1, 40)))
def test_every_chunk_is_there_or_a_hole_or_ignored(
    tmp_path_factory: pytest.TempPathFactory, there: set[int], ignored: set[int]
) -> None:
    home = tmp_path_factory.mktemp("retdefs")
    for chunk in there:
        put(home, chunk, text="")
    plan = plan_of(home / "work", home, ignored=[(DL, ChunkId.of(chunk), "x") for chunk in ignored]).of(DL)
    numbers = {chunk.number for chunk in plan.chunks}
    holes = {chunk.number for chunk in plan.holes}
    every = set(range(1, max(there | ignored, default=1) + 1)) - ignored
    assert numbers == (every & there) | set(sorted(every - there)[:MOST_HOLES])
    assert holes == numbers - there


def test_the_first_hit_counts_and_what_is_staged_before_all(work: Path, tmp_path: Path) -> None:
    near, far = tmp_path / "near", tmp_path / "far"
    for chunk in (1, 2, 3):
        put(far, chunk, RUN_C)
    put(near, 1, RUN_A)
    put(near, 2, RUN_A)
    staged = put(work, 1, RUN_B)
    plan = plan_of(work, near, far)
    assert plan.of(DL).retdefs == {
        ONE: staged,
        TWO: near / paths.retdef(DL, TWO),
        THREE: far / paths.retdef(DL, THREE),
    }
    assert plan.of(DL).runs == (RUN_A, RUN_B, RUN_C)
    # What is to be staged anew is what the search path says, and only without it what is staged.
    assert plan.source(DL, ONE) == near / paths.retdef(DL, ONE)
    assert retdef_to_stage(searching(work, near, far), DL, ONE) == content(1, RUN_A).encode()
    assert retdef_to_stage(searching(work, tmp_path / "nowhere"), DL, ONE) == content(1, RUN_B).encode()
    assert plan_of(work, far, near).source(DL, ONE) == far / paths.retdef(DL, ONE)


def test_runs_that_only_the_decoder_knew(work: Path, home: Path) -> None:
    put(home, 1, RUN_A)
    put(home, 2, RUN_A)
    vouches = work / paths.chunk(DL, "00001")
    vouches.parent.mkdir(parents=True)
    vouches.write_text(json.dumps({"runs": [RUN_A, RUN_B]}))
    plan = plan_of(work, home).of(DL)
    assert plan.runs == (RUN_A, RUN_B)
    assert plan.chunks_with(RUN_B) == (ONE,)
    for damaged in ("", "{", "[]", "{}", '{"runs": ["x"]}', '{"runs": 1}', "null", "\xff"):
        vouches.write_text(damaged)
        assert plan_of(work, home).of(DL).runs == (RUN_A,), damaged


def test_a_retdef_that_cannot_be_read_costs_its_own_runs_only(work: Path, home: Path) -> None:
    put(home, 1, RUN_A)
    bad = put(home, 2, text="<retdef>")
    plan = plan_of(work, home).of(DL)
    assert plan.chunks == (ONE, TWO)
    assert plan.runs == (RUN_A,)
    (line,) = plan.complaints()
    assert line.startswith(f"{bad}: not XML")
    with pytest.raises(FormatError, match=str(bad)):
        retdef_to_stage(searching(work, home), DL, TWO)


def test_a_bad_source_does_not_pass_though_a_good_one_is_staged(work: Path, home: Path) -> None:
    put(work, 1)
    bad = put(home, 1, text="")
    with pytest.raises(FormatError, match=rf"{bad}: the file is empty"):
        retdef_to_stage(searching(work, home), DL, ONE)


def test_reissued(work: Path, home: Path) -> None:
    for chunk in (1, 2, 3):
        put(home, chunk)
        put(work, chunk, when=NOW)
    plan = plan_of(work, home)
    assert plan.reissued(DL) == []
    source = put(home, 2, text=content(2) + "\n")
    (line,) = plan.reissued(DL)
    assert line.startswith(f"RetDef of chunk 00002 of downlink {DL} was issued again: {source} differs")
    assert line.endswith(f"-F dl={DL}")
    source.unlink()
    assert plan.reissued(DL) == []
    # What is not staged yet cannot have been issued again.
    (work / paths.retdef(DL, "00003")).unlink()
    assert plan_of(work, home).reissued(DL) == []


def outstanding(
    work: Path, *search: Path, settle: float = 60, most: int = 100
) -> tuple[list[str], list[str]]:
    found = Plan(searching(work, *search, settle=settle, most=most)).outstanding(NOW)
    return list(found.ready), list(found.waiting)


def test_outstanding_until_there_is_a_receipt(work: Path, home: Path, tmp_path: Path) -> None:
    put(home, 1)
    put(home, 1, dl=OTHER)
    (home / "README").write_text("")
    (home / "240601003").write_text("a file, no directory")
    (home / "240601004").mkdir()
    (home / "24060100").mkdir()
    assert outstanding(work, home) == ([DL, OTHER], [])
    (work / paths.receipt(DL)).write_text("{}")
    put(work, 1, when=NOW)
    assert outstanding(work, home) == ([OTHER], [])
    # A RetDef that is new, wherever it turned up, makes a finished downlink outstanding; a young copy does not.
    other = tmp_path / "other"
    put(other, 1)
    assert outstanding(work, home, other) == ([OTHER], [])
    put(other, 2)
    assert outstanding(work, home, other) == ([DL, OTHER], [])
    assert outstanding(work, other) == ([DL], [])
    assert outstanding(work) == ([], [])


def test_an_ignored_chunk_is_no_outstanding_work(work: Path, home: Path) -> None:
    put(home, 1)
    put(home, 2)
    put(work, 1)
    (work / paths.receipt(DL)).write_text("{}")
    ignoring = plan_of(work, home, ignored=[(DL, TWO, "bad")])
    assert ignoring.outstanding(NOW).ready == ()
    assert outstanding(work, home) == ([DL], [])


@pytest.mark.parametrize(("age", "ready"), [(59.9, False), (60.1, True), (-10, False)])
def test_young_retdefs_wait(age: float, ready: bool, work: Path, home: Path) -> None:
    put(home, 1)
    put(home, 2, when=NOW - age)
    found, waiting = outstanding(work, home)
    assert found == ([DL] if ready else [])
    assert waiting == ([] if ready else [f"downlink {DL} waits: its youngest RetDef is younger than 60 s"])


def test_what_was_staged_just_now_does_not_keep_a_new_retdef_waiting(work: Path, home: Path) -> None:
    put(home, 1)
    put(work, 1, when=NOW)
    (work / paths.receipt(DL)).write_text("{}")
    put(home, 2)
    assert outstanding(work, home) == ([DL], [])


def test_a_hole_waits(work: Path, home: Path) -> None:
    put(home, 2)
    put(home, 4)
    assert outstanding(work, home) == ([], [f"downlink {DL} waits for the RetDef of chunk 00001, 00003"])


def test_too_many_are_refused_with_their_number(work: Path, home: Path) -> None:
    names = [f"24060{day}001" for day in range(1, 6)]
    for name in names:
        put(home, 1, dl=name)
    put(home, 2, dl="240609001")  # waits, and does not count
    assert outstanding(work, home, most=5)[0] == names
    with pytest.raises(ConfigError) as raised:
        outstanding(work, home, most=4)
    said = str(raised.value)
    assert said.startswith(
        f"5 downlinks are outstanding, {names[0]} to {names[-1]}: more than outstanding.max (4)"
    )
    assert f"snakemake dl={names[0]} dl={names[1]}" in said


def test_of_downlinks_that_are_named_there_is_no_limit_and_no_submission(work: Path, home: Path) -> None:
    for dl in (DL, OTHER):
        put(home, 1, dl=dl)
    (work / paths.receipt(OTHER)).write_text('{"chunks": [{"chunk": "00001"}]}')
    plan = Plan(searching(work, home, most=1, submitting=True))
    with pytest.raises(ConfigError, match=r"more than outstanding\.max"):
        plan.outstanding(NOW)
    assert plan.outstanding(NOW, {DL, OTHER}).ready == (DL,)
    assert plan.outstanding(NOW, {OTHER}).ready == ()


def ours(chunk: int, run: str = RUN_A) -> str:
    return content(chunk, run).replace("<retdef ", '<retdef maker="halfpipe" ')


@pytest.mark.parametrize("ours_first", [True, False])
def test_retdefs_of_the_site_go_before_those_made_here(work: Path, tmp_path: Path, ours_first: bool) -> None:
    made, site = tmp_path / "made", tmp_path / "site"
    for chunk in (1, 2, 3):
        put(made, chunk, RUN_A, text=ours(chunk))
    search = (made, site) if ours_first else (site, made)
    assert plan_of(work, *search).of(DL).chunks == (ONE, TWO, THREE)
    put(site, 1, RUN_B)
    put(site, 2, RUN_B)
    plan = plan_of(work, *search)
    assert plan.of(DL).chunks == (ONE, TWO)
    assert plan.of(DL).runs == (RUN_B,)
    assert plan.source(DL, THREE) is None
    assert retdef_to_stage(searching(work, *search), DL, ONE) == content(1, RUN_B).encode()
    assert plan_of(work, *search).outstanding(NOW).ready == (DL,)


def test_two_places_with_retdefs_of_the_site_are_one(work: Path, tmp_path: Path) -> None:
    put(tmp_path / "one", 1)
    put(tmp_path / "two", 2)
    assert plan_of(work, tmp_path / "one", tmp_path / "two").of(DL).chunks == (ONE, TWO)
    put(tmp_path / "one", 1, text=ours(1))
    put(tmp_path / "two", 2, text=ours(2))
    assert plan_of(work, tmp_path / "one", tmp_path / "two").of(DL).chunks == (ONE, TWO)


def test_a_staged_one_that_was_made_here_is_told_when_the_sites_comes(work: Path, tmp_path: Path) -> None:
    put(work, 1, text=ours(1))
    put(tmp_path / "made", 1, text=ours(1))
    assert plan_of(work, tmp_path / "made").reissued(DL) == []
    put(tmp_path / "site", 1)
    (said,) = plan_of(work, tmp_path / "made", tmp_path / "site").reissued(DL)
    assert f"{tmp_path / 'site' / DL}" in said
