"""The stage: what Level-1 finds there, tokens included."""

from pathlib import Path

import pytest

from halfpipe.ids import DownlinkId, RunId
from halfpipe.run import stage
from halfpipe.run.deliveries import EventFile

DL, OTHER = DownlinkId("240601001"), DownlinkId("240601002")
RUN = RunId("2c2e5787")
L1 = "r0741234567"


def file(sequence: int, content: bytes = b"events") -> EventFile:
    return EventFile(f"{L1}-e{sequence:020d}.evt", 2, (sequence, sequence + 1), (0, 0), len(content), "")


def place(home: Path, *sequences: int, stale: tuple[int, ...] = ()) -> None:
    """Stage files of the run, as a delivery does."""
    files = [file(sequence) for sequence in sequences]
    with stage.scratch(home, DL, RUN.l1) as new:
        for one in files:
            (new / one.name).write_bytes(b"events")
        stage.place(home, new, DL, RUN, files, [file(sequence).name for sequence in stale])


def tree(home: Path) -> set[str]:
    return {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}


def staged(*sequences: int) -> set[str]:
    names = [file(sequence).name for sequence in sequences]
    return {f"{DL}/{L1}/{n}" for n in names} | {f"chunktokens/{L1}/{n.removesuffix('.evt')}" for n in names}


def test_what_is_not_made_any_more_goes_tokens_included(tmp_path: Path) -> None:
    place(tmp_path, 1000, 2000)
    other = tmp_path / "chunktokens" / L1 / f"{L1}-e{5:020d}"
    other.touch()  # of another downlink
    place(tmp_path, 1000, 1500, stale=(2000,))
    assert tree(tmp_path) == staged(1000, 1500) | {str(other.relative_to(tmp_path))}


def test_a_run_that_delivers_nothing_has_no_directory(tmp_path: Path) -> None:
    place(tmp_path)
    assert tree(tmp_path) == set()
    assert not (tmp_path / DL).exists()
    place(tmp_path, 1000)
    place(tmp_path, stale=(1000,))
    assert tree(tmp_path) == set()
    assert list((tmp_path / DL).iterdir()) == []


def test_level_1_may_remove_the_tokens_of_a_run_at_any_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It removes the directory of a retired run whole, perhaps between our two calls."""
    touch = Path.touch
    gone: list[Path] = []

    def touch_after_removal(path: Path) -> None:
        if not gone:
            path.parent.rmdir()
            gone.append(path)
        touch(path)

    monkeypatch.setattr(Path, "touch", touch_after_removal)
    stage.keep_from_retiring(tmp_path, DL, [RUN])
    assert gone
    assert tree(tmp_path) == {f"chunktokens/{L1}/haltCleanup-{DL}"}


def test_runs_are_kept_until_they_are_released(tmp_path: Path) -> None:
    second = RunId("00000001")
    stage.keep_from_retiring(tmp_path, DL, [RUN, second])
    stage.keep_from_retiring(tmp_path, OTHER, [RUN])
    stage.keep_from_retiring(tmp_path, DL, [RUN])
    halted = {f"chunktokens/{L1}/haltCleanup-{DL}", f"chunktokens/{L1}/haltCleanup-{OTHER}"}
    assert tree(tmp_path) == halted | {f"chunktokens/r0000000001/haltCleanup-{DL}"}
    stage.let_retire(tmp_path, DL, [RUN])
    assert tree(tmp_path) == {f"chunktokens/{L1}/haltCleanup-{OTHER}"}
    assert not (tmp_path / "chunktokens" / "r0000000001").exists()
    stage.let_retire(tmp_path, DL, [RUN])  # nothing to release is no error


def test_scratch_of_a_killed_job_goes_first_and_ours_goes_last(tmp_path: Path) -> None:
    left = tmp_path / ".halfpipe" / f"{DL}-texts"
    left.mkdir(parents=True)
    (left / "old").touch()
    beside = tmp_path / ".halfpipe" / f"{OTHER}-texts"
    beside.mkdir()
    with stage.scratch(tmp_path, DL, "texts") as scratch:
        assert scratch == left / "new"
        assert list(scratch.iterdir()) == []
        (scratch / "new").touch()
    assert not left.exists()
    assert beside.exists(), "somebody else's"


def test_texts_appear_together_and_take_the_place_of_others(tmp_path: Path) -> None:
    with stage.scratch(tmp_path, DL, "texts") as scratch:
        (scratch / f"a_{DL}.txt").write_text("a\n")
        (scratch / f"b_{DL}.txt").write_text("b\n")
        stage.put_texts(tmp_path, scratch, DL)
    (tmp_path / DL / "not-a-text").touch()
    assert tree(tmp_path) == {f"{DL}/a_{DL}.txt", f"{DL}/b_{DL}.txt", f"{DL}/not-a-text"}
    with stage.scratch(tmp_path, DL, "texts") as scratch:
        (scratch / f"b_{DL}.txt").write_text("new\n")
        stage.put_texts(tmp_path, scratch, DL)
    assert tree(tmp_path) == {f"{DL}/b_{DL}.txt", f"{DL}/not-a-text"}
    assert (tmp_path / DL / f"b_{DL}.txt").read_text() == "new\n"
