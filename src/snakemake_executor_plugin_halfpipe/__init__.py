"""The Slurm executor of Snakemake, for groups: the jobs of a group run side by side in one Slurm job.

It differs from the executor of ``snakemake-executor-plugin-slurm`` in seven ways, which docs/upstream.md describes for
its maintainers:

- One Snakemake runs all jobs of a group, side by side on the cores of the Slurm job, and starts each once. The plugin
  starts a second Snakemake for each job, and one job after the other.
- A second attempt runs only the jobs whose products are missing or older than this command.
- A preempted Slurm job is submitted again as it was, and a cancelled one has failed. The plugin waits for both forever.
- A node that failed is not excluded from later jobs, because Slurm does not use it while it is down.
- If Slurm refuses a job for good, the command ends with one sentence. If Slurm refuses it for now, the job waits. A
  refusal that is in neither list counts as temporary for an hour.
- Jobs are submitted one at a time, in the order of their downlinks. The plugin submits two at a time, in any order.
- The account is not looked up in advance, because a site may translate it at submission, and sbatch refuses a wrong
  one.
"""

import json
import os
import shlex
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_executor_plugin_slurm import ExecutorSettings, common_settings
from snakemake_executor_plugin_slurm.job_status_query import query_job_status_sacct
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface as Job

from halfpipe.errors import Remedy
from halfpipe.files.leases import SIDE_BY_SIDE
from halfpipe.process.failure_record import Failure, in_a_line
from halfpipe.process.programs import answer

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

AGAIN_SECONDS = 60.0  # between two attempts to submit a job that Slurm refuses for now
UNKNOWN_SECONDS = 3600.0  # how long a refusal counts as temporary that is not in `REFUSALS`
BY_SBATCH = (
    "SLURM sbatch failed. The error message was"  # how the plugin begins to report what sbatch printed
)
# What sbatch prints when Slurm refuses a job, and the key of the profile to correct. None: nothing, because the refusal
# passes. The first text that fits counts. These are Slurm's own texts for its error numbers
# (src/common/slurm_errno.c), the names of its limits, and the C library's texts for the network. They were tried with
# Slurm 24.11, and not with 25.05.
REFUSALS: dict[str, str | None] = {
    "SubmitJob": None,  # the queue is full: all limits of submitted jobs have this in their names
    "Communication connection failure": None,
    "Message send failure": None,
    "Message receive failure": None,
    "Protocol authentication error": None,  # munge is down
    "Unable to contact slurm controller": None,
    "Rate limit exceeded": None,
    "Unable to create job record, try again": None,
    "MaxJobCount limit reached": None,
    "Requested partition configuration not available now": None,
    "Requested nodes are busy": None,
    "I/O error writing script/environment to file": None,
    "standby mode": None,
    "Requested operation is presently disabled": None,
    "Required node not available (down, drained or reserved)": None,
    "Required partition not available (inactive or drain)": None,
    "Requested account has breached requested QOS usage threshold": None,
    "Partition in DOWN state": None,
    "System submissions disabled": None,
    "Job can not start due to maintenance reservation.": None,
    "Max powered up nodes reached": None,
    "Header lengths are longer than data received": None,
    "Socket timed out on send/recv operation": None,
    "Zero Bytes were transmitted or received": None,
    "Unable to connect to database": None,
    "Resource temporarily unavailable": None,
    "Connection refused": None,
    "Connection reset by peer": None,
    "Connection timed out": None,
    "No route to host": None,
    "Invalid account or account/partition combination specified": "default-resources: slurm_account",
    "Invalid or unknown association": "default-resources: slurm_account",
    "Access/permission denied": "default-resources: slurm_account, slurm_partition",
    "Invalid partition name specified": "default-resources: slurm_partition",
    "No partition specified or system default partition": "default-resources: slurm_partition",
    "User's group not permitted to use this partition": "default-resources: slurm_partition",
    "Invalid qos specification": "default-resources: qos",
    "Job violates accounting/QOS policy": "set-resources: mem_mb, runtime, or default-resources: qos",  # DenyOnLimit
    "Requested time limit is invalid": "default-resources: runtime",
    "Time limit specification required": "default-resources: runtime",
    "Memory required by task is not available": "set-resources: mem_mb",
    "Requested node configuration is not available": "default-resources: slurm_partition, mem_mb",
    "More processors requested than permitted": "resources: slot",
    "CPU count specification invalid": "resources: slot",
    "Node count specification invalid": "set-resources: slurm_extra",
    "Invalid feature specification": "set-resources: slurm_extra",
    "Invalid generic resource (gres) specification": "set-resources: slurm_extra",
    "Invalid --nice value": "set-resources: slurm_extra",
    "Requested reservation is invalid": "set-resources: slurm_extra",
    "Access denied to requested reservation": "set-resources: slurm_extra",
    'Try "sbatch --help"': "set-resources: slurm_extra",
}
UNKNOWN = "what Slurm names"


