"""The stage: event files, texts, tokens, and the haltCleanup tokens of downlinks."""

from pathlib import Path

import pytest

from halfpipe.ids import DownlinkId, RunId
from halfpipe.staging import stage
from halfpipe.staging.stage import touch
from halfpipe.state.deliveries import EventFile

DL, OTHER = DownlinkId("240601001"), DownlinkId("240601002")
RUN = RunId("2c2e5787")
L1 = "r0741234567"


def file(sequence: int, content: bytes = b"events") -> EventFile:
    return EventFile(f"{L1}-e{sequence:020d}.evt", 2, (sequence, sequence + 1), (0, 0), len(content), "")


def place(home: Path, *sequences: int, stale: tuple[int, ...] = ()) -> None:
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


def test_files_of_an_earlier_hand_off_are_removed_with_their_tokens(tmp_path: Path) -> None:
    place(tmp_path)
    assert not (tmp_path / DL).exists(), "a run without files has no directory"
    place(tmp_path, 1000, 2000)
    other = tmp_path / "chunktokens" / L1 / f"{L1}-e{5:020d}"
    other.touch()  # of another downlink
    place(tmp_path, 1000, 1500, stale=(2000,))
    assert tree(tmp_path) == staged(1000, 1500) | {str(other.relative_to(tmp_path))}
    place(tmp_path, stale=(1000, 1500))
    assert tree(tmp_path) == {str(other.relative_to(tmp_path))}
    assert list((tmp_path / DL).iterdir()) == []


def test_leftover_scratch_is_removed_first(tmp_path: Path) -> None:
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
    assert beside.exists(), "of another job"


def test_texts_replace_those_of_an_earlier_hand_off(tmp_path: Path) -> None:
    for texts in ({"a": "a", "b": "b"}, {"b": "new"}):
        with stage.scratch(tmp_path, DL, "texts") as scratch:
            for name, content in texts.items():
                (scratch / f"{name}_{DL}.txt").write_text(content)
            stage.put_texts(tmp_path, scratch, DL)
        (tmp_path / DL / "not-a-text").touch()
        expected = {f"{DL}/{name}_{DL}.txt": content for name, content in texts.items()}
        assert tree(tmp_path) == {*expected, f"{DL}/not-a-text"}
        assert {name: (tmp_path / name).read_text() for name in expected} == expected


def test_a_job_whose_scratch_is_gone_changes_nothing(tmp_path: Path) -> None:
    """It was suspended, and another job has staged the run."""
    place(tmp_path, 1000)
    before = tree(tmp_path)
    with pytest.raises(FileNotFoundError):
        stage.place(tmp_path, tmp_path / "gone", DL, RUN, [], [file(1000).name])
    assert tree(tmp_path) == before


def test_no_token_is_left_of_a_file_level_1_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process was suspended, and another job has staged the file."""

    def taken(home: Path, token: str) -> None:
        touch(home, token)
        (home / DL / L1 / f"{Path(token).name}.evt").unlink(missing_ok=True)

    monkeypatch.setattr(stage, "touch", taken)
    place(tmp_path, 1000)
    assert tree(tmp_path) == set()


def test_level1_may_remove_the_tokens_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch = Path.touch
    gone: list[Path] = []

    def touch_after_removal(path: Path) -> None:
        if not gone:
            path.parent.rmdir()
            gone.append(path)
        touch(path)

    monkeypatch.setattr(Path, "touch", touch_after_removal)
    stage.put_halt_cleanup(tmp_path, DL, [RUN])
    assert gone
    assert tree(tmp_path) == {f"chunktokens/{L1}/haltCleanup-{DL}"}


def test_runs_do_not_retire_until_all_is_staged(tmp_path: Path) -> None:
    second = RunId("00000001")
    stage.put_halt_cleanup(tmp_path, DL, [RUN, second])
    stage.put_halt_cleanup(tmp_path, OTHER, [RUN])
    stage.put_halt_cleanup(tmp_path, DL, [RUN])
    halted = {f"chunktokens/{L1}/haltCleanup-{DL}", f"chunktokens/{L1}/haltCleanup-{OTHER}"}
    assert tree(tmp_path) == halted | {f"chunktokens/r0000000001/haltCleanup-{DL}"}
    stage.remove_halt_cleanup(tmp_path, DL, [RUN])
    assert tree(tmp_path) == {f"chunktokens/{L1}/haltCleanup-{OTHER}"}
    assert not (tmp_path / "chunktokens" / "r0000000001").exists()
    stage.remove_halt_cleanup(tmp_path, DL, [RUN])  # again is no error
