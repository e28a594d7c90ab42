"""What HalfPipe knows of a site, as pandas frames: read-only, without leases, each frame when it is first used.

FITS keywords of coverage follow the OGIP convention for time intervals (OGIP/93-003) with the values of the Fermi
mission: MET counts seconds of TT from 2001-01-01 00:00:00 UTC, which is MJD 51910 + 7.428703703703703E-4 in TT.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache, partial
from itertools import product, repeat
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import FormatError, HalfPipeError, MissingInputError, Remedy
from halfpipe.files import typed
from halfpipe.files.reading import read_whole
from halfpipe.formats.evt import MONTECARLO, context_column, open_evt, walk
from halfpipe.formats.idx import Events
from halfpipe.formats.met import unix_to_met
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval, join
from halfpipe.merge.late_events import late_and_closed, numbers_inside
from halfpipe.notify.submissions import submissions
from halfpipe.plan.plan import Plan, outstanding_chunks
from halfpipe.process.usage import Usage
from halfpipe.settings import Settings
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.downlinks_of_run import (
    begun_downlinks,
    every_downlink,
    every_run,
    known_downlinks,
    refuse_unknown,
)
from halfpipe.state.hand_offs import HandOff, ReadDeliveries, hand_offs, last_hand_off, runs_of
from halfpipe.status.explanation import State
from halfpipe.status.survey import Survey
from halfpipe.tables import columns, frames

if TYPE_CHECKING:
    from astropy.table import Table

MJD_REFERENCE = (51910, 7.428703703703703e-4)  # of MET 0 in TT: 32 s of leap seconds and 32.184 s
Covered = tuple[float, float]
LONGEST = 7 * 86400  # seconds that a run may last
EARLIER = 3600  # seconds that an event may have before the start of its run


class SiteFrames:
    """What HalfPipe knows of a site. `halfpipe.tables.columns` describes the columns of each frame.

    Parameters
    ----------
    settings
        The settings of the site.
    named
        The downlinks to look at, or for `waiting` the runs; None: all.

    Attributes
    ----------
    problems
        The downlinks, and for `waiting` the runs, whose records could not be read when a frame was made.
    """

    def __init__(self, settings: Settings, named: Iterable[str] | None = None) -> None:
        self.settings = settings
        self._work = settings.paths.work
        self._named = None if named is None else tuple(named)
        self.problems: dict[str, HalfPipeError] = {}

    def __repr__(self) -> str:
        simulated = ", SIMULATED data" if self.settings.is_simulated else ""
        return f"<HalfPipe site at {self._work}{simulated}: {', '.join(columns.FRAMES)}>"

    @cached_property
    def downlinks(self) -> pd.DataFrame:
        """One row for each downlink, with what its latest receipt contains."""
        return columns.DOWNLINKS.frame(self._downlinks())

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row for each run and downlink, with what the downlink delivered of the run."""
        return frames.runs(self._last_hand_offs(), self.submitted)

    @cached_property
    def files(self) -> pd.DataFrame:
        """One row for each delivered event file."""
        return frames.event_files(one for last in self._last_hand_offs() for one in frames.delivered(last))

    @cached_property
    def chunks(self) -> pd.DataFrame:
        """One row for each chunk in a receipt."""
        return columns.CHUNKS.frame(
            (last.receipt.downlink, *frames.chunk_row(chunk))
            for last in self._last_hand_offs()
            for chunk in last.receipt.chunks
        )

    @cached_property
    def waiting(self) -> pd.DataFrame:
        """One row for each run that is not complete."""
        runs = every_run(self._work) if self._named is None else map(RunId, self._named)
        return columns.WAITING.frame(
            frames.waiting_runs(Survey(self.settings), runs, self.problems), times="met"
        )

    @cached_property
    def jobs(self) -> pd.DataFrame:
        """One row for each job that succeeded."""
        return columns.JOBS.frame(self._jobs())

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row for each hand-off, and for each attempt to submit one or to roll one back."""
        return columns.RECORDS.frame(self._records())

    def run(self, run: str) -> "PartFrames":
        """Return the frames of one run, named like ``29d7d35d`` or ``r0702010205``.

        Raises
        ------
        IdError, MissingInputError
            If this is not a run, or HalfPipe does not know it.
        """
        known = RunId.parse(run)
        refuse_unknown(self._work, known)
        return PartFrames(self.settings, known.l1, [known])

    def downlink(self, downlink: str) -> "PartFrames":
        """Return the frames of what one downlink delivered.

        Raises
        ------
        IdError, MissingInputError
            If this is not a downlink, or it was not handed off.
        """
        of = DownlinkId(downlink)
        return PartFrames(self.settings, of, runs_of(self._last(of)), of)

    def submitted(self, downlink: DownlinkId) -> int | None:
        """Return the number of the hand-off that Level-1 has; None also if the records are damaged: a problem."""
        try:
            confirmed = submissions(self._work, downlink, only_look=True).last_confirmed
        except HalfPipeError as error:
            self.problems[downlink] = error
            confirmed = None
        return confirmed.handoff if confirmed else None

    def _names(self) -> Sequence[DownlinkId]:
        return every_downlink(self._work) if self._named is None else [*map(DownlinkId, self._named)]

    def _last(self, downlink: DownlinkId) -> HandOff:
        """Return the last hand-off of a downlink, with its deliveries.

        Raises
        ------
        MissingInputError
            If there is none.
        HalfPipeError
            If a record of it is damaged.
        """
        last = last_hand_off(self._work, downlink, only_look=True, read=self._deliveries)
        if last is None:
            raise MissingInputError(
                f"downlink {downlink} was not handed off.",
                Remedy(f"snakemake dl={downlink}", first="Process it first"),
            )
        return last

    @cached_property
    def _deliveries(self) -> ReadDeliveries:
        """Reads the deliveries of a run, and keeps them, because the run's downlinks follow each other."""
        return lru_cache(partial(Deliveries, self._work, only_look=True))

    def _last_hand_offs(self) -> Iterator[HandOff]:
        for downlink in self._names():
            try:
                last = self._last(downlink)
                last.runs  # noqa: B018 - reads the deliveries
                yield last
            except HalfPipeError as error:
                if self._named is not None or not isinstance(error, MissingInputError):
                    self.problems[downlink] = error

    def _downlinks(self) -> Iterator[frames.Row]:
        known: set[DownlinkId] = set()
        of_others = self.problems
        self.problems = {}
        for last in self._last_hand_offs():
            downlink = last.receipt.downlink
            known.add(downlink)
            told = self.submitted(downlink)
            problem = self.problems.get(downlink)
            yield frames.downlink_row(last, told, problem.text if problem else None)
        unknown = [None] * (len(columns.DOWNLINKS.data) - 1)
        yield from ((dl, *unknown, error.text) for dl, error in self.problems.items() if dl not in known)
        self.problems = {**of_others, **self.problems}

    def _jobs(self) -> Iterator[frames.Row]:
        for downlink in self._names():
            with suppress(OSError):
                for line in read_whole(f"{self._work}/{paths.usage(downlink)}").splitlines():
                    with suppress(FormatError):  # a line that a full disk cut off
                        one = typed.decode(line, Usage, paths.usage(downlink))
                        begun = one.begun.timestamp()
                        yield (downlink, one.job, begun, one.host, one.seconds, one.cpu_seconds, one.memory)

    def _records(self) -> Iterator[frames.Row]:
        for downlink, read in product(self._names(), (self._hand_offs, self._submissions)):
            try:
                yield from read(downlink)
            except HalfPipeError as error:
                self.problems[downlink] = error

    def _hand_offs(self, downlink: DownlinkId) -> Iterator[frames.Row]:
        for made in hand_offs(self._work, downlink, only_look=True):
            yield downlink, made.made, "hand-off", made.number, None, made.receipt.reason

    def _submissions(self, downlink: DownlinkId) -> Iterator[frames.Row]:
        for one in submissions(self._work, downlink, only_look=True).every:
            yield downlink, one.since, str(one.action), one.handoff, str(one.outcome) or None, None


