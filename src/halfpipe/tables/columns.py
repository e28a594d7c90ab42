"""The columns of the frames: names, types, units and meanings, for frames, files and the documentation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import ArrayLike

from halfpipe.formats.met import met_to_unix, unix_to_met

if TYPE_CHECKING:
    import pandas as pd

TEXT = "str"
WHOLE = "Int64"
NUMBER = "float64"
YES_NO = "boolean"
UTC = "datetime64[us, UTC]"
BATCH = 20_000  # rows at a time, because rows take more memory than columns
MET = "met"  # mission elapsed time, seconds, as float64


class Column(NamedTuple):
    """One column: its name, its pandas dtype, its meaning, and its unit if it has one.

    Text, whole numbers, yes/no and times may be missing (NA); numbers are then NaN.
    """

    name: str
    dtype: str
    meaning: str
    unit: str = ""


@dataclass(frozen=True)
class Columns:
    """The columns of one frame: those of its index, which sorts in time, and the others."""

    index: tuple[Column, ...]
    data: tuple[Column, ...]

    def row(self, values: Iterable[object]) -> dict[str, Any]:
        """Return the values of one row by column, as they are but for NaN, which is None; a frame converts them."""
        known = (None if value != value else value for value in values)  # noqa: PLR0124 - only NaN
        return dict(zip((column.name for column in self.index + self.data), known, strict=True))

    def frame(self, rows: Iterable[Sequence[object]], times: str = "unix") -> "pd.DataFrame":
        """Return rows as a frame sorted by its index.

        Parameters
        ----------
        rows
            Rows with a value for every column, in order.
        times
            In which form the rows have times, for columns of UTC and of MET: ``unix`` (UTC seconds) or ``met``.
        """
        import pandas as pd  # noqa: PLC0415 - the board makes rows without frames

        left = iter(rows)
        parts = chain([()], iter(lambda: list(islice(left, BATCH)), []))  # the first has the types of no rows
        found = pd.concat(self._typed(part, times) for part in parts)
        found = found.set_index([column.name for column in self.index]).sort_index()
        found.attrs["units"] = {column.name: column.unit for column in self.index + self.data if column.unit}
        return found

    def _typed(self, rows: Sequence[Sequence[object]], times: str) -> "pd.DataFrame":
        """Return some rows with the types of their columns."""
        import pandas as pd  # noqa: PLC0415 - as for `frame`

        found = pd.DataFrame.from_records(rows, columns=[column.name for column in self.index + self.data])
        is_met = times == "met"
        for column in self.index + self.data:
            values = found[column.name]
            if column.dtype == MET:
                values = values.astype("float64") if is_met else unix_to_met(values)
            elif column.dtype == UTC:
                values = utc(met_to_unix(values) if is_met else values)
            else:
                values = values.astype(column.dtype)
            found[column.name] = values
        return found


def flat(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return a frame whose named index is columns, too."""
    return frame.reset_index(drop=frame.index.names == [None])


def utc(unix: ArrayLike) -> "pd.Series[Any]":
    """Convert Unix UTC seconds to times with a zone, to the microsecond; NaN becomes NaT."""
    import pandas as pd  # noqa: PLC0415 - as for `Columns.frame`

    microseconds = (pd.Series(unix, dtype="float64") * 1e6).round()
    return pd.to_datetime(microseconds, unit="us", utc=True).astype(UTC)


DOWNLINK = Column("downlink", TEXT, "the downlink, YYMMDDnnn")
RUN = Column("run", TEXT, "the run, eight hex digits of its start in MET")
BEGIN_END = (
    Column("begin", UTC, "time of the first delivered event"),
    Column("end", UTC, "time of the last delivered event"),
    Column("begin_met", MET, "the same as mission elapsed time", "s"),
    Column("end_met", MET, "the same as mission elapsed time", "s"),
)

