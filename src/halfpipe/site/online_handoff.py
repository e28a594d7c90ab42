"""The hand-off of runs to Online: which are whole, one file for each, and the command that tells of it.

Online takes a run as a whole and wants it once. So a run waits until every EPU of it is there from its start
to its stop, or until an operator gives it up; what comes afterwards is said, and never changes a file that
Online may have read.

There is a record for each step: the intent stands before the file and before the command, what came of it after. So a
process that died can be told from a file that somebody else put there, and a command whose end nobody saw from one that
was never started.
"""

import logging
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO, Any

from halfpipe import paths
from halfpipe.downlink import halts, stage_mark
from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.files import leases
from halfpipe.files.durable import make_directory, remove_file
from halfpipe.files.json_files import read_json
from halfpipe.files.lease import Lease
from halfpipe.files.reading import names_in
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.ledger import moot_key
from halfpipe.merge.decision import decide
from halfpipe.merge.late import listed
from halfpipe.merge.settle import OPENS, KnownDatagrams
from halfpipe.merge.undelivered import missing_of_run
from halfpipe.process import told_once
from halfpipe.process.command_words import filled_in
from halfpipe.process.told_once import By, OpenError
from halfpipe.run import event_files, force_list
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.event_records import Records
from halfpipe.run.merged_index import known_datagrams
from halfpipe.run.run_state import Context, KnownRun, context_scratch
from halfpipe.settings import Merge, Settings

log = logging.getLogger(__name__)

NO_DOWNLINK = DownlinkId("000000000")  # the run id of the header is 0: the file is of no one downlink
FILE = re.compile(rf"[0-9a-f]{{8}}-({RunId.PATTERN})\.evt")  # as `paths.online_file` names them
WHOLE = Merge(max_events=0, min_events=1, min_epus=1)  # one file, however many events it has


class OnlineError(HalfPipeError):
    """A hand-off to Online that failed, or of which nobody knows whether it came about."""


class What(StrEnum):
    """What came of a run. `OTHER`: of a type that Online does not get; `BEFORE`: handed off earlier."""

    MADE = "made"
    TOLD = "told"
    WAITS = "waits"
    HELD = "held"
    MORE = "more"
    BEFORE = "before"
    OTHER = "other"
    FAILED = "failed"


class State(StrEnum):
    """How far the hand-off of a run is. `UNTOLD`: its command is still to be run; `OPEN`: nobody knows."""

    NOTHING = "nothing"
    MAKING = "making"
    UNTOLD = "untold"
    OPEN = "open"
    DONE = "done"


class Record(told_once.Record):
    """What was done for one run: `names` of all files that were begun, `made`, the latest one.

    Before a file is written its name is appended as ``making``, and what it is as ``made`` once it is there: the
    ``file`` as a delivery has it, its ``ground_id`` and ``moot`` key and alias; the numbers of its ``datagrams`` by
    APID; how many bytes of datagram lines each downlink had ``brought``; what was ``missing``, empty if nothing; and
    whether a command follows (``tell``). The attempts that count are those to run the command for that file.
    """

    HEARD = "started"
    place = staticmethod(paths.online_record)

    def read(self) -> None:
        """Read all records, again."""
        self.names: frozenset[str] = frozenset()
        self.made: Mapping[str, Any] | None = None
        self._is_making = False
        super().read()

    @property
    def state(self) -> State:
        """How far the hand-off is."""
        if self._is_making or self.made is None:
            return State.MAKING if self._is_making else State.NOTHING
        if not self.made["tell"] or self.last_confirmed:
            return State.DONE
        return State.OPEN if self.is_open else State.UNTOLD

    def _take(self, value: Mapping[str, Any]) -> None:
        if "making" in value:
            self.names |= {str(value["making"])}
            self._is_making = True
        elif "made" in value:
            self.made, self._is_making = value["made"], False
            self.file = str(value["made"]["file"]["name"])
            self._since = len(self.attempts)
        else:
            super()._take(value)


@dataclass(frozen=True)
class Result:
    """What came of one run, and the words for it."""

    run: RunId
    what: What
    text: str

    def __str__(self) -> str:
        return f"{self.run}  {self.run.l1}  {self.text}"


def alone(settings: Settings) -> Lease:
    """Hand off alone: wait until nobody else does, and say for whom. All below is done under this lease."""
    return Lease.of(settings, paths.ONLINE_LEASE).take("another hand-off to Online", log.warning)


def hand_off(
    settings: Settings, runs: Iterable[RunId], output: IO[str], *, again: bool = False
) -> Iterator[Result]:
    """Hand the runs off that are ready; one that fails does not stop the next.

    Parameters
    ----------
    settings
        The settings; `paths.online` must be set.
    runs
        The runs to look at. One that was handed off, or is of another type, costs a look at small files.
    output
        Takes what other programs print.
    again
        Their files are made anew of all that is known now, and the command is run for them.
    """
    there = files_there(_home(settings))
    for complaint in force_list.read(settings.paths.work).refused:
        log.warning("%s", complaint)
    for run in runs:
        try:
            yield _Run(settings, run, output).go(there.get(run), again=again)
        except (HalfPipeError, OSError) as error:
            yield Result(run, What.FAILED, f"error: {error}")


