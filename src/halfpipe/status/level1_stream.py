"""The state of a downlink's stream in Level-1's pipeline: the last line that the command submit.check prints."""

from collections.abc import Iterator
from contextlib import suppress
from io import StringIO

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId
from halfpipe.process.attempts import ask
from halfpipe.process.command_words import filled_in
from halfpipe.settings import Settings


def stream(settings: Settings, downlink: DownlinkId) -> Iterator[Cause]:
    """Yield the state of Level-1's stream of a downlink that was submitted; nothing without submit.check.

    The client takes seconds to start, so call this for a single downlink, never for many.
    """
    told = None
    with suppress(HalfPipeError):  # the account reports a damaged record
        told = submissions(settings.paths.work, downlink, only_look=True).last_confirmed
    if told is None or settings.submit.check is None:
        return
    rawdir = settings.paths.stage / paths.staged(downlink)
    answer = ask(filled_in(settings.submit.check, {"dl": downlink, "rawdir": str(rawdir)}), StringIO())
    said = answer.said[-1] if answer.said else f"submit.check {answer.how}"
    yield Cause("level1-stream", Verdict.NOTE, f"the stream of hand-off {told.handoff}: {said}")
