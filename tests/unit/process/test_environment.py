"""What programs started from here find."""

import gc
import os
import subprocess
import sys

import pytest

from halfpipe.process.environment import look_for_garbage_seldom, without_idle_threads


def test_numpy_starts_no_threads_unless_somebody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    without_idle_threads()
    count = "import numpy, os; print(len(os.listdir('/proc/self/task')))"
    assert subprocess.run([sys.executable, "-c", count], capture_output=True, check=True).stdout == b"1\n"
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    without_idle_threads()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"


def test_garbage_is_still_looked_for() -> None:
    before = gc.get_threshold()
    try:
        look_for_garbage_seldom()
        now = gc.get_threshold()
    finally:
        gc.set_threshold(*before)
    assert gc.isenabled()
    assert before[0] < now[0] <= 1_000_000
