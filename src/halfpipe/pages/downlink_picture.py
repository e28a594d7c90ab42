"""The picture of a downlink: its chunks by the times of their data, and what each brought."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from halfpipe import paths
from halfpipe.decode.shortfall import missing_hours
from halfpipe.downlink.plan import Plan
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.formats import met as met_of
from halfpipe.formats.retdef import RetDef, Span, read_retdef
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.pages.drawn import (
    GREY,
    OF_EPU,
    VERMILION,
    Axes,
    Lane,
    Mark,
    draw_lanes,
)
from halfpipe.pages.drawn import picture as drawn
from halfpipe.status.account import Site, account
from halfpipe.words import count

MOST_CHUNKS = 40
DAY, HOUR = 86400.0, 3600.0

NOT_DECODED = Mark("announced, not decoded yet", "white", GREY)
MISSING_HOUR = Mark("an hour without data in the archive", "white", VERMILION, "xxx")


def picture(site: Site, downlink: DownlinkId) -> bytes:
    """Return the picture of a downlink.

    Raises
    ------
    MissingInputError
        If nothing is known of it.
    HalfPipeError
        If what is known is damaged.
    """
    chunks = list(_chunks(site, downlink))
    if not chunks:
        raise MissingInputError(f"nothing is known of downlink {downlink}: it has no RetDefs")
    lanes = [_lane(*each) for each in chunks[:MOST_CHUNKS]]

    def paint(top: Axes) -> list[Mark]:
        more = f" (the first {len(lanes)} of {len(chunks)})" if len(lanes) < len(chunks) else ""
        top.set_title(f"chunks{more}, by the times of their data")
        _time_axis(top, lanes)
        return draw_lanes(top, lanes)

    state = account(Site(site.settings, site.now, site.now), downlink)
    delivered = f", {count(state.events, 'event')} staged, {state.orphans:,} waiting" if state.handoff else ""
    decoded = [(chunk, made) for chunk, _, made in chunks if made]
    sentences = [f"{len(decoded)} of {count(len(chunks), 'chunk')} decoded."]
    sentences += [
        f"Chunk {chunk}: no data of {each['hour']}, APID {each['apid']}."
        for chunk, made in decoded
        for each in missing_hours(made)
    ]
    title, height = f"Downlink {downlink}: {state.state}{delivered}", 0.28 * len(lanes) + 0.6
    return drawn(site.settings, title, sentences, [height], paint)


def _chunks(
    site: Site, downlink: DownlinkId
) -> Iterator[tuple[ChunkId, RetDef | None, Mapping[str, Any] | None]]:
    """Yield each chunk with its RetDef and what vouches for its products; None without them."""
    found = Plan(site.settings).of(downlink)
    for chunk in found.chunks if found.retdefs else ():
        retdef, made = None, None
        with suppress(KeyError, HalfPipeError):
            retdef = read_retdef(found.retdefs[chunk])
        with suppress(MissingInputError):
            made = read_json(site.work / paths.chunk(downlink, chunk))
        yield chunk, retdef, made


def _lane(chunk: ChunkId, retdef: RetDef | None, made: Mapping[str, Any] | None) -> Lane:
    """Return the lane of a chunk; times are days, as matplotlib has them."""
    if retdef is None:
        return Lane(chunk, [], "has no RetDef")
    apids = sorted({span.apid for span in retdef.spans})
    label = f"{chunk} · run {retdef.run} · EPU {', '.join(map(str, apids))}"
    parts = [
        (Mark(f"EPU {apid}", OF_EPU[apid % 100]) if made else NOT_DECODED, _days(retdef, apid))
        for apid in apids
    ]
    if made is None:
        return Lane(label, parts, "not decoded yet")
    hours = missing_hours(made)
    gone = [part for span in retdef.spans for part in _missing(hours, span)]
    seconds = sum(span.end - span.begin for span in retdef.spans)
    events = sum(file.get("events", 0) for file in made["files"])
    size = sum(file["size"] for file in made["files"] if file["kind"] == "evt")
    exceptions = sum(made["said"]["exceptions"].values())
    says = [count(events, "event"), f"{size / 1e6:.1f} MB"]
    says += [f"{events / seconds:.1f} / s"] if seconds else []
    says += [count(exceptions, "exception")] if exceptions else []
    says += [f"{count(len(hours), 'hour')} missing"] if hours else []
    return Lane(label, [*parts, (MISSING_HOUR, gone)], ", ".join(says))


def _days(retdef: RetDef, apid: int) -> list[tuple[float, float]]:
    return [(span.begin / DAY, span.end / DAY) for span in retdef.spans if span.apid == apid]


def _missing(hours: Sequence[Mapping[str, Any]], span: Span) -> Iterator[tuple[float, float]]:
    """Yield the parts of a span in which the archive had nothing, days."""
    gone = {each["hour"] for each in hours if each["apid"] == span.apid}
    hour = span.begin // HOUR * HOUR
    while hour < span.end:
        if any(name.endswith(str(met_of.hour_directory(hour))) for name in gone):
            yield max(hour, span.begin) / DAY, min(hour + HOUR, span.end) / DAY
        hour += HOUR


def _time_axis(axes: Axes, lanes: list[Lane]) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter  # noqa: PLC0415 - takes half a second

    times = [at for lane in lanes for _, spans in lane.parts for span in spans for at in span] or [0.0, 1.0]
    margin = max(0.02 * (max(times) - min(times)), 1 / DAY)
    axes.set_xlim(min(times) - margin, max(times) + margin)
    axes.xaxis.set_major_locator(AutoDateLocator(maxticks=8))  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))  # type: ignore[no-untyped-call]
    axes.set_xlabel(f"UTC, from {met_of.utc(min(times) * DAY):%Y-%m-%d}")
