"""Run `snakemake`, its jobs and the programs of the rules in this process.

The effects of the end of a process are imitated. Tests of killed processes, of concurrency, or of output streams start
real processes.
"""

import gc
import importlib.util
import io
import os
import runpy
import shlex
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache, partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from subprocess import Popen, run
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn
from unittest.mock import patch

from snakemake import cli, workflow
from snakemake.exceptions import SpawnedJobError
from snakemake.executors import local
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from halfpipe.files import heartbeat, leases
from halfpipe.process import programs

ROOT = Path(__file__).resolve().parents[2]
EXECUTOR = "in-process"  # the name of `Executor` in Snakemake's registry of plugins
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

SIMULATE, *SIMULATORS = (
    str(ROOT / "scripts" / f"{name}.py") for name in ("simulate", "simulated_decoder", "simulated_magic7")
)
NO_TEST_WAITS = 60  # seconds

common_settings = local.common_settings


def _become(main: Callable[[], object], words: Sequence[str]) -> NoReturn:
    """Run a program in a fork of this process, where its modules are already loaded, and exit."""
    status = 1
    try:
        os.closerange(3, 1024)  # the parent waits until one of them is closed
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        vars(sys)["argv"], vars(subprocess)["run"] = words, _run
        with (
            patch.object(sys, "stdin", open(0, closefd=False)),
            open(1, "w", closefd=False) as out,
            open(2, "w", closefd=False) as errors,
            redirect_stdout(out),
            redirect_stderr(errors),
        ):
            try:
                status = ended(main)
            except Exception:
                traceback.print_exc()
    finally:
        os._exit(status)


def _run(words: Sequence[str], *, check: bool = False, **keys: Any) -> Any:
    """Run a program to its end. The client's `find` never dies, so it runs in this process."""
    if words[0] != sys.executable or "find" not in words:
        return run(words, check=check, **keys)
    with patch.object(sys, "argv", words[1:]), redirect_stdout(io.StringIO()) as said:
        status = ended(module(words[1]).main)
    return subprocess.CompletedProcess(words, status, said.getvalue())


def _run_path(path: str) -> None:
    runpy.run_path(path, run_name="__main__")


def _popen(words: Sequence[str], **keys: Any) -> "subprocess.Popen[bytes]":
    """Start a program, or fork if it is in Python. A time limit that no test reaches is dropped."""
    named = words[3:] if words[0] == "timeout" and float(words[2]) > NO_TEST_WAITS else words
    is_file = named[0] == sys.executable and not named[1].startswith("-")
    if is_file and not (keys.get("env") or keys.get("start_new_session")):
        path, words = str(ROOT / named[1]), named
        main = module(path).main if path.startswith(str(ROOT)) else partial(_run_path, path)
        keys["preexec_fn"] = partial(_become, main, named[1:])
    return Popen(words, **keys)


programs.CLOSED_SECONDS = 0.001  # shorter than the product's, because most programs here end at once
vars(programs)["subprocess"] = SimpleNamespace(**(vars(subprocess) | {"Popen": _popen}))


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


# The parsed files of the workflow and their code stay the same while tests run, so they are made once.
_parse = workflow.parse
_parsed: dict[tuple[str, int], tuple[str, int, dict[int, int]]] = {}


def _parse_once(path: Any, of: Any, linemap: dict[int, int], **keys: Any) -> tuple[str, int]:
    key = path.get_path_or_uri(secret_free=True), keys["rulecount"]
    if key not in _parsed:
        _parsed[key] = *_parse(path, of, linemap, **keys), dict(linemap)
    code, rulecount, lines = _parsed[key]
    linemap.update(lines)
    return code, rulecount


workflow.parse = _parse_once
workflow.compile = cache(compile)


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


def snakemake(words: Sequence[str]) -> tuple[int, str]:
    """Run Snakemake in the project's root; return its exit status, and the output, including that of the jobs."""
    executor = [] if "-n" in words else ["--executor", EXECUTOR, "--scheduler", "greedy"]
    said = io.StringIO()
    with as_in_a_process(ROOT), redirect_stdout(said), redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files that Snakemake does not close
        with patch.object(sys, "argv", ["snakemake", *words]):
            status = ended(lambda: cli.main([*words, *executor]))
    return status, said.getvalue()


def ended(main: Any) -> int:
    """Run a program's `main`; return its exit status."""
    try:
        return int(main() or 0)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def called(main: Callable[[Sequence[str]], int], *words: object) -> "subprocess.CompletedProcess[str]":
    """Run a program's `main` with words; return its exit status and outputs as `subprocess.run` does."""
    out, errors, asked = io.StringIO(), io.StringIO(), [*map(str, words)]
    with redirect_stdout(out), redirect_stderr(errors):
        status = ended(lambda: main(asked))
    return subprocess.CompletedProcess(asked, status, out.getvalue(), errors.getvalue())


@contextmanager
def as_in_a_process(directory: Path) -> Iterator[None]:
    """Run a block in `directory`; then restore and release what the end of a process would."""
    here, environment, thresholds = Path.cwd(), dict(os.environ), gc.get_threshold()
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