class PartFrames:
    """The events, and the delivered intervals, of one run, or of what one downlink delivered."""

    def __init__(
        self, settings: Settings, name: str, runs: Iterable[RunId], downlink: DownlinkId | None = None
    ) -> None:
        self._settings = settings
        self.name = name
        self.runs = tuple(runs)
        self.delivered_by = downlink

    def __repr__(self) -> str:
        simulated = ", SIMULATED data" if self._settings.is_simulated else ""
        return f"<{self.name}{simulated}: events, coverage, gaps, coverage_table>"

    def events(self) -> pd.DataFrame:
        """Return the known events, each once, in order, with the fields of their headers.

        They are read from the products of chunks. After a cleanup these are gone, and so are the rows; for a single
        run, ``attrs["gone"]`` lists the downlinks without rows.
        """
        known = [run for run in self.runs if known_downlinks(self._settings.paths.work, run)]
        parts = [_events_of(self._settings, run, self.delivered_by) for run in known]
        return pd.concat(parts) if parts else columns.EVENTS.frame(())

    def coverage(self) -> pd.DataFrame:
        """Return the delivered intervals in order.

        An interval extends from the whole second of the first event of a file to the end of the second of its last
        event. Overlapping intervals are joined. It is coverage, not good time: Level-1 decides what is good.
        """
        return coverage_frame(self._covered())

    def gaps(self, t0: float | None = None, t1: float | None = None) -> pd.DataFrame:
        """Return what the coverage leaves of the time from `t0` to `t1` (MET seconds).

        None stands for the start of the first interval, and for the end of the last one.
        """
        covered = self._covered()
        first = covered[0][0] if covered and t0 is None else t0
        last = covered[-1][1] if covered and t1 is None else t1
        return coverage_frame(() if first is None or last is None else gaps_in(covered, first, last))

    def coverage_table(self) -> "Table":
        """Return the coverage as an astropy table that ``write("coverage.fits")`` makes a FITS table of."""
        return coverage_table(self.coverage(), self.name, simulated=self._settings.is_simulated)

    def _covered(self) -> tuple[Interval, ...]:
        """Return the delivered seconds as half-open intervals."""
        files = (
            file.seconds
            for run in self.runs
            for downlink, delivery in Deliveries(self._settings.paths.work, run, only_look=True)
            .latest()
            .items()
            if self.delivered_by in {None, downlink}
            for file in delivery.files
        )
        return join((first, last + 1) for first, last in files)


