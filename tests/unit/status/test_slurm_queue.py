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


def test_jobs_are_counted_by_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = put_program(tmp_path, "squeue", f"cat <<'END'\n{LINES}END", monkeypatch)
    found = slurm_queue.troubles()
    assert [cause.verdict for cause in found] == [Verdict.ACTION, Verdict.ACTION, Verdict.NOTE]
    assert [cause.text.replace(" in Slurm's queue", "") for cause in found] == [
        "2 jobs wait: the allocation of the account is used up (AssocGrpNodeLimit); "
        "Slurm expects the first to start at 2026-11-30T08:00:00",
        "1 job waits: the job is held in Slurm (JobHeldUser)",
        "1 job waits: Slurm has not started it yet (Nonsense)",
    ]
    program.write_text("#!/bin/sh\nexit 1\n")
    assert slurm_queue.troubles() == []
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    assert slurm_queue.troubles() == []
