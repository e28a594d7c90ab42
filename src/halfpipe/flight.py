"""Calling the flight programs: in their container or bare, in a working copy, within limits.

What the two wrappers scripts/flight_decoder.py and scripts/flight_magic7.py share. No numpy here: the
address space limit of the program is in force for an instant in this process too, and has to leave room.
"""

import fcntl
import os
import re
import resource
import selectors
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import IO, Any

import yaml

from halfpipe.errors import ConfigError, DecoderError, HalfPipeError, MissingInputError
from halfpipe.files import in_the_way, replacing

NO_CONTAINER = "none"
TIMED_OUT = 124  # as timeout(1)
SIGNALLED = 128  # and the signal's number, as a shell says it
GRACE_SECONDS = 5.0  # between SIGTERM and SIGKILL; Slurm leaves 30 s for all of it
BARE_PATH = "/usr/local/bin:/usr/bin:/bin"
LONGEST_LINE = 4096  # bytes of a line that are looked at; what goes through is never cut
AT_A_TIME = 1 << 16  # bytes read from the program
PRODUCT_SUFFIXES = frozenset({".evt", ".idx"})
OUT_OF_MEMORY = re.compile(rb"bad_alloc|MemoryError|annot allocate memory|[Oo]ut of memory")
TERMINATION = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Bind:
    """A path of this machine and where the container has it."""

    source: Path
    target: PurePosixPath

    @classmethod
    def of(cls, text: str) -> "Bind":
        """Read ``source:target``, or a path that is the same on both sides."""
        source, _, target = text.partition(":")
        return cls(Path(source), PurePosixPath(target or source))

    @property
    def option(self) -> str:
        """The value of ``--bind``."""
        return f"{self.source}:{self.target}"


@dataclass(frozen=True)
class Call:
    """A flight program: the words of its command, and its limits.

    `seconds` is wall time, `memory` the address space in bytes or None; `harmless` are beginnings of
    lines that may end its output and mean no fault.
    """

    program: tuple[str, ...]
    seconds: float
    memory: int | None
    harmless: tuple[str, ...] = ()


@dataclass(frozen=True)
class Flight:
    """How the flight programs are called (a file such as config/flight.yaml)."""

    source: Path
    runtime: str
    image: Path | None
    binds: tuple[Bind, ...]
    inside: PurePosixPath | None
    environment: Mapping[str, str]
    scratch: tuple[str, ...]
    umask: int
    decoder: Call
    magic7: Call | None

    @property
    def bare(self) -> bool:
        """Whether the programs are started without a container."""
        return self.runtime == NO_CONTAINER

    def outside(self, path: str) -> Path | None:
        """Return where `path`, as the programs see it, lies on this machine; None if no bind leads there."""
        if self.bare:
            return Path(path)
        wanted = PurePosixPath(os.path.normpath(path))
        for bind in sorted(self.binds, key=lambda bind: -len(bind.target.parts)):
            if wanted.is_relative_to(bind.target):
                return bind.source / wanted.relative_to(bind.target)
        return None

    def check(self) -> None:
        """See that runtime, image and all sources of binds are there.

        Raises
        ------
        MissingInputError
            If one is not; names it and the settings file.
        """
        if self.bare:
            return
        if shutil.which(self.runtime) is None:
            raise MissingInputError(
                f"{self.source}: the runtime {self.runtime} is not on this machine. Load its module, name it by "
                "its path, or run where it is installed."
            )
        if self.image is None:
            raise ConfigError(
                f"{self.source}: image: {self.runtime} needs one. Name the container's image, or set runtime: none."
            )
        for what, path in [("image", self.image), *(("binds", bind.source) for bind in self.binds)]:
            if not path.exists():
                raise MissingInputError(
                    f"{self.source}: {what}: {path} is not there. Correct the path, or have it mounted."
                )

    def check_archive(self, archive: str) -> None:
        """See that the level-0 archive that a program is told to read is there as the program sees it.

        The flight programs end with 0 when they find no packets, so a missing bind would pass for a chunk
        without events.

        Raises
        ------
        MissingInputError
            If it is not; says what leads there and what does not.
        """
        found = self.outside(archive)
        if found is None:
            raise MissingInputError(
                f"{archive}: no bind leads to this level-0 archive, so it does not exist inside the container. "
                f"Add one to binds in {self.source}."
            )
        if not found.is_dir():
            raise MissingInputError(
                f"{archive}: no such level-0 archive here ({found}). Have it mounted, or correct binds in "
                f"{self.source}; without a container the path must exist as it is named."
            )

    def command(self, call: Call, options: Sequence[str], work: "WorkingCopy") -> list[str]:
        """Return the whole command: runtime, binds, environment, image, program and options, word by word."""
        program = [*call.program, *options]
        if self.bare:
            return program
        words = [self.runtime, "exec", "--cleanenv"]
        for bind in (*self.binds, work.bind):
            words += ["--bind", bind.option]
        for name, value in self.variables(work).items():
            words += ["--env", f"{name}={value}"]
        return [*words, "--pwd", str(work.seen), str(self.image), *program]

    def variables(self, work: "WorkingCopy") -> dict[str, str]:
        """Return the environment that the programs get, temporary directory included."""
        return {**self.environment, "TMPDIR": str(work.seen / "tmp")}

    def process_environment(self, work: "WorkingCopy") -> dict[str, str]:
        """Return the environment of the process that is started: a bare program's, or the runtime's."""
        if not self.bare:
            return {**os.environ, "TMPDIR": str(work.path / "tmp")}
        kept = {name: os.environ[name] for name in ("HOME", "USER", "LOGNAME") if name in os.environ}
        return {"PATH": BARE_PATH, **kept, **self.variables(work)}


