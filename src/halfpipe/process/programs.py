"""Programs of others, run to their end: what they print is handed on, and how they end is put into words.

All are started here: decoder, magic-7, the commands that talk to Level-1, to Online and to MOOT, and the flight
programs behind the decoder's contract.
"""

import logging
import os
import selectors
import shlex
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from halfpipe.files.advice import FULL
from halfpipe.process.failure import by_signal, printable

GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL
HELD_SECONDS = 5.0  # how long something that outlives a program may hold its output open
LOOK_SECONDS = 0.1  # between two looks whether a program lives that prints nothing,
CLOSED_SECONDS = 0.02  # and that has closed its outputs
AT_A_TIME = 1 << 16  # bytes that are read at once
LINE_LIMIT = 1 << 16  # bytes; a line that is longer is heard in pieces
LOG_BYTES = 32 << 20  # of a program's output, that its log takes
LINES_SAID, LETTERS_SAID = 5, 500  # of the last that a program printed, for a message

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """How a program ended.

    Parameters
    ----------
    how
        In words, to follow its name: ``ended with exit status 3``, ``cannot be started: No such file``.
    status
        Its exit status, below 0 the signal that killed it, None if it could not be started.
    late
        Whether it was ended because its time was up.
    words, said
        The command, and the last lines that its log was given.
    """

    how: str
    status: int | None
    late: bool = False
    words: Sequence[str] = ()
    said: Sequence[str] = ()

    @property
    def well(self) -> bool:
        """Whether it did what it was asked for."""
        return self.status == 0 and not self.late

    @property
    def found_a_disk_full(self) -> bool:
        """Whether it said that a disk is full or a quota used up."""
        return any(os.strerror(number) in line for number in FULL for line in self.said)

    @property
    def shown(self) -> str:
        """The command and its last lines, for a message."""
        said = [f"  | {line}" for line in self.said or ["(none)"]]  # not ours, whatever it says
        return "\n".join([shlex.join(self.words), "Its last lines were:", *said, ""])

    @property
    def saying(self) -> str:
        """How it ended, and the last line that it printed."""
        last = next((line for line in reversed(self.said) if line.strip()), "")
        return f'{self.how}, saying: "{last}"' if last else self.how


def run(
    words: Sequence[str],
    root: Path,
    out: Callable[[bytes], None],
    errors: Callable[[bytes], None] | None = None,
    *,
    seconds: float | None = None,
    grace: float = GRACE_SECONDS,
    environment: Mapping[str, str] | None = None,
    whole_group: bool = False,
    stdin: IO[bytes] | None = None,
) -> Ending:
    """Run a program to its end, and hand on what it prints as it comes.

    It is ended if we are told to end meanwhile. Something that it started and that outlives it with its output
    open is waited for `HELD_SECONDS`, and left alone with a warning.

    Parameters
    ----------
    words, root
        What is started, without a shell, and where.
    out, errors
        Take pieces of its standard output and error, at the end an empty one, such as `Log` and `Lines`; without
        `errors`, `out` takes both. What they raise ends the program.
    seconds
        How long it may take; None, as long as it wants.
    grace
        Seconds between SIGTERM and SIGKILL, where it has to be ended.
    environment
        Its environment; None, ours.
    whole_group
        Whether all that it started is ended with it, at a good end too.
    stdin
        The file that is its standard input; None, it has none.

    Returns
    -------
    Ending
        Its end. It is never an error here.
    """
    sinks = (out,) if errors is None else (out, errors)
    try:
        process = subprocess.Popen(
            words,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if errors is None else subprocess.PIPE,
            bufsize=0,
            start_new_session=whole_group,
        )
    except OSError as error:
        return Ending(f"cannot be started: {error.strerror}", None, words=words)
    with process, selectors.DefaultSelector() as streams:
        for stream, sink in zip((process.stdout, process.stderr), sinks, strict=False):
            assert stream is not None
            streams.register(stream, selectors.EVENT_READ, sink)
        try:
            try:
                late = not _handed_on(streams, seconds, process)
                if late:
                    send(process, signal.SIGTERM, whole_group)
                    _handed_on(streams, grace, process)
            except BaseException:
                send(process, signal.SIGTERM, whole_group)
                with selectors.DefaultSelector() as none:  # nobody takes its output any more
                    _handed_on(none, grace, process)
                raise
            finally:
                send(process, signal.SIGKILL, whole_group)
                process.wait()
            if not _handed_on(streams, HELD_SECONDS):
                _log.warning(
                    "%s has ended, but something that it started holds its output open. HalfPipe does not wait "
                    "for it, and what it prints from now on is lost.",
                    shlex.join(words),
                )
        finally:
            for sink in sinks:
                sink(b"")
    status = process.returncode
    how = f"was {by_signal(-status)}" if status < 0 else f"ended with exit status {status}"
    if late:
        how = f"was still running after {seconds:g} s and was ended"
    said = next((sink.said for sink in sinks if isinstance(sink, Log)), ())
    return Ending(how, status, late, words, said)


