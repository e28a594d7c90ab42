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
from halfpipe.settings import Settings
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
    missing = missing_hours(chunk)
    if not missing:
        return []
    try:
        retdef = read_retdef(settings.paths.work / paths.retdef(downlink, ChunkId(chunk["chunk"])))
    except HalfPipeError:
        return []
    root = Path(command_words.archive(settings, retdef.arch))
    there = []
    for each in missing:
        try:
            if archive_hours.files(root / each["hour"], retdef.scid, each["apid"]):
                there.append(each)
        except OSError:
            continue  # the archive cannot be seen from here
    return there


def grown_since(
    settings: Settings, downlink: DownlinkId, chunk: Mapping[str, Any], since: float = 0.0
) -> Iterator[tuple[str, int, int]]:
    """Yield the files of level-0 that have grown since a chunk was decoded: name, bytes then, bytes now.

    `chunk` is the content of its ``{chunk}.json``. A copy to the archive was under way then, and what it brought later
    is in no event file. Files that were not written after `since`, Unix seconds, were whole.
    """
    read = {name: size for name, (size, written) in (chunk.get("read") or {}).items() if written >= since}
    if not read:
        return
    with suppress(HalfPipeError):
        retdef = read_retdef(settings.paths.work / paths.retdef(downlink, ChunkId(chunk["chunk"])))
        root = command_words.archive(settings, retdef.arch)
        for name, size in sorted(read.items()):
            with suppress(OSError):  # gone from the archive, or it cannot be seen from here
                if (now := os.stat(f"{root}/{name}").st_size) > size:  # noqa: PTH116 - asked of many chunks
                    yield name, size, now


def grown(
    settings: Settings, downlink: DownlinkId, chunk: Mapping[str, Any], since: float = 0.0
) -> Iterator[Cause]:
    """Yield that level-0 has grown since a chunk was decoded; what is given is as for `grown_since`."""
    found = [
        f"{name} ({then:,} bytes, now {now:,})"
        for name, then, now in grown_since(settings, downlink, chunk, since)
    ]
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        text = (
            f"level-0 has grown since chunk {chunk['chunk']} was decoded: {', '.join(found[:_NAMED])}{more}"
        )
        yield Cause("level0-grown", Verdict.ACTION, text, rerun(downlink, "decode_chunk"))


def missing_events(chunk: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the indexes of a chunk, as they stand in its entry, in which events or bytes are missing."""
    return [file for file in chunk["files"] if file.get("missing_events") or file.get("uncovered_bytes")]


def number_missing(chunk: Mapping[str, Any]) -> int:
    """Return how many events of a chunk (its entry in a receipt) its datagrams announce and its indexes lack."""
    return sum(file["missing_events"] for file in missing_events(chunk))


def sentences(chunk: Mapping[str, Any]) -> Iterator[str]:
    """Say, a sentence each and without its end, what a chunk fell short of."""
    missing = missing_hours(chunk)
    if missing:
        named = ", ".join(f"{each['hour']} (APID {each['apid']})" for each in missing[:_NAMED])
        more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
        yield (
            f"chunk {chunk['chunk']} was decoded without {count(len(missing), 'level-0 hour')} of "
            f"{chunk['level0']['needed']}: {named}{more}"
        )
    for file in missing_events(chunk):
        where = f"chunk {chunk['chunk']}, run {file['run']}, APID {file['apid']}"
        if file["missing_events"]:
            yield (
                f"{where}: {count(file['missing_events'], 'event')} of {file['announced']} that its datagrams "
                "announce or its event file holds are not in its index"
            )
        else:
            yield f"{where}: no line of its index covers {file['uncovered_bytes']} bytes of its event file"


def troubles(
    settings: Settings, downlink: DownlinkId, chunks: Iterable[Mapping[str, Any]]
) -> Iterator[Cause]:
    """Tell what the chunks of a downlink (entries of its receipt) fell short of, and what to do about it."""
    again = partial(rerun, downlink, "decode_chunk")
    for chunk in chunks:
        if kinds := chunk["said"]["exceptions"]:
            met = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
            first = next(iter(chunk["said"]["lines"]), "")
            text = f"the decoder of chunk {chunk['chunk']} met exceptions ({met}); the first: {first}"
            log = paths.done_log(downlink)
            yield Cause("decoder-exceptions", Verdict.NOTE, text, Remedy(first=f"see what is lost: {log}"))
        hours = missing_hours(chunk)
        there = arrived_since(settings, downlink, chunk)
        if there:
            named = ", ".join(f"{each['hour']} (APID {each['apid']})" for each in there[:_NAMED])
            more = f" and {len(there) - _NAMED} more" if len(there) > _NAMED else ""
            yield Cause(
                "level0-arrived",
                Verdict.ACTION,
                f"level-0 that chunk {chunk['chunk']} was decoded without has arrived since: {named}{more}",
                again(),
            )
        told = list(sentences(chunk))
        if hours and len(there) < len(hours):
            yield Cause("level0-missing", Verdict.ACTION, told[0], again("have the archive completed"))
        gone, missing = settings.gone_events(downlink, chunk["chunk"]), number_missing(chunk)
        accepted = gone is not None and missing <= gone.events
        for text in told[bool(hours) :]:
            if gone is not None and accepted:
                yield Cause("events-missing", Verdict.NOTE, f"{text}; gone for good: {gone.reason}")
                continue
            log = paths.done_log(downlink)
            yield Cause(
                "events-missing",
                Verdict.ACTION,
                text,
                again(
                    f'if they are gone for good, in the config: ignore: {{events: [{{dl: "{downlink}", chunk: '
                    f'"{chunk["chunk"]}", events: {missing}, reason: "..."}}]}}; else look into {log}, fix this'
                ),
            )