def events_of_file(path: Path) -> pd.DataFrame:
    """Return the header fields of the events in an event file; ``attrs`` has whether a simulation made any of them.

    Times are the whole seconds of the time tones.

    Raises
    ------
    FormatError, MissingInputError
        As `halfpipe.formats.evt.open_evt` and `walk`.
    """
    data = open_evt(path).data
    offsets = walk(data, str(path))
    names = ("scalers_sequence", "ccsds_apid", "current_timeSecs", "run_origin")
    sequence, apid, seconds, origin = (context_column(data, offsets, name) for name in names)
    rows = zip(
        *(sequence, apid, seconds, seconds, repeat(None), repeat(None), repeat(path.name), offsets),
        strict=False,
    )
    found = columns.EVENTS.frame(rows, times="met")
    found.attrs["simulated"] = bool((origin == MONTECARLO).any())
    return found


def _events_of(settings: Settings, run: RunId, delivered_by: DownlinkId | None) -> pd.DataFrame:
    """Return the frame of the known events of a run; with `delivered_by`, of those that this downlink delivered."""
    of = State(Survey(settings), run)
    known = of.known
    files = of.files
    sequence = known.sequence
    source = np.full(len(known), None, object)
    delivered = np.full(len(known), None, object)
    for downlink in reversed(of.events):
        source[_are_in(known, of.events[downlink])] = str(downlink)
    for downlink, delivery in of.deliveries.latest().items():
        delivered[numbers_inside(sequence, join(delivery.spans))] = str(downlink)
    inside = delivered != None  # noqa: E711 - element by element
    for _, late in late_and_closed(known, inside, of.recorded, of.events)[0]:
        delivered[_are_in(known, late)] = None
    unix = known.utc
    names = np.array([path.name for path in files], object)
    rows = (
        sequence,
        known.apid,
        unix,
        unix,
        source,
        delivered,
        names[known.file],
        known.offset,
    )
    frame = columns.EVENTS.frame(zip(*rows, strict=True))
    frame.attrs["gone"] = [str(downlink) for downlink in of.downlinks if downlink not in of.events]
    return frame if delivered_by is None else frame[frame.delivered == delivered_by]


def _are_in(some: Events, others: Events) -> NDArray[np.bool_]:
    """Tell for each event whether it is among others, by EPU and sequence."""
    places, of_others = (pd.MultiIndex.from_arrays([of.apid, of.sequence]) for of in (some, others))
    return np.asarray(places.isin(of_others), bool)


def gaps_in(covered: Sequence[Covered], begin: float, end: float) -> list[Covered]:
    """Return the gaps that sorted, disjoint, half-open intervals leave between `begin` and `end`."""
    inside = [(max(first, begin), min(last, end)) for first, last in covered if last > begin and first < end]
    edges = [begin, *(edge for interval in inside for edge in interval), end]
    return [(first, last) for first, last in zip(edges[::2], edges[1::2], strict=True) if first < last]


