"""Run `snakemake` and its jobs in this process, because tests do so hundreds of times.

To process a small downlink with a typed command takes 2.5 seconds of processor time. Nearly all of it is spent on
starting Python and on importing: once for the head, and once for each job. Here it takes 0.13 seconds, like this:

1. `snakemake` calls the `main` of Snakemake's command line, with the words that an operator would type. It adds
   ``--executor in-process`` (unless the run is dry) and the simplest scheduler.
2. Snakemake finds the executor of this name in its registry of plugins, where this module is entered. The `Executor` is
   Snakemake's own for local jobs, but `run_single_job` calls `program` instead of starting a shell.
3. `program` splits the job's command, which is always ``python PATH WORDS``, and calls `main` of the program at PATH.
   Each program is loaded once (`module`). A warning in it is an error.
4. The head and each verb run in `as_in_a_process`, which does afterwards what the end of a process would: it releases
   the leases, and restores the directory, the environment, the umask and the handlers of signals.
5. The files of the workflow are parsed once (`_parse_once`), which is a fifth of the time without that.

Everything else is the product's own. The decoder and other programs that a job starts are processes, though forked ones
(`tests.support.forked`). Tests of killed processes, of concurrency, or of output streams start Snakemake as a process,
too (`Site.typed`), and so do all tests with the mark `workflow`.

**What this needs of Snakemake.** Public: `snakemake.cli.main`, the exception `SpawnedJobError`, and the registry and
the settings of `snakemake_interface_executor_plugins`. Not public, to look at first if a new release breaks the tests:

- `snakemake.executors.local`: `Executor` with its methods `run_single_job`, which returns a future of the job, and
  `job_args_and_prepare`, which removes the outputs of the last run and makes directories; and `common_settings`.
- `snakemake.workflow.parse`, called with the file, the workflow and the keywords `rulecount` and `linemap`; it returns
  the Python code and the count of rules. Without `_parse_once` all tests pass, and take longer.
"""

import gc
import importlib.util
import io
import os
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from snakemake import cli, workflow
from snakemake.exceptions import SpawnedJobError
from snakemake.executors import local
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from halfpipe.files import heartbeat, leases
from halfpipe.process import programs
from tests.support import forked
from tests.support.forked import ended

ROOT = Path(__file__).resolve().parents[2]
EXECUTOR = "in-process"  # the name of `Executor` in Snakemake's registry of plugins
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

SIMULATE, *SIMULATORS = (
    str(ROOT / "scripts" / f"{name}.py") for name in ("simulate", "simulated_decoder", "simulated_magic7")
)

common_settings = local.common_settings
programs.CLOSED_SECONDS = 0.001  # shorter than the product's, because most programs here end at once


class Executor(local.Executor):  # type: ignore[misc]
    """Runs jobs one after the other, each by the `main` of its program."""

    def run_single_job(self, job: Any) -> "Future[None]":
        self.job_args_and_prepare(job)
        done: Future[None] = Future()
        if job.shellcmd and program(job.shellcmd):
            done.set_exception(SpawnedJobError())  # the program printed its reason
        else:
            done.set_result(None)
        return done


ExecutorPluginRegistry().register_plugin(EXECUTOR, sys.modules[__name__])


# The files of the workflow stay the same while tests run, so each is parsed once.
_parse = workflow.parse
_parsed: dict[tuple[str, int], tuple[str, int, dict[int, int]]] = {}


def _parse_once(path: Any, of: Any, linemap: dict[int, int], **keys: Any) -> tuple[str, int]:
    key = str(path.get_path_or_uri(secret_free=True)), keys["rulecount"]
    if key not in _parsed:
        code, rulecount = _parse(path, of, linemap, **keys)
        _parsed[key] = code, rulecount, dict(linemap)
    code, rulecount, lines = _parsed[key]
    linemap.update(lines)
    return code, rulecount


workflow.parse = _parse_once


def program(command: str) -> int:
    """Run one of the project's programs, as ``python PATH WORDS``; return its exit status."""
    _, path, *words = shlex.split(command)
    with patch.object(sys, "argv", [path, *words]), warnings.catch_warnings():
        warnings.simplefilter("error")
        # An earlier command of Snakemake leaves this, and the collector may find it now.
        warnings.filterwarnings("ignore", "Implicitly cleaning up .*snakemake-runtime-cache", ResourceWarning)
        return ended(module(path).main)


@cache
def module(path: str) -> ModuleType:
    name = f"scripts.{Path(path).stem}"
    spec = importlib.util.spec_from_file_location(name, path, loader=SourceFileLoader(name, path))
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def main_of(path: str) -> Callable[[], object] | None:
    """Return the `main` of a program of the project, by its path from the project's root; None if it is not one."""
    whole = str(ROOT / path)
    return module(whole).main if whole.startswith(str(ROOT)) else None


forked.install(main_of, SIGNALS)


def snakemake(words: Sequence[str]) -> tuple[int, str]:
    """Run Snakemake in the project's root; return its exit status, and the output, including that of the jobs."""
    executor = [] if "-n" in words else ["--executor", EXECUTOR, "--scheduler", "greedy"]
    said = io.StringIO()
    with as_in_a_process(ROOT), redirect_stdout(said), redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files that Snakemake does not close
        with patch.object(sys, "argv", ["snakemake", *words]):
            status = ended(lambda: cli.main([*words, *executor]))
    return status, said.getvalue()


def called(main: Callable[[Sequence[str]], int], *words: object) -> "subprocess.CompletedProcess[str]":
    """Run a program's `main` with words; return its exit status and outputs as `subprocess.run` does."""
    out = io.StringIO()
    errors = io.StringIO()
    asked = [*map(str, words)]
    with redirect_stdout(out), redirect_stderr(errors):
        status = ended(lambda: main(asked))
    return subprocess.CompletedProcess(asked, status, out.getvalue(), errors.getvalue())


@contextmanager
def as_in_a_process(directory: Path) -> Iterator[None]:
    """Run a block in `directory`; then restore and release what the end of a process would."""
    here = Path.cwd()
    environment = dict(os.environ)
    thresholds = gc.get_threshold()
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    mask = os.umask(0)
    os.umask(mask)
    hearts = dict(heartbeat.hearts)  # of a process around this one
    heartbeat.hearts.clear()
    os.chdir(directory)
    try:
        yield
    finally:
        leases.release_downlinks()
        heartbeat.hearts.update(hearts)
        os.chdir(here)
        if os.environ != environment:
            os.environ.clear()
            os.environ.update(environment)
        gc.set_threshold(*thresholds)
        os.umask(mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
