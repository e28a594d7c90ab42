"""What the rules share: settings, the plan of the downlinks asked for, and the locks on them."""

import json
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from halfpipe import config as configuration, locks, paths
from halfpipe.environment import put_first_on_path
from halfpipe.errors import HalfPipeError
from halfpipe.handoff import receipt
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.plan import Plan

ROOT = Path(workflow.basedir)

# The executor starts sbatch by its name, and a profile cannot set a path.
put_first_on_path(ROOT / "workflow" / "bin")

try:
    settings = configuration.resolve(config, ROOT)
except HalfPipeError as error:
    raise WorkflowError(str(error))

plan = Plan(settings.work, settings.retdef, settings.ignored)
seen = set()


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
        try:
            if is_head():
                locks.hold_downlink(settings.work, DownlinkId(wildcards.dl), logger.info)
            if workflow.is_main_process:
                for line in [*plan.of(wildcards.dl).complaints(), *plan.reissued(wildcards.dl)]:
                    logger.warning(line)
        except HalfPipeError as error:
            raise WorkflowError(str(error))
        seen.add(wildcards.dl)
    return plan.of(wildcards.dl)


def withdraw_receipts():
    """Remove the receipts of downlinks that have jobs to run, before Snakemake removes the first output."""
    for dl in {job.wildcards.dl for job in workflow.dag.needrun_jobs() if "dl" in job.wildcards.keys()}:
        try:
            receipt.withdraw(settings.work, DownlinkId(dl))
        except HalfPipeError as error:
            raise WorkflowError(str(error))


def requested(wildcards):
    """Return the receipts of the config's downlinks, or else of all outstanding ones."""
    try:
        wanted = settings.downlinks or outstanding()
    except HalfPipeError as error:
        raise WorkflowError(str(error))
    return [paths.receipt(dl) for dl in wanted]


def outstanding():
    """Return all outstanding downlinks, and say which wait and whether there are none."""
    found = plan.outstanding(
        now=time.time(), settle_seconds=settings.settle_seconds, most=settings.outstanding_max
    )
    in_work = {dl: who for dl in found.ready if (who := locks.in_work(settings.work, dl))}
    for line in [*found.waiting, *(f"downlink {dl} is in work: {who}" for dl, who in in_work.items())]:
        logger.warning(line)
    if not found.ready:
        where = (
            ", ".join(map(str, settings.retdef)) or "the RetDef search path, which is empty (paths.retdef)"
        )
        logger.warning(
            f"nothing is outstanding on {where}; to process a downlink, name it: snakemake dl=230401001"
        )
    return [dl for dl in found.ready if dl not in in_work]


def script(name):
    """Return the command that starts one of the project's programs."""
    return shlex.join([sys.executable, str(ROOT / "scripts" / f"{name}.py")])


def as_is(value):
    """Return a function that gives `value` whatever the wildcards: braces in a plain one would be some."""
    return lambda wildcards: value


def option(name, value):
    """Return an option for a program's command line, or nothing if there is no value."""
    return "" if value is None else shlex.join([name, str(value)])


def program(command):
    """Return the options that describe a program of the config and its archive."""
    return " ".join(
        [
            option("--command", command),
            option("--level0", settings.level0),
            option("--map", json.dumps(dict(settings.prefixes)) if settings.prefixes else None),
        ]
    ).strip()


WHERE = f"{option('--work', settings.work)} {option('--stage', settings.stage)}"
DECODER = f"{program(settings.decoder_command)} {option('--latc', settings.decoder_latc)}".strip()
