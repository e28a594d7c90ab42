"""What the rules share: the settings, the plan of each downlink, and the commands of their programs."""

import os
import shlex
import sys
import time
from functools import cache, wraps
from pathlib import Path

from snakemake.logging import logger
from snakemake.settings.enums import Quietness
from snakemake.settings.types import DeploymentMethod

from halfpipe import config as configuration
from halfpipe import paths
from halfpipe.downlink import plan_causes, stage_mark
from halfpipe.downlink.plan import Plan, expand, no_retdefs, refuse_closed
from halfpipe.errors import HalfPipeError
from halfpipe.files import leases
from halfpipe.files.advice import sentence
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.process.environment import look_for_garbage_seldom, without_idle_threads
from halfpipe.process.rule_program import GROUP_MAY_WRITE
from halfpipe.settings import Settings

# snakemake --lint looks at the rules, whatever the site; it alone asks for no environment variables.
LINTED = {"paths": {"work": "build/lint", "stage": "build/lint/stage"}}
MANY = 20  # downlinks of one command from which on `halfpipe process` is better
SETTINGS = "HALFPIPE_SETTINGS"  # where a job in Slurm, which reads the workflow anew, finds those of its head

os.umask(GROUP_MAY_WRITE)  # as its jobs have it: others of the group process downlinks here too
without_idle_threads()
look_for_garbage_seldom()


def tell(said):
    """Say what went wrong, and print it where Snakemake's own output does not."""
    logger.error(said)
    is_quiet = Quietness.ALL in (workflow.output_settings.quiet or ()) and not workflow.dryrun
    if is_quiet or all(handler.name != "DefaultStreamHandler" for handler in logger.handlers):
        print(said, file=sys.stderr)


def in_words(function):
    """Have an error of HalfPipe, or of the operating system, end the process with its sentence, whatever is quiet."""

    @wraps(function)
    def call(*arguments):
        try:
            return function(*arguments)
        except (HalfPipeError, OSError) as error:
            tell(f"error: {sentence(error) if isinstance(error, OSError) else error}")
            raise SystemExit(1) from error

    return call


@in_words
def read_settings():
    """Return the settings: without a config in a command those that another process of HalfPipe has written down."""
    given = workflow.config_settings
    is_given = bool(given.configfiles or given.config)
    if SETTINGS in os.environ and not (workflow.is_main_process and is_given):
        found = Settings.read(Path(os.environ[SETTINGS]))
        leases.check_head(found.paths.work)  # before Snakemake removes what others may have made since
        return found
    if not (workflow.check_envvars or is_given):
        return configuration.load([], LINTED)
    found = configuration.load(given.configfiles, given.config)
    stage_mark.refuse_delivery(found)
    refuse_closed(found.paths.work)
    return found


settings = read_settings()
os.environ[SETTINGS] = str(configuration.written_at(settings))
plan = Plan(settings)
refusals = {}  # why a target cannot be made, by downlink or misspelt word


@cache
def downlink(dl):
    """Return the plan of a downlink; the head takes its lease before it looks at any file.

    A downlink that is refused fails alone: its receipt waits for a job that fails with the reason.
    """
    of = plan.of(dl)
    if workflow.is_main_process:
        try:
            if is_head():
                leases.hold_downlink(settings, DownlinkId(dl), logger.info)
                of = plan.of(dl)
            plan_causes.report(of, logger.warning)
            if is_head():
                plan_causes.refuse_staging(of, is_forced=is_forced())
            elif not of.retdefs:  # a job would say so
                raise no_retdefs(of)
            workflow.dag.forcefiles.update(of.outdated)
        except (HalfPipeError, OSError) as error:
            refuse(dl, error)
            workflow.dag.forcefiles.add(paths.receipt(dl))
    return of


def refuse(target, error):
    """Have a target fail. The end of the command says why; a dry run, which has no such end, says it at once."""
    refusals[target] = error if isinstance(error, HalfPipeError) else HalfPipeError(sentence(error))
    if not is_head():
        tell(f"error: {refusals[target]}")


def of_downlink(files):
    """Return an input function: the files that a job needs of its downlink, or the job that fails for it."""

    def needed(wildcards):
        of = downlink(wildcards.dl)
        return paths.refused(wildcards.dl) if wildcards.dl in refusals else files(of, wildcards)

    return needed


@in_words
def requested(wildcards):
    """Return the targets of the config's downlinks, or else of all outstanding ones."""
    named = expand(settings, settings.dl)
    if len(named) >= MANY:
        all_of_them = f"halfpipe process {min(named)}..{max(named)}"
        logger.warning(f"{len(named)} downlinks: {all_of_them} processes them in batches, with fewer jobs")
    return [plan.target(dl) for dl in named or outstanding()]


def outstanding():
    """Return all outstanding downlinks, and say whether there are none and, in a dry run, which wait.

    Otherwise the end of the command says which wait.
    """
    found = plan_causes.outstanding(plan, time.time())
    for line in found.lines(plan.work) if not is_head() else ():
        logger.warning(line)
    if not (found.ready or found.held or found.waiting):
        where = ", ".join(map(str, plan.search)) or "the RetDef search path, which is empty (paths.retdef)"
        logger.warning(f"nothing is outstanding on {where}; to process one: snakemake dl=230401001")
    return [dl for dl in found.ready if leases.in_work(plan.work, dl) is None]


def program(name):
    """Return the command of a rule's program, as a function: braces in a path would be taken for wildcards.

    With ``--sdm conda`` the program runs in the environment of its rule, else in that of Snakemake itself.
    """

    def command(wildcards):
        in_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
        script = f"{workflow.basedir}/scripts/{name}.py"
        # The environment has what the package imports, and not the package.
        python = ["env", f"PYTHONPATH={workflow.basedir}/src", "python"] if in_conda else [sys.executable]
        return shlex.join([*python, script, "--settings", os.environ[SETTINGS]])

    return command