def load(path: Path) -> Flight:
    """Read a settings file.

    Raises
    ------
    ConfigError
        If it cannot be read, or a key or value in it cannot be used; names the key.
    """
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - as the config: slow to import

    try:
        raw = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {error}") from error
    schema = yaml.safe_load((resources.files("halfpipe") / "schemas" / "flight.schema.yaml").read_text())
    errors = sorted(Draft202012Validator(schema).iter_errors(raw), key=lambda error: list(error.path))
    if errors:
        said = "; ".join(f"{'.'.join(map(str, e.absolute_path)) or 'the whole'}: {e.message}" for e in errors)
        raise ConfigError(f"{path}: cannot be used: {said}. config/flight.yaml is an example with every key.")
    return _flight(raw, path)


def _flight(raw: Mapping[str, Any], path: Path) -> Flight:
    inside = raw.get("inside", "/halfpipe")
    return Flight(
        source=path,
        runtime=raw["runtime"],
        image=Path(raw["image"]) if raw.get("image") else None,
        binds=tuple(Bind.of(text) for text in raw.get("binds", [])),
        inside=None if inside is None else PurePosixPath(inside),
        environment=raw.get("environment", {}),
        scratch=tuple(raw.get("scratch", ["LSCRATCH", "TMPDIR"])),
        umask=int(raw.get("umask", "0002"), 8),
        decoder=_call(raw["decoder"]),
        magic7=_call(raw["magic7"]) if "magic7" in raw else None,
    )


def _call(raw: Mapping[str, Any]) -> Call:
    memory = raw.get("memory_mib")
    return Call(
        program=tuple(raw["program"]),
        seconds=float(raw["seconds"]),
        memory=None if memory is None else memory << 20,
        harmless=tuple(raw.get("harmless", [])),
    )


@dataclass(frozen=True)
class WorkingCopy:
    """A directory of one call's own: `path` here, `seen` as the program sees it; below it `out` and `tmp`.

    The program inherits `lock`, so that nobody takes the directory for a leftover while the program lives.
    """

    path: Path
    seen: PurePosixPath
    lock: int

    @property
    def bind(self) -> Bind:
        """What makes it exist inside a container."""
        return Bind(self.path, self.seen)

    @property
    def out(self) -> Path:
        """Where products belong."""
        return self.path / "out"


def scratch_directory(names: Sequence[str]) -> Path:
    """Return the first of `names` (variables or paths) that is a directory to write in, or the system's."""
    for name in names:
        value = name if name.startswith("/") else os.environ.get(name, "")
        if value.startswith("/") and Path(value).is_dir() and os.access(value, os.W_OK | os.X_OK):
            return Path(value)
    return Path(tempfile.gettempdir())


@contextmanager
def working_copy(flight: Flight, label: str) -> Iterator[WorkingCopy]:
    """Make a working copy on the scratch disk, and remove it whatever happens.

    Working copies whose maker and program are dead (SIGKILL leaves them) are removed first.

    Parameters
    ----------
    flight
        Says where scratch is and how the container sees the working copy.
    label
        Tells in the directory's name what it is of.

    Raises
    ------
    HalfPipeError
        If it cannot be made; names the place and its owner.
    """
    scratch = scratch_directory(flight.scratch)
    prefix = f"halfpipe-{os.getuid()}-"
    _sweep(scratch, prefix)
    try:
        path, lock = _locked_directory(scratch, f"{prefix}{label}-")
        for name in ("out", "tmp"):
            (path / name).mkdir()
    except OSError as error:
        raise in_the_way(scratch, error) from error
    inside = path if flight.bare or flight.inside is None else flight.inside
    try:
        yield WorkingCopy(path, PurePosixPath(inside), lock)
    finally:
        _remove(path)
        os.close(lock)