def key_for(words: str) -> str | None:
    """Return the key of the profile that corrects a refusal; None if the refusal passes."""
    return next((key for text, key in REFUSALS.items() if text in words), UNKNOWN)


class Executor(SlurmExecutor):  # type: ignore[misc]
    """Submits groups of jobs to Slurm."""

    def __post_init__(self, test_mode: bool = False) -> None:
        """Note when this command began, by the file server's clock."""
        super().__post_init__(test_mode)
        mark = Path(self.tmpdir) / "begun"
        mark.touch()
        self._begun = mark.stat().st_mtime
        self._is_over = threading.Event()
        os.environ[SIDE_BY_SIDE] = "1"
        self._job_submission_executor = ThreadPoolExecutor(1)  # two at a time would change the order
        self._refusals = dict[int, str]()

    def run_jobs(self, jobs: list[Job]) -> None:
        """Submit jobs in the order of their downlinks, so that Slurm starts them in this order."""
        super().run_jobs(sorted(jobs, key=lambda job: sorted(map(str, job.output))))

    # upstream/group-jobs-local.patch makes the next two methods a setting of the plugin.
    def additional_general_args(self) -> str:
        """Make the inner Snakemake run jobs as its own processes, and continue if one fails."""
        return "--executor local --keep-going"

    def get_job_args(self, job: Job, **_: object) -> str:
        """Return the arguments of the inner Snakemake: the remaining jobs, and the cores of the Slurm job.

        The plugin also lists the files of earlier Slurm jobs to wait for. Here a downlink needs none.
        """
        return str(RealExecutor.get_job_args(self, _Left(job, self._begun), cores=job.resources["_cores"]))

    def get_account_arg(self, job: Job) -> Iterator[str]:
        """Yield the option for the account, spelled as in the profile."""
        account = job.resources.get("slurm_account")
        yield f" -A {shlex.quote(str(account))}" if account else ""

    def run_job(self, job: Job) -> None:
        """Submit a job, repeatedly while Slurm refuses it for now. If Slurm refuses it for good, end the command.

        If another error occurs, the job fails. The plugin's own handler fails for a group, and the head would wait for
        the job forever.
        """
        # The handler of Exception goes with upstream/group-exception.patch.
        unknown_since = time.monotonic()
        while True:
            try:
                super().run_job(job)
            except Exception as error:
                self._report_job_error_threadsafe(SubmittedJobInfo(job), f"not submitted: {error!r}")
            words = self._refusals.pop(id(job), None)
            if words is None:
                return
            key = key_for(words)
            if key is None:
                unknown_since = time.monotonic()
            elif key != UNKNOWN or time.monotonic() - unknown_since >= UNKNOWN_SECONDS:
                self._end(job, words, key)
                return
            most = f", for {UNKNOWN_SECONDS / 60:g} min at most" if key else ""
            self.logger.warning(
                f"Slurm accepts no job now, trying again in {AGAIN_SECONDS:g} s{most}: {words}"
            )
            if self._is_over.wait(AGAIN_SECONDS):
                return

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Handle the ends of jobs that the plugin handles in another way, and leave the others to the plugin.

        A preempted job is submitted again with the same resources. A cancelled job counts as failed: sacct prints
        ``CANCELLED by 0``, and the plugin looks for ``CANCELLED``. So does a job whose node failed. The plugin would
        exclude the node from all later jobs, until a small partition is empty; Slurm itself takes the node out of use
        while it is down.
        """
        states = self._states() if active_jobs else {}
        others = []
        for one in active_jobs:
            match states.get(str(one.external_jobid)):
                case "PREEMPTED":  # upstream/preempted.patch; there it counts as an attempt
                    self.logger.warning(
                        f"Slurm job {one.external_jobid} was preempted and is submitted again"
                    )
                    self._job_submission_executor.submit(self.run_job, one.job)
                # "CANCELLED" goes with upstream/cancelled.patch.
                case "CANCELLED" | "NODE_FAIL" as state:
                    log = str(one.aux["slurm_logfile"])
                    self.report_job_error(one, msg=f"{state} in Slurm. ", aux_logs=[log])
                case _:
                    others.append(one)
        async for one in super().check_active_jobs(others):
            yield one

    def _states(self) -> dict[str, str]:
        """Return the state of each job of this command, in one word; empty if sacct does not answer."""
        said = answer(shlex.split(query_job_status_sacct(self.run_uuid)))
        rows = (line.split("|") for line in said.splitlines() if "|" in line)
        return {job: state.split()[0] for job, state in rows if state}

    def _report_job_error_threadsafe(self, job_info: SubmittedJobInfo, msg: str) -> None:
        """Note a refusal by sbatch for `run_job`. After another error, the one job fails.

        The plugin calls this in the thread that submits.
        """
        if msg.startswith(BY_SBATCH):
            words = in_a_line(msg.partition("    sbatch call:")[0].removeprefix(BY_SBATCH)).strip()
            self._refusals[id(job_info.job)] = words
            return
        _write(Failure("executor", in_a_line(msg)), job_info.job)
        super()._report_job_error_threadsafe(job_info, msg)

    def _end(self, job: Job, words: str, key: str) -> None:
        """End the command, once, because Slurm refuses a job for good."""
        if self._is_over.is_set():
            return
        self._is_over.set()
        had = {name: job.resources.get(name) for name in ("slurm_account", "slurm_partition", "qos")}
        why = Failure(
            "executor",
            f"Slurm refused the job: {words} (asked for {json.dumps(had)})",
            Remedy(first=f"correct {key} in the profile, then rerun the command"),
        )
        _write(why, job)
        self.cancel_jobs(list(self.active_jobs))
        self.workflow.scheduler.executor_error_callback(WorkflowError(why.text))

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel jobs, and submit no more."""
        self._is_over.set()
        super().cancel_jobs(active_jobs)


def _write(why: Failure, job: Job) -> None:
    """Record why a job, or all jobs of a group, failed."""
    for log in job.log:
        why.write(Path(str(log)).absolute())


class _Left:
    """A job, or the remaining jobs of a group: their products are missing or older than this command."""

    def __init__(self, job: Job, begun: float) -> None:
        self._job = job
        self._begun = begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    def get_target_spec(self) -> object:
        """Return rules and wildcards of the remaining jobs; of all jobs if none remains."""
        if not self._job.is_group():
            return self._job.get_target_spec()
        specs = zip(self._job.jobs, self._job.get_target_spec(), strict=True)
        return [spec for job, spec in specs if not self._is_made(job)] or self._job.get_target_spec()

    def _is_made(self, job: Job) -> bool:
        try:
            return all(Path(str(file)).stat().st_mtime >= self._begun for file in job.output)
        except FileNotFoundError:
            return False
