"""What the programs of the rules share: their options, their log, and how errors are told.

A job's log has everything, its first line the command that repeats the job by hand; the terminal gets
warnings and errors only, so that what is shouted is heard.
"""

import argparse
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from halfpipe.errors import HalfPipeError
from halfpipe.files import leases
from halfpipe.files.advice import advice
from halfpipe.ids import DownlinkId
from halfpipe.process import failure, usage
from halfpipe.settings import Settings

GROUP_MAY_WRITE = 0o002  # umask: several people and accounts process downlinks of one working directory

log = logging.getLogger("halfpipe")


def parser(description: str | None, *, downlink: bool = True) -> argparse.ArgumentParser:
    """Return a parser with what every job is given: settings, downlink and log."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--settings", type=Path, required=True, help="the file that snakemake has written")
    if downlink:
        parser.add_argument("--downlink", type=DownlinkId, required=True)
    parser.add_argument("--log", type=Path, help="log file; without one, everything goes to the terminal")
    return parser


def run(
    job: Callable[[Settings, argparse.Namespace, IO[str]], object],
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
) -> int:
    """Parse `argv` and run `job` with the settings; an error of ours ends it with status 1 and its message.

    What other programs print goes where the job's third argument says: into the log, or, without one, to the terminal.

    Returns
    -------
    int
        Exit status.
    """
    arguments = parser.parse_args(argv)
    output = _log_to(arguments.log)
    command = shlex.join([sys.executable, *(sys.argv if argv is None else [parser.prog, *argv])])
    if arguments.log is not None:
        failure.forget(arguments.log)
        log.info("%s", command)
    umask = os.umask(GROUP_MAY_WRITE)
    ended_by = signal.signal(signal.SIGTERM, leave)
    try:
        settings = Settings.read(arguments.settings)
        leases.lifetime = settings.lease.seconds
        with usage.recorded(arguments.log):
            job(settings, arguments, output)
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        why = failure.Failure.of(error, command)
        if arguments.log is not None:
            why.write(arguments.log)
        if isinstance(error, HalfPipeError):
            log.error("error: %s", error)
        elif isinstance(error, OSError):
            log.error("error: %s", why.text)
        elif isinstance(error, Exception):
            log.exception("error: this is a defect of the program, please report it with its log")
        else:
            raise
        return 1
    finally:
        os.umask(umask)
        if signal.getsignal(signal.SIGTERM) is leave:  # else it was told to end, and is told once
            signal.signal(signal.SIGTERM, ended_by)
        for handler in log.handlers[:]:
            log.removeHandler(handler)
            with suppress(OSError):
                handler.close()
    return 0


def leave(number: int, _frame: object) -> None:
    """Leave by the way of all errors, so that leases are given back and programs that we started are ended.

    The same signal again would cut that short: Slurm sends one to each process, and so do parents.
    """
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _log_to(path: Path | None) -> IO[str]:
    """Have our lines go to a log, and to the terminal what must be heard; return where programs print."""
    logging.raiseExceptions = False  # a full disk must not hide what the job itself has to say
    log.setLevel(logging.INFO)
    log.propagate = False
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING if path else logging.INFO)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(terminal)
    if path is None:
        return sys.stderr
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        # Appending: a job that was left behind may write there still.
        file = logging.FileHandler(path, mode="a", errors="backslashreplace")
    except OSError as error:
        log.warning("%s: there will be no log: %s. %s", path, error.strerror, advice(error))
        return sys.stderr
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    log.addHandler(file)
    return file.stream or sys.stderr