def settle(settings: Settings, run: RunId, *, started: bool) -> None:
    """Record what a person has found out: whether the command of a run has started what it should.

    Raises
    ------
    OnlineError
        If there is nothing to settle.
    OpenError
        As `told_once.Record.settle`.
    """
    record = _kept(settings, run)
    if record.state not in {State.OPEN, State.UNTOLD}:
        raise OnlineError(f"run {run}: there is nothing to settle, no command is open ({record.path}).")
    record.settle(started, By.PERSON)


def _home(settings: Settings) -> Path:
    if settings.paths.online is None:
        raise ConfigError(
            "paths.online is null: the hand-off to Online is switched off. Set it in the config."
        )
    return settings.paths.online


def _kept(settings: Settings, run: RunId) -> Record:
    """Return the record of a run for whoever adds to it: the stage's mark knows of each one, a backup does not."""
    return Record(settings.paths.work, run, partial(stage_mark.noted, settings))


def lacks(known: KnownDatagrams, min_epus: int) -> list[str]:
    """Say what keeps a run from being whole for Online; nothing if it is.

    That is more than what keeps it from being complete for Level-1 (ground-chain §7): datagrams are counted
    from 0, and only ``stop`` ends a run, ``abort`` and ``pause`` do not.
    """
    said = missing_of_run(known.segments(), min_epus)
    for apid, rows in known.by_apid().items():
        first, last = int(rows[0]["datagram"]), int(rows[-1]["datagram"])
        closed = bytes(rows[-1]["caction"])
        if bytes(rows[0]["oaction"]) == OPENS and first > 0:
            said.append(f"EPU {apid}: datagrams 0 to {first - 1}, before the one that opens it")
        if closed in {b"abort", b"pause"}:
            said.append(f"EPU {apid}: its stop, for datagram {last} ends with {closed.decode()}")
    return said


def files_there(home: Path) -> dict[RunId, str]:
    """Return the files of runs in the directory for Online, whoever made them."""
    return {RunId(match[1]): match[0] for match in map(FILE.fullmatch, sorted(names_in(home))) if match}


def kind_of(work: Path, run: RunId) -> RunKind | None:
    """Return the type that downlinks have delivered a run as, None if none has: a cheap look at most runs."""
    manifests = (work / paths.manifest(run, downlink) for downlink in known_downlinks(work, run))
    said = {read_json(path)["kind"] for path in manifests if path.exists()}
    # Data of one EPU that is not of LPA make it one of LCI, and may come with a later downlink.
    return next((kind for kind in (RunKind.LCI, RunKind.LPA) if kind in said), None)


def is_handed_off(work: Path, home: Path, run: RunId) -> bool:
    """Tell whether Online has got its file of a run: from us, or before us from somebody else.

    Raises
    ------
    StateError
        If the record is damaged.
    """
    record = Record(work, run)
    return run in files_there(home) if record.state is State.NOTHING else record.made is not None


