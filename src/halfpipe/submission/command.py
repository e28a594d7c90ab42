"""Commands of the config that talk to Level-1's pipeline: words with placeholders, run without a shell."""

import re
import shlex
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from halfpipe.decoder import LINE_LIMIT, ended_with_us
from halfpipe.errors import ConfigError
from halfpipe.ids import DownlinkId

# What Level-1 is started with (ground-chain §6): the stream has the number of the downlink.
CONTRACT = "pipeline -m PROD createStream -S {dl} -D DOWNLINK_ID={dl} -D DOWNLINK_RAWDIR={rawdir} L1Proc"
PLACEHOLDER = re.compile(r"\{(\w+)\}")
KNOWN = ("dl", "rawdir")
LINES_KEPT, LETTERS_OF_A_LINE = 5, 500


def placeholders(text: str, key: str) -> list[str]:
    """Return the names in braces in a command of the config that stands under `key`.

    Raises
    ------
    ConfigError
        If it cannot be split into words.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{key}: {text!r} cannot be split into words: {error}.") from error
    return [name for word in words for name in PLACEHOLDER.findall(word)]


def filled_in(text: str, stands_for: Mapping[str, str]) -> list[str]:
    """Return the words of a command with its names filled in; ``python`` ahead is the one that runs this."""
    words = [PLACEHOLDER.sub(lambda match: stands_for[match[1]], word) for word in shlex.split(text)]
    return [sys.executable, *words[1:]] if words[0] == "python" else words


@dataclass(frozen=True)
class Template:
    """A command of the config: `text`, and the `key` that it stands under.

    ``{dl}`` stands for the downlink, ``{rawdir}`` for its directory in the stage, as an absolute path
    without a slash at its end, which Level-1 could not take (ground-chain §6). ``python`` as the first
    word is the one that runs this.

    Raises
    ------
    ConfigError
        If it cannot be split into words, has another placeholder, or none for the downlink.
    """

    text: str
    key: str

    def __post_init__(self) -> None:
        names = placeholders(self.text, self.key)
        other = [name for name in names if name not in KNOWN]
        if other:
            raise ConfigError(
                f"{self.key}: {{{other[0]}}} stands for nothing; only {{dl}} and {{rawdir}} are filled in."
            )
        if "dl" not in names:
            raise ConfigError(f"{self.key}: {self.text!r} names no downlink; write {{dl}} where it belongs.")

    def words(self, downlink: DownlinkId, rawdir: Path) -> list[str]:
        """Return the command for `downlink`, whose directory in the stage is `rawdir`."""
        stands_for = {"dl": str(downlink), "rawdir": str(rawdir.absolute())}
        return filled_in(self.text, stands_for)


@dataclass(frozen=True)
class Answer:
    """How a command ended: its exit status, below 0 for a signal, and the last lines of what it printed."""

    status: int
    said: tuple[str, ...]


def run(words: Sequence[str], root: Path, output: IO[str], hand_down: Sequence[int] = ()) -> Answer:
    """Run a command in `root`, copy what it prints to `output`, and return its answer.

    Parameters
    ----------
    words, root
        What is started and where.
    output
        Takes all that it prints; what cannot be written there, as on a full disk, is lost.
    hand_down
        Open files that it and its children keep open as long as they live.

    Raises
    ------
    OSError
        If it cannot be started.
    """
    last: deque[str] = deque(maxlen=LINES_KEPT)
    process = subprocess.Popen(
        words,
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=hand_down,
    )
    with process, ended_with_us(process):
        assert process.stdout is not None
        while line := process.stdout.readline(LINE_LIMIT):
            # It has begun: an error now would be taken for one that could not be started, and is run again.
            with suppress(OSError):
                output.write(line)
            last.append(line.rstrip()[:LETTERS_OF_A_LINE])
    with suppress(OSError):
        output.flush()
    return Answer(process.returncode, tuple(last))
