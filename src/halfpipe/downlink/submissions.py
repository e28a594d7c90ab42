"""The record of a downlink's submissions to Level-1, and of the roll-backs of its stream."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from halfpipe import paths
from halfpipe.downlink import stage_mark
from halfpipe.files.durable import remove_file
from halfpipe.ids import DownlinkId
from halfpipe.process import told_once
from halfpipe.settings import Settings


class Record(told_once.Record):
    """The attempts for one downlink; the last confirmed one is the hand-off that Level-1 has."""

    HEARD = "submitted"
    place = staticmethod(paths.submissions)


class Kept(Record):
    """The record for writing: each new entry is noted in the stage's mark before anything else happens."""

    def __init__(self, settings: Settings, downlink: DownlinkId) -> None:
        self._product = settings.paths.work / paths.submitted(downlink)
        super().__init__(settings.paths.work, downlink, partial(stage_mark.noted, settings))
        if self.attempts and not self._product.exists():
            # A killed process may not have noted it.
            stage_mark.noted(settings, self.place(downlink), self.series.records[-1])

    def append(self, value: Mapping[str, Any]) -> None:
        """Remove the product, which is then out of date, and publish a record with time and person."""
        remove_file(self._product)
        super().append(value)
