"""What HalfPipe knows of a site, as pandas frames: read-only, without leases, each frame when it is first used."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from operator import itemgetter
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.config import find_profile, load
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.files.reading import read_whole
from halfpipe.formats.evt import MONTECARLO, context_column, open_evt, walk
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.decision import all_known
from halfpipe.merge.intervals import Interval, join
from halfpipe.merge.late_events import Events, late_and_closed, numbers_inside
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import every_downlink, every_run, refuse_unknown
from halfpipe.run.merged_index import events_there, known_indexes
from halfpipe.run.receipt_file import hand_offs, last_hand_off, receipt_copy
from halfpipe.settings import Settings
from halfpipe.status.survey import Survey
from halfpipe.tables import columns, coverage, frames
from halfpipe.tables.incomplete_runs import waiting_runs

if TYPE_CHECKING:
    from astropy.table import Table

JOB = itemgetter("job", "begun", "host", "seconds", "cpu_seconds", "memory")


def open_site(profile: str | PathLike[str] | None = None) -> "SiteFrames":
    """Read the settings that a profile or a config file names; errors as for `halfpipe.open`."""
    if profile is not None and Path(profile).is_file() and not Path(profile).name.endswith("v9+.yaml"):
        return SiteFrames(load([Path(profile)], only_look=True))
    found = find_profile(None if profile is None else str(profile))
    return SiteFrames(
        load(found.configfiles, found.config, only_look=True) if found else load(only_look=True)
    )


class SiteFrames:
    """What HalfPipe knows of a site. `halfpipe.tables.columns` describes the columns of each frame.

    Parameters
    ----------
    settings
        The settings of the site.
    downlinks
        The downlinks to look at; empty: all.

    Attributes
    ----------
    problems
        The downlinks whose receipts could not be read when a frame was made.
    """

    def __init__(self, settings: Settings, downlinks: Iterable[DownlinkId] = ()) -> None:
        self.settings, self._only = settings, tuple(downlinks)
        self._work = settings.paths.work
        self.problems: dict[DownlinkId, HalfPipeError] = {}

    def __repr__(self) -> str:
        simulated = ", SIMULATED data" if self.settings.is_simulated else ""
        return f"<HalfPipe site at {self._work}{simulated}: {', '.join(columns.FRAMES)}>"

    def _names(self) -> Sequence[DownlinkId]:
        return self._only or every_downlink(self._work)

    def _submitted(self, downlink: DownlinkId) -> int | None:
        if not self._only:  # this file is removed before each record
            with suppress(HalfPipeError, KeyError, TypeError):
                return int(read_json(self._work / paths.submitted(downlink))["submitted"])
        return frames.submitted_number(self._work, downlink)

    def _submitted_if_known(self, downlink: DownlinkId) -> int | None:
        try:
            return self._submitted(downlink)
        except HalfPipeError as error:
            self.problems[downlink] = error
            return None

    def _receipts(self) -> Iterator[Mapping[str, Any]]:
        return frames.read_receipts(
            self._work, self._names(), self.problems.__setitem__, named=bool(self._only)
        )

    @cached_property
    def downlinks(self) -> pd.DataFrame:
        """One row for each downlink, with what its latest receipt contains."""
        return frames.downlinks(self._work, self._receipts(), self.problems, self._submitted)

    @cached_property
    def runs(self) -> pd.DataFrame:
        """One row for each run and downlink, with what the downlink delivered of the run."""
        return frames.runs(self._receipts(), self._submitted_if_known)

    @cached_property
    def files(self) -> pd.DataFrame:
        """One row for each delivered event file."""
        return frames.event_files(self._receipts())

    @cached_property
    def chunks(self) -> pd.DataFrame:
        """One row for each chunk in a receipt."""
        return frames.chunks(self._receipts())

    @cached_property
    def waiting(self) -> pd.DataFrame:
        """One row for each run that is not complete. Damaged runs are left out: status reports them."""
        survey, runs = Survey(self.settings), every_run(self._work)
        return columns.WAITING.frame(waiting_runs(survey, runs, damaged=lambda _: None), times="met")

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
        known = RunId.from_l1(run) if run.startswith("r") else RunId(run)
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
        made = last_hand_off(self._work, of, only_look=True)
        if made is None:
            raise MissingInputError(f"downlink {of} was not handed off. Process it: snakemake dl={of}")
        return PartFrames(self.settings, of, [RunId(run["run"]) for run in made.receipt["runs"]], of)

    def _jobs(self) -> Iterator[tuple[Any, ...]]:
        for downlink in self._names():
            with suppress(OSError):
                for line in read_whole(f"{self._work}/{paths.usage(downlink)}").splitlines():
                    with suppress(ValueError, KeyError, TypeError):  # a line that a full disk cut off
                        name, begun, *measured = JOB(json.loads(line))
                        yield (downlink, name, datetime.fromisoformat(begun).timestamp(), *measured)

    def _records(self) -> Iterator[tuple[Any, ...]]:
        for downlink in self._names():
            with suppress(HalfPipeError):  # `downlinks` has the problem
                copy = None if self._only else receipt_copy(self._work, downlink)
                if copy and copy.previous is None:
                    made = [(frames.first_handed_off(self._work, downlink), copy.values)]
                else:
                    made = [(e.made, e.receipt) for e in hand_offs(self._work, downlink, only_look=True)]
                for when, receipt in made:
                    yield downlink, when, "hand-off", receipt["handoff"], None, receipt.get("reason")
                for one in submissions(self._work, downlink, only_look=True).every:
                    yield downlink, one.since, str(one.action), one.handoff, one.word or None, None


class PartFrames:
    """The events, and the delivered intervals, of one run, or of what one downlink delivered."""

    def __init__(
        self, settings: Settings, name: str, runs: Iterable[RunId], downlink: DownlinkId | None = None
    ) -> None:
        self._settings, self.name, self.runs, self.delivered_by = settings, name, tuple(runs), downlink

    def __repr__(self) -> str:
        simulated = ", SIMULATED data" if self._settings.is_simulated else ""
        return f"<{self.name}{simulated}: events, coverage, gaps, coverage_table>"

    def events(self) -> pd.DataFrame:
        """Return the known events, each once, in order, with the fields of their headers.

        They are read from the products of chunks. After a cleanup these are gone, and so are the rows.
        """
        parts = [_events_of(self._settings, run, self.delivered_by) for run in self.runs]
        return pd.concat(parts) if parts else columns.EVENTS.frame(())

    def coverage(self) -> pd.DataFrame:
        """Return the delivered intervals in order.

        An interval extends from the whole second of the first event of a file to the end of the second of its last
        event. Overlapping intervals are joined. It is coverage, not good time: Level-1 decides what is good.
        """
        return coverage.frame(self._covered())

    def gaps(self, t0: float | None = None, t1: float | None = None) -> pd.DataFrame:
        """Return what the coverage leaves of the time from `t0` to `t1` (MET seconds).

        None stands for the start of the first interval, and for the end of the last one.
        """
        covered = self._covered()
        first = covered[0][0] if covered and t0 is None else t0
        last = covered[-1][1] if covered and t1 is None else t1
        return coverage.frame(() if first is None or last is None else coverage.gaps(covered, first, last))

    def coverage_table(self) -> "Table":
        """Return the coverage as an astropy table that ``write("coverage.fits")`` makes a FITS table of."""
        return coverage.table(self.coverage(), self.name, simulated=self._settings.is_simulated)

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


def events_of_file(path: Path) -> tuple[pd.DataFrame, bool]:
    """Return the header fields of the events in an event file, and whether a simulation made any of them.

    Times are the whole seconds of the time tones.

    Raises
    ------
    FormatError, MissingInputError
        As `halfpipe.formats.evt.open_evt` and `walk`.
    """
    data = open_evt(path).data
    offsets = walk(data, str(path))
    sequence, apid, seconds = (
        context_column(data, offsets, name) for name in ("scalers_sequence", "ccsds_apid", "current_timeSecs")
    )
    unknown = [None] * len(offsets)
    rows = zip(
        *(sequence, apid, seconds, seconds, unknown, unknown, [path.name] * len(offsets), offsets),
        strict=True,
    )
    simulated = context_column(data, offsets, "run_origin") == MONTECARLO
    return columns.EVENTS.frame(rows, times="met"), bool(simulated.any())


def _events_of(settings: Settings, run: RunId, delivered_by: DownlinkId | None) -> pd.DataFrame:
    """Return the frame of the known events of a run; with `delivered_by`, of those that this downlink delivered."""
    work, files, events = settings.paths.work, dict[Path, int](), dict[DownlinkId, Events]()
    for downlink, index in known_indexes(settings, run).items():
        if (read := events_there(work, downlink, index, files)) is not None:
            events[downlink] = read
    known = all_known(events)
    source = np.full(len(known), None, object)
    for downlink in reversed(events):
        source[_are_in(known, events[downlink])] = str(downlink)
    delivered, deliveries = np.full(len(known), None, object), Deliveries(work, run, only_look=True)
    for downlink, delivery in deliveries.latest().items():
        delivered[numbers_inside(known["sequence"], join(delivery.spans))] = str(downlink)
    inside = delivered != None  # noqa: E711 - element by element
    for _, late in late_and_closed(known, inside, deliveries.all_recorded(), events.get)[0]:
        delivered[_are_in(known, late)] = None
    unix, names = known["utc"], np.array([path.name for path in files], object)
    rows = zip(
        *(known["sequence"], known["apid"], unix, unix, source, delivered),
        *(names[known["file"]], known["offset"]),
        strict=True,
    )
    frame = columns.EVENTS.frame(rows)
    return frame if delivered_by is None else frame[frame["delivered"] == delivered_by]


def _are_in(some: Events, others: Events) -> NDArray[np.bool_]:
    """Tell for each event whether it is among others, by EPU and sequence."""
    found = np.zeros(len(some), dtype=bool)
    for apid in np.unique(others["apid"]):
        theirs = others["sequence"][others["apid"] == apid]
        found |= (some["apid"] == apid) & np.isin(some["sequence"], theirs)
    return found