DOWNLINKS = Columns(
    (DOWNLINK,),
    (
        Column("handoff", WHOLE, "number of the latest hand-off"),
        Column("submitted", WHOLE, "number of the hand-off that Level-1 has"),
        Column("handed_off", UTC, "time of the first hand-off"),
        Column("chunks", WHOLE, "chunks in the hand-off"),
        Column("runs", WHOLE, "runs in the hand-off"),
        Column("events", WHOLE, "events delivered"),
        Column("waiting", WHOLE, "events of its runs that waited at the time of the hand-off"),
        Column("late", WHOLE, "events that arrived too late to be delivered"),
        *BEGIN_END,
        Column("latency", NUMBER, "from the last event to the first hand-off", "s"),
        Column("simulated", YES_NO, "whether the data are SIMULATED"),
        Column("origin", TEXT, "the system that delivered it; empty: HalfPipe"),
        Column("problem", TEXT, "why the other columns are missing"),
    ),
)
RUNS = Columns(
    (RUN, DOWNLINK),
    (
        Column("l1_run", TEXT, "the run as Level-1 names it"),
        Column("kind", TEXT, "LPA or LCI"),
        Column("handoff", WHOLE, "number of the downlink's latest hand-off"),
        Column("submitted", WHOLE, "number of the downlink's hand-off that Level-1 has"),
        Column("started", UTC, "start of the run"),
        Column("started_met", WHOLE, "the same as mission elapsed time", "s"),
        Column("files", WHOLE, "event files delivered by this downlink"),
        Column("events", WHOLE, "events delivered by this downlink"),
        Column(
            "waiting",
            WHOLE,
            "events of the run that waited at the time of the hand-off",
        ),
        Column("late", WHOLE, "events that arrived too late to be delivered"),
        Column("state", TEXT, "complete, open, abandoned or refused, at the time of the hand-off"),
        *BEGIN_END,
    ),
)
FILES = Columns(
    (RUN, DOWNLINK, Column("name", TEXT, "the event file, in the run's directory of the stage")),
    (
        Column("events", WHOLE, "events in the file"),
        Column("size", WHOLE, "size of the file", "byte"),
        Column("first_sequence", "UInt64", "GEM sequence of the first event"),
        Column("last_sequence", "UInt64", "GEM sequence of the last event"),
        Column("begin", UTC, "whole second of the first event"),
        Column("end", UTC, "end of the second of the last event"),
        Column("begin_met", MET, "the same as mission elapsed time", "s"),
        Column("end_met", MET, "the same as mission elapsed time", "s"),
        Column("sha256", TEXT, "checksum of the file"),
    ),
)
CHUNKS = Columns(
    (DOWNLINK, Column("chunk", TEXT, "the chunk, five digits")),
    (
        Column("runs", TEXT, "the runs in the decoder's output"),
        Column("events", WHOLE, "events in its indexes"),
        Column("datagrams", WHOLE, "datagrams in its indexes"),
        Column("missing_events", WHOLE, "events that the datagrams announce and the indexes do not have"),
        Column("size", WHOLE, "size of its event files", "byte"),
        Column("exceptions", WHOLE, "exceptions that the decoder reported"),
        Column("hours_needed", WHOLE, "hours of level-0 in its spans"),
        Column("hours_missing", WHOLE, "hours of level-0 that were missing"),
    ),
)
WAITING = Columns(
    (RUN,),
    (
        Column("l1_run", TEXT, "the run as Level-1 names it"),
        Column("kind", TEXT, "LPA or LCI"),
        Column("started", UTC, "start of the run"),
        Column("started_met", WHOLE, "the same as mission elapsed time", "s"),
        Column("days", NUMBER, "age of the run", "d"),
        Column("state", TEXT, "open or abandoned"),
        Column("waiting", WHOLE, "events that wait now"),
        Column("old", TEXT, "why this number is of an earlier merge, or missing"),
        Column("downlinks", WHOLE, "downlinks that contain the run"),
        Column("last", TEXT, "the last of them"),
        Column("missing", TEXT, "what the run waits for"),
    ),
)
JOBS = Columns(
    (DOWNLINK, Column("job", TEXT, "rule and chunk or run"), Column("begun", UTC, "start of the job")),
    (
        Column("host", TEXT, "where it ran"),
        Column("seconds", NUMBER, "duration", "s"),
        Column("cpu_seconds", NUMBER, "CPU time of the job and its programs", "s"),
        Column("memory", WHOLE, "peak memory of the largest process", "byte"),
    ),
)
RECORDS = Columns(
    (
        DOWNLINK,
        Column("when", UTC, "time of the record"),
        Column("action", TEXT, "hand-off, submit or rollback"),
    ),
    (
        Column("handoff", WHOLE, "number of the hand-off"),
        Column("outcome", TEXT, "what became of a submission; missing while it is unknown"),
        Column("reason", TEXT, "why the hand-off was made, if given"),
    ),
)
COVERAGE = Columns(
    (Column("begin_met", MET, "start of an interval, mission elapsed time", "s"),),
    (
        Column("end_met", MET, "end of the interval, mission elapsed time", "s"),
        Column("begin", UTC, "start of the interval"),
        Column("end", UTC, "end of the interval"),
        Column("seconds", NUMBER, "its length, leap seconds included", "s"),
    ),
)
EVENTS = Columns(
    (Column("sequence", "uint64", "GEM sequence"),),
    (
        Column("epu", "int64", "APID of the EPU, or of the LCI source"),
        Column("met", MET, "time of the event, mission elapsed time", "s"),
        Column("utc", UTC, "time of the event"),
        Column("downlink", TEXT, "the downlink that contains the event"),
        Column("delivered", TEXT, "the downlink that delivered it; missing if none did"),
        Column(
            "file", TEXT, "the file with the record: of the chunk (in `DL/chunks`), or the one that was read"
        ),
        Column("offset", "int64", "position of the record in the file", "byte"),
    ),
)
FRAMES: Mapping[str, Columns] = {
    "downlinks": DOWNLINKS,
    "runs": RUNS,
    "files": FILES,
    "chunks": CHUNKS,
    "waiting": WAITING,
    "jobs": JOBS,
    "records": RECORDS,
    "coverage": COVERAGE,
    "events": EVENTS,
}
