"""Slurm's queue in words, from what a program in the place of squeue prints; tests/site has a real one."""

from pathlib import Path

import pytest

from halfpipe.causes import Verdict
from halfpipe.status import slurm_queue
from tests.support.servers import put_program

LINES = """\
halfpipe_a|AssocGrpNodeLimit|N/A
halfpipe_a|AssocGrpNodeLimit|2026-11-30T08:00:00
halfpipe_b|JobHeldUser|N/A
somebody|Priority|N/A
halfpipe_c|Nonsense|N/A
"""


def test_jobs_are_counted_by_reason_and_what_does_not_pass_needs_action(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = put_program(tmp_path, "squeue", f"cat <<'END'\n{LINES}END", monkeypatch)
    found = slurm_queue.queued()
    assert [(one.reason, one.jobs, one.start) for one in found] == [
        ("AssocGrpNodeLimit", 2, "2026-11-30T08:00:00"),
        ("JobHeldUser", 1, ""),
        ("Nonsense", 1, ""),
    ]
    assert [cause.verdict for cause in slurm_queue.troubles()] == [
        Verdict.ACTION,
        Verdict.ACTION,
        Verdict.NOTE,
    ]
    program.write_text("#!/bin/sh\nexit 1\n")
    assert slurm_queue.queued() == []
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert slurm_queue.queued() == []