class _Run:
    """The hand-off of one run; `output` takes what other programs print."""

    def __init__(self, settings: Settings, run: RunId, output: IO[str]) -> None:
        self._settings, self._run, self._output = settings, run, output
        self._work, self._home, self._record = settings.paths.work, _home(settings), _kept(settings, run)

    def go(self, other: str | None, *, again: bool) -> Result:
        """Hand it off, if it is ready and was not; `other` is a file of it that may be somebody else's."""
        work, run, record = self._work, self._run, self._record
        if record.state is State.OPEN:
            record.wait(log.warning)
        if record.state is State.OPEN:
            raise self._unknown()
        state = State.MAKING if again else record.state
        if state is State.DONE:
            return self._compare(record.made or {})
        if state is State.NOTHING and other is not None:
            text = f"{other} was there and was not made by this program: it is left as it is"
            return Result(run, What.BEFORE, text)
        if state is not State.UNTOLD:
            kind = kind_of(work, run)
            if kind not in self._settings.online.types:
                why = f"{kind}: not for Online (online.types)" if kind else "no downlink has delivered it yet"
                return Result(run, What.OTHER, why)
        for downlink in [None, *known_downlinks(work, run)]:
            if switch := halts.holding(work, halts.Switch.ONLINE, downlink):
                return Result(run, What.HELD, f"held by {switch}")
        stage_mark.refuse_delivery(self._settings, paths.online_record(run))
        return self._tell() if state is State.UNTOLD else self._make()

    def _brought(self) -> dict[str, int]:
        work, run = self._work, self._run
        return {
            str(dl): (work / paths.datagrams(run, dl)).stat().st_size for dl in known_downlinks(work, run)
        }

    def _compare(self, made: Mapping[str, Any]) -> Result:
        """Say whether more is known of the run than when its file was made."""
        name = self._record.file
        if self._brought() != made["brought"]:
            known = known_datagrams(self._work, self._run).rows
            then = {int(apid): ranges for apid, ranges in made["datagrams"].items()}
            if new := int((~listed(known, then)).sum()):
                return Result(
                    self._run,
                    What.MORE,
                    f"{name} was made before {new} datagrams came and stays as it is; to make it anew: "
                    f"halfpipe online --again {self._run}",
                )
        return Result(self._run, What.BEFORE, f"{name} was made before")

    def _make(self) -> Result:
        """Make the file of the run if it is whole or abandoned, and go on to its command."""
        work, run, settings = self._work, self._run, self._settings
        with leases.run_lease(settings, run, log.warning), context_scratch(work, run):
            known = KnownRun.read(Context(settings, run, self._output))
            datagrams = known.all_datagrams
            missing = "; ".join(lacks(datagrams, settings.merge.min_epus))
            if missing and not (run in force_list.read(work).runs and len(datagrams.rows)):
                return Result(self._run, What.WAITS, f"waits: {missing}")
            # The merge rule with nothing recorded and nobody to wait for: one file of all events that all downlinks
            # brought, in order, each once; of copies that of the lowest downlink counts.
            events = {downlink: known.events(downlink) for downlink in known.indexes}
            decision = decide(min(events), datagrams, events, {}, WHOLE, given_up=True)
            records = Records(decision, known.files)
            if not decision.files:
                return Result(self._run, What.WAITS, "has no events, so there is no file of it")

            moot = moot_key.of_run(settings, run, datagrams.rows)
            ground_id = int(datagrams.rows["groundid"].min())
            (described,) = event_files.describe(records, decision.files, run)
            described = replace(described, name=paths.online_file(ground_id, run))
            self._record.append({"making": described.name})
            make_directory(self._home.parent, self._home.name)
            header = event_files.Header(NO_DOWNLINK, moot, settings.merge.latc_override)
            file = event_files.write_file(records, decision.files[0], described, header, self._home)
            # Of a hand-off that was made before, or was cut off, while the lowest ground id was another.
            for name in self._record.names - {file.name}:
                remove_file(self._home / name)
            made = {
                "file": file.as_json(),
                "ground_id": ground_id,
                "moot": {"key": moot.key, "alias": moot.alias},
                "datagrams": {
                    str(apid): [list(r) for r in each] for apid, each in decision.datagrams.items()
                },
                "brought": self._brought(),
                "missing": missing,
                "tell": settings.online.command is not None,
            }
            self._record.append({"made": made})

        said = [f"{file.name} made, {file.events} events, {file.size:,} bytes"]
        said += [f"abandoned, though it lacks {missing}"] if missing else []
        said += [f"without: {gone}" for gone in known.missing]
        said += [self._tell().text] if settings.online.command is not None else []
        return Result(self._run, What.MADE, "; ".join(said))

    def _tell(self) -> Result:
        """Run the command for the file between its intent and its answer in the record.

        Raises
        ------
        OnlineError
            If it failed, or nobody knows.
        """
        run, made, online = self._run, self._record.made or {}, self._settings.online
        file = self._home / self._record.file
        if online.command is None:
            return Result(
                self._run, What.WAITS, f"{file.name} is made, its command waits: online.command is null"
            )
        if not file.exists():
            raise OnlineError(
                f"run {run}: {file} is gone and its command was not run yet. Make it anew: halfpipe online --again "
                f"{run}; or if Online has it, say so: halfpipe online --started {run}"
            )
        stands_for = {
            "file": str(file),
            "run": run,
            "l1_run": run.l1,
            "gid": f"{made['ground_id']:08x}",
            "key": str(made["moot"]["key"]),
            "alias": made["moot"]["alias"],
        }
        try:
            answer = self._record.tell(filled_in(online.command, stands_for), self._output, online.seconds)
        except OpenError as error:
            raise self._unknown(str(error)) from error
        if answer.status != 0:
            raise OnlineError(
                f"run {run}: {file} is made, but online.command {answer.how}: {answer.shown}Fix this and re-run the "
                "command, then it is run again; if it has done its work all the same, say so first: halfpipe "
                f"online --started {run}"
            )
        return Result(self._run, What.TOLD, f"command run for {file.name}")

    def _unknown(self, how: str = "") -> OnlineError:
        """Return the error that asks a person to find out whether a command has done its work."""
        run, attempt = self._run, self._record.attempts[-1]
        return OnlineError(
            f"run {run}: whether its command has done its work is not known: {attempt.why_unknown(how)} "
            f"({self._record.path}): {shlex.join(attempt.command)}\nIt is not run again. See whether Online has the "
            f"file, then say so: halfpipe online --started {run} (or --not-started {run}), and re-run the command."
        )
