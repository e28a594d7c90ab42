"""The picture of a downlink: its chunks with their hours, its files against the limit, and how long each step took."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from halfpipe import paths
from halfpipe.decode.shortfall import missing_hours
from halfpipe.downlink.plan import Plan
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.formats import met as met_of
from halfpipe.formats.retdef import RetDef, Span, read_retdef
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.pages.drawn import (
    BLACK,
    GREY,
    LIGHT,
    OF_EPU,
    STYLE,
    VERMILION,
    Mark,
    content,
    duration,
    legend,
    simulated,
)
from halfpipe.run.receipt_file import read_receipt
from halfpipe.status.account import Site as Looked
from halfpipe.status.account import account
from halfpipe.status.explanation import Site
from halfpipe.tables.latency import Latency, latency
from halfpipe.words import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CHUNKS = 40
MOST_FILES = 60
MOST_LINES = 6
HOUR = 3600.0

NOT_DECODED = Mark("announced, not decoded yet", "white", GREY)
MISSING_HOUR = Mark("an hour without data in the archive", "white", VERMILION, "xxx")
FILE = Mark("event file", "#595959", "white")
STEPS = (
    ("last_event", "retdef", "data come down,\nRetDefs are made", LIGHT, ""),
    ("retdef", "start", "waits", "white", "---"),
    ("start", "decoded", "decoding", OF_EPU[6], ""),
    ("decoded", "handed_off", "merging and\nhand-off", OF_EPU[7], "//"),
    ("handed_off", "submitted", "waits for the\nsubmission", "white", "\\\\"),
)
ORDER = ("last_event", "retdef", "start", "decoded", "handed_off", "submitted")


@dataclass(frozen=True)
class _Chunk:
    """A chunk as it is drawn: what its RetDef says, and what vouches for its products; None without them."""

    chunk: ChunkId
    retdef: RetDef | None
    content: Mapping[str, Any] | None

    @property
    def events(self) -> int:
        """How many events it brought."""
        return sum(file.get("events", 0) for file in self.content["files"]) if self.content else 0

    @property
    def size(self) -> int:
        """Bytes of its event records."""
        files = self.content["files"] if self.content else ()
        return sum(file["size"] for file in files if file["kind"] == "evt")

    @property
    def exceptions(self) -> int:
        """How many exceptions the decoder reported."""
        return sum(self.content["said"]["exceptions"].values()) if self.content else 0

    @property
    def spans(self) -> Sequence[Span]:
        """The times that it is of."""
        return self.retdef.spans if self.retdef else ()

    @property
    def says(self) -> str:
        """What stands behind its bar."""
        if self.retdef is None:
            return "has no RetDef"
        if self.content is None:
            return "not decoded yet"
        seconds = sum(span.end - span.begin for span in self.spans)
        parts = [count(self.events, "event"), f"{self.size / 1e6:.1f} MB"]
        parts += [f"{self.events / seconds:.1f} / s"] if seconds else []
        parts += [count(self.exceptions, "exception")] if self.exceptions else []
        hours = missing_hours(self.content)
        parts += [f"{count(len(hours), 'hour')} missing"] if hours else []
        return ", ".join(parts)


def picture(site: Site, downlink: DownlinkId, kind: str, note: str = "") -> bytes:
    """Return the picture of a downlink; `kind` is ``svg`` or ``png``, `note` what stands below it.

    Raises
    ------
    MissingInputError
        If nothing is known of it.
    HalfPipeError
        If what is known is damaged, or there is no such kind of picture.
    """
    import matplotlib as mpl  # noqa: PLC0415 - takes half a second

    chunks = list(_chunks(site, downlink))
    if not chunks:
        raise MissingInputError(f"nothing is known of downlink {downlink}: it has no RetDefs")
    receipt = None
    if (site.work / paths.receipt(downlink)).exists():
        receipt = read_receipt(site.work, downlink)
    title, described = _words(site, downlink, chunks, receipt)
    note = note or simulated(site.settings)
    with mpl.rc_context(STYLE):
        figure = _figure(site, downlink, chunks, receipt, title, described, note)
        return content(figure, kind, title, " ".join(described))


def _chunks(site: Site, downlink: DownlinkId) -> Iterator[_Chunk]:
    of = Plan(site.settings).of(downlink)
    for chunk in of.chunks if of.retdefs else ():
        retdef, made = None, None
        if chunk in of.retdefs:
            with suppress(HalfPipeError):
                retdef = read_retdef(of.retdefs[chunk])
        with suppress(MissingInputError):
            made = read_json(site.work / paths.chunk(downlink, chunk))
        yield _Chunk(chunk, retdef, made)


def _words(
    site: Site, downlink: DownlinkId, chunks: Sequence[_Chunk], receipt: Mapping[str, Any] | None
) -> tuple[str, list[str]]:
    state = account(Looked(site.settings, site.now, site.now), downlink)
    delivered = f", {count(state.events, 'event')} delivered, {state.orphans:,} waiting" if receipt else ""
    title = f"Downlink {downlink}: {state.state}{delivered}"
    decoded = sum(one.content is not None for one in chunks)
    described = [f"{decoded} of {count(len(chunks), 'chunk')} decoded."]
    described += [
        f"Chunk {one.chunk}: no data of {each['hour']}, APID {each['apid']}."
        for one in chunks
        if one.content
        for each in missing_hours(one.content)
    ]
    return title, described


def _figure(
    site: Site,
    downlink: DownlinkId,
    chunks: Sequence[_Chunk],
    receipt: Mapping[str, Any] | None,
    title: str,
    described: Sequence[str],
    note: str,
) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415

    shown = chunks[:MOST_CHUNKS]
    lines = [line for one in described for line in wrap(one, 118)][:MOST_LINES]
    figure = Figure(figsize=(10, 4.2 + 0.28 * len(shown) + 0.17 * len(lines)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    ratios = [0.28 * len(shown) + 0.5, 1.4, 0.45]
    top, files, steps = figure.subplots(3, 1, height_ratios=ratios)
    marks = _draw_chunks(top, shown, len(chunks))
    marks += _draw_files(files, site.settings.merge.max_events, receipt)
    _draw_steps(steps, latency(site.settings, downlink))
    steps.set_xlabel("\n".join([steps.get_xlabel(), *lines, *([note] if note else [])]), loc="left")
    legend(figure, marks)
    return figure


def _draw_chunks(axes: "Axes", chunks: Sequence[_Chunk], every: int) -> list[Mark]:
    marks: list[Mark] = []
    times = [at for one in chunks for span in one.spans for at in (span.begin, span.end)] or [0.0, HOUR]
    begin, end = min(times), max(times)
    least = max(1.0, end - begin) / 300
    for number, one in enumerate(chunks):
        for span in one.spans:
            mark = Mark(f"EPU {span.apid}", OF_EPU[span.apid % 10]) if one.content else NOT_DECODED
            width = max(least, span.end - span.begin)
            style = mark.style() | ({} if one.content else {"linestyle": "--"})
            axes.broken_barh([(span.begin - begin, width)], (-number - 0.3, 0.6), **style)
            marks.append(mark)
            for at in _missing(one, span):
                axes.broken_barh(
                    [(at[0] - begin, at[1] - at[0])], (-number - 0.3, 0.6), **MISSING_HOUR.style()
                )
                marks.append(MISSING_HOUR)
        axes.text(1.005, -number, one.says, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_yticks([-n for n in range(len(chunks))], [_name(one) for one in chunks])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-len(chunks) + 0.4, 0.6)
    axes.set_xlim(-0.02 * (end - begin), 1.02 * (end - begin))
    _utc_axis(axes, begin, end)
    more = f" (the first {len(chunks)} of {every})" if every > len(chunks) else ""
    axes.set_title(f"chunks{more}, by the times of their data", fontsize=10)
    return marks


def _name(one: _Chunk) -> str:
    run = f" · run {one.retdef.run}" if one.retdef else ""
    apids = ", ".join(str(apid) for apid in sorted({span.apid for span in one.spans}))
    return f"{one.chunk}{run}{f' · EPU {apids}' if apids else ''}"


def _missing(one: _Chunk, span: Span) -> Iterator[tuple[float, float]]:
    """Yield the parts of a span in which the archive had nothing."""
    gone = {each["hour"] for each in missing_hours(one.content or {}) if each["apid"] == span.apid}
    hour = span.begin // HOUR * HOUR
    while hour < span.end:
        if any(name.endswith(str(met_of.hour_directory(hour))) for name in gone):
            yield max(hour, span.begin), min(hour + HOUR, span.end)
        hour += HOUR


def _utc_axis(axes: "Axes", begin: float, end: float) -> None:
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    ticks = [at for at in MaxNLocator(6).tick_values(0, end - begin) if 0 <= at <= end - begin]
    axes.set_xticks(ticks, [f"{met_of.utc(begin + at):%H:%M:%S}" for at in ticks])
    axes.set_xlabel(f"UTC, from {met_of.utc(begin):%Y-%m-%d}", loc="left")


def _draw_files(axes: "Axes", most: int, receipt: Mapping[str, Any] | None) -> list[Mark]:
    axes.set_title("event files for Level-1, by run", fontsize=10)
    axes.set_ylabel("events")
    if not receipt or not any(run["files"] for run in receipt["runs"]):
        axes.text(0.5, 0.5, "no event file was delivered", transform=axes.transAxes, ha="center", va="center")
        axes.set_xticks([])
        axes.set_yticks([])
        return []
    at, ticks = 0, []
    for run in receipt["runs"]:
        files = run["files"][:MOST_FILES]
        axes.bar([at + n for n in range(len(files))], [f["events"] for f in files], width=0.8, **FILE.style())
        said = "held" if run["held"] else f"{run['orphans']:,} waiting" if run["orphans"] else ""
        ticks.append((at + (max(1, len(files)) - 1) / 2, f"{run['run']}\n{said or run['kind']}"))
        at += max(1, len(files)) + 1
    axes.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
    largest = max(file["events"] for run in receipt["runs"] for file in run["files"])
    if 0 < most <= 4 * largest:
        axes.axhline(most, color=VERMILION, linestyle="--", linewidth=1)
    if most > 0:
        said = f"limit of a file:\n{most:,} events\n(merge.max_events)"
        axes.text(1.005, 1.0, said, transform=axes.transAxes, va="top", fontsize=8)
    axes.set_xlim(-1, max(at, 6) - 0.5)
    return [FILE]


def _draw_steps(axes: "Axes", took: Latency | None) -> None:
    axes.set_title("how long each step took (not to scale)", fontsize=10)
    known = [step for step in ORDER if took and getattr(took, step) is not None]
    axes.set_yticks([])
    if len(known) < 2:
        axes.text(0.5, 0.5, "no times are known", transform=axes.transAxes, ha="center", va="center")
        axes.set_xticks([])
        return
    said = {begin: (says, colour, hatch) for begin, _, says, colour, hatch in STEPS}
    # Each step as wide as the others: they take from seconds to days.
    for n, (begin, end) in enumerate(pairwise(known)):
        says, colour, hatch = said[begin]
        seconds = max(0.0, getattr(took, end) - getattr(took, begin))
        mark = Mark(says, colour, BLACK, hatch)
        axes.broken_barh([(n, 1)], (0, 1), **mark.style())
        axes.text(n + 0.5, -0.15, f"{says}\n{duration(seconds)}", ha="center", va="top", fontsize=8)
    axes.set_xlim(-0.02, len(known) - 1 + 0.02)
    axes.set_ylim(0, 1)
    axes.set_xticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xlabel("\n\n\n")
