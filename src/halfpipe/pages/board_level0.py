"""Which hours of level-0 were there when chunks were decoded, by APID."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.decode.level0_hours import directory_of, needed
from halfpipe.decode.shortfall import missing_hours
from halfpipe.errors import HalfPipeError
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId, DownlinkId


@dataclass(frozen=True)
class Hour:
    """An hour of an APID, counted from the Unix epoch; `found` is None if the archive could not be looked at."""

    hour: int
    apid: int
    found: bool | None


def hours(work: Path, downlink: DownlinkId, chunks: Iterable[Mapping[str, Any]]) -> list[Hour]:
    """Return the hours that chunks of a downlink (entries of its receipt) needed, in order.

    None are known of a chunk whose staged RetDef is gone.
    """
    found: dict[tuple[int, int], bool | None] = {}
    for chunk in chunks:
        missing = {(each["hour"], each["apid"]) for each in missing_hours(chunk)}
        looked = (chunk.get("level0") or {}).get("missing") is not None
        with suppress(HalfPipeError):
            retdef = read_retdef(work / paths.retdef(downlink, ChunkId(chunk["chunk"])))
            for hour, apid in needed(retdef):
                there = (str(directory_of(Path(), retdef, hour)), apid) not in missing if looked else None
                # One that is missing for one chunk is missing, whatever another one has seen.
                seen = (there, found.get((hour, apid), there))
                found[hour, apid] = next(state for state in (False, None, True) if state in seen)
    return [Hour(hour, apid, there) for (hour, apid), there in sorted(found.items())]
