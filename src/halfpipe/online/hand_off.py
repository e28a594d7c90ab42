"""The hand-off of runs to Online: which are whole, one file for each, and the command that tells of it.

Online takes a run as a whole and wants it once. So a run waits until every EPU of it is there from its start
to its stop, or until an operator gives it up; what comes afterwards is said, and never changes a file that
Online may have read.
"""

import logging
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import IO

import numpy as np

from halfpipe import forced, halts, locks, paths
from halfpipe.decoder import Program, how_it_ended
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files import make_directory, read_json, remove_file
from halfpipe.handoff import eventfiles
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.merge import index
from halfpipe.merge.deliver import Decision, Policy, decide, listed
from halfpipe.merge.index import EventPart
from halfpipe.merge.known import Context, KnownRun, context_scratch
from halfpipe.merge.settle import OPENS, KnownDatagrams
from halfpipe.moot import UNSET, Moot, mapped_moot, moot_of
from halfpipe.online.command import Template
from halfpipe.online.record import Made, Outcome, Record, State, files_there
from halfpipe.reports.waiting import what_is_missing
from halfpipe.submission import command
from halfpipe.submission.record import By

log = logging.getLogger(__name__)

NO_DOWNLINK = DownlinkId("000000000")  # the run id of the header is 0: the file is of no one downlink
WHOLE = Policy(max_events=0, min_events=1, min_epus=1)  # one file, however many events it has


class OnlineError(HalfPipeError):
    """A hand-off to Online that failed, or of which nobody knows whether it came about."""


@dataclass(frozen=True)
class Job:
    """Where everything lies, and how files are made.

    `home` is `paths.online`, `kinds` are the types of runs that Online gets, `root` is where programs start.
    `moot` is `moot.file`; where that says nothing of a run and there is `mapped`, this gives for the run what is
    asked by its kind, and Unix UTC seconds and ground id of its first datagram, as for its event files.
    """

    work: Path
    home: Path
    root: Path
    kinds: Collection[RunKind]
    min_epus: int
    latc: int | None
    moot: Path | None
    command: Template | None
    program: Program
    decoder_latc: str | None
    without: bool = False
    mapped: Callable[[RunId], Callable[[RunKind, float, int], Moot | None]] | None = None


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


@dataclass(frozen=True)
class Result:
    """What came of one run, and the words for it."""

    run: RunId
    what: What
    text: str

    def __str__(self) -> str:
        return f"{self.run}  {self.run.l1}  {self.text}"


def runs_of(work: Path, downlink: DownlinkId) -> list[RunId]:
    """Return the runs of a downlink that was handed off.

    Raises
    ------
    MissingInputError
        If it has no receipt.
    """
    path = work / paths.receipt(downlink)
    if not path.exists():
        raise MissingInputError(
            f"{path}: no such file. Runs go to Online after the hand-off of their downlink: process it first, "
            f"snakemake dl={downlink}"
        )
    return [RunId(run["run"]) for run in read_json(path)["runs"]]


def hand_off(job: Job, of: Iterable[RunId], output: IO[str]) -> Iterator[Result]:
    """Hand the runs off that are ready; one that fails does not stop the next.

    Parameters
    ----------
    job
        Where and how.
    of
        The runs to look at. One that was handed off, or is of another type, costs a look at small files.
    output
        Takes what other programs print.
    """
    there = files_there(job.home)
    given_up = forced.read(job.work).runs
    for run in of:
        try:
            yield _one(job, run, there, run in given_up, output)
        except (HalfPipeError, OSError) as error:
            yield Result(run, What.FAILED, f"error: {error}")


def again(job: Job, run: RunId, output: IO[str]) -> Result:
    """Make the file of a run anew of all that is known now, and run the command for it.

    Raises
    ------
    OnlineError
        If nobody knows whether an earlier command has started something.
    """
    record = Record(job.work, run)
    if record.state is State.OPEN:
        raise _unknown(run, record)
    if switch := _held_by(job, run):
        return _held(run, switch)
    return _make(job, run, record, run in forced.read(job.work).runs, output)


def settle(job: Job, run: RunId, *, started: bool) -> None:
    """Record what a person has found out: whether the command of a run has started what it should.

    Raises
    ------
    OnlineError
        If there is nothing to settle.
    """
    record = Record(job.work, run)
    if record.state not in {State.OPEN, State.UNTOLD}:
        raise OnlineError(f"run {run}: there is nothing to settle, no command is open ({record.path}).")
    record.told(Outcome.STARTED if started else Outcome.NOT_STARTED, By.PERSON)