def _locked_directory(scratch: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=scratch))
        with suppress(FileNotFoundError):
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # A sweep may have come between the two lines: then it has the lock's directory removed.
            if path.exists():
                return path, lock
            os.close(lock)


def _sweep(scratch: Path, prefix: str) -> None:
    for path in scratch.glob(f"{prefix}*"):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            if os.fstat(handle).st_uid == os.getuid():
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)
        except BlockingIOError:
            pass
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    """Remove a directory; what cannot be removed is named with its owner, and is nobody's failure."""
    for directory, names, _ in os.walk(path):
        for name in names:  # a program may have closed its own directories
            with suppress(OSError):
                entry = Path(directory, name)
                if not entry.is_symlink():
                    entry.chmod(stat.S_IRWXU)
    try:
        shutil.rmtree(path)
    except OSError as error:
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            tell(f"left behind: {in_the_way(Path(error.filename or path), error)}")


def tell(message: str) -> None:
    """Print a line of our own to standard error, after all that the program printed."""
    sys.stdout.flush()
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


@dataclass(frozen=True)
class Ended:
    """How a program ended: `status` as a shell says it, `why` it was no good end if one of us knows.

    `peak` is the largest resident size of any of its processes that was waited for, in bytes.
    """

    status: int
    why: str | None
    peak: int


class Stopped(BaseException):
    """Somebody wants this process to end: SIGTERM, SIGINT or SIGHUP."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def stopping() -> Iterator[None]:
    """Turn the first signal to end into `Stopped`, so that all that was begun is ended in order."""

    def stop(number: int, _frame: FrameType | None) -> None:
        for each in TERMINATION:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(number)

    before = [signal.signal(number, stop) for number in TERMINATION]
    try:
        yield
    finally:
        for number, handler in zip(TERMINATION, before, strict=True):
            signal.signal(number, handler)


@dataclass
class Lines:
    """Cuts a stream into lines and shows each to `watch`, its end cut off where it is very long."""

    watch: Callable[[bytes], None]
    rest: bytes = b""
    out_of_memory: bool = False

    def feed(self, data: bytes) -> None:
        """Take the next piece of the stream."""
        *lines, rest = (self.rest + data).split(b"\n")
        self.rest = rest[:LONGEST_LINE]
        for line in lines:
            self._show(line[:LONGEST_LINE])

    def finish(self) -> None:
        """Take the end of the stream."""
        if self.rest:
            self._show(self.rest)
            self.rest = b""

    def _show(self, line: bytes) -> None:
        if OUT_OF_MEMORY.search(line):
            self.out_of_memory = True
        self.watch(line)


def run(
    command: Sequence[str],
    work: WorkingCopy,
    environment: Mapping[str, str],
    call: Call,
    *,
    out: IO[bytes],
    errors: IO[bytes] | None,
    watch: Callable[[bytes], None],
) -> Ended:
    """Run a program to its end or its limit, its output passed on as it comes.

    Parameters
    ----------
    command, environment
        What is started, in the directory of `work`, in a process group of its own.
    work
        The working copy.
    call
        The limits.
    out, errors
        Take what it prints, unchanged and unbounded; without `errors` both its streams go to `out`.
    watch
        Sees every line of its output (of the first 4096 bytes).

    Returns
    -------
    Ended
        Nothing of its process group lives any more.

    Raises
    ------
    DecoderError
        If it cannot be started.
    """
    lines, error_lines = Lines(watch), Lines(lambda _line: None)
    process = _start(command, work, environment, call.memory, merged=errors is None)
    timed_out = False
    try:
        with selectors.DefaultSelector() as selector:
            for stream, to, cut in ((process.stdout, out, lines), (process.stderr, errors, error_lines)):
                if stream is not None and to is not None:
                    os.set_blocking(stream.fileno(), False)
                    selector.register(
                        stream, selectors.EVENT_READ, partial(_pass_on, stream.fileno(), to, cut)
                    )
            deadline = time.monotonic() + call.seconds
            timed_out = _pump(process, selector, deadline)
            _kill(process, at_once=not timed_out)
            # What is in the pipes still; something that left the group may hold them and print for ever.
            while _drain(selector, 0.0) and time.monotonic() < deadline + GRACE_SECONDS:
                pass
    finally:
        _kill(process, at_once=False)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    out.flush()
    lines.finish()
    error_lines.finish()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    starved = lines.out_of_memory or error_lines.out_of_memory
    return _ended(process.returncode, call, peak, timed_out=timed_out, starved=starved)


def _start(
    command: Sequence[str],
    work: WorkingCopy,
    environment: Mapping[str, str],
    memory: int | None,
    *,
    merged: bool,
) -> subprocess.Popen[bytes]:
    """Start a program; it inherits the limit that is in force here while it is started."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if memory is not None:
        lowest = min((bound for bound in (memory, hard) if bound >= 0), default=memory)
        resource.setrlimit(resource.RLIMIT_AS, (lowest, hard))
    try:
        return subprocess.Popen(
            command,
            cwd=work.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merged else subprocess.PIPE,
            bufsize=0,
            pass_fds=(work.lock,),
            start_new_session=True,
        )
    except OSError as error:
        raise DecoderError(
            f"{command[0]}: cannot be started: {error.strerror}. Check program in the settings."
        ) from error
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _pass_on(handle: int, to: IO[bytes], lines: Lines) -> bool:
    """Pass on what there is; return False at the end of the stream."""
    try:
        data = os.read(handle, AT_A_TIME)
    except BlockingIOError:
        return True
    to.write(data)
    lines.feed(data)
    return bool(data)


