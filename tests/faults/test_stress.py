"""Overlapping downlinks of two runs, their jobs and heads killed, stopped beyond their leases, on two hosts.

HALFPIPE_STRESS is how many rounds there are; each seed is that of its round.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.in_process import ROOT

pytestmark = pytest.mark.faults

TOGETHER = 10  # rounds of one process
ROUNDS = int(os.environ.get("HALFPIPE_STRESS", "60"))


def rounds(home: Path, count: int, seed: int, *rule: str) -> list[dict[str, Any]]:
    """Return what `tests.support.stress` says of so many rounds."""
    words = [sys.executable, "-m", "tests.support.stress", str(home), str(count), str(seed), *rule]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"seed"')]


@pytest.mark.parametrize("seed", range(1, ROUNDS + 1, TOGETHER))
def test_each_event_is_delivered_once_whatever_happens(seed: int, tmp_path: Path) -> None:
    said = rounds(tmp_path, TOGETHER, seed)
    assert len(said) == TOGETHER
    assert [each for each in said if each["failed"]] == []
    assert min(sum(each.get(harm, 0) for each in said) for harm in ("kills", "stops", "copies", "taken")) > 5
    if not sum(each.get("elsewhere", 0) for each in said):
        pytest.skip("no permission for heads on two hosts")


@pytest.mark.parametrize(("rule", "moments"), [("deliver_run", 50), ("receipt", 35)])
def test_a_job_that_stands_still_until_level_1_has_taken_its_downlink_stages_nothing(
    rule: str, moments: int, tmp_path: Path
) -> None:
    """Before each change that it makes to files."""
    assert len(rounds(tmp_path, 200, 1, rule)) > moments
