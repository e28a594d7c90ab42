"""Whether fewer events of a run may be delivered than Level-1 may have: only what a person has accepted."""

from halfpipe.errors import StateError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.settings import Settings


class ShrunkError(StateError):
    """A downlink would deliver fewer events of a run than Level-1 may have of it."""

    code = "shrunk-refused"


def accepted(settings: Settings, downlink: DownlinkId, run: RunId) -> str | None:
    """Return the reason for which the config accepts that a run of a downlink shrinks; None if it does not."""
    return next((e.reason for e in settings.shrink.accept if e.dl == downlink and e.run == run), None)
