"""What chunks fell short of: level-0 hours that were missing, events that are. For accounts; loads no arrays."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
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
from halfpipe.words import count

_NAMED = 5  # hours that are named one by one


def missing_hours(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the hours that the archive did not have when a chunk was decoded, as they stand in its entry.

    None are known of a chunk whose archive could not be looked at, or that was taken over.
    """
    return list((chunk.get("level0") or {}).get("missing") or [])


def arrived_since(settings: Settings, downlink: DownlinkId, chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return those of the missing hours of a chunk that are in the archive now.

    Parameters
    ----------
    settings
        Say where the archive is.
    downlink
        Whose chunk it is.
    chunk
        Its entry in a receipt, or the content of its ``{chunk}.json``.
    """
    missing, there = missing_hours(chunk), []
    for scid, root in _archive(settings, downlink, chunk) if missing else ():
        for each in missing:
            with suppress(OSError):  # the archive cannot be seen from here
                if archive_hours.files(root / each["hour"], scid, each["apid"]):
                    there.append(each)
    return there


def _archive(
    settings: Settings, downlink: DownlinkId, chunk: Mapping[str, Any]
) -> Iterator[tuple[int, Path]]:
    """Yield the spacecraft and the root of the archive of a chunk, if its staged RetDef says so."""
    with suppress(HalfPipeError):
        retdef = read_retdef(settings.paths.work / paths.retdef(downlink, ChunkId(chunk["chunk"])))
        yield retdef.scid, Path(command_words.archive(settings, retdef.arch))


def grown(
    settings: Settings, downlink: DownlinkId, chunk: Mapping[str, Any], since: float = 0.0
) -> Iterator[Cause]:
    """Yield that level-0 has grown since a chunk was decoded.

    `chunk` is the content of its ``{chunk}.json``. A copy to the archive was under way then, and what it brought later
    is in no event file. Files that were not written after `since`, Unix seconds, were whole.
    """
    read = {name: size for name, (size, written) in (chunk.get("read") or {}).items() if written >= since}
    found = []
    for _, root in _archive(settings, downlink, chunk) if read else ():
        for name, size in sorted(read.items()):
            with suppress(OSError):  # gone from the archive, or it cannot be seen from here
                if (now := os.stat(f"{root}/{name}").st_size) > size:  # noqa: PTH116 - asked of many chunks
                    found.append(f"{name} ({size:,} bytes, now {now:,})")
    if found:
        text = f"level-0 has grown since chunk {chunk['chunk']} was decoded: {_listed(found)}"
        yield Cause("level0-grown", Verdict.ACTION, text, rerun(downlink, "decode_chunk"))


def sentences(chunk: Mapping[str, Any]) -> Iterator[str]:
    """Say, a sentence each and without its end, what a chunk fell short of."""
    if missing := missing_hours(chunk):
        yield (
            f"chunk {chunk['chunk']} was decoded without {count(len(missing), 'level-0 hour')} of "
            f"{chunk['level0']['needed']}: {_listed(_hours(missing))}"
        )
    for file in chunk["files"]:
        where = f"chunk {chunk['chunk']}, run {file['run']}, APID {file['apid']}"
        if file.get("missing_events"):
            yield (
                f"{where}: {count(file['missing_events'], 'event')} of {file['announced']} that its datagrams "
                "announce or its event file holds are not in its index"
            )
        elif file.get("uncovered_bytes"):
            yield f"{where}: no line of its index covers {file['uncovered_bytes']} bytes of its event file"


def _hours(hours: Iterable[Mapping[str, Any]]) -> list[str]:
    return [f"{each['hour']} (APID {each['apid']})" for each in hours]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def troubles(
    settings: Settings, downlink: DownlinkId, chunks: Iterable[Mapping[str, Any]]
) -> Iterator[Cause]:
    """Tell what the chunks of a downlink (entries of its receipt) fell short of, and what to do about it."""
    again, log = partial(rerun, downlink, "decode_chunk"), paths.done_log(downlink)
    for chunk in chunks:
        if kinds := chunk["said"]["exceptions"]:
            met = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
            first = next(iter(chunk["said"]["lines"]), "")
            text = f"the decoder of chunk {chunk['chunk']} met exceptions ({met}); the first: {first}"
            yield Cause("decoder-exceptions", Verdict.NOTE, text, Remedy(first=f"see what is lost: {log}"))
        hours, told = missing_hours(chunk), list(sentences(chunk))
        if there := arrived_since(settings, downlink, chunk):
            what = f"level-0 that chunk {chunk['chunk']} was decoded without has arrived since"
            yield Cause("level0-arrived", Verdict.ACTION, f"{what}: {_listed(_hours(there))}", again())
        if len(there) < len(hours):
            yield Cause("level0-missing", Verdict.ACTION, told[0], again("have the archive completed"))
        missing = sum(file.get("missing_events", 0) for file in chunk["files"])
        gone = reason_of(settings.ignore.events, downlink, chunk["chunk"], missing)
        for text in told[bool(hours) :]:
            if gone is not None:
                yield Cause("events-missing", Verdict.NOTE, f"{text}; gone for good: {gone}")
                continue
            entry = f'{{dl: "{downlink}", chunk: "{chunk["chunk"]}", events: {missing}, reason: "..."}}'
            first = f"if they are gone for good, in the config: ignore: {{events: [{entry}]}}; else look into {log}"
            yield Cause("events-missing", Verdict.ACTION, text, again(f"{first}, fix this"))
