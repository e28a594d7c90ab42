"""The record of a downlink's submissions to Level-1, and of the roll-backs of its stream."""

import shlex
from collections.abc import Mapping
from functools import partial
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import stage_mark
from halfpipe.errors import Remedy
from halfpipe.files.durable import remove_file
from halfpipe.ids import DownlinkId
from halfpipe.process import told_once
from halfpipe.process.told_once import Action, Outcome
from halfpipe.settings import Settings


class Record(told_once.Record):
    """What was attempted for one downlink; the last one that was told is the hand-off that Level-1 has."""

    COMMAND = "a submission command"
    HEARD = "submitted"
    place = staticmethod(paths.submissions)


def how_to_roll_back(settings: Settings, downlink: str) -> Remedy:
    """Say how a later hand-off gets to Level-1: by the config's command, or by hand."""
    if settings.submit.rollback is not None:
        return Remedy(f"halfpipe submit {downlink} --rollback")
    by_hand = f"roll stream {downlink} back in the pipeline by hand"
    return Remedy(f"halfpipe submit {downlink} --record-rollback", first=by_hand)


def unsettled(settings: Settings, record: Record, how: str = "", taken: str = "") -> Cause | None:
    """Return that nobody knows whether the latest attempt was heard.

    Parameters
    ----------
    settings, record
        The settings, and the submissions of a downlink.
    how
        How its command has ended, if that was seen just now.
    taken
        What else there is to say of it.
    """
    last, downlink = record.last, record.id
    if last is None or last.is_known:
        return None
    what = f"hand-off {last.handoff}" + (" by a roll-back" if last.action is Action.ROLLBACK else "")
    say = f"halfpipe submit {downlink} --settle submitted"
    if last.outcome is Outcome.WRITTEN:
        line = settings.paths.work / paths.submit_line(downlink)
        text = f"{what} is not confirmed: a person gives its command, which is in {line}{taken}"
        remedy = Remedy(shlex.join(last.command), say)
        return Cause("written-for-person", Verdict.ACTION, text, remedy, last.since)
    # Given again the command asks the check by itself; of a roll-back, or where it found nothing, it knows nothing.
    asks = settings.submit.check is not None and last.action is Action.SUBMIT and not last.check_disagrees
    look_there = "look in the pipeline, and say what it shows (submitted or not-submitted)"
    return Cause(
        "submission-open" if last.outcome is None else "submission-failed",
        Verdict.ACTION,
        f"whether Level-1 has {what} is not known: {last.why_unknown(how)}{taken}",
        Remedy(f"snakemake submit={downlink}") if asks else Remedy(say, first=look_there),
        last.since,
    )


class Kept(Record):
    """The record for whoever adds to it: the stage's mark knows of each one before anything follows on it."""

    def __init__(self, settings: Settings, downlink: DownlinkId) -> None:
        self._product = settings.paths.work / paths.submitted(downlink)
        super().__init__(settings.paths.work, downlink, partial(stage_mark.noted, settings))
        if self.attempts and not self._product.exists():
            # Which a killed process may not have done.
            stage_mark.noted(settings, self.place(downlink), self.records[-1])

    def append(self, value: Mapping[str, Any]) -> None:
        """Publish a record, with time and person; before that the product goes, which would not say so."""
        remove_file(self._product)
        super().append(value)