def lacks(known: KnownDatagrams, min_epus: int) -> list[str]:
    """Say what keeps a run from being whole for Online; nothing if it is.

    That is more than what keeps it from being complete for Level-1 (ground-chain §7): datagrams are counted
    from 0, and only ``stop`` ends a run, ``abort`` and ``pause`` do not.
    """
    said = what_is_missing(known.segments(), min_epus)
    for apid, rows in known.by_apid().items():
        first, last = int(rows[0]["datagram"]), int(rows[-1]["datagram"])
        closed = bytes(rows[-1]["caction"])
        if bytes(rows[0]["oaction"]) == OPENS and first > 0:
            said.append(f"APID {apid}: datagrams 0 to {first - 1}, before the one that opens it")
        if closed in {b"abort", b"pause"}:
            said.append(f"APID {apid}: its stop, for datagram {last} ends with {closed.decode()}")
    return said


def _one(job: Job, run: RunId, there: dict[RunId, str], given_up: bool, output: IO[str]) -> Result:
    record = Record(job.work, run)
    if record.state is State.NOTHING:
        if run in there:
            said = f"{there[run]} was there and was not made by this program: it is left as it is"
            return Result(run, What.BEFORE, said)
        kinds = _kinds(job.work, run)
        if kinds and kinds.isdisjoint(job.kinds):
            return _other(run, kinds)
    if record.state is State.DONE:
        return _compare(job, run, record)
    if record.state is State.OPEN:
        raise _unknown(run, record)
    if switch := _held_by(job, run):
        return _held(run, switch)
    if record.state is State.UNTOLD:
        return _tell(job, run, record, output)
    return _make(job, run, record, given_up, output)


def _downlinks(work: Path, run: RunId) -> list[DownlinkId]:
    """Return the downlinks that have brought something of a run."""
    home = work / paths.run(run)
    if not home.is_dir():
        return []
    names = sorted(path.name for path in home.iterdir() if DownlinkId.matches(path.name))
    return [DownlinkId(name) for name in names if (work / paths.datagrams(run, name)).exists()]


def _kinds(work: Path, run: RunId) -> set[str]:
    """Return what the manifests of a run call its type: a cheap look at most runs of a mission."""
    manifests = (work / paths.manifest(run, downlink) for downlink in _downlinks(work, run))
    return {str(read_json(path)["kind"]) for path in manifests if path.exists()}


def _brought(work: Path, run: RunId) -> dict[str, int]:
    return {str(dl): (work / paths.datagrams(run, dl)).stat().st_size for dl in _downlinks(work, run)}


def _held_by(job: Job, run: RunId) -> Path | None:
    """Return the switch that holds a run: the global one, or that of a downlink which brings it."""
    for downlink in [None, *_downlinks(job.work, run)]:
        if switch := halts.holding(job.work, halts.Switch.ONLINE, downlink):
            return switch
    return None


def _held(run: RunId, switch: Path) -> Result:
    return Result(run, What.HELD, f"held by {switch}")


def _other(run: RunId, kinds: Iterable[str]) -> Result:
    return Result(run, What.OTHER, f"{', '.join(sorted(kinds))}: not for Online (online.types)")


def _compare(job: Job, run: RunId, record: Record) -> Result:
    """Say whether more is known of a run than when its file was made."""
    made = record.made
    assert made is not None
    if _brought(job.work, run) != made.brought:
        parts = (index.load_datagrams(job.work, run, dl) for dl in _downlinks(job.work, run))
        known = KnownDatagrams.together(parts)
        new = known.rows[~listed(known.rows, made.datagrams)]
        if len(new):
            apids, counts = np.unique(new["apid"], return_counts=True)
            each = ", ".join(f"{n} of APID {apid}" for apid, n in zip(apids, counts, strict=True))
            return Result(
                run,
                What.MORE,
                f"{made.file.name} was made before {len(new)} datagrams came ({each}) and stays as it is; to make "
                f"it anew: scripts/online.py --again {run}",
            )
    return Result(run, What.BEFORE, f"{made.file.name} was made before")


def _make(job: Job, run: RunId, record: Record, given_up: bool, output: IO[str]) -> Result:
    """Make the file of a run if it is whole or given up, and go on to its command."""
    context = Context(job.work, run, job.program, job.decoder_latc, output, job.without)
    with locks.run_locked(job.work, run, log.warning), context_scratch(job.work, run):
        brought = _brought(job.work, run)
        if not brought:
            return Result(run, What.OTHER, "no downlink has brought anything of it")
        known = KnownRun.read(job.work, run, context)
        datagrams = KnownDatagrams.together(known.datagrams.values())
        kind = RunKind.of(datagrams.by_apid())
        if kind not in job.kinds:
            return _other(run, [kind])
        missing = "; ".join(lacks(datagrams, job.min_epus))
        if missing and not (given_up and len(datagrams.rows)):
            return Result(run, What.WAITS, f"waits: {missing}")
        decision, records = _all_events(known)
        if not decision.files:
            return Result(run, What.WAITS, "has no events, so there is no file of it")

        moot, ground_id = _moot(job, run, datagrams), int(datagrams.rows["groundid"].min())
        (described,) = eventfiles.describe(records, decision.files, run)
        described = replace(described, name=paths.online_file(ground_id, run))
        record.making(described.name)
        make_directory(job.home.parent, job.home.name)
        header = eventfiles.Header(NO_DOWNLINK, run, moot, job.latc)
        file, _ = eventfiles.write(records, decision.files[0], described, header, job.home)
        # Of a hand-off that was made before, or was cut off, while the lowest ground id was another.
        for name in record.names - {file.name}:
            remove_file(job.home / name)
        tell, ranges = job.command is not None, decision.datagrams
        record.has_made(Made(file, ground_id, moot, ranges, brought, missing, tell))

    said = [f"{file.name} made, {file.events} events, {file.size:,} bytes"]
    said += [f"given up, though it lacks {missing}"] if missing else []
    said += [f"its ground id is the lowest of {n}" for n in [_ground_ids(datagrams)] if n > 1]
    said += [f"without: {gone}" for gone in known.missing]
    if job.command is not None:
        said.append(_tell(job, run, record, output).text)
    return Result(run, What.MADE, "; ".join(said))


