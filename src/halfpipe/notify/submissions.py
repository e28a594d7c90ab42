"""The attempts to submit a downlink to Level-1, and to roll its stream back."""

from functools import partial
from pathlib import Path

from halfpipe import paths
from halfpipe.files.durable import remove_file
from halfpipe.ids import DownlinkId
from halfpipe.settings import Settings
from halfpipe.staging import stage_mark
from halfpipe.state.attempts import Attempts


def submissions(work: Path, downlink: str, *, only_look: bool = False) -> Attempts:
    """Read the submissions of a downlink. The last confirmed one is the hand-off that Level-1 has."""
    return Attempts(work, paths.submissions(downlink), downlink, only_look=only_look)


def submissions_to_extend(settings: Settings, downlink: DownlinkId) -> Attempts:
    """Read the submissions of a downlink, to record more.

    Before each record the product is removed, because it would contradict the record. After each record the stage's
    mark is extended. If a process was killed in between, the mark is extended here.
    """
    work = settings.paths.work
    product = work / paths.submitted(downlink)
    note = partial(stage_mark.noted, settings)
    found = Attempts(
        work,
        paths.submissions(downlink),
        downlink,
        before=partial(remove_file, product),
        after=note,
    )
    if found.every and not product.exists():
        note(found.place, found.series.records[-1])
    return found
