"""Incomplete chunks: missing level-0 hours, gaps, and missing events. Accounts use it, so it does not import numpy.

The file of an hour grows whenever ingest merges later packets into it. That matters only for an incomplete chunk,
because the new packets may belong to it.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, Remedy, rerun
from halfpipe.formats import archive_hours
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.process import command_words
from halfpipe.settings import Settings, reason_of
from halfpipe.words import count, utc

HOUR = 3600
_NAMED = 5  # hours, gaps or files in a message


def missing_hours(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the level-0 hours that were missing when a chunk was decoded, from its entry.

    The list is empty if the archive was not visible then, or the chunk was taken over from the legacy.
    """
    return list((chunk.get("level0") or {}).get("missing") or [])


def is_short(chunk: Mapping[str, Any]) -> bool:
    """Return whether a chunk is incomplete, from its entry in a receipt or its ``{chunk}.json``."""
    return bool(
        missing_hours(chunk)
        or gaps_in(chunk)
        or chunk["said"]["exceptions"]
        or any(file.get("missing_events") for file in chunk["files"])
    )


def gaps_in(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the places in a chunk without datagrams (`halfpipe.decode.announced.gaps`), from its entry."""
    return list((chunk.get("level0") or {}).get("gaps") or [])


def arrived_since(
    settings: Settings, downlink: DownlinkId, chunk: Mapping[str, Any]
) -> list[tuple[str, int, str]]:
    """Return the level-0 files that appeared or changed after an incomplete chunk was decoded.

    Parameters
    ----------
    settings
        Settings with the archive.
    downlink
        The downlink of the chunk.
    chunk
        The content of its ``{chunk}.json``. An entry of a receipt does not list the files that were read, so only hours
        that were missing count.

    Returns
    -------
    list of (str, int, str)
        The directory of the hour, relative to the archive's root, the APID, and the name of each file.
    """
    hours = chunk.get("read") or [{**hour, "files": {}} for hour in missing_hours(chunk)]
    if not (hours and is_short(chunk)):
        return []
    try:
        retdef = read_retdef(settings.paths.work / paths.retdef(downlink, ChunkId(chunk["chunk"])))
    except HalfPipeError:
        return []
    root, found = Path(command_words.archive(settings, retdef.arch)), []
    for each in hours:
        with suppress(OSError):  # the archive is not visible from here
            for path in archive_hours.files(root / each["hour"], retdef.scid, each["apid"]):
                status = path.stat()
                if [status.st_size, int(status.st_mtime)] != each["files"].get(path.name):
                    found.append((each["hour"], each["apid"], path.name))
    return found


def sentences(chunk: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences, without full stops, about what is missing in a chunk."""
    return chain(_level0_sentences(chunk), _event_sentences(chunk))


def _level0_sentences(chunk: Mapping[str, Any]) -> Iterator[str]:
    if missing := missing_hours(chunk):
        hours = first_names([f"{each['hour']} (APID {each['apid']})" for each in missing])
        yield (
            f"chunk {chunk['chunk']} was decoded without {count(len(missing), 'level-0 hour')} of "
            f"{chunk['level0']['needed']}: {hours}"
        )
    if gaps := gaps_in(chunk):
        names = first_names([_gap_in_words(gap) for gap in gaps], "; ")
        yield f"chunk {chunk['chunk']} has no datagrams for {names}"


def _event_sentences(chunk: Mapping[str, Any]) -> Iterator[str]:
    for file in chunk["files"]:
        where = f"chunk {chunk['chunk']}, run {file['run']}, APID {file['apid']}"
        if file.get("missing_events"):
            yield (
                f"{where}: the index lacks {count(file['missing_events'], 'event')} of {file['announced']} that "
                "its datagrams announce or its event file contains, or lists them with the sequence of another event"
            )
        elif file.get("uncovered_bytes"):
            yield f"{where}: {file['uncovered_bytes']} bytes of the event file have no index line"


def _gap_in_words(gap: Mapping[str, Any]) -> str:
    begin, end = utc(gap["begin"]), utc(gap["end"])
    day, time, _ = begin.split()
    when = f"at {begin}" if begin == end else f"from {day} {time} to {end.removeprefix(f'{day} ')}"
    missing = f" ({gap['datagrams']} numbers missing)" if gap["datagrams"] else ""
    return f"APID {gap['apid']} {when}{missing}"


def first_names(names: list[str], between: str = ", ") -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{between.join(names[:_NAMED])}{more}"


def shortfall_causes(
    settings: Settings, downlink: DownlinkId, chunks: Iterable[Mapping[str, Any]]
) -> Iterator[Cause]:
    """Yield the causes for incomplete chunks of a downlink; `chunks` as for `arrived_since`."""
    log = paths.done_log(downlink)
    for chunk in chunks:
        if kinds := chunk["said"]["exceptions"]:
            counts = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
            first = next(iter(chunk["said"]["lines"]), "")
            text = f"the decoder of chunk {chunk['chunk']} reported exceptions ({counts}); the first: {first}"
            yield Cause("decoder-exceptions", Verdict.NOTE, text, Remedy(first=f"See what is lost in {log}"))
        yield from _level0(settings, downlink, chunk)
        missing = sum(file.get("missing_events", 0) for file in chunk["files"])
        gone = reason_of(settings.ignore.events, downlink, chunk["chunk"], missing)
        for text in _event_sentences(chunk):
            if gone is not None:
                yield Cause("events-missing", Verdict.NOTE, f"{text}; lost: {gone}")
                continue
            entry = f'{{dl: "{downlink}", chunk: "{chunk["chunk"]}", events: {missing}, reason: "..."}}'
            first = f"See {log} and fix this, or do without: ignore: {{events: [{entry}]}}"
            yield Cause("events-missing", Verdict.ACTION, text, rerun(downlink, "decode_chunk", first))


def _level0(settings: Settings, downlink: DownlinkId, chunk: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield the causes for level-0 of a chunk that is missing, or arrived after decoding."""
    new, hours, gaps = arrived_since(settings, downlink, chunk), missing_hours(chunk), gaps_in(chunk)
    if new:
        names = first_names([f"{hour}/{name}" for hour, _, name in new])
        text = f"new level-0 arrived after chunk {chunk['chunk']} was decoded incompletely: {names}"
        yield Cause("level0-arrived", Verdict.ACTION, text, rerun(downlink, "decode_chunk"))
    arrived = {(hour, apid) for hour, apid, _ in new}
    if all((each["hour"], each["apid"]) in arrived for each in hours) and (new or not gaps):
        return
    # The number of missing events is unknown, so a config entry with a number does not cover this.
    gone = reason_of(settings.ignore.events, downlink, chunk["chunk"], sys.maxsize)
    text = next(_level0_sentences(chunk))
    if gone is not None:
        yield Cause("level0-missing", Verdict.NOTE, f"{text}; lost: {gone}")
    # At the edge of a span, packets existed when its RetDef was made. A gap across hours may be a missing file. Missing
    # data inside an hour may never have been downlinked.
    elif hours or any(gap["datagrams"] is None or gap["begin"] // HOUR != gap["end"] // HOUR for gap in gaps):
        entry = f'{{dl: "{downlink}", chunk: "{chunk["chunk"]}", reason: "..."}}'
        first = f"Complete the archive, or do without: ignore: {{events: [{entry}]}}"
        yield Cause("level0-missing", Verdict.ACTION, text, rerun(downlink, "decode_chunk", first))
    else:
        yield Cause("level0-missing", Verdict.NOTE, text)
