"""What the rules share: settings, the plan of the downlinks asked for, and the leases on them."""

import os
import shlex
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.types import DeploymentMethod

from halfpipe import config as configuration
from halfpipe import paths
from halfpipe.downlink import halts, stage_mark
from halfpipe.downlink.plan import Plan, no_retdefs, refuse_closed
from halfpipe.downlink.ranges import expand
from halfpipe.downlink.submission_causes import warnings_before
from halfpipe.downlink.withdrawal import withdraw
from halfpipe.errors import HalfPipeError
from halfpipe.files import leases, working_directory
from halfpipe.ids import ChunkId, DownlinkId, Downlinks, RunId
from halfpipe.process.environment import look_for_garbage_seldom, put_first_on_path, without_idle_threads
from halfpipe.process.failure import Failure
from halfpipe.process.rule_program import GROUP_MAY_WRITE
from halfpipe.settings import BUILT_IN, Settings
from halfpipe.status import failures, recap
from halfpipe.tables import job_figures
from snakemake_logger_plugin_halfpipe import LogHandler

ROOT = Path(workflow.basedir)

os.umask(GROUP_MAY_WRITE)  # as its jobs have it: others of the group process downlinks here too
# The executor starts sbatch by its name, and a profile cannot set a path.
put_first_on_path(ROOT / "workflow" / "bin")
without_idle_threads()
look_for_garbage_seldom()

# What snakemake --lint looks at are rules, whatever the site.
LINTED = {"paths": {"work": "build/lint", "stage": "build/lint/stage"}}
SETTINGS = "HALFPIPE_SETTINGS"  # where a job in Slurm, which reads the workflow anew, finds those of its head

try:
    if SETTINGS in os.environ and not workflow.is_main_process:
        settings = Settings.read(Path(os.environ[SETTINGS]))
    else:
        given = workflow.config_settings
        forgotten = not given.configfiles and not given.config
        values = LINTED if forgotten and "--lint" in sys.argv else given.config
        settings = configuration.load(given.configfiles, values)
        if values is not LINTED:
            stage_mark.refuse_delivery(settings)
        refuse_closed(settings.paths.work)
except HalfPipeError as error:
    raise WorkflowError(str(error))

leases.lifetime = settings.lease.seconds
settings_file = configuration.written_at(settings)
os.environ[SETTINGS] = str(settings_file)
plan = Plan(settings)
invocation = job_figures.Invocation(plan.work)
seen = {}
hopeless = []  # targets of a dry run of which nothing can be made, in words

AFTER_RECEIPT = {"ledger", "submit", "pictures"}  # rules that change nothing of what a receipt vouches for


def is_head():
    """Tell whether this process runs jobs: a dry run, a drawing or a job of another process does not."""
    return (
        workflow.is_main_process
        and workflow.executor_plugin is not None
        and not workflow.dryrun
        and not workflow.touch
    )


def is_dry_run():
    """Tell whether this process lists jobs, to say what a real run would do."""
    return workflow.is_main_process and workflow.executor_plugin is not None and workflow.dryrun


def telling(log_provenance_info):
    """Return what Snakemake says last in a dry run, with the end that the real run would have: it ends well itself."""

    def log_and_tell():
        log_provenance_info()
        if hopeless:
            raise WorkflowError("\n".join(dict.fromkeys(hopeless)))

    return log_and_tell


def deleting(delete_output):
    """Return `delete_output` of Snakemake's workflow without what would remove receipts and vouchers."""

    def delete_temporary(only_temp=False, dryrun=False):
        if not only_temp:
            raise WorkflowError(
                "--delete-all-output would remove receipts, and what vouches for chunks and runs, and leave what was "
                "delivered without either. Nothing was removed. To free space: halfpipe cleanup --remove. To "
                "process a downlink again: snakemake -F dl=230401001"
            )
        return delete_output(only_temp=only_temp, dryrun=dryrun)

    return delete_temporary