def _drain(selector: selectors.BaseSelector, timeout: float) -> bool:
    """Pass on one piece of each stream that has some; return whether there was any."""
    ready = selector.select(timeout) if selector.get_map() else []
    for key, _ in ready:
        if not key.data():
            selector.unregister(key.fileobj)
    return bool(ready)


def _pump(process: subprocess.Popen[bytes], selector: selectors.BaseSelector, deadline: float) -> bool:
    """Pass on the output until the program has ended; return whether its time was up before."""
    while not _has_ended(process):
        left = deadline - time.monotonic()
        if left <= 0:
            return True
        if selector.get_map():
            _drain(selector, min(left, 0.1))
        else:
            time.sleep(min(left, 0.02))
    return False


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a process has ended, and leave it unreaped: its group's number stays its own."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill(process: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """End a process group: SIGTERM, a moment of grace, SIGKILL; reap its leader. Once is enough."""
    if process.returncode is not None:
        return
    if not at_once and not _has_ended(process):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        until = time.monotonic() + GRACE_SECONDS
        while not _has_ended(process) and time.monotonic() < until:
            time.sleep(0.02)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ended(returncode: int, call: Call, peak: int, *, timed_out: bool, starved: bool) -> Ended:
    if timed_out:
        late = (
            f"the program was still running after {call.seconds:g} s and was killed with all that it had started. "
            "Nothing of it was taken. If it only needs longer, raise seconds in the settings."
        )
        return Ended(TIMED_OUT, late, peak)
    why: str | None = None
    status = returncode if returncode >= 0 else SIGNALLED - returncode
    limit = "no limit of its own" if call.memory is None else f"a limit of {call.memory >> 20} MiB"
    used = f"it had {limit} and at most {peak >> 20} MiB in use"
    if status == SIGNALLED + signal.SIGKILL:
        why = (
            f"the program was killed by SIGKILL, as Slurm and the kernel do when memory is used up ({used}). "
            "Give the job more memory and give the same command again."
        )
    elif status and starved:
        why = (
            f"the program died for want of memory ({used}). Raise memory_mib in the settings and the job's memory, "
            "then give the same command again."
        )
    elif status > SIGNALLED:
        why = f"the program was killed by signal {status - SIGNALLED}. Nothing of it was taken."
    elif status:
        why = f"the program ended with exit status {status}. Nothing of it was taken."
    return Ended(status, why, peak)


@dataclass
class Watch:
    """What the decoder said: which runs it works on, and whether it met an exception."""

    processing: set[str] = field(default_factory=set)
    exceptions: int = 0
    PROCESSING = re.compile(rb"getLSEChunk: processing ([0-9a-f]{8}-[0-9a-f]{8})-")
    EXCEPTION = re.compile(rb"\b(?:DFI|PktFile|PktRetriever) exception")

    def __call__(self, line: bytes) -> None:
        """See a line."""
        if match := self.PROCESSING.search(line):
            self.processing.add(match[1].decode())
        if self.EXCEPTION.search(line):
            self.exceptions += 1


