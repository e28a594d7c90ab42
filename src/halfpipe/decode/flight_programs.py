"""Calls of the flight programs, and the keys of their settings file, such as config/flight.yaml.

Each call has its own working copy. Its output is passed on, and its exit status is the one a shell would report.
"""

import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Annotated

from halfpipe import config
from halfpipe.errors import ConfigError, DecoderError, HalfPipeError, MissingInputError
from halfpipe.files.advice import sentence
from halfpipe.process.programs import Lines, run
from halfpipe.process.rule_program import leave
from halfpipe.settings import Check, Place, Section, Text

NO_CONTAINER = "none"
BARE_PATH = "/usr/local/bin:/usr/bin:/bin"
PLAIN = r"/[^,:\x00-\x1f]*"  # a path that is valid in --bind
Bind = Annotated[str, Check(pattern=f"^{PLAIN}(:{PLAIN})?$")]
TIMED_OUT = 124  # as timeout(1)
SIGNALLED = 128  # plus the number of the signal, as in a shell
GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL; Slurm allows 30 s in total
LEFTOVER_SECONDS = 2 * 86400.0  # longer than any program may run


@dataclass(frozen=True)
class Call(Section):
    """A flight program: its command and time limit."""

    program: Annotated[tuple[Annotated[str, Check(pattern=r"^[^\x00]+$")], ...], Check(min_length=1)]
    """The words of the command inside the container; the options are appended."""
    seconds: Annotated[float, Check(gt=0, le=86400)]
    """Time limit, after which the program and everything that it started are killed."""
    harmless: tuple[Text, ...] = ()
    """Beginnings of lines that are not errors, even at the end of the output."""


@dataclass(frozen=True)
class Flight(Section):
    """How the flight programs are called."""

    runtime: Annotated[str, Check(pattern="^(none|(.*/)?(apptainer|singularity))$")]
    """apptainer or singularity, by name or path; none: no container."""
    decoder: Call
    """The decoder of a chunk."""
    magic7: Call | None = None
    """The program that prints attitude and orbit."""
    image: Place | None = None
    """The container's image, a file or a directory."""
    binds: tuple[Bind, ...] = ()
    """Paths that exist inside the container: "source:target", or "path" for the same path on both sides. No other path
    of the machine exists inside."""
    optional_binds: tuple[Bind, ...] = ()
    """Binds that only some hosts can make: login hosts have no /lscratch. A bind without a source is left out.
    A missing source in `binds` stops the runtime."""
    inside: Annotated[str, Check(pattern=f"^{PLAIN}$")] | None = "/halfpipe"
    """Path of the working copy inside the container. It is fixed, so that messages are the same in each call. null:
    the path outside."""
    environment: Mapping[
        Annotated[str, Check(pattern="^[A-Za-z_][A-Za-z0-9_]*$")],
        Annotated[str, Check(pattern=r'^[^,"\x00-\x1f]*$')],
    ] = field(default_factory=dict)
    """Environment variables of the programs. The caller's are not passed on, except HOME, USER and LOGNAME."""
    scratch: tuple[Text, ...] = ("LSCRATCH", "TMPDIR")
    """Directories for working copies: names of environment variables, or paths. The first writable directory is used;
    without one, the temporary directory of the machine."""

    @property
    def bare(self) -> bool:
        """Whether the programs run without a container."""
        return self.runtime == NO_CONTAINER

    @property
    def binds_here(self) -> tuple[str, ...]:
        """The binds on this host: all of `binds`, and those of `optional_binds` whose source exists."""
        return (*self.binds, *(bind for bind in self.optional_binds if Path(bind.partition(":")[0]).exists()))

    def outside(self, path: str) -> Path | None:
        """Return the path on this machine for a `path` inside the container; None if no bind has it."""
        if self.bare:
            return Path(path)
        pairs = (bind.partition(":") for bind in self.binds_here)
        bound = {PurePosixPath(target or source): Path(source) for source, _, target in pairs}
        wanted = PurePosixPath(os.path.normpath(path))
        for target in (wanted, *wanted.parents):
            if target in bound:
                return bound[target] / wanted.relative_to(target)
        return None

    def check(self, archive: str, source: Path) -> None:
        """Check that the level-0 `archive` is visible to the programs.

        The programs exit with 0 if they find no packets, so a missing bind would look like a chunk without events.

        Parameters
        ----------
        archive
            The root of the archive, as a program gets it.
        source
            The settings file, for messages.

        Raises
        ------
        MissingInputError
            If the archive is not visible; the message names the archive and the settings file.
        """
        found = self.outside(archive)
        if found is None or not found.is_dir():
            raise MissingInputError(
                f"{archive}: no such level-0 archive for the programs ({found or 'no bind has this path'}). Mount the "
                f"archive, or correct binds in {source}. Without a container the path itself must exist."
            )

    def seen_as(self, work: Path) -> PurePosixPath:
        """Return the path of a working copy inside the container."""
        return PurePosixPath(work if self.bare else self.inside or work)

    def command(self, call: Call, options: Sequence[str], work: Path) -> list[str]:
        """Return the words of the command: runtime, binds, environment, image, program and options."""
        program = [*call.program, *options]
        if self.bare:
            return program
        words = [self.runtime, "exec", "--cleanenv"]
        for bind in (*self.binds_here, f"{work}:{self.seen_as(work)}"):
            words += ["--bind", bind]
        for name, value in self.variables(work).items():
            words += ["--env", f"{name}={value}"]
        return [*words, "--pwd", str(self.seen_as(work)), str(self.image), *program]

    def variables(self, work: Path) -> dict[str, str]:
        """Return the environment of the programs, with their temporary directory."""
        return {**self.environment, "TMPDIR": str(self.seen_as(work) / "tmp")}

    def process_environment(self, work: Path) -> dict[str, str]:
        """Return the environment of the process to start: the program itself, or the container runtime."""
        if not self.bare:
            return {**os.environ, "TMPDIR": str(work / "tmp")}
        kept = {name: os.environ[name] for name in ("HOME", "USER", "LOGNAME") if name in os.environ}
        return {"PATH": BARE_PATH, **kept, **self.variables(work)}


