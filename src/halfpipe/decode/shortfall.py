"""Incomplete chunks: missing level-0 hours, gaps, and missing events. Accounts use it, so it does not import numpy.

The file of an hour grows whenever ingest merges later packets into it. That matters only for an incomplete chunk,
because the new packets may belong to it.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import Decisions, Subject, What, offer
from halfpipe.decode.chunk import Chunk, Gap, HourFiles
from halfpipe.errors import HalfPipeError, Remedy, rerun
from halfpipe.formats import archive_hours
from halfpipe.formats.retdef import read_retdef
from halfpipe.ids import DownlinkId
from halfpipe.process import command_words
from halfpipe.settings import Settings
from halfpipe.words import count, first_names, utc

Arrived = tuple[str, int, str]  # the directory of a level-0 file, its APID, and its name


def arrived_since(settings: Settings, chunk: Chunk) -> list[Arrived]:
    """Return the level-0 files that appeared or changed after an incomplete chunk was decoded.

    Parameters
    ----------
    settings
        Settings with the archive.
    chunk
        The chunk as it was decoded. In a receipt, files that were read are not listed, so only hours that were missing
        count.

    Returns
    -------
    list
        The directory of the hour, relative to the archive's root, the APID, and the name of each file.
    """
    hours = chunk.read or [HourFiles(each.hour, each.apid) for each in chunk.missing_hours]
    if not (hours and chunk.is_short):
        return []
    try:
        retdef = read_retdef(settings.paths.work / paths.retdef(chunk.downlink, chunk.chunk))
    except HalfPipeError:
        return []
    root = Path(command_words.archive(settings, retdef.arch))
    found = []
    for each in hours:
        with suppress(OSError):  # the archive is not visible from here
            for path in archive_hours.files(root / each.hour, retdef.scid, each.apid):
                status = path.stat()
                if (status.st_size, int(status.st_mtime)) != each.files.get(path.name):
                    found.append((each.hour, each.apid, path.name))
    return found


def sentences(chunk: Chunk) -> Iterator[str]:
    """Yield sentences, without full stops, about what is missing in a chunk."""
    return chain(_level0_sentences([chunk]), _event_sentences(chunk))


def _level0_sentences(chunks: Sequence[Chunk]) -> Iterator[str]:
    """Yield what of level-0 some chunks lack: first the hours, then the gaps of each."""
    hours = sorted({(each.hour, each.apid) for chunk in chunks for each in chunk.missing_hours})
    if hours:
        names = first_names([f"{hour} (APID {apid})" for hour, apid in hours])
        yield f"{_named(chunks)} decoded without {count(len(hours), 'level-0 hour')}: {names}"
    for chunk in chunks:
        if chunk.gaps:
            names = first_names([_gap_in_words(gap) for gap in chunk.gaps], "; ")
            yield f"chunk {chunk.chunk} has {count(len(chunk.gaps), 'gap')}, without datagrams for {names}"


def _named(chunks: Sequence[Chunk]) -> str:
    """Return the subject of a sentence, with its verb."""
    if len(chunks) == 1:
        return f"chunk {chunks[0].chunk} was"
    return f"{len(chunks)} chunks ({first_names([chunk.chunk for chunk in chunks])}) were"


def _event_sentences(chunk: Chunk) -> Iterator[str]:
    for file in chunk.files:
        where = f"chunk {chunk.chunk}, run {file.run}, APID {file.apid:04d}"
        if file.missing_events:
            yield (
                f"{where}: the index lacks {count(file.missing_events, 'event')} of {file.announced} that "
                "its datagrams announce or its event file contains, or lists them with the sequence of another event"
            )
        if file.stray_events:
            yield (
                f"{where}: {count(file.stray_events, 'event')} of the index belong to datagrams that have no line "
                "there, so they wait for ever"
            )
        if file.uncovered_bytes and not file.missing_events:
            yield f"{where}: {file.uncovered_bytes} bytes of the event file have no index line"


def _gap_in_words(gap: Gap) -> str:
    begin = utc(gap.begin)
    end = utc(gap.end)
    day, time, _ = begin.split()
    when = f"at {begin}" if begin == end else f"from {day} {time} to {end.removeprefix(f'{day} ')}"
    missing = f" ({gap.datagrams} numbers missing)" if gap.datagrams else ""
    return f"APID {gap.apid} {when}{missing}"


def shortfall_causes(
    decisions: Decisions, downlink: DownlinkId, chunks: Sequence[tuple[Chunk, Sequence[Arrived]]]
) -> Iterator[Cause]:
    """Yield the causes for incomplete chunks of a downlink; with each chunk, what `arrived_since` returns."""
    log = paths.done_log(downlink)
    yield from _level0(decisions, downlink, chunks)
    for chunk, _ in chunks:
        if kinds := chunk.log.by_kind:
            counts = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
            first = next(iter(chunk.log.lines), "")
            text = f"the decoder of chunk {chunk.chunk} reported exceptions ({counts}); the first: {first}"
            yield Cause("decoder-exceptions", Verdict.NOTE, text, Remedy(first=f"See what is lost in {log}"))
        missing = chunk.missing_events
        subject = Subject(downlink, chunk=chunk.chunk)
        gone = decisions.why(What.EVENTS, subject, missing)
        for text in _event_sentences(chunk):
            if gone is not None:
                yield Cause("events-missing", Verdict.NOTE, f"{text}; lost: {gone}")
                continue
            again = rerun(
                downlink, "decode_chunk", f"See {log} and fix this", [offer(What.EVENTS, subject, missing)]
            )
            yield Cause("events-missing", Verdict.ACTION, text, again)


def _level0(
    decisions: Decisions, downlink: DownlinkId, chunks: Sequence[tuple[Chunk, Sequence[Arrived]]]
) -> Iterator[Cause]:
    """Yield the causes for level-0 of chunks that is missing, or arrived after decoding.

    Chunks of one downlink need the same hours, so all that lack hours are one cause.
    """
    if late := [chunk for chunk, new in chunks if new]:
        files = dict.fromkeys(f"{hour}/{name}" for _, new in chunks for hour, _, name in new)
        text = f"new level-0 arrived after {_named(late)} decoded incompletely: {first_names([*files])}"
        yield Cause("level0-arrived", Verdict.ACTION, text, rerun(downlink, "decode_chunk"))
    without = list[Chunk]()
    for chunk, new in chunks:
        arrived = {(hour, apid) for hour, apid, _ in new}
        hours = chunk.missing_hours
        gaps = chunk.gaps
        if all((each.hour, each.apid) in arrived for each in hours) and (new or not gaps):
            continue
        gone = decisions.why(What.LEVEL0, Subject(downlink, chunk=chunk.chunk), _holes(chunk))
        text = "; ".join(_level0_sentences([chunk]))
        if gone is not None:
            yield Cause("level0-missing", Verdict.NOTE, f"{text}; lost: {gone}")
        elif hours:
            without.append(chunk)
        # At the edge of a span, packets existed when its RetDef was made. A gap across hours may be a missing file.
        # Missing data inside an hour may never have been downlinked.
        elif any(
            gap.datagrams is None or gap.begin // archive_hours.HOUR != gap.end // archive_hours.HOUR
            for gap in gaps
        ):
            yield _missing(downlink, [chunk])
        else:
            yield Cause("level0-missing", Verdict.NOTE, text)
    if without:
        yield _missing(downlink, without)


def _missing(downlink: DownlinkId, chunks: Sequence[Chunk]) -> Cause:
    accept = [offer(What.LEVEL0, Subject(downlink, chunk=each.chunk), _holes(each)) for each in chunks]
    again = rerun(downlink, "decode_chunk", "Complete the archive", accept)
    return Cause("level0-missing", Verdict.ACTION, "; ".join(_level0_sentences(chunks)), again)


def _holes(chunk: Chunk) -> int:
    """Return the number that a decision about missing level-0 covers: hours of an APID, and gaps."""
    return len(chunk.missing_hours) + len(chunk.gaps)
