"""The flight programs: the keys of a file such as config/flight.yaml, and one call of a program as they say.

The docstring below a key says what it means. A call has a working copy of its own, its output is passed on, and its end
is told as a shell would.
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
PLAIN = r"/[^,:\x00-\x1f]*"  # a path as it may stand in --bind
Bind = Annotated[str, Check(pattern=f"^{PLAIN}(:{PLAIN})?$")]
TIMED_OUT = 124  # as timeout(1)
SIGNALLED = 128  # and the signal's number, as a shell says it
GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL; Slurm leaves 30 s for all of it
LEFT_SECONDS = 2 * 86400.0  # no program is given as long


@dataclass(frozen=True)
class Call(Section):
    """A flight program: its command and its limit."""

    program: Annotated[tuple[Annotated[str, Check(pattern=r"^[^\x00]+$")], ...], Check(min_length=1)]
    """The words of the command as it is found inside the container; the options follow them."""
    seconds: Annotated[float, Check(gt=0, le=86400)]
    """After so many seconds the program is killed with everything that it started."""
    harmless: tuple[Text, ...] = ()
    """Beginnings of lines that may stand at the end of the output and mean no fault."""


@dataclass(frozen=True)
class Flight(Section):
    """How the flight programs are called."""

    runtime: Annotated[str, Check(pattern="^(none|(.*/)?(apptainer|singularity))$")]
    """apptainer or singularity, by name or path; none: the programs are started as they are."""
    decoder: Call
    """The decoder of a chunk."""
    magic7: Call | None = None
    """The program of attitude and orbit."""
    image: Place | None = None
    """The container's image, a file or a directory."""
    binds: tuple[Bind, ...] = ()
    """What the container sees of the machine: "source:target", or "path" for the same path on both sides. What is
    not listed does not exist inside."""
    optional_binds: tuple[Bind, ...] = ()
    """Binds that only some hosts can make, as /lscratch, which login hosts lack: each is left out where its source does
    not exist. A missing source in `binds` stops the runtime."""
    inside: Annotated[str, Check(pattern=f"^{PLAIN}$")] | None = "/halfpipe"
    """Where the container sees the working copy; one name, so that it is the same in every message. null: the path
    that it has outside."""
    environment: Mapping[
        Annotated[str, Check(pattern="^[A-Za-z_][A-Za-z0-9_]*$")],
        Annotated[str, Check(pattern=r'^[^,"\x00-\x1f]*$')],
    ] = field(default_factory=dict)
    """Variables for the programs. Of the caller's environment nothing else reaches them."""
    scratch: tuple[Text, ...] = ("LSCRATCH", "TMPDIR")
    """Where working copies lie: names of environment variables and paths; the first that is a directory in which one
    may write is taken. Without one, the machine's temporary directory."""

    @property
    def bare(self) -> bool:
        """Whether the programs are started without a container."""
        return self.runtime == NO_CONTAINER

    @property
    def binds_here(self) -> tuple[str, ...]:
        """The binds on this host: all of `binds`, and those of `optional_binds` whose source exists."""
        return (*self.binds, *(bind for bind in self.optional_binds if Path(bind.partition(":")[0]).exists()))

    def outside(self, path: str) -> Path | None:
        """Return where `path`, as the programs see it, lies on this machine; None if no bind leads there."""
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
        """See that the archive is there as the programs see it.

        The flight programs end with 0 when they find no packets, so a missing bind would pass for a chunk
        without events.

        Parameters
        ----------
        archive
            The level-0 archive that a program is told to read.
        source
            The settings file, for messages.

        Raises
        ------
        MissingInputError
            If it is not; names it and the settings file.
        """
        found = self.outside(archive)
        if found is None or not found.is_dir():
            raise MissingInputError(
                f"{archive}: the programs would see no such level-0 archive ({found or 'no bind leads to it'}). Have "
                f"it mounted, or correct binds in {source}; without a container the path must exist as it is named."
            )

    def seen_as(self, work: Path) -> PurePosixPath:
        """Return the path of a working copy as the programs see it."""
        return PurePosixPath(work if self.bare else self.inside or work)

    def command(self, call: Call, options: Sequence[str], work: Path) -> list[str]:
        """Return the whole command: runtime, binds, environment, image, program and options, word by word."""
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
        """Return the environment that the programs get, temporary directory included."""
        return {**self.environment, "TMPDIR": str(self.seen_as(work) / "tmp")}

    def process_environment(self, work: Path) -> dict[str, str]:
        """Return the environment of the process that is started: a bare program's, or the runtime's."""
        if not self.bare:
            return {**os.environ, "TMPDIR": str(work / "tmp")}
        kept = {name: os.environ[name] for name in ("HOME", "USER", "LOGNAME") if name in os.environ}
        return {"PATH": BARE_PATH, **kept, **self.variables(work)}