@dataclass
class MagicWatch:
    """What DiagRet printed: attitude lines, and the last line, which is its fault if it is no data."""

    harmless: tuple[str, ...]
    attitudes: int = 0
    last: deque[bytes] = field(default_factory=lambda: deque(maxlen=1))
    DATA = re.compile(rb"\S+ \S+ (ATT|ORB|ANC|TT) ")

    def __call__(self, line: bytes) -> None:
        """See a line."""
        match = self.DATA.match(line)
        if match:
            self.attitudes += match[1] == b"ATT"
        if line.strip() and not line.startswith(tuple(text.encode() for text in self.harmless)):
            self.last.append(b"" if match else line.strip())

    def fault(self) -> str | None:
        """Say what is wrong with an output whose program ended with 0, if anything is.

        DiagRet catches any exception of the retrieval, prints its text and ends with 0; data that were
        printed before look like all there is.
        """
        if self.last and self.last[0]:
            return (
                f"the program ended with 0, but the last that it printed is no data: "
                f"{self.last[0].decode(errors='replace')[:500]!r}. So it does after an exception. If the line means "
                "nothing, put its beginning under magic7.harmless in the settings."
            )
        if not self.attitudes:
            return "the program ended with 0 and printed no attitude at all, and Level-1 needs some"
        return None


def wrapped(job: Callable[[], int], name: str) -> int:
    """Run the whole of a wrapper: `job`, ended in order by a signal, its errors told in one line.

    Parameters
    ----------
    job
        Does everything and returns the exit status.
    name
        What its messages begin with.

    Returns
    -------
    int
        Exit status: that of `job`, 1 after an error of ours, 128 and its number after a signal.
    """
    try:
        with stopping():
            return job()
    except Stopped as stop:
        tell(f"{name}: ended by signal {stop.number}: nothing was taken, nothing is left behind")
        return SIGNALLED + stop.number
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        tell(f"{name}: nobody reads the output any more: nothing was taken")
        return SIGNALLED + signal.SIGPIPE
    except HalfPipeError as error:
        tell(f"{name}: {error}")
        return 1


def check_products(work: WorkingCopy, watch: Watch) -> list[Path]:
    """Return the products of a decoder that ended with 0, all of them plain files in ``out``.

    Raises
    ------
    DecoderError
        If it wrote products elsewhere, or none of a run that it said it processed without an exception.
    """
    products = sorted(path for path in work.out.iterdir() if path.suffix in PRODUCT_SUFFIXES)
    for path in products:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise DecoderError(
                f"{path.name}: the decoder wrote no plain file under this name. {_NOTHING_TAKEN}"
            )
    strays = [
        Path(directory, name).relative_to(work.path)
        for directory, _, names in os.walk(work.path)
        for name in names
        if Path(name).suffix in PRODUCT_SUFFIXES and Path(directory) != work.out
    ]
    if strays:
        raise DecoderError(
            f"{min(strays)}: the decoder left {len(strays)} of its products in scratch and not in the output "
            f"directory. {_NOTHING_TAKEN}"
        )
    written = {path.name[:17] for path in products}
    if (missing := sorted(watch.processing - written)) and not watch.exceptions:
        raise DecoderError(
            f"{missing[0]}: the decoder said that it processed this ground id and run, met no exception, and "
            f"wrote nothing of it into the output directory. {_NOTHING_TAKEN}"
        )
    return products


_NOTHING_TAKEN = "Nothing of this chunk was taken. Mend the cause, then give the same command again."


def check_output_directory(out: Path) -> None:
    """See that products can be put into `out`, before a long decoding.

    Raises
    ------
    MissingInputError
        If it is no directory.
    HalfPipeError
        If one may not write there; names the owner.
    """
    probe = out / ".halfpipe-probe"
    try:
        there = stat.S_ISDIR(out.stat().st_mode)
        if there:
            probe.touch()
            probe.unlink()
    except FileNotFoundError:
        there = False
    except OSError as error:
        raise in_the_way(out, error) from error
    if not there:
        raise MissingInputError(f"{out}: is no directory. Make it, then give the same command again.")


def take(products: Sequence[Path], out: Path) -> None:
    """Copy products into `out`, each under its final name only when it is whole and on disk.

    Raises
    ------
    HalfPipeError
        If one cannot be written: the owner of what is in the way, or the cause.
    """
    for path in products:
        target = out / path.name
        try:
            with path.open("rb") as source, replacing(target) as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
        except HalfPipeError as error:
            if isinstance(error.__cause__, PermissionError):
                raise in_the_way(target, error.__cause__) from error
            raise
