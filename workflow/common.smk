"""Common parts of the rules: the settings, the plan of each downlink, and the commands of their programs."""

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
from halfpipe.plan import plan_causes
from halfpipe.staging import stage_mark
from halfpipe.plan.outstanding import outstanding
from halfpipe.plan.plan import Plan, expand, no_retdefs, refuse_closed
from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.files import leases, working_directory
from halfpipe.files.advice import sentence
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.process.environment import look_for_garbage_seldom, without_idle_threads
from halfpipe.process.rule_program import GROUP_MAY_WRITE
from halfpipe.settings import ROOT, Settings

# snakemake --lint needs no site. It is recognized because it alone does not check environment variables.
LINTED = {"paths": {"work": "build/lint", "stage": "build/lint/stage"}}
MANY = 20  # downlinks; for this many, `halfpipe process` is better
SETTINGS = "HALFPIPE_SETTINGS"  # the settings of the head, for a Slurm job, which reads the workflow again

os.umask(GROUP_MAY_WRITE)  # as in its jobs, because other users of the group process downlinks, too
without_idle_threads()
look_for_garbage_seldom()


def report_error(text):
    """Log an error, and print it if Snakemake does not."""
    logger.error(text)
    is_quiet = Quietness.ALL in (workflow.output_settings.quiet or ()) and not workflow.dryrun
    if is_quiet or all(handler.name != "DefaultStreamHandler" for handler in logger.handlers):
        print(text, file=sys.stderr)


def in_words(function):
    """Print an error of HalfPipe or of the operating system in one sentence, also with ``--quiet``, and exit."""

    @wraps(function)
    def call(*arguments):
        try:
            return function(*arguments)
        except (HalfPipeError, OSError) as error:
            report_error(f"error: {sentence(error) if isinstance(error, OSError) else error}")
            raise SystemExit(1) from error

    return call


@in_words
def read_settings():
    """Return the settings of the command's config, or without a config those that another process has written."""
    if not workflow.modifier.is_main_snakefile():
        raise ConfigError(
            "HalfPipe's workflow cannot be a module of another: Snakemake ignores the onstart handler of a module, and "
            "this one withdraws receipts before their products change. Nothing was done. Instead, a rule of the other "
            f"workflow can run: snakemake --snakefile {ROOT}/Snakefile dl=230401001"
        )
    given = workflow.config_settings
    is_given = bool(given.configfiles or given.config)
    if SETTINGS in os.environ and not (workflow.is_main_process and is_given):
        found = Settings.read(Path(os.environ[SETTINGS]))
        leases.check_head(found.paths.work)  # before Snakemake removes files that another head has made
        return found
    if not (workflow.check_envvars or is_given):
        return configuration.load([], LINTED)
    found = configuration.load(given.configfiles, given.config)
    stage_mark.refuse(found)
    refuse_closed(found.paths.work)
    working_directory.refuse_unwritable(found.paths.work)
    return found


@in_words
def refuse_elsewhere():
    """Refuse another working directory, in which Snakemake would look for the products of jobs in `paths.work`.

    It may come from ``--directory``, or from a workflow that includes this one.
    """
    if Path.cwd() != plan.work.resolve():
        raise ConfigError(
            f"Snakemake's working directory is {Path.cwd()}, but paths.work is {plan.work}. Nothing was done. Omit "
            "--directory, or set paths.work in the config."
        )


settings = read_settings()
os.environ[SETTINGS] = str(configuration.written_at(settings))
plan = Plan(settings)
refusals = {}  # errors of targets that cannot be made, by downlink or misspelt word


@cache
def downlink(dl):
    """Return the plan of a downlink. The head takes the downlink's lease before it looks at any file.

    A refused downlink fails alone: its receipt depends on a job that fails with the reason.
    """
    of = plan.of(dl)
    if workflow.is_main_process:
        try:
            if is_head():
                leases.hold_downlink(settings, DownlinkId(dl), logger.info)
                of = plan.of(dl)
            of.refuse_closed()
            if is_head():
                plan_causes.refuse_staging(of, is_forced=is_forced())
            elif not of.retdefs:  # in a real run a job reports this
                raise no_retdefs(of)
            plan_causes.report(of, logger.warning)
            workflow.dag.forcefiles.update(of.outdated)
        except (HalfPipeError, OSError) as error:
            refuse(dl, error)
            workflow.dag.forcefiles.add(paths.receipt(dl))
    return of


def refuse(target, error):
    """Make a target fail. The reason is printed at the end of the command, or at once by a dry run."""
    refusals[target] = error if isinstance(error, HalfPipeError) else HalfPipeError(sentence(error))
    if not is_head():
        report_error(f"error: {refusals[target]}")


def chunks_for(of, run):
    """Return the chunks of a downlink that the delivery of a run waits for."""
    return of.chunks if decodes_all() else of.chunks_for(run)


def of_downlink(files):
    """Return an input function: the input files of a job, or for a refused downlink the job that fails."""

    def needed(wildcards):
        of = downlink(wildcards.dl)
        return paths.refused(wildcards.dl) if wildcards.dl in refusals else files(of, wildcards)

    return needed


@in_words
def requested(wildcards):
    """Return the targets of the downlinks in the config, or of all outstanding downlinks."""
    named = expand(settings, settings.dl)
    if len(named) >= MANY:
        all_of_them = f"halfpipe process {min(named)}..{max(named)}"
        logger.warning(f"{len(named)} downlinks: {all_of_them} processes them in batches, with fewer jobs")
    return [plan.target(dl) for dl in named or all_outstanding()]


def all_outstanding():
    """Return the outstanding downlinks that no process has in progress, and warn if nothing is outstanding.

    A dry run also prints which downlinks wait. Otherwise the end of the command does.
    """
    found = outstanding(plan, time.time())
    for line in found.lines(plan.work) if not is_head() else ():
        logger.warning(line)
    if not (found.ready or found.held or found.waiting):
        homes = ", ".join(map(str, settings.paths.retdef))
        where = homes or "the RetDef search path, which is empty (paths.retdef)"
        logger.warning(f"nothing is outstanding on {where}; to process one: snakemake dl=230401001")
    return [dl for dl in found.ready if leases.in_progress(plan.work, dl) is None]


def program(name):
    """Return the start of a rule's command. Braces are doubled, because single ones would be wildcards.

    With ``--sdm conda`` the program runs in the environment of its rule, otherwise in that of Snakemake.
    """
    in_conda = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method
    # The environment has the dependencies of the package, but not the package.
    python = ["env", f"PYTHONPATH={ROOT}/src", "python"] if in_conda else [sys.executable]
    script = f"{ROOT}/scripts/{name}.py"
    command = shlex.join([*python, script, "--settings", os.environ[SETTINGS]])
    return command.replace("{", "{{").replace("}", "}}")
