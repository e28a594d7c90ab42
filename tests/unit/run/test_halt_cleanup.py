"""The haltCleanup tokens of downlinks."""

from pathlib import Path

import pytest

from halfpipe.ids import RunId
from halfpipe.run import halt_cleanup
from tests.unit.run.test_stage import DL, L1, OTHER, RUN, tree


def test_level1_may_remove_the_tokens_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch = Path.touch
    gone: list[Path] = []

    def touch_after_removal(path: Path) -> None:
        if not gone:
            path.parent.rmdir()
            gone.append(path)
        touch(path)

    monkeypatch.setattr(Path, "touch", touch_after_removal)
    halt_cleanup.put(tmp_path, DL, [RUN])
    assert gone
    assert tree(tmp_path) == {f"chunktokens/{L1}/haltCleanup-{DL}"}


def test_runs_do_not_retire_until_all_is_staged(tmp_path: Path) -> None:
    second = RunId("00000001")
    halt_cleanup.put(tmp_path, DL, [RUN, second])
    halt_cleanup.put(tmp_path, OTHER, [RUN])
    halt_cleanup.put(tmp_path, DL, [RUN])
    halted = {f"chunktokens/{L1}/haltCleanup-{DL}", f"chunktokens/{L1}/haltCleanup-{OTHER}"}
    assert tree(tmp_path) == halted | {f"chunktokens/r0000000001/haltCleanup-{DL}"}
    halt_cleanup.remove(tmp_path, DL, [RUN])
    assert tree(tmp_path) == {f"chunktokens/{L1}/haltCleanup-{OTHER}"}
    assert not (tmp_path / "chunktokens" / "r0000000001").exists()
    halt_cleanup.remove(tmp_path, DL, [RUN])  # again is no error