workflow.log_provenance_info = telling(workflow.log_provenance_info)
workflow.delete_output = deleting(workflow.delete_output)


def is_misspelt(wildcards):
    """Return no input for what is no downlink; a dry run tells the mistake, as its job would."""
    if is_dry_run():
        try:
            Downlinks(wildcards.misspelt)
        except HalfPipeError as error:
            hopeless.append(str(error))
    return []


def downlink(wildcards):
    """Return the plan of a downlink. The head takes the downlink's lease before it looks at any file."""
    if wildcards.dl not in seen:
        try:
            if is_head():
                leases.hold_downlink(plan.work, DownlinkId(wildcards.dl), logger.info)
            if workflow.is_main_process:
                of = plan.of(wildcards.dl)
                of.refuse_closed()
                held = halts.notes(plan.work, of.downlink)
                again = warnings_before(settings, of.downlink, removes=is_head())
                for line in [*held, *of.complaints(), *of.news(), *plan.reissued(of.downlink), *again]:
                    logger.warning(line)
                if is_dry_run() and not of.retdefs:
                    hopeless.append(no_retdefs(of.downlink, plan.search))
                if of.new:
                    # Snakemake's own records would say so too, but they do not outlive every crash.
                    workflow.dag.forcefiles.add(paths.receipt(of.downlink))
        except HalfPipeError as error:
            raise WorkflowError(str(error))
        seen[wildcards.dl] = plan.of(wildcards.dl)
    return seen[wildcards.dl]


def jobs_to_run():
    """Return the rules and downlinks of the jobs that are to be run, each pair once."""
    jobs = workflow.dag.needrun_jobs()
    return sorted({(job.rule.name, job.wildcards.dl) for job in jobs if "dl" in job.wildcards.keys()})


def end_at_sigterm():
    """Have SIGTERM noted by a thread: Snakemake's handler waits for a lock that the thread it interrupts may hold.

    The scheduler holds it while it selects jobs, of thousands for a second at a time.
    """
    end = workflow.scheduler.exit_gracefully
    if signal.getsignal(signal.SIGTERM) == end:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=end).start())


def refuse_held():
    """Refuse jobs that a halt switch holds, all of them at once, before anything is changed."""
    said = []
    for name, dl in jobs_to_run():
        try:
            if name in halts.HOLDS:
                halts.refuse(plan.work, halts.HOLDS[name], DownlinkId(dl))
        except HalfPipeError as error:
            said.append(error)
    if said:
        raise WorkflowError("\n".join(dict.fromkeys(map(str, said)))) from said[0]


def begin_working_directory():
    """Make the mark of the working directory, if this is the first that is processed there, and look into the ledger."""
    try:
        working_directory.begin(plan.work)
        if settings.ledger.url not in {None, BUILT_IN}:
            from halfpipe.ledger.lacks import (
                refuse_delivery,
            )  # the library of the database takes a while to load

            refuse_delivery(settings, {DownlinkId(dl) for name, dl in jobs_to_run()})
    except HalfPipeError as error:
        raise WorkflowError(str(error))


def withdraw_receipts():
    """Remove the receipts of downlinks that have jobs to run, before Snakemake removes the first output."""
    for dl in {dl for name, dl in jobs_to_run() if name not in AFTER_RECEIPT}:
        try:
            leases.check_downlink(plan.work, DownlinkId(dl))  # who has followed may have handed it off
            withdraw(plan.work, DownlinkId(dl))
        except HalfPipeError as error:
            raise WorkflowError(str(error))


def say_end():
    """Say what the invocation has delivered, and what its downlinks have now."""
    if is_head():
        made = [str(file) for job in workflow.dag.finished_jobs for file in job.output]
        logger.info(invocation.delivered(made))
        of_dag = {DownlinkId(job.wildcards.dl) for job in workflow.dag.jobs if "dl" in job.wildcards.keys()}
        logger.info("\n".join(recap.standing(settings, of_dag)))