def _moot(job: Job, run: RunId, datagrams: KnownDatagrams) -> Moot:
    """Return the key and alias that an event file of the run would have."""
    moot = moot_of(run, job.moot)
    if moot != UNSET or job.mapped is None:
        return moot
    return mapped_moot(job.mapped(run), datagrams.rows)


def _ground_ids(datagrams: KnownDatagrams) -> int:
    return len(np.unique(datagrams.rows["groundid"]))


def _all_events(known: KnownRun) -> tuple[Decision, eventfiles.Records]:
    """Decide for one file of all events that all downlinks brought, in order, each once; find the records.

    It is the merge rule with nothing recorded and nobody to wait for; of copies that of the lowest downlink
    counts.
    """
    parts: dict[DownlinkId, EventPart] = {}
    keys = {}
    found: dict[tuple[DownlinkId, str], Path] = {}
    for number, downlink in enumerate(sorted(known.datagrams)):
        # Asked for the downlink alone: of others what has gone to Level-1 is left out, or is read once more.
        alone = replace(known, datagrams={downlink: known.datagrams[downlink]})
        part = alone.events(downlink)[downlink]
        here = []
        for name in part.files:
            try:
                found[downlink, name] = known.evt_file(downlink, name)
                here.append(True)
            except MissingInputError as error:
                if not known.context.without:
                    raise
                known.missing.append(str(error))
                here.append(False)
        rows = part.keys(number)
        parts[downlink] = part
        keys[downlink] = rows if all(here) else rows[np.array(here)[rows["file"]]]
    lowest = min(parts)
    decision = decide(lowest, known.datagrams, keys, {}, WHOLE, given_up=True)
    return decision, eventfiles.Records(decision, parts, lambda downlink, name: found[downlink, name])


def _tell(job: Job, run: RunId, record: Record, output: IO[str]) -> Result:
    """Run the command for a file between its intent and its answer in the record.

    Raises
    ------
    OnlineError
        If it failed, or nobody knows.
    """
    made = record.made
    assert made is not None
    file = job.home / made.file.name
    if job.command is None:
        return Result(run, What.WAITS, f"{file.name} is made, its command waits: online.command is null")
    if not file.exists():
        raise OnlineError(
            f"run {run}: {file} is gone and its command was not run yet. Make it anew: scripts/online.py --again "
            f"{run}; or if Online has it, say so: scripts/online.py --started {run}"
        )
    words = job.command.words(file, run, made.ground_id, made.moot)
    record.telling(words)
    status: int | None = None
    said: tuple[str, ...] = ()
    try:
        answer = command.run(words, job.root, output)
        status, said = answer.status, answer.said
        how = how_it_ended(status)
    except OSError as error:
        how = f"cannot be started: {error.strerror}"
    if status is not None and status < 0:
        raise _unknown(run, record, how)
    record.told(Outcome.STARTED if status == 0 else Outcome.FAILED, By.ANSWER, status, said)
    if status != 0:
        last = "\n".join(said or ("(none)",))
        raise OnlineError(
            f"run {run}: {file} is made, but {job.command.key} {how}: {shlex.join(words)}\nIts last lines were:\n"
            f"{last}\nMend the cause and give the same command again, then it is run again; if it has done its work "
            f"all the same, say so first: scripts/online.py --started {run}"
        )
    return Result(run, What.TOLD, f"command run for {file.name}")


def _unknown(run: RunId, record: Record, how: str = "") -> OnlineError:
    """Return the error that asks a person to find out whether a command has done its work."""
    why = f"it {how}" if how else "a process ended between the command and the record of its answer"
    return OnlineError(
        f"run {run}: whether its command has done its work is not known: {why} ({record.path}): "
        f"{shlex.join(record.command)}\nIt is not run again. See that it does not run any more and whether Online has "
        f"the file, then say so: scripts/online.py --started {run} (or --not-started {run}), and give the same "
        "command again."
    )