def _handed_on(
    streams: selectors.BaseSelector, seconds: float | None, process: subprocess.Popen[bytes] | None = None
) -> bool:
    """Hand on what a program prints until it has ended, without one until all is closed; False if that takes longer."""
    until = None if seconds is None else time.monotonic() + seconds
    while streams.get_map() if process is None else not _has_ended(process):
        pause = LOOK_SECONDS if streams.get_map() else CLOSED_SECONDS
        left = pause if until is None else min(until - time.monotonic(), pause)
        if left <= 0:
            return False
        for key, _ in streams.select(left):
            if data := os.read(key.fd, AT_A_TIME):
                key.data(data)
            else:
                streams.unregister(key.fileobj)
    return True


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether a program has ended, and leave it unreaped: nobody else gets the number of its group."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def send(process: subprocess.Popen[bytes], number: signal.Signals, whole_group: bool) -> None:
    """Send a signal to a program that is not reaped yet, or to its group; nothing if nothing of it lives."""
    kill = os.killpg if whole_group else os.kill  # Popen's own way would reap it
    with suppress(ProcessLookupError):
        kill(process.pid, number)


class Lines:
    """Cuts what a program prints into lines, each with its end, and lets `hear` have them.

    Lines end as Python's universal newlines do; one longer than `LINE_LIMIT` comes in pieces.
    """

    def __init__(self, hear: Callable[[bytes], object]) -> None:
        self._hear = hear
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        """Take the next piece; an empty one is the end."""
        lines = (self._rest + data).splitlines(keepends=True)
        self._rest = b""
        # A carriage return at the end may be the first half of a line's end.
        if data and not lines[-1].endswith(b"\n") and len(lines[-1]) < LINE_LIMIT:
            self._rest = lines.pop()
        for line in lines:
            self._hear(line)


class Log:
    """Takes what a program prints into a log, made printable: the first `LOG_BYTES`; the last lines are `said`.

    A log that cannot be written is no failure of the program: what it prints is lost then, with a warning.

    Parameters
    ----------
    file
        The log.
    hear
        Is told each line, as text that ends as lines of text do.
    """

    def __init__(self, file: IO[str], hear: Callable[[str], object] = lambda _: None) -> None:
        self._file, self._hear = file, hear
        self._lines = Lines(self._take)
        self._fitting = ""  # of the latest piece
        self._size = 0  # bytes
        self._said: deque[str] = deque(maxlen=LINES_SAID)

    @property
    def said(self) -> tuple[str, ...]:
        """The last lines that the log was given, without their ends."""
        return tuple(self._said)

    def __call__(self, data: bytes) -> None:
        """Take the next piece; an empty one is the end."""
        self._lines(data)
        text, self._fitting = self._fitting, ""
        try:
            if text:
                self._file.write(text)
                self._file.flush()
        except OSError as error:
            self._size = LOG_BYTES + 1
            _log.warning("the log takes no more: %s. What the program prints is lost.", error.strerror)

    def _take(self, line: bytes) -> None:
        end = "\n" if line.endswith((b"\r", b"\n")) else ""
        text = printable(line.decode(errors="replace").rstrip("\r\n")) + end
        self._hear(text)
        self._said.append(text.rstrip()[:LETTERS_SAID])
        if self._size <= LOG_BYTES:
            self._size += len(line)
            full = f"halfpipe: the program has printed {LOG_BYTES >> 20} MiB, the log takes no more of it.\n"
            self._fitting += text if self._size <= LOG_BYTES else full