def coverage_frame(intervals: Iterable[Covered]) -> pd.DataFrame:
    """Return intervals (MET seconds) with the columns of `columns.COVERAGE`."""
    rows = ((first, last, first, last, last - first) for first, last in intervals)
    return columns.COVERAGE.frame(rows, times="met")


def coverage_table(covered: pd.DataFrame, name: str, *, simulated: bool) -> "Table":
    """Return a frame of intervals as an astropy table with the keywords of a FITS table of time intervals."""
    from astropy.table import Table  # noqa: PLC0415 - half a second, which most frames do without
    from astropy.time import Time, TimeDelta  # noqa: PLC0415

    begin = covered.index.to_numpy()
    end = covered.end_met.to_numpy()
    found = Table({"START": begin, "STOP": end}, units={"START": "s", "STOP": "s"})
    found.meta = {
        "EXTNAME": "COVERAGE",
        "TELESCOP": "GLAST",
        "INSTRUME": "LAT",
        "OBJECT": name,
        "ORIGIN": "SIMULATED" if simulated else "HalfPipe",
        "HDUCLASS": "OGIP",
        "HDUCLAS1": "INTERVALS",
        "TIMESYS": "TT",
        "TIMEREF": "LOCAL",
        "TIMEUNIT": "s",
        "MJDREFI": MJD_REFERENCE[0],
        "MJDREFF": MJD_REFERENCE[1],
    }
    if len(begin):
        reference = Time(*MJD_REFERENCE, format="mjd", scale="tt")
        dates = [(reference + TimeDelta(edge, format="sec")).isot for edge in (begin[0], end[-1])]
        found.meta |= {"TSTART": begin[0], "TSTOP": end[-1], "DATE-OBS": dates[0], "DATE-END": dates[1]}
    return found


def find(
    settings: Settings,
    when: float | None,
    runs: Collection[RunId],
) -> tuple[pd.DataFrame, list[HalfPipeError]]:
    """Return the event files and outstanding chunks with a time, a run, or both, in order of runs.

    Parameters
    ----------
    settings
        The settings.
    when
        MET seconds; None: any time.
    runs
        Any of these runs; empty: any run.

    Returns
    -------
    DataFrame
        The columns of `halfpipe.tables.columns.FILES`: a row for each event file, and for each span of a chunk that is
        ``outstanding`` (``name`` is the chunk, most other columns are missing). A run of a downlink without files, for
        example of one that another system delivered, has one row without times; it is found by a time if no other
        run began between its start and this time.
    list
        The errors of damaged records; the other records are still used.

    Notes
    -----
    This reads only receipts of downlinks that contain one of the runs; for a time, of runs that began in the week
    before it, because a run of the LAT lasts one or a few orbits.
    """
    work = settings.paths.work
    near = [run for run in every_run(work) if when is None or -EARLIER <= when - run.met <= LONGEST]
    candidates: set[DownlinkId] = set()
    failed: list[HalfPipeError] = []
    for run in runs or near:
        candidates.update(begun_downlinks(work, run))
        try:  # of what was taken over, there may be nothing but a delivery
            candidates.update(Deliveries(work, run, only_look=True).latest())
        except HalfPipeError as error:
            failed.append(error)
    handed_off = SiteFrames(
        settings, [dl for dl in sorted(candidates) if (work / paths.receipt(dl)).exists()]
    )
    announced = (
        (each.retdef.run, each.downlink, f"chunk {each.chunk}", *[None] * 4, *times, *times, None)
        for each in outstanding_chunks(Plan(settings))
        for span in each.retdef.spans
        for times in [(unix_to_met(span.begin), unix_to_met(span.end))]
    )
    outstanding = columns.FILES.frame(announced, times="met").assign(outstanding=True)
    found = pd.concat([handed_off.files.assign(outstanding=False), outstanding])
    empty = handed_off.runs.events[handed_off.runs.files == 0]
    if when is not None:
        found = found.query("begin_met <= @when < end_met")
        begun = max((run for run in near if run.met <= when), default="")
        empty = empty[empty.index.get_level_values("run") == begun]
    without = ((*of, "no files", events, *[None] * 3, *[nan] * 4, None) for of, events in empty.items())
    found = pd.concat(
        [found, columns.FILES.frame(without, times="met").assign(outstanding=False)]
    ).sort_index()
    return found[found.index.isin(runs, "run")] if runs else found, [*failed, *handed_off.problems.values()]
