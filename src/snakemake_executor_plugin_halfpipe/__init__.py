"""The Slurm executor of Snakemake, for groups: the jobs of a group run side by side in one Slurm job.

It differs from the executor of ``snakemake-executor-plugin-slurm`` in five ways, which docs/upstream.md describes for
its maintainers:

- One Snakemake runs all jobs of a group, side by side on the cores of the Slurm job, and starts each once. The plugin
  starts a second Snakemake for each job, and one job after the other.
- A second attempt runs only the jobs whose products are missing or older than this command.
- A preempted Slurm job is submitted again as it was, and a cancelled one has failed. The plugin waits for both forever.
- If Slurm refuses a job for good, the command ends with one sentence. If Slurm refuses it for now, the job waits.
- The account is not looked up in advance, because a site may translate it at submission, and sbatch refuses a wrong
  one.
"""

import json
import shlex
import threading
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_executor_plugin_slurm import ExecutorSettings, common_settings
from snakemake_executor_plugin_slurm.job_status_query import query_job_status_sacct
from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor

from halfpipe.errors import Remedy
from halfpipe.process.failure_record import Failure, in_a_line
from halfpipe.process.programs import answer

__all__ = ["Executor", "ExecutorSettings", "common_settings"]

AGAIN_SECONDS = 30.0  # between two attempts to submit a job that Slurm refuses for now
BY_SBATCH = (
    "SLURM sbatch failed. The error message was"  # how the plugin begins to report what sbatch printed
)
# Words of sbatch if it refuses a job for now (src/common/slurm_errno.c of Slurm 24.11).
FOR_NOW = (
    "temporarily unable",
    "unable to contact",
    "socket timed out",
    "connection refused",
    "connection timed out",
    "communication",
    "zero bytes",
    "qosmaxsubmit",
    "assocmaxsubmit",
    "assocgrpsubmit",
    "qosgrpsubmit",
    "job violates accounting/qos policy (job submit limit",
    "try again",
    "resource temporarily",
)
# Words of sbatch if it refuses a job for good, and the key of the profile to correct.
KEYS = {
    "account": "default-resources: slurm_account",
    "partition": "default-resources: slurm_partition",
    "qos": "default-resources: qos",
    "memory": "set-resources: mem_mb",
    "node configuration": "default-resources: slurm_partition, mem_mb",
    "time limit": "default-resources: runtime",
}


class Executor(SlurmExecutor):  # type: ignore[misc]
    """Submits groups of jobs to Slurm."""

    def __post_init__(self, test_mode: bool = False) -> None:
        """Note when this command began, by the file server's clock."""
        super().__post_init__(test_mode)
        mark = Path(self.tmpdir) / "begun"
        mark.touch()
        self._begun = mark.stat().st_mtime
        self._is_over = threading.Event()
        self._refused_for_now = set[int]()

    # upstream/group-jobs-local.patch makes the next two methods a setting of the plugin.
    def additional_general_args(self) -> str:
        """Make the inner Snakemake run jobs as its own processes, and continue if one fails."""
        return "--executor local --keep-going"

    def get_job_args(self, job: Any, **_: Any) -> str:
        """Return the arguments of the inner Snakemake: the remaining jobs, and the cores of the Slurm job.

        The plugin also lists the files of earlier Slurm jobs to wait for. Here a downlink needs none.
        """
        return str(RealExecutor.get_job_args(self, _Left(job, self._begun), cores=job.resources["_cores"]))

    def get_account_arg(self, job: Any) -> Iterator[str]:
        """Yield the option for the account, spelled as in the profile."""
        account = job.resources.get("slurm_account")
        yield f" -A {shlex.quote(str(account))}" if account else ""

    def run_job(self, job: Any) -> None:
        """Submit a job, repeatedly while Slurm refuses it for now. If another error occurs, the job fails.

        The plugin's own handler fails for a group, and the head would wait for the job forever.
        """
        # The handler of Exception goes with upstream/group-exception.patch.
        while True:
            self._refused_for_now.discard(id(job))
            try:
                super().run_job(job)
            except Exception as error:
                self._report_job_error_threadsafe(SubmittedJobInfo(job), f"not submitted: {error!r}")
            if id(job) not in self._refused_for_now or self._is_over.wait(AGAIN_SECONDS):
                return

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Handle preempted and cancelled jobs, which the plugin does not recognize, and leave the others to the plugin.

        A preempted job is submitted again with the same resources. A cancelled job counts as failed: sacct prints
        ``CANCELLED by 0``, and the plugin looks for ``CANCELLED``.
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
                case "CANCELLED":  # goes with upstream/cancelled.patch
                    log = str(one.aux["slurm_logfile"])
                    self.report_job_error(one, msg="cancelled in Slurm. ", aux_logs=[log])
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
        """Handle a job that was not submitted: note that it can be tried again, or end the command.

        The plugin calls this in the thread that submits. An error that is not from sbatch fails the one job.
        """
        logs = [Path(str(log)).absolute() for log in job_info.job.log]  # of all jobs of a group
        if not msg.startswith(BY_SBATCH):
            for log in logs:
                Failure("executor", in_a_line(msg)).write(log)
            super()._report_job_error_threadsafe(job_info, msg)
            return
        words = in_a_line(msg.partition("    sbatch call:")[0].removeprefix(BY_SBATCH)).strip()
        if any(each in words.lower() for each in FOR_NOW):
            self.logger.warning(f"Slurm accepts no job now, trying again in {AGAIN_SECONDS:g} s: {words}")
            self._refused_for_now.add(id(job_info.job))
            return
        if self._is_over.is_set():
            return
        self._is_over.set()
        keys = [key for word, key in KEYS.items() if word in words.lower()]
        had = {name: job_info.job.resources.get(name) for name in ("slurm_account", "slurm_partition", "qos")}
        why = Failure(
            "executor",
            f"Slurm refused the job: {words} (asked for {json.dumps(had)})",
            Remedy(
                first=f"correct {keys[0] if keys else 'the resources'} in the profile, then rerun the command"
            ),
        )
        for log in logs:
            why.write(log)
        self.cancel_jobs(list(self.active_jobs))
        self.workflow.scheduler.executor_error_callback(WorkflowError(why.text))

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """Cancel jobs, and submit no more."""
        self._is_over.set()
        super().cancel_jobs(active_jobs)


class _Left:
    """A job, or the remaining jobs of a group: their products are missing or older than this command."""

    def __init__(self, job: Any, begun: float) -> None:
        self._job, self._begun = job, begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._job, name)

    def get_target_spec(self) -> Any:
        """Return rules and wildcards of the remaining jobs; of all jobs if none remains."""
        if not self._job.is_group():
            return self._job.get_target_spec()
        specs = zip(self._job.jobs, self._job.get_target_spec(), strict=True)
        return [spec for job, spec in specs if not self._is_made(job)] or self._job.get_target_spec()

    def _is_made(self, job: Any) -> bool:
        try:
            return all(Path(str(file)).stat().st_mtime >= self._begun for file in job.output)
        except FileNotFoundError:
            return False
