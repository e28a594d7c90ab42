"""The private Slurm refuses, limits, preempts and keeps accounts as S3DF's does, and it ends with the tests."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.in_process import ROOT
from tests.support.private_slurm import (
    ACCOUNT,
    CPUS,
    HISTORY_ACCOUNT,
    NORMAL,
    PARTITION,
    PREEMPTABLE,
    PrivateSlurm,
    processes_of,
)
from tests.support.servers import wait_for

pytestmark = pytest.mark.slurm

ANOTHER = """
import time
from tests.support.private_slurm import private_slurm
with private_slurm() as slurm:
    job = slurm.submit()
    while slurm.job_state(job) != "RUNNING":
        time.sleep(0.1)
    print(slurm.home, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def slurm(daemons: PrivateSlurm) -> Iterator[PrivateSlurm]:
    """Return the private Slurm, and cancel the jobs of the test."""
    yield daemons
    daemons.cancel_all()


def becomes(slurm: PrivateSlurm, job: str, state: str) -> None:
    wait_for(f"job {job} {state}", lambda: slurm.job_state(job) == state, 60)


def accounted(slurm: PrivateSlurm, job: str) -> list[str]:
    """Return account, QOS and state of a job as sacct has them, or nothing."""
    said = slurm.run("sacct", "-n", "-X", "-P", "-j", job, "-o", "account,qos,state")
    return said.strip().split("|")


def refusal(slurm: PrivateSlurm, *options: str) -> str:
    """Return why sbatch refuses a job."""
    done = slurm.done("sbatch", f"--partition={PARTITION}", "--output=/dev/null", *options, "--wrap=true")
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_an_account_is_completed_by_its_partition_and_accounted(slurm: PrivateSlurm) -> None:
    job = slurm.submit(account="fermi:L1", command="true")
    whole = ["fermi:l1@milano", NORMAL, "COMPLETED"]
    wait_for("accounting", lambda: accounted(slurm, job) == whole, 60)


def test_what_a_user_has_no_right_to_is_refused(slurm: PrivateSlurm) -> None:
    qos = f"--qos={PREEMPTABLE}"
    assert "Invalid account or account/partition combination" in refusal(slurm, "--account=nonsense")
    assert "Invalid qos specification" in refusal(slurm, f"--account={ACCOUNT}", qos)
    assert "Invalid qos specification" in refusal(slurm, f"--account={ACCOUNT}", "--qos=nonsense")
    assert "invalid partition" in refusal(slurm, f"--account={ACCOUNT}", "--partition=nonsense")
    becomes(slurm, slurm.submit(qos, account=HISTORY_ACCOUNT), "RUNNING")


def test_an_account_that_may_use_no_node_waits(slurm: PrivateSlurm) -> None:
    slurm.limit(ACCOUNT, 0)
    try:
        job, other = slurm.submit(), slurm.submit(account=HISTORY_ACCOUNT)
        becomes(slurm, other, "RUNNING")
        wait_for("the limit", lambda: slurm.job_reason(job) == "AssocGrpNodeLimit")
        assert slurm.job_state(job) == "PENDING"
    finally:
        slurm.unlimit(ACCOUNT)
    becomes(slurm, job, "RUNNING")


def test_a_normal_job_preempts_preemptable_ones_and_no_others(slurm: PrivateSlurm) -> None:
    qos = f"--qos={PREEMPTABLE}"
    history = [slurm.submit(qos, account=HISTORY_ACCOUNT) for _ in range(CPUS - 1)]
    normal = slurm.submit()
    for job in (*history, normal):
        becomes(slurm, job, "RUNNING")
    filler = slurm.fill()
    wait_for("a look at the filler", lambda: slurm.job_reason(filler) in {"Resources", "Priority"})
    assert {slurm.job_state(job) for job in (*history, normal)} == {"RUNNING"}
    slurm.cancel(normal)
    for job in history:
        becomes(slurm, job, "PREEMPTED")
    becomes(slurm, filler, "RUNNING")
    wait_for("accounting", lambda: all(accounted(slurm, job)[-1] == "PREEMPTED" for job in history))


def test_a_drained_node_starts_nothing(slurm: PrivateSlurm) -> None:
    slurm.drain()
    try:
        assert slurm.node_state() == "drained"
        job = slurm.submit()
        wait_for("a reason", lambda: "DRAINED" in slurm.job_reason(job))
    finally:
        slurm.resume()
    becomes(slurm, job, "RUNNING")


@pytest.mark.parametrize("daemon", ["slurmdbd", "mariadbd"])
def test_without_accounting_jobs_run_and_are_accounted_later(slurm: PrivateSlurm, daemon: str) -> None:
    slurm.stop_daemon(daemon)
    try:
        job = slurm.submit(command="true")
        becomes(slurm, job, "COMPLETED")
        assert not slurm.works("sacct", "-n", "-j", job)
    finally:
        slurm.start_daemon(daemon)
    wait_for("accounting", lambda: accounted(slurm, job)[-1] == "COMPLETED", 60)


@pytest.mark.parametrize("daemon", ["slurmctld", "slurmd"])
def test_a_job_survives_a_new_start_of_a_daemon(slurm: PrivateSlurm, daemon: str) -> None:
    job = slurm.submit()
    becomes(slurm, job, "RUNNING")
    slurm.stop_daemon(daemon)
    slurm.start_daemon(daemon)
    assert slurm.job_state(job) == "RUNNING"
    becomes(slurm, slurm.submit(), "RUNNING")


def test_another_one_beside_it_ends_with_its_killed_tests(slurm: PrivateSlurm) -> None:
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
    assert slurm.works("scontrol", "ping")
