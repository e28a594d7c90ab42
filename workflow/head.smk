"""The head, the process that runs jobs. This file depends on how Snakemake 9.27 works inside.

These tests fail if another Snakemake works differently:
- products that a late RetDef outdates are forced:
  `test_dag.py::test_a_late_retdef_makes_its_chunk_its_run_and_the_receipt_outstanding`
- leases are taken before files are looked at: `test_concurrency.py::test_a_second_head_of_a_downlink_is_refused`
- `onstart` comes before the first output is removed, so receipts are withdrawn in time:
  `test_faults.py::test_a_head_that_is_killed_while_it_removes_outputs_leaves_no_receipt`
- SIGTERM is noted while jobs are selected:
  `test_concurrency.py::test_a_head_that_is_terminated_while_it_selects_jobs_ends`
- options that would harm a site call a method of `REFUSED`:
  `test_options.py::test_each_option_is_right_or_refused_and_harms_no_books`
- `ignore-incomplete` of profiles/default keeps what a killed head made:
  `test_dag.py::test_a_head_that_was_killed_after_its_jobs_leaves_nothing_outstanding`
"""

import re
import signal
import threading

import snakemake_logger_plugin_halfpipe

from halfpipe.state.hand_offs import withdraw
from halfpipe.errors import ConfigError, IdError
from halfpipe.ids import Downlinks
from halfpipe.process.failure_record import Failure
from halfpipe.settings import BUILT_IN
from halfpipe.status import failed_jobs, recap

PARTS = {"decode_chunk", "deliver_run"}  # rules whose products the receipt names
AFTER_RECEIPT = {"ledger", "submit", "pictures"}  # rules that change nothing that a receipt names
# Methods that Snakemake calls for options that would harm a site, and what serves instead.
REFUSED = {
    "list_untracked": "--list-untracked is refused: it would list the records of all deliveries, because no rule "
    "declares them. To free space: halfpipe cleanup",
    "delete_output": "--delete-all-output and --delete-temp-output are refused: without its receipt a downlink is "
    "handed off again. To make its products again: snakemake dl=230401001 -F. To free space: halfpipe cleanup",
    "generate_unit_tests": "--generate-unit-tests is refused: its tests would run jobs of this site. HalfPipe's own "
    "tests run in the project's directory: make test",
    "archive": "--archive is refused: it would have no record of a delivery. To keep a site, back it up as in "
    "docs/operations.md. To keep the project: git archive HEAD",
}
MOST_WORDS = 8  # a longer command is not printed again
begun = [0.0]  # start of the first job, by the file server's clock


def is_head():
    """Tell whether this process runs jobs, unlike a dry run, a drawing or a job of another process."""
    return (
        workflow.is_main_process
        and workflow.executor_plugin is not None
        and not workflow.dryrun
        and not workflow.touch
    )


def refuse_harmful_options():
    """Replace the methods of `REFUSED`, before Snakemake calls them."""
    for method, why in REFUSED.items():
        setattr(workflow, method, lambda why=why, **_: refuse_option(why))


@in_words
def refuse_option(why):
    raise ConfigError(f"{why}. Nothing was done.")


@in_words
def refuse_without_policy():
    """Refuse a command without profiles/default, for which another workflow profile may have been given."""
    given = workflow.execution_settings
    if not (given.keep_incomplete and given.ignore_incomplete):
        raise ConfigError(
            "the policy of profiles/default is missing, so a failed job would remove what another command has made. "
            "Nothing was done. Omit --workflow-profile; the profile of a site goes after --profile."
        )


def decodes_all():
    """Tell whether the command line forces decoding of all chunks, each of which may then contain a new run."""
    given = workflow.dag_settings
    return bool(given.forceall or "decode_chunk" in (given.forcerun or ()))


def is_forced():
    """Tell whether the command line forces jobs with existing products."""
    given = workflow.dag_settings
    return bool(given.forceall or given.forcetargets or given.forcerun)


