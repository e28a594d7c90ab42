"""What only the head does, the process that runs jobs: it hangs on how Snakemake 9.27 works inside.

These tests fail where a new Snakemake works otherwise:
- a receipt is forced for a RetDef that came later: test_dag.py, test_a_late_retdef_is_noticed_without_records
- leases are taken before files are looked at: test_concurrency.py, test_the_same_downlink_twice_at_once
- `onstart` comes before the first output is removed, so receipts are withdrawn in time: test_faults_short.py,
  test_a_head_that_dies_while_outputs_are_removed_leaves_no_receipt
- SIGTERM is noted while jobs are selected: test_concurrency.py, test_a_head_that_is_told_to_end_while_it_selects_jobs_ends
- no look at waiting jobs starts a timer: test_dag.py, test_the_head_starts_no_timers
- `ignore-incomplete` of profiles/default keeps what a killed head made: test_dag.py, head_killed_after_its_jobs
"""

import re
import signal
import threading
from dataclasses import replace

from halfpipe.downlink.stage_look import refuse_foreign
from halfpipe.run.receipt_file import withdraw
from halfpipe.errors import IdError
from halfpipe.files import working_directory
from halfpipe.ids import Downlinks
from halfpipe.process.failure import Failure
from halfpipe.settings import BUILT_IN
from halfpipe.status import failures, recap

AFTER_RECEIPT = {"ledger", "submit", "pictures"}  # rules that change nothing of what a receipt vouches for


def is_head():
    """Tell whether this process runs jobs: a dry run, a drawing or a job of another process does not."""
    return (
        workflow.is_main_process
        and workflow.executor_plugin is not None
        and not workflow.dryrun
        and not workflow.touch
    )


@in_words
def refuse_misspelt(wildcards):
    """Name the mistake in a target."""
    word = re.sub(r"^(dl|submit|pictures)=", "", wildcards.misspelt)
    Downlinks(word)
    if DownlinkId.matches(word):
        raise IdError(f"no target is called {word}: snakemake dl={word}")
    raise IdError(f"{word} is no target: snakemake --config dl={word}, or halfpipe process {word}")


def force_receipt(dl):
    """Have a receipt made again for a RetDef that came later.

    Snakemake's own records would say so too, but they do not outlive every crash.
    """
    workflow.dag.forcefiles.add(paths.receipt(dl))


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


def start_no_timers():
    """Have jobs looked for when one has ended, and not in each second once more for each time they were looked for.

    While jobs wait, each look at them starts a timer for the limit of 100 jobs a second, and each timer ends with a
    look: the head's time grows with the square of the jobs.
    """
    workflow.scheduler.job_rate_limiter = None


@in_words
def refuse_held():
    """Refuse jobs that a halt switch holds or that would stage over others, all at once, before anything is changed."""
    refused = {}
    for name, dl in jobs_to_run():
        try:
            if name in halts.HOLDS:
                halts.refuse(plan.work, halts.HOLDS[name], DownlinkId(dl))
                if halts.HOLDS[name] is halts.Switch.STAGE:
                    refuse_foreign(settings, DownlinkId(dl), downlink(dl).runs)
        except HalfPipeError as error:
            refused[str(error)] = error
    if refused:
        raise HalfPipeError("\n".join(refused))


@in_words
def begin_working_directory():
    """Make the mark of the working directory, if this is the first that is processed there, and look into the ledger."""
    working_directory.begin(plan.work)
    if settings.ledger.url not in {None, BUILT_IN}:
        # The library of the database takes a while to load.
        from halfpipe.ledger.check import refuse_delivery

        refuse_delivery(settings, {DownlinkId(dl) for name, dl in jobs_to_run()})


@in_words
def withdraw_receipts():
    """Remove the receipts of downlinks that have jobs to run, before Snakemake removes the first output."""
    for dl in {dl for name, dl in jobs_to_run() if name not in AFTER_RECEIPT}:
        leases.hold_downlink(
            plan.work, DownlinkId(dl), logger.info
        ).check()  # who has followed may have handed it off
        withdraw(plan.work, DownlinkId(dl))


def say_end():
    """Say what the downlinks of the invocation have now."""
    if is_head():
        of_dag = {DownlinkId(job.wildcards.dl) for job in workflow.dag.jobs if "dl" in job.wildcards.keys()}
        logger.info("\n".join(recap.standing(settings, of_dag)))


def unfinished():
    """Return the jobs that failed or run still; of a group (``--groups``) those that have not made their products."""
    found = set()
    for job in {*workflow.scheduler.failed, *workflow.scheduler.running}:
        if job.is_group():
            found |= {one for one in job.jobs if not all((plan.work / file).exists() for file in one.output)}
        else:
            found.add(job)
    return found


def say_failure():
    """Say the same, and last what failed and what to do: what Snakemake still says, our logger does not print."""
    if not is_head():
        return
    heard = workflow.logger_manager.get_log_handlers()
    ended = "ended by SIGTERM" if workflow.scheduler._user_kill else ""
    if any(getattr(each, "interrupted", False) for each in heard):
        ended = "ended by Ctrl-C"
    say_end()
    unsaid = Failure("interrupted", f"the job was {ended} before it had ended") if ended else failures.KILLED
    jobs = []
    for job in unfinished():
        one = failures.failed(job.rule.name, plan.work / str(job.log[0]), unsaid)
        if not one.why.command:
            one = replace(one, why=replace(one.why, command=job.shellcmd or ""))
        jobs.append(one)
    tell(f"\n{recap.recap(jobs, 'the same command', plan.work, ended)}")
