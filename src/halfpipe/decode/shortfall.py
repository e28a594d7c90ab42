"""What chunks fell short of: level-0 hours that were missing, gaps, missing events. For accounts; loads no arrays.

A file of an hour grows whenever ingest merges later packets into it. That alone means nothing. It counts for a chunk
that fell short of what its RetDef announces, because these packets may be its own.
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
_NAMED = 5  # hours, gaps or files that are named one by one


def missing_hours(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the hours that the archive did not have when a chunk was decoded, as they stand in its entry.

    None are known of a chunk whose archive could not be looked at, or that was taken over.
    """
    return list((chunk.get("level0") or {}).get("missing") or [])


def is_short(chunk: Mapping[str, Any]) -> bool:
    """Tell whether a chunk, from a receipt or its ``{chunk}.json``, fell short of what its RetDef announces."""
    return bool(
        missing_hours(chunk)
        or _gaps(chunk)
        or chunk["said"]["exceptions"]
        or any(file.get("missing_events") for file in chunk["files"])
    )


def _gaps(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list((chunk.get("level0") or {}).get("gaps") or [])


def _is_cut(gap: Mapping[str, Any]) -> bool:
    """Tell whether a gap lies where a file begins or ends: else what is missing may never have come down.

    Where a span begins and ends, there were packets when its RetDef was made.
    """
    return gap["datagrams"] is None or gap["begin"] // HOUR != gap["end"] // HOUR


def arrived_since(
    settings: Settings, downlink: DownlinkId, chunk: Mapping[str, Any]
) -> list[tuple[str, int, str]]:
    """Return the level-0 files that came or changed since a chunk was decoded, if it fell short.

    Parameters
    ----------
    settings
        They say where the archive is.
    downlink
        The downlink of the chunk.
    chunk
        The content of its ``{chunk}.json``. Its entry in a receipt does not hold the files that were seen: then only
        hours count that were missing.

    Returns
    -------
    list of (str, int, str)
        Directory of the hour, relative to the archive's root, APID, and name of each.
    """
    if not is_short(chunk):
        return []
    hours = chunk.get("read") or [{**hour, "files": {}} for hour in missing_hours(chunk)]
    found = []
    for scid, root in _archive(settings, downlink, chunk) if hours else ():
        for each in hours:
            with suppress(OSError):  # the archive cannot be seen from here
                for path in archive_hours.files(root / each["hour"], scid, each["apid"]):
                    status = path.stat()
                    if [status.st_size, int(status.st_mtime)] != each["files"].get(path.name):
                        found.append((each["hour"], each["apid"], path.name))
    return found


def _archive(
    settings: Settings, downlink: DownlinkId, chunk: Mapping[str, Any]
) -> Iterator[tuple[int, Path]]:
    """Yield the spacecraft and the root of the archive of a chunk, if its staged RetDef says so."""
    with suppress(HalfPipeError):
        retdef = read_retdef(settings.paths.work / paths.retdef(downlink, ChunkId(chunk["chunk"])))
        yield retdef.scid, Path(command_words.archive(settings, retdef.arch))


def sentences(chunk: Mapping[str, Any]) -> Iterator[str]:
    """Say, a sentence each and without its end, what a chunk fell short of."""
    return chain(_of_level0(chunk), _of_events(chunk))


def _of_level0(chunk: Mapping[str, Any]) -> Iterator[str]:
    if missing := missing_hours(chunk):
        hours = listed([f"{each['hour']} (APID {each['apid']})" for each in missing])
        yield (
            f"chunk {chunk['chunk']} was decoded without {count(len(missing), 'level-0 hour')} of "
            f"{chunk['level0']['needed']}: {hours}"
        )
    if gaps := _gaps(chunk):
        yield f"chunk {chunk['chunk']} has no datagrams of {listed([_in_words(gap) for gap in gaps], '; ')}"


def _of_events(chunk: Mapping[str, Any]) -> Iterator[str]:
    for file in chunk["files"]:
        where = f"chunk {chunk['chunk']}, run {file['run']}, APID {file['apid']}"
        if file.get("missing_events"):
            yield (
                f"{where}: {count(file['missing_events'], 'event')} of {file['announced']} that its datagrams "
                "announce or its event file holds are not in its index"
            )
        elif file.get("uncovered_bytes"):
            yield f"{where}: no line of its index covers {file['uncovered_bytes']} bytes of its event file"


def _in_words(gap: Mapping[str, Any]) -> str:
    missing = "" if gap["datagrams"] is None else f" ({gap['datagrams']} by their numbers)"
    begin, end = utc(gap["begin"]), utc(gap["end"])
    day, time = begin.split()[:2]
    when = f"from {day} {time} to {end.removeprefix(f'{day} ')}" if end != begin else f"at {begin}"
    return f"APID {gap['apid']} {when}{missing}"


def listed(names: list[str], between: str = ", ") -> str:
    """Return the first of some names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{between.join(names[:_NAMED])}{more}"


def troubles(
    settings: Settings, downlink: DownlinkId, chunks: Iterable[Mapping[str, Any]]
) -> Iterator[Cause]:
    """Tell what the chunks of a downlink fell short of, and what to do about it.

    `chunks` are entries of its receipt, or what `arrived_since` takes.
    """
    log = paths.done_log(downlink)
    for chunk in chunks:
        if kinds := chunk["said"]["exceptions"]:
            met = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
            first = next(iter(chunk["said"]["lines"]), "")
            text = f"the decoder of chunk {chunk['chunk']} met exceptions ({met}); the first: {first}"
            yield Cause("decoder-exceptions", Verdict.NOTE, text, Remedy(first=f"see what is lost: {log}"))
        yield from _level0(settings, downlink, chunk)
        missing = sum(file.get("missing_events", 0) for file in chunk["files"])
        gone = reason_of(settings.ignore.events, downlink, chunk["chunk"], missing)
        for text in _of_events(chunk):
            if gone is not None:
                yield Cause("events-missing", Verdict.NOTE, f"{text}; gone for good: {gone}")
                continue
            entry = f'{{dl: "{downlink}", chunk: "{chunk["chunk"]}", events: {missing}, reason: "..."}}'
            first = f"look into {log} and fix this, or in the config: ignore: {{events: [{entry}]}}"
            yield Cause("events-missing", Verdict.ACTION, text, rerun(downlink, "decode_chunk", first))


def _level0(settings: Settings, downlink: DownlinkId, chunk: Mapping[str, Any]) -> Iterator[Cause]:
    """Yield that level-0 of a chunk is missing, or has arrived since."""
    there, hours, gaps = arrived_since(settings, downlink, chunk), missing_hours(chunk), _gaps(chunk)
    if there:
        names = listed([f"{hour}/{name}" for hour, _, name in there])
        text = f"new level-0 arrived after chunk {chunk['chunk']} was decoded incompletely: {names}"
        yield Cause("level0-arrived", Verdict.ACTION, text, rerun(downlink, "decode_chunk"))
    arrived = {(hour, apid) for hour, apid, _ in there}
    if all((each["hour"], each["apid"]) in arrived for each in hours) and (there or not gaps):
        return
    # How many events are missing is not known, so an entry with a number does not cover this.
    gone = reason_of(settings.ignore.events, downlink, chunk["chunk"], sys.maxsize)
    text = next(_of_level0(chunk))
    if gone is not None:
        yield Cause("level0-missing", Verdict.NOTE, f"{text}; gone for good: {gone}")
    elif hours or any(map(_is_cut, gaps)):
        entry = f'{{dl: "{downlink}", chunk: "{chunk["chunk"]}", reason: "..."}}'
        first = f"have the archive completed, or in the config: ignore: {{events: [{entry}]}}"
        yield Cause("level0-missing", Verdict.ACTION, text, rerun(downlink, "decode_chunk", first))
    else:
        yield Cause("level0-missing", Verdict.NOTE, text)
