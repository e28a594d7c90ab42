"""Magic-7: attitude and orbit of the spacecraft around a delivery, for Level-1 (ground-chain §5)."""

import logging
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from halfpipe.decoder import LINE_LIMIT, Program, ended_with_us, how_it_ended
from halfpipe.errors import DecoderError
from halfpipe.formats.retdef import RetDef

PAD_SECONDS = 6000.0  # before the first and after the last event, as the legacy launchL1
KEPT = (" ATT ", " ORB ")

log = logging.getLogger(__name__)


def command(program: Program, retdef: RetDef, window: tuple[float, float]) -> list[str]:
    """Return the command for the archive and spacecraft of `retdef` and a delivery's `window`.

    Parameters
    ----------
    program
        The magic-7 program of the config.
    retdef
        Any RetDef of the downlink.
    window
        Times of the earliest and the latest event delivered, Unix UTC seconds.
    """
    words = program.arguments(retdef.arch)
    begin, end = window[0] - PAD_SECONDS, window[1] + PAD_SECONDS
    options = ["--arch", program.archive(retdef.arch), "--scid", str(retdef.scid)]
    return [*words, *options, "-b", f"{begin:.6f}", "-e", f"{end:.6f}", "--lsm"]


def write(words: Sequence[str], root: Path, out: IO[bytes], output: IO[str]) -> int:
    """Run a magic-7 command and write its ATT and ORB lines to `out`; return how many.

    Raises
    ------
    DecoderError
        If it cannot be started or fails; what it printed before does not count.
    """
    try:
        process = subprocess.Popen(
            words, cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=output
        )
    except OSError as error:
        raise DecoderError(
            f"{words[0]}: cannot be started: {error.strerror}. Check magic7.command in the config."
        ) from error
    count = 0
    with process, ended_with_us(process):
        assert process.stdout is not None
        while line := process.stdout.readline(LINE_LIMIT):
            if any(tag.encode() in line for tag in KEPT):
                out.write(line if line.endswith(b"\n") else line + b"\n")
                count += 1
    if process.returncode:
        raise DecoderError(
            f"the magic-7 command {how_it_ended(process.returncode)}: {shlex.join(words)}\n"
            "Level-1 needs its text, so the downlink is not handed off. Mend the cause (its messages stand in "
            "this job's log), then give the same command again."
        )
    return count
