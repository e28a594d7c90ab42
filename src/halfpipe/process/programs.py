"""External programs: run them, pass their output on, and describe how they end.

All of them are started here: decoder, magic-7, the commands for Level-1, Online and MOOT, and the flight programs.
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
from subprocess import Popen
from typing import IO

from halfpipe.files.advice import FULL
from halfpipe.process.failure_record import by_signal, printable

GRACE_SECONDS = 10.0  # between SIGTERM and SIGKILL
HELD_SECONDS = 5.0  # time for which a child that outlives its program may keep the output open
LOOK_SECONDS = 0.1  # between two checks whether a silent program is still running,
CLOSED_SECONDS = 0.02  # and the same for one that has closed its outputs
AT_A_TIME = 1 << 16  # bytes that are read at once
LINE_LIMIT = 1 << 16  # bytes; a longer line comes in pieces
LOG_BYTES = 32 << 20  # most bytes of a program's output in its log
LINES_SAID = 5  # last lines in a message,
LETTERS_SAID = 500  # and letters of each

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ending:
    """How a program ended.

    Parameters
    ----------
    how
        In words that follow its name: ``ended with exit status 3``, ``cannot be started: No such file``.
    status
        Its exit status; negative: the signal that killed it; None: it could not be started.
    late
        Whether it was stopped at its time limit.
    words, said
        The command, and the last lines of its output.
    """

    how: str
    status: int | None
    late: bool = False
    words: Sequence[str] = ()
    said: Sequence[str] = ()

    @property
    def well(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0 and not self.late

    @property
    def found_a_disk_full(self) -> bool:
        """Whether it printed that a disk is full or a quota used up."""
        return any(os.strerror(number) in line for number in FULL for line in self.said)

    @property
    def shown(self) -> str:
        """The command and its last lines, for a message."""
        said = [f"  | {line}" for line in self.said or ["(none)"]]
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
    """Run a program to its end, and pass its output on immediately.

    If this process ends, so does the program. If a child of the program keeps the output open, this function waits
    `HELD_SECONDS` and logs a warning.

    Parameters
    ----------
    words, root
        The command, which is started without a shell, and its directory.
    out, errors
        Called with pieces of its standard output and error, and at the end with an empty piece; for example a `Log`
        or `Lines`. Without `errors`, `out` gets both. If one of them raises an exception, the program is ended.
    seconds
        Time limit; None: no limit.
    grace
        Seconds between SIGTERM and SIGKILL.
    environment
        Its environment; None: that of this process.
    whole_group
        Whether to end the programs that it started, too, even if it succeeded.
    stdin
        The file for its standard input; None: it has none.

    Returns
    -------
    Ending
        How it ended. A failure raises no exception.
    """
    sinks = (out,) if errors is None else (out, errors)
    try:
        process = Popen(
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
                with selectors.DefaultSelector() as none:  # its output is lost from here on
                    _handed_on(none, grace, process)
                raise
            finally:
                send(process, signal.SIGKILL, whole_group)
                process.wait()
            if not _handed_on(streams, HELD_SECONDS):
                _log.warning(
                    "%s has ended, but a program that it started keeps its output open. HalfPipe does not wait for "
                    "that program, and its output is lost.",
                    shlex.join(words),
                )
        finally:
            for sink in sinks:
                sink(b"")
    status = process.returncode
    how = f"was {by_signal(-status)}" if status < 0 else f"ended with exit status {status}"
    if late:
        how = f"was still running after {seconds:g} s and was ended"
    said = next((tuple(sink.said) for sink in sinks if isinstance(sink, Log)), ())
    return Ending(how, status, late, words, said)


def _handed_on(
    streams: selectors.BaseSelector, seconds: float | None, process: Popen[bytes] | None = None
) -> bool:
    """Pass output on until `process` ends, or without a process until all streams are closed; False: out of time."""
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


def _has_ended(process: Popen[bytes]) -> bool:
    """Tell whether a program has ended. It is not reaped, so that the number of its group is not reused."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def send(process: Popen[bytes], number: signal.Signals, whole_group: bool) -> None:
    """Send a signal to a program that is not reaped yet, or to its group, if any process is left."""
    kill = os.killpg if whole_group else os.kill  # Popen.send_signal would reap it
    with suppress(ProcessLookupError):
        kill(process.pid, number)


def answer(words: Sequence[str], seconds: float = 60.0) -> str:
    """Return what a short command of another system prints.

    This is empty if the command cannot be started, fails, or takes longer than `seconds`.
    """
    try:
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=seconds
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


class Lines:
    """Splits the output of a program into lines, and calls `hear` with each line including its end.

    Lines end as Python's universal newlines do. A line longer than `LINE_LIMIT` comes in pieces.
    """

    def __init__(self, hear: Callable[[bytes], object]) -> None:
        self._hear = hear
        self._rest = b""

    def __call__(self, data: bytes) -> None:
        """Take the next piece; an empty piece is the end."""
        lines = (self._rest + data).splitlines(keepends=True)
        self._rest = b""
        # A carriage return at the end may be the first half of a line end.
        if data and not lines[-1].endswith(b"\n") and len(lines[-1]) < LINE_LIMIT:
            self._rest = lines.pop()
        for line in lines:
            self._hear(line)


class Log(Lines):
    """Writes the first `LOG_BYTES` of a program's output to a log, without control characters.

    If the log cannot be written, the output is lost, with a warning; the program does not fail.

    Parameters
    ----------
    file
        The log.
    hear
        Called with each line as text.

    Attributes
    ----------
    said
        The last lines, without their ends.
    """

    def __init__(self, file: IO[str], hear: Callable[[str], object] = lambda _: None) -> None:
        super().__init__(self._take)
        self._file = file
        self._hear_text = hear
        self._fitting = ""  # of the latest piece
        self._size = 0  # bytes
        self.said: deque[str] = deque(maxlen=LINES_SAID)

    def __call__(self, data: bytes) -> None:
        """Take the next piece; an empty piece is the end."""
        super().__call__(data)
        text = self._fitting
        self._fitting = ""
        try:
            if text:
                self._file.write(text)
                self._file.flush()
        except OSError as error:
            self._size = LOG_BYTES + 1
            _log.warning("the log cannot be written: %s. The program's output is lost.", error.strerror)

    def _take(self, line: bytes) -> None:
        end = "\n" if line.endswith((b"\r", b"\n")) else ""
        text = printable(line.decode(errors="replace").rstrip("\r\n")) + end
        self._hear_text(text)
        self.said.append(text.rstrip()[:LETTERS_SAID])
        if self._size <= LOG_BYTES:
            self._size += len(line)
            full = "halfpipe: the log is full; the rest of the program's output is not in it.\n"
            self._fitting += text if self._size <= LOG_BYTES else full
