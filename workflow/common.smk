"""What the rules share: settings, the plan of the downlinks asked for, and the locks on them."""

import json
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from halfpipe import config as configuration, halts, locks, paths
from halfpipe.environment import look_for_garbage_seldom, put_first_on_path, without_idle_threads
from halfpipe.errors import HalfPipeError
from halfpipe.handoff import receipt
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.plan import Plan
from halfpipe.reports import throughput

ROOT = Path(workflow.basedir)

# The executor starts sbatch by its name, and a profile cannot set a path.
put_first_on_path(ROOT / "workflow" / "bin")
without_idle_threads()
look_for_garbage_seldom()

try:
    settings = configuration.resolve(config, ROOT)
except HalfPipeError as error:
    raise WorkflowError(str(error))

plan = Plan(settings.work, settings.retdef, settings.ignored)
invocation = throughput.Invocation(settings.work)
seen = {}

AFTER_RECEIPT = {"ledger", "submit"}  # rules that change nothing of what a receipt vouches for


def is_head():
    """Tell whether this process runs jobs: a dry run, a drawing or a job of another process does not."""
    return (
        workflow.is_main_process
        and workflow.executor_plugin is not None
        and not workflow.dryrun
        and not workflow.touch
    )


def downlink(wildcards):
    """Return the plan of a downlink. The head takes the downlink's lock before it looks at any file."""
    if wildcards.dl not in seen:
        when = time.time()
        try:
            if is_head():
                locks.hold_downlink(settings.work, DownlinkId(wildcards.dl), logger.info)
            if workflow.is_main_process:
                held = halts.notes(settings.work, DownlinkId(wildcards.dl))
                for line in [*held, *plan.of(wildcards.dl).complaints(), *plan.reissued(wildcards.dl)]:
                    logger.warning(line)
            if is_head():
                plan.of(wildcards.dl).known.remember(when)
        except HalfPipeError as error:
            raise WorkflowError(str(error))
        seen[wildcards.dl] = plan.of(wildcards.dl)
    return seen[wildcards.dl]


def jobs_to_run():
    """Return the rules and downlinks of the jobs that are to be run, each pair once."""
    jobs = workflow.dag.needrun_jobs()
    return sorted({(job.rule.name, job.wildcards.dl) for job in jobs if "dl" in job.wildcards.keys()})


def refuse_held():
    """Refuse jobs that a halt switch holds, all of them at once, before anything is changed."""
    said = []
    for name, dl in jobs_to_run():
        try:
            if name in halts.HOLDS:
                halts.refuse(settings.work, halts.HOLDS[name], DownlinkId(dl))
        except HalfPipeError as error:
            said.append(str(error))
    if said:
        raise WorkflowError("\n".join(dict.fromkeys(said)))


def withdraw_receipts():
    """Remove the receipts of downlinks that have jobs to run, before Snakemake removes the first output."""
    for dl in {dl for name, dl in jobs_to_run() if name not in AFTER_RECEIPT}:
        try:
            receipt.withdraw(settings.work, DownlinkId(dl))
        except HalfPipeError as error:
            raise WorkflowError(str(error))


def say_throughput():
    """Say what the invocation has delivered."""
    if is_head():
        made = (str(file) for job in workflow.dag.finished_jobs for file in job.output)
        logger.info(invocation.delivered(made))


def requested(wildcards):
    """Return the targets of the config's downlinks, or else of all outstanding ones."""
    try:
        return [target(dl) for dl in settings.downlinks or outstanding()]
    except HalfPipeError as error:
        raise WorkflowError(str(error))


def target(dl):
    """Return how far a downlink goes that no target names: to its receipt, or to its submission."""
    if not settings.submit_automatic or halts.holding(settings.work, halts.Switch.L1, dl):
        return paths.receipt(dl)
    return paths.submitted(dl)


def outstanding():
    """Return all outstanding downlinks, and say which wait and whether there are none."""
    found = plan.outstanding(
        now=time.time(),
        settle_seconds=settings.settle_seconds,
        most=settings.outstanding_max,
        submitting=settings.submit_automatic,
    )
    in_work = {dl: who for dl in found.ready if (who := locks.in_work(settings.work, dl))}
    busy = [f"downlink {dl} is in work: {who}" for dl, who in in_work.items()]
    for line in [*found.waiting, *halts.summary(found.held), *busy]:
        logger.warning(line)
    if not found.ready and not found.held:
        where = (
            ", ".join(map(str, settings.retdef)) or "the RetDef search path, which is empty (paths.retdef)"
        )
        logger.warning(
            f"nothing is outstanding on {where}; to process a downlink, name it: snakemake dl=230401001"
        )
    return [dl for dl in found.ready if dl not in in_work]


def script(name, *words):
    """Return the command that starts one of the project's programs, with the words that all jobs have."""
    return shlex.join([sys.executable, str(ROOT / "scripts" / f"{name}.py"), *map(str, words)])


def as_is(value):
    """Return `value` as a parameter that is the same whatever the wildcards.

    Braces in it would be taken for wildcards, so there it is a function that gives it. Elsewhere it is none:
    Snakemake calls one for every job, and looks its arguments up before each call.
    """
    return (lambda wildcards: value) if "{" in value else value


def option(name, value):
    """Return the words of an option for a program's command line, none if there is no value."""
    return [] if value is None else [name, value]


def program(command):
    """Return the options that describe a program of the config and its archive."""
    prefixes = json.dumps(dict(settings.prefixes)) if settings.prefixes else None
    return [
        *option("--command", command),
        *option("--level0", settings.level0),
        *option("--map", prefixes),
    ]


# Words that all jobs of one kind share: one parameter, for Snakemake formats each anew for every job.
WHERE = ["--work", settings.work, "--stage", settings.stage]
DECODER = [*program(settings.decoder_command), *option("--latc", settings.decoder_latc)]
DELIVERY = [
    *["--policy", json.dumps(asdict(settings.policy))],
    *["--deliver-orphans", json.dumps(settings.deliver_orphans)],
    *option("--latc-override", settings.latc_override),
    *(["--without-context"] if settings.without_context else []),
    *option("--moot", settings.moot),
    *option("--ledger", settings.ledger_url if settings.moot_mapping else None),
    *option("--password-file", settings.ledger_password if settings.moot_mapping else None),
]
HANDOFF = [
    *["--config", json.dumps(settings.that_matter)],
    *option("--max-exceptions", settings.max_exceptions),
    *program(settings.magic7_command),
]
SUBMISSION = [*option("--command", settings.submit_command), *option("--check", settings.submit_check)]
LEDGER = [
    *option("--url", settings.ledger_url),
    *option("--password-file", settings.ledger_password),
    *option("--min-epus", settings.policy.min_epus),
    *option("--moot", settings.moot),
    *option("--moot-update", settings.moot_update),
]