def load(path: Path) -> Flight:
    """Read a settings file.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a key or value is not valid; the message names it and what was expected.
    """
    flight: Flight = config.checked(
        Flight, config.read_yaml(path), {(): str(path)}, "config/flight.yaml is an example."
    )
    if not flight.bare and flight.image is None:
        raise ConfigError(
            f"{path}: image: missing, but {flight.runtime} needs it. Name the container's image, or set runtime: none."
        )
    return flight


def scratch_directory(names: Sequence[str]) -> Path:
    """Return the first writable directory among `names` (variables or paths), or the temporary directory."""
    for name in names:
        value = name if name.startswith("/") else os.environ.get(name, "")
        if value.startswith("/") and Path(value).is_dir() and os.access(value, os.W_OK | os.X_OK):
            return Path(value)
    return Path(tempfile.gettempdir())


@contextmanager
def working_copy(flight: Flight, label: str) -> Iterator[Path]:
    """Make a directory for one call on the scratch disk, with `out` and `tmp`, and remove it in the end.

    Later calls remove leftovers of killed calls that are so old that no program can still be using them.

    Parameters
    ----------
    flight
        Settings with the scratch directories.
    label
        Part of the directory's name.

    Raises
    ------
    OSError
        If the directory cannot be made.
    """
    scratch = scratch_directory(flight.scratch)
    prefix = f"halfpipe-{os.getuid()}-"
    for left in scratch.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):
            if left.lstat().st_uid == os.getuid() and left.lstat().st_mtime < time.time() - LEFTOVER_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(
        prefix=f"{prefix}{label}-", dir=scratch, ignore_cleanup_errors=True
    ) as name:
        for each in ("out", "tmp"):
            Path(name, each).mkdir()
        yield Path(name)


def call(
    flight: Flight,
    program: Call,
    options: Sequence[str],
    work: Path,
    *,
    out: IO[bytes],
    errors: IO[bytes] | None = None,
    on_line: Callable[[str], object] = lambda _: None,
) -> int:
    """Run a program to its end or its time limit, and pass its output on as it is printed.

    Parameters
    ----------
    flight, program, options
        The settings, the program, and its options.
    work
        The working copy, which is the current directory of the program.
    out, errors
        Get the output and the error output, unchanged and of any length; without `errors`, `out` gets both.
    on_line
        Called with every line of `out`.

    Returns
    -------
    int
        The exit status, as a shell reports it. If the program failed, the reason was printed. No process of its group
        is left.

    Raises
    ------
    DecoderError
        If the program cannot be started.
    """
    words = flight.command(program, options, work)
    ending = run(
        words,
        work,
        _pass_on(out, on_line),
        None if errors is None else _pass_on(errors),
        seconds=program.seconds,
        grace=GRACE_SECONDS,
        environment=flight.process_environment(work),
        whole_group=True,
    )
    if ending.status is None:
        raise DecoderError(f"{words[0]}: {ending.how}. Correct program in the settings.")
    if ending.well:
        return 0
    # The largest resident size of any child process that ended; Linux counts it in KiB.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    report(
        f"the program {ending.how}. Its peak memory was {peak} MiB. Its output was not used. If it only needs "
        "more time or memory, raise the limit in the settings and the job."
    )
    if ending.late:
        return TIMED_OUT
    return ending.status if ending.status > 0 else SIGNALLED - ending.status


def _pass_on(to: IO[bytes], on_line: Callable[[str], object] = lambda _: None) -> Callable[[bytes], None]:
    """Return a function that writes output to `to`, unchanged, and calls `on_line` with each line."""
    lines = Lines(lambda line: on_line(line.decode(errors="replace")))

    def write(data: bytes) -> None:
        to.write(data)
        to.flush()
        lines(data)

    return write


def report(message: str) -> None:
    """Print a message of the wrapper to standard error, after the output of the program."""
    sys.stdout.flush()
    sys.stderr.write(f"{Path(sys.argv[0]).stem}: {message}\n")
    sys.stderr.flush()


def wrapped(job: Callable[[], int]) -> int:
    """Run `job`, the whole work of a wrapper program; clean up after signals, and report errors in one line.

    Returns
    -------
    int
        Exit status: that of `job`, or 1 after an error. After a signal the process ends with 128 plus its number.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        return job()
    except (HalfPipeError, OSError) as error:
        report(sentence(error) if isinstance(error, OSError) else str(error))
        return 1
