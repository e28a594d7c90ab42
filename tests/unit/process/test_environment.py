"""What programs started from here find."""

import gc
import os

import pytest

from halfpipe.process.environment import look_for_garbage_seldom, without_idle_threads


def test_numpy_starts_no_threads_unless_somebody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for before, after in ((None, "1"), ("3", "3")):
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        if before is not None:
            monkeypatch.setenv("OPENBLAS_NUM_THREADS", before)
        without_idle_threads()
        assert os.environ["OPENBLAS_NUM_THREADS"] == after


def test_garbage_is_still_looked_for() -> None:
    before = gc.get_threshold()
    try:
        look_for_garbage_seldom()
        now = gc.get_threshold()
    finally:
        gc.set_threshold(*before)
    assert gc.isenabled()
    assert before[0] < now[0] <= 1_000_000