def load(path: Path) -> Flight:
    """Read a settings file.

    Raises
    ------
    ConfigError
        If it cannot be read, or a key or value in it cannot be used; names file, key, value and what was expected.
    """
    flight: Flight = config.checked(
        Flight, config.read_yaml(path), {(): str(path)}, "config/flight.yaml is an example with every key."
    )
    if not flight.bare and flight.image is None:
        raise ConfigError(
            f"{path}: image: {flight.runtime} needs one. Name the container's image, or set runtime: none."
        )
    return flight


def scratch_directory(names: Sequence[str]) -> Path:
    """Return the first of `names` (variables or paths) that is a directory to write in, or the system's."""
    for name in names:
        value = name if name.startswith("/") else os.environ.get(name, "")
        if value.startswith("/") and Path(value).is_dir() and os.access(value, os.W_OK | os.X_OK):
            return Path(value)
    return Path(tempfile.gettempdir())


@contextmanager
def working_copy(flight: Flight, label: str) -> Iterator[Path]:
    """Make a directory of one call's own on the scratch disk, with `out` and `tmp`, and remove it whatever happens.

    What SIGKILL has left is removed by later calls, when no program that works there can live any more.

    Parameters
    ----------
    flight
        Says where scratch is.
    label
        Tells in the directory's name what it is of.

    Raises
    ------
    OSError
        If it cannot be made.
    """
    scratch, prefix = scratch_directory(flight.scratch), f"halfpipe-{os.getuid()}-"
    for left in scratch.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):
            if left.lstat().st_uid == os.getuid() and left.lstat().st_mtime < time.time() - LEFT_SECONDS:
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
    hear: Callable[[str], object] = lambda _: None,
) -> int:
    """Run a program to its end or its limit, its output passed on as it comes.

    Parameters
    ----------
    flight, program, options
        What is started and its limit.
    work
        The working copy, where it is started.
    out, errors
        Take what it prints, unchanged and unbounded; without `errors` both its streams go to `out`.
    hear
        Is told every line of what goes to `out`.

    Returns
    -------
    int
        Its exit status as a shell says it. Of one that ended badly it is told why. Nothing of its process group lives
        any more.

    Raises
    ------
    DecoderError
        If it cannot be started.
    """
    words = flight.command(program, options, work)
    ending = run(
        words,
        work,
        _passed_on(out, hear),
        None if errors is None else _passed_on(errors, lambda _: None),
        seconds=program.seconds,
        grace=GRACE_SECONDS,
        environment=flight.process_environment(work),
        whole_group=True,
    )
    if ending.status is None:
        raise DecoderError(f"{words[0]}: {ending.how}. Check program in the settings.")
    if ending.well:
        return 0
    # The largest resident size of any process that was waited for: Linux counts it in KiB.
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    tell(
        f"the program {ending.how}, with all that it had started: at most {peak} MiB of memory were in use. Nothing of "
        "it was taken. If it only needs longer or more memory, raise that in the settings and the job."
    )
    if ending.late:
        return TIMED_OUT
    return ending.status if ending.status > 0 else SIGNALLED - ending.status


def _passed_on(to: IO[bytes], hear: Callable[[str], object]) -> Callable[[bytes], None]:
    """Return what passes a stream on as it comes, unchanged, and lets `hear` have its lines besides."""
    lines = Lines(lambda line: hear(line.decode(errors="replace")))

    def take(data: bytes) -> None:
        to.write(data)
        to.flush()
        lines(data)

    return take


def tell(message: str) -> None:
    """Print a line of our own to standard error, after all that the program printed."""
    sys.stdout.flush()
    sys.stderr.write(f"{Path(sys.argv[0]).stem}: {message}\n")
    sys.stderr.flush()


def wrapped(job: Callable[[], int]) -> int:
    """Run the whole of a wrapper: `job`, ended in order by a signal, its errors told in one line.

    Parameters
    ----------
    job
        Does everything and returns the exit status.

    Returns
    -------
    int
        Exit status: that of `job`, 1 after an error of ours. After a signal the process ends with 128 and its number.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, leave)
    try:
        return job()
    except (HalfPipeError, OSError) as error:
        tell(sentence(error) if isinstance(error, OSError) else str(error))
        return 1
