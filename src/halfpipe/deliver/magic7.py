"""Magic-7: attitude and orbit of the spacecraft around a delivery, for Level-1 (ground-chain §5)."""

import shlex
from collections.abc import Sequence
from typing import IO

from halfpipe.errors import DecoderError
from halfpipe.formats.retdef import RetDef
from halfpipe.process import command_words
from halfpipe.process.programs import Lines, Log, run
from halfpipe.settings import ROOT, Settings

PAD_SECONDS = 6000.0  # before the first and after the last event, as in the legacy's launchL1
KEPT = (b" ATT ", b" ORB ")


def command(settings: Settings, retdef: RetDef, window: tuple[float, float]) -> list[str]:
    """Return the magic-7 command for the archive and spacecraft of `retdef` and a delivery's `window`.

    Parameters
    ----------
    settings
        Settings with the magic-7 program; without one the result is empty.
    retdef
        Any RetDef of the downlink.
    window
        Times of the first and the last event delivered, Unix UTC seconds.
    """
    words = command_words.magic7(settings, retdef.arch)
    begin = window[0] - PAD_SECONDS
    end = window[1] + PAD_SECONDS
    return words and [*words, "--scid", str(retdef.scid), "-b", f"{begin:.6f}", "-e", f"{end:.6f}", "--lsm"]


def write(words: Sequence[str], out: IO[bytes], log: IO[str]) -> int:
    """Run a magic-7 command and write its ATT and ORB lines to `out`; return how many.

    Its messages go to `log`.

    Raises
    ------
    DecoderError
        If the command cannot be started or fails. Lines that it printed before do not count.
    """
    count = 0

    def keep(line: bytes) -> None:
        nonlocal count
        if any(tag in line for tag in KEPT):
            out.write(line if line.endswith(b"\n") else line + b"\n")
            count += 1

    ending = run(words, ROOT, Lines(keep), Log(log))
    if not ending.well:
        raise DecoderError(
            f"the magic-7 command {ending.how}: {shlex.join(words)}\n"
            "Level-1 needs its text, so the downlink is not handed off. Fix magic-7 (its messages are in "
            "this job's log), then rerun.",
            code="magic7",
            text=f"the magic-7 command {ending.saying}. Level-1 needs its text",
        )
    return count
