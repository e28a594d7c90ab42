"""A private Slurm ends with the tests that started it, whatever ends them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.in_process import ROOT
from tests.support.private_slurm import PrivateSlurm, processes_of
from tests.support.servers import wait_for

pytestmark = pytest.mark.slurm

ANOTHER = """
import time
from tests.support.private_slurm import private_slurm
with private_slurm() as slurm:
    job = slurm.submit()
    while "R" not in slurm.run("squeue", "-h", "-j", job, "-o", "%t"):
        time.sleep(0.1)
    print(slurm.home, flush=True)
    time.sleep(600)
"""


def test_a_private_slurm_ends_with_its_killed_tests(daemons: PrivateSlurm) -> None:
    tests = subprocess.Popen([sys.executable, "-c", ANOTHER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert tests.stdout is not None
        home = Path(tests.stdout.readline().strip())
        assert home.is_dir()
        assert len(processes_of(home)) > len(("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd"))
    finally:
        tests.send_signal(signal.SIGKILL)
        tests.communicate()
    wait_for("the end of all", lambda: not processes_of(home) and not home.exists())
    assert daemons.works("scontrol", "ping"), "the one beside it"
