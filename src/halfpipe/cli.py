"""What all command-line programs share: the log, and how errors are told.

A job's log has everything, its first line the command that repeats the job by hand; the terminal gets
warnings and errors only, so that what is shouted is heard.
"""

import argparse
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from halfpipe import usage
from halfpipe.config import Settings, load
from halfpipe.decoder import Program
from halfpipe.errors import HalfPipeError
from halfpipe.files import advice
from halfpipe.ids import DownlinkId, RunId

ROOT = Path(__file__).resolve().parents[2]  # of the checkout, where scripts/ and config/ are

GROUP_MAY_WRITE = 0o002  # umask: several people and accounts process downlinks of one working directory

log = logging.getLogger("halfpipe")


def run(
    job: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> int:
    """Parse `argv` and run `job`; an error of ours ends it with status 1 and its message, no traceback.

    Returns
    -------
    int
        Exit status.
    """
    arguments = parser.parse_args(argv)
    _log_to(getattr(arguments, "log", None))
    if getattr(arguments, "log", None) is not None:
        log.info("%s", shlex.join([sys.executable, *(sys.argv if argv is None else [parser.prog, *argv])]))
    umask = os.umask(GROUP_MAY_WRITE)
    ended_by = signal.signal(signal.SIGTERM, _end)
    try:
        with usage.recorded(getattr(arguments, "log", None)):
            return job(arguments)
    except HalfPipeError as error:
        log.error("error: %s", error)
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        log.error("error: %s%s. %s", place, error.strerror or error, advice(error))
        return 1
    except Exception:
        log.exception("error: this is a defect of the program, please report it with its log")
        return 1
    finally:
        os.umask(umask)
        signal.signal(signal.SIGTERM, ended_by)
        for handler in log.handlers[:]:
            log.removeHandler(handler)
            handler.close()


def _end(number: int, _frame: object) -> None:
    """Leave by the way of all errors, so that locks are given back and programs that we started are ended."""
    raise SystemExit(128 + number)


class _LogFile(logging.FileHandler):
    """A log file that cannot be written (a full disk) must not hide what the job itself has to say."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Pass over a line that cannot be written; warnings and errors stand on the terminal too."""

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):
            super().close()


def _log_to(path: Path | None) -> None:
    log.setLevel(logging.INFO)
    log.propagate = False
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.WARNING if path else logging.INFO)
    terminal.setFormatter(logging.Formatter("%(message)s"))
    log.addHandler(terminal)
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
            # Appending, as the programs do that share it: else each writes over what the other wrote.
            file = _LogFile(path, mode="a", errors="backslashreplace")
        except OSError as error:
            log.warning("%s: there will be no log: %s. %s", path, error.strerror, advice(error))
            return
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        log.addHandler(file)


@contextmanager
def output(path: Path | None) -> Iterator[IO[str]]:
    """Open the log for what other programs print, beside our own lines; without a log, the terminal."""
    if path is None:
        yield sys.stderr
    else:
        with path.open("a", errors="backslashreplace") as file:
            yield file


def job_parser(description: str, **options: Any) -> argparse.ArgumentParser:
    """Return a parser with the option ``--log`` that every job has."""
    parser = argparse.ArgumentParser(description=description, **options)
    parser.add_argument("--log", type=Path, help="log file; without one, everything goes to the terminal")
    return parser


def downlink_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for a job of one downlink."""
    parser = job_parser(description)
    parser.add_argument("--work", type=Path, required=True, help="paths.work")
    parser.add_argument("--downlink", type=DownlinkId, required=True)
    return parser


def add_decoder(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe the decoder."""
    add_program(parser)
    parser.add_argument("--latc", help="decoder.latc")


def add_downlinks(parser: argparse.ArgumentParser) -> None:
    """Add downlinks as arguments, for a program that else takes all of them."""
    parser.add_argument(
        "downlinks", nargs="*", type=downlink, help="230401001 or dl=230401001; none: all of them"
    )


def add_program(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe an external program of the config and where its archive lies."""
    parser.add_argument("--command", help="the command of the config; 'built-in' for the built-in program")
    parser.add_argument("--root", type=Path, default=ROOT, help="where the command is started")
    parser.add_argument("--level0", type=Path, help="paths.level0")
    parser.add_argument("--map", type=json.loads, default={}, help="paths.map, as JSON")


def program(arguments: argparse.Namespace, built_in: str) -> Program:
    """Return the program that the options of `add_program` describe; `built_in` is one of scripts/."""
    prefixes = tuple(sorted(arguments.map.items()))
    return Program(arguments.command, built_in, arguments.root, arguments.level0, prefixes)


def add_configfile(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--configfile``, as Snakemake has it."""
    parser.add_argument("--configfile", type=Path, nargs="+", default=[], help="as given to snakemake")


def settings(arguments: argparse.Namespace) -> Settings:
    """Return the settings that the defaults and the files of ``--configfile`` give."""
    return load(ROOT, arguments.configfile)


def downlink(text: str) -> DownlinkId:
    """Read a downlink as an argument: ``230401001``, or as the target ``dl=230401001``."""
    return DownlinkId(text.removeprefix("dl="))


def run_id(text: str) -> RunId:
    """Read a run as an argument: eight hex digits, or as Level-1 names it."""
    return RunId.from_l1(text) if text.startswith("r") else RunId(text)