def refuse_misspelt(wildcards):
    """Note the mistake in a target, and return the job that fails."""
    word = re.sub(r"^(dl|submit|pictures)=", "", wildcards.misspelt)
    name = re.sub(r"[^\w=.-]", "_", wildcards.misspelt)  # braces would be wildcards
    try:
        Downlinks(word)
        if DownlinkId.matches(word):
            raise IdError(f"no target is called {word}: snakemake dl={word}")
        raise IdError(f"{word} is not a target: snakemake --config dl={word}, or halfpipe process {word}")
    except IdError as error:
        if name not in refusals:
            refuse(name, error)
    workflow.dag.forcefiles.add(wildcards.misspelt)  # a directory of this name may exist
    return paths.refused(name)


def jobs_to_run():
    """Return the rules and downlinks of the jobs that will run, each pair once."""
    jobs = (job for job in workflow.dag.needrun_jobs() if "dl" in job.wildcards.keys())
    return sorted({(job.rule.name, job.wildcards.dl) for job in jobs if job.wildcards.dl not in refusals})


def end_at_sigterm():
    """Handle SIGTERM in a thread: Snakemake's handler waits for a lock, which the interrupted thread may hold.

    The scheduler holds this lock while it selects jobs, with thousands of jobs for a second at a time.
    """
    end = workflow.scheduler.exit_gracefully
    if signal.getsignal(signal.SIGTERM) == end:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=end).start())


def start_no_timers():
    """Look for the next jobs only when a job has ended.

    Snakemake limits the jobs per second. After each look for jobs it starts a one-second timer, which causes another
    look, and a command waits for its last timer before it ends.
    """
    workflow.scheduler.job_rate_limiter = None


@in_words
def begin_working_directory():
    """Make the mark of a new working directory, write the settings for jobs, and check the ledger."""
    working_directory.begin(plan.work)
    begun[:] = [configuration.write_down(settings).stat().st_mtime]
    if settings.ledger.url not in {None, BUILT_IN}:
        # The library of the database takes a while to load.
        from halfpipe.ledger.check import refuse_delivery

        refuse_delivery(settings, {DownlinkId(dl) for name, dl in jobs_to_run()})


@in_words
def withdraw_receipts():
    """Remove the receipts of downlinks with jobs to run, before Snakemake removes the first output.

    A target may name a chunk or a run that its downlink does not have.
    """
    of_jobs = {dl for name, dl in jobs_to_run() if name not in AFTER_RECEIPT}
    for dl in of_jobs:
        downlink(dl)  # if a chunk is the target, no input function has checked its downlink yet
        if dl in refusals:
            raise refusals[dl]
    for job in workflow.dag.needrun_jobs():
        if job.rule.name in PARTS and job.wildcards.dl in of_jobs:
            downlink(job.wildcards.dl).refuse_unknown(job.output[0])
    for dl in of_jobs:
        leases.hold_downlink(
            settings, DownlinkId(dl), logger.info
        ).check()  # another process may have taken over and handed the downlink off
        withdraw(plan.work, DownlinkId(dl))


def say_end():
    """Print the state of the downlinks of this command."""
    if is_head():
        is_all = not settings.dl and any(job.rule.name == "outstanding" for job in workflow.dag.jobs)
        logger.info("\n".join(recap.standing(settings, of_this_command(), is_all=is_all)))


def of_this_command():
    """Return the downlinks of this command that were not refused."""
    of_dag = {job.wildcards.dl for job in workflow.dag.jobs if "dl" in job.wildcards.keys()}
    return sorted(DownlinkId(dl) for dl in of_dag - {*refusals})


def say_failure():
    """Print the same state, then the failures with their remedies. Our logger omits Snakemake's own summary."""
    if not is_head():
        return
    if of_this_command() or not refusals:
        say_end()
    ended = snakemake_logger_plugin_halfpipe.ended_by()
    unsaid = Failure("interrupted", f"the job was {ended}") if ended else failed_jobs.KILLED
    jobs = [failed_jobs.refused(plan.work, target, error) for target, error in refusals.items()]
    for dl in of_this_command():
        jobs += (job for job in failed_jobs.failed_jobs(plan.work, dl, unsaid) if job.ended >= begun[0])
    program, *words = sys.argv
    is_short = Path(program).name == "snakemake" and len(words) <= MOST_WORDS
    typed = shlex.join(["snakemake", *words]) if is_short else "the same command"
    report_error(f"\n{recap.recap(jobs, typed, plan.work, ended)}")