def say_failure(logs):
    """Say the same, and after all that Snakemake still says, what failed and what to do; `logs` are its own."""
    if not is_head():
        return
    heard = next(
        (each for each in workflow.logger_manager.get_log_handlers() if isinstance(each, LogHandler)), None
    )
    if heard is not None:
        heard.settle()
    ended = ""
    if heard is not None and heard.interrupted:
        ended = "ended by Ctrl-C"
    elif workflow.scheduler._user_kill:
        ended = "ended by SIGTERM"
    say_end()
    jobs = []
    for job in {*workflow.scheduler.failed, *workflow.scheduler.running}:
        unsaid = (
            Failure("interrupted", f"the job was {ended} before it had ended") if ended else failures.KILLED
        )
        one = failures.failed(job.rule.name, plan.work / str(job.log[0]), unsaid)
        if not one.why.command:
            one = replace(one, why=replace(one.why, command=job.shellcmd or ""))
        jobs.append(one)
    left, of = set(), {}
    for job in workflow.dag.needrun_jobs(exclude_finished=False):
        if "dl" in job.wildcards.keys():
            dl = DownlinkId(job.wildcards.dl)
            of[dl] = of.get(dl, 0) + 1
            left |= set() if workflow.dag.finished(job) else {dl}
    again = shlex.join(["snakemake", *sys.argv[1:]])
    text = recap.recap(jobs, {dl: of[dl] for dl in left}, again, plan.work, ended)
    recap.say_at_the_end(text, logs)


def requested(wildcards):
    """Return the targets of the config's downlinks, or else of all outstanding ones."""
    try:
        return [plan.target(dl) for dl in expand(settings, settings.dl) or outstanding()]
    except HalfPipeError as error:
        raise WorkflowError(str(error))


def ranges_asked():
    """Return the words of the command line that may be targets for several downlinks, as dl=2023-04-01.

    Which of them are Snakemake does not know yet; a rule that nobody asks for costs nothing.
    """
    return sorted({word for word in sys.argv[1:] if is_range(word)})


def is_range(target):
    """Tell whether a word stands for several downlinks; a target that only looks like that is misspelt."""
    kind, _, several = target.partition("=")
    try:
        return kind in {"dl", "submit"} and not DownlinkId.matches(several) and bool(Downlinks(several))
    except HalfPipeError:
        return False


def targets_of(target):
    """Return the function that gives the targets for which a range stands."""
    kind, _, several = target.partition("=")

    def targets(wildcards):
        try:
            return [f"{kind}={dl}" for dl in expand(settings, [several])]
        except HalfPipeError as error:
            raise WorkflowError(str(error))

    return targets


def outstanding():
    """Return all outstanding downlinks, and say which wait and whether there are none."""
    found = plan.outstanding(time.time())
    in_work = {dl: who for dl in found.ready if (who := leases.in_work(plan.work, dl))}
    busy = [f"downlink {dl} is in work: {who}" for dl, who in in_work.items()]
    for line in [*found.told, *found.waiting, *halts.summary(found.held), *busy]:
        logger.warning(line)
    if not found.ready and not found.held:
        where = ", ".join(map(str, plan.search)) or "the RetDef search path, which is empty (paths.retdef)"
        logger.warning(
            f"nothing is outstanding on {where}; to process a downlink, name it: snakemake dl=230401001"
        )
    return [dl for dl in found.ready if dl not in in_work]


def program(name):
    """Return the command that starts the program of a rule with the settings, as a parameter.

    In an environment that Snakemake deploys, with the environment's own Python, which has not got our package.
    Braces in a path would be taken for wildcards, so there it is a function that gives it. Elsewhere it is none:
    Snakemake calls one for every job, and looks its arguments up before each call.
    """
    deployed = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    python = ["env", f"PYTHONPATH={ROOT / 'src'}", "python"] if deployed else [sys.executable]
    command = shlex.join([*python, str(ROOT / "scripts" / f"{name}.py"), "--settings", str(settings_file)])
    return (lambda wildcards: command) if "{" in command else command
