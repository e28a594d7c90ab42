"""The hand-off of runs to Online: which are whole, one file for each, and the command that tells of it.

Online takes a run as a whole and wants it once. So a run waits until every EPU of it is there from its start
to its stop, or until an operator gives it up; what comes afterwards is said, and never changes a file that
Online may have read.
"""

import logging
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from halfpipe import paths
from halfpipe.downlink import halts, stage_mark
from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.files import leases
from halfpipe.files.durable import make_directory, remove_file
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.ledger import moot_key
from halfpipe.merge.late import listed
from halfpipe.merge.settle import OPENS, KnownDatagrams
from halfpipe.merge.undelivered import missing_of_run
from halfpipe.process.command_words import filled_in
from halfpipe.process.told_once import By, OpenError, how_it_was_cut_off
from halfpipe.run import event_files, force_list
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.run.event_records import decided
from halfpipe.run.merged_index import known_datagrams
from halfpipe.run.run_state import Context, KnownRun, context_scratch
from halfpipe.settings import Merge, Settings
from halfpipe.site.online_records import Record, State, files_there

log = logging.getLogger(__name__)

NO_DOWNLINK = DownlinkId("000000000")  # the run id of the header is 0: the file is of no one downlink
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


@dataclass(frozen=True)
class Result:
    """What came of one run, and the words for it."""

    run: RunId
    what: What
    text: str

    def __str__(self) -> str:
        return f"{self.run}  {self.run.l1}  {self.text}"


@contextmanager
def alone(work: Path) -> Iterator[None]:
    """Hand off alone: wait until nobody else does, and say for whom. All below is done under this lease."""
    lease = leases.Lease(work, paths.online_lease())
    lease.take("another hand-off to Online", log.warning)
    try:
        yield
    finally:
        lease.give_back()


def hand_off(settings: Settings, runs: Iterable[RunId], output: IO[str]) -> Iterator[Result]:
    """Hand the runs off that are ready; one that fails does not stop the next.

    Parameters
    ----------
    settings
        The settings; `paths.online` must be set.
    runs
        The runs to look at. One that was handed off, or is of another type, costs a look at small files.
    output
        Takes what other programs print.
    """
    there = files_there(_home(settings))
    given_up = force_list.read(settings.paths.work)
    for complaint in given_up.refused:
        log.warning("%s", complaint)
    for run in runs:
        try:
            yield _one(settings, run, there, run in given_up.runs, output)
        except (HalfPipeError, OSError) as error:
            yield Result(run, What.FAILED, f"error: {error}")


def again(settings: Settings, run: RunId, output: IO[str]) -> Result:
    """Make the file of a run anew of all that is known now, and run the command for it.

    Raises
    ------
    OnlineError
        If nobody knows whether an earlier command has started something.
    """
    _home(settings)
    return _go(settings, run, _ended(settings, run), run in force_list.read(settings.paths.work).runs, output)


def settle(settings: Settings, run: RunId, *, started: bool) -> None:
    """Record what a person has found out: whether the command of a run has started what it should.

    Raises
    ------
    OnlineError
        If there is nothing to settle, or the command may still run.
    """
    record = _kept(settings, run)
    if record.state not in {State.OPEN, State.UNTOLD}:
        raise OnlineError(f"run {run}: there is nothing to settle, no command is open ({record.path}).")
    if not started and (seconds := record.may_run):
        raise OnlineError(
            f"run {run}: its command may run for {seconds:.0f} s yet, and do its work then. Look again after that, and "
            "re-run the command."
        )
    record.settle(started, By.PERSON)


def _home(settings: Settings) -> Path:
    if settings.paths.online is None:
        raise ConfigError(
            "paths.online is null: the hand-off to Online is switched off. Set it in the config."
        )
    return settings.paths.online


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


def _one(
    settings: Settings, run: RunId, there: Mapping[RunId, str], given_up: bool, output: IO[str]
) -> Result:
    work = settings.paths.work
    record = _ended(settings, run)
    if record.state is State.NOTHING:
        if run in there:
            said = f"{there[run]} was there and was not made by this program: it is left as it is"
            return Result(run, What.BEFORE, said)
        kinds = _kinds(work, run)
        if kinds and kinds.isdisjoint(settings.online.types):
            return _other(run, kinds)
    if record.state is State.DONE:
        return _compare(work, run, record)
    return _go(settings, run, record, given_up, output, make=record.state is not State.UNTOLD)


def _go(
    settings: Settings, run: RunId, record: Record, given_up: bool, output: IO[str], *, make: bool = True
) -> Result:
    """Make the file of a run that nothing holds, and run its command; or run that alone."""
    work = settings.paths.work
    for downlink in [None, *known_downlinks(work, run)]:
        if switch := halts.holding(work, halts.Switch.ONLINE, downlink):
            return Result(run, What.HELD, f"held by {switch}")
    stage_mark.refuse_delivery(settings, paths.online_record(run))
    return _make(settings, run, record, given_up, output) if make else _tell(settings, run, record, output)


def _kinds(work: Path, run: RunId) -> set[str]:
    """Return what the manifests of a run call its type: a cheap look at most runs of a mission."""
    manifests = (work / paths.manifest(run, downlink) for downlink in known_downlinks(work, run))
    return {str(read_json(path)["kind"]) for path in manifests if path.exists()}


def _brought(work: Path, run: RunId) -> dict[str, int]:
    return {str(dl): (work / paths.datagrams(run, dl)).stat().st_size for dl in known_downlinks(work, run)}


def _other(run: RunId, kinds: Iterable[str]) -> Result:
    return Result(run, What.OTHER, f"{', '.join(sorted(kinds))}: not for Online (online.types)")


def _compare(work: Path, run: RunId, record: Record) -> Result:
    """Say whether more is known of a run than when its file was made."""
    made = record.made
    assert made is not None
    if _brought(work, run) != made["brought"]:
        known = known_datagrams(work, run).rows
        then = {int(apid): ranges for apid, ranges in made["datagrams"].items()}
        new = known[~listed(known, then)]
        if len(new):
            apids, counts = np.unique(new["apid"], return_counts=True)
            each = ", ".join(f"{n} of APID {apid}" for apid, n in zip(apids, counts, strict=True))
            return Result(
                run,
                What.MORE,
                f"{record.file} was made before {len(new)} datagrams came ({each}) and stays as it is; to make it "
                f"anew: halfpipe online --again {run}",
            )
    return Result(run, What.BEFORE, f"{record.file} was made before")


def _make(settings: Settings, run: RunId, record: Record, given_up: bool, output: IO[str]) -> Result:
    """Make the file of a run if it is whole or abandoned, and go on to its command."""
    work, home = settings.paths.work, _home(settings)
    with leases.run_lease(work, run, log.warning), context_scratch(work, run):
        brought = _brought(work, run)
        if not brought:
            return Result(run, What.OTHER, "no downlink contains anything of it")
        known = KnownRun.read(Context(settings, run, output))
        datagrams = known.all_datagrams
        kind = RunKind.of(datagrams.by_apid())
        if kind not in settings.online.types:
            return _other(run, [kind])
        missing = "; ".join(lacks(datagrams, settings.merge.min_epus))
        if missing and not (given_up and len(datagrams.rows)):
            return Result(run, What.WAITS, f"waits: {missing}")
        # The merge rule with nothing recorded and nobody to wait for: one file of all events that all downlinks
        # brought, in order, each once; of copies that of the lowest downlink counts.
        tables = {downlink: known.event_table(downlink) for downlink in sorted(known.datagrams)}
        decision, records = decided(known, min(tables), tables, {}, WHOLE, given_up=True)
        if not decision.files:
            return Result(run, What.WAITS, "has no events, so there is no file of it")

        moot = moot_key.of_run(settings, run, datagrams.rows)
        ground_ids = np.unique(datagrams.rows["groundid"])
        ground_id = int(ground_ids[0])
        (described,) = event_files.describe(records, decision.files, run)
        described = replace(described, name=paths.online_file(ground_id, run))
        record.making(described.name)
        make_directory(home.parent, home.name)
        header = event_files.Header(NO_DOWNLINK, moot, settings.merge.latc_override)
        file, _ = event_files.write(records, decision.files[0], described, header, home)
        # Of a hand-off that was made before, or was cut off, while the lowest ground id was another.
        for name in record.names - {file.name}:
            remove_file(home / name)
        tell = settings.online.command is not None
        record.has_made(
            {
                "file": file.as_json(),
                "ground_id": ground_id,
                "moot": {"key": moot.key, "alias": moot.alias},
                "datagrams": {
                    str(apid): [list(r) for r in each] for apid, each in decision.datagrams.items()
                },
                "brought": brought,
                "missing": missing,
                "tell": tell,
            }
        )

    said = [f"{file.name} made, {file.events} events, {file.size:,} bytes"]
    said += [f"abandoned, though it lacks {missing}"] if missing else []
    said += [f"its ground id is the lowest of {len(ground_ids)}"] if len(ground_ids) > 1 else []
    said += [f"without: {gone}" for gone in known.missing]
    if tell:
        said.append(_tell(settings, run, record, output).text)
    return Result(run, What.MADE, "; ".join(said))


def _tell(settings: Settings, run: RunId, record: Record, output: IO[str]) -> Result:
    """Run the command for a file between its intent and its answer in the record.

    Raises
    ------
    OnlineError
        If it failed, or nobody knows.
    """
    made, command = record.made, settings.online.command
    assert made is not None
    file = _home(settings) / record.file
    if command is None:
        return Result(run, What.WAITS, f"{file.name} is made, its command waits: online.command is null")
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
        answer = record.tell(filled_in(command, stands_for), output, settings.online.seconds)
    except OpenError as error:
        raise _unknown(record, str(error)) from error
    if answer.status != 0:
        raise OnlineError(
            f"run {run}: {file} is made, but online.command {answer.how}: {answer.shown}Fix this and re-run the "
            "command, then it is run again; if it has done its work all the same, say so first: halfpipe "
            f"online --started {run}"
        )
    return Result(run, What.TOLD, f"command run for {file.name}")


def _kept(settings: Settings, run: RunId) -> Record:
    """Return the record of a run for whoever adds to it: the stage's mark knows of each one, a backup does not."""
    return Record(settings.paths.work, run, partial(stage_mark.noted, settings))


def _ended(settings: Settings, run: RunId) -> Record:
    """Return the record of a run, once a command that was left behind has ended: then a person can see.

    Raises
    ------
    OnlineError
        If nobody knows what that command has done.
    """
    record = _kept(settings, run)
    if record.state is State.OPEN:
        record.wait(log.warning)
    if record.state is State.OPEN:
        raise _unknown(record)
    return record


def _unknown(record: Record, how: str = "") -> OnlineError:
    """Return the error that asks a person to find out whether a command has done its work."""
    run, command = record.id, record.attempts[-1].command
    why = how_it_was_cut_off(record.attempts[-1], how)
    return OnlineError(
        f"run {run}: whether its command has done its work is not known: {why} ({record.path}): "
        f"{shlex.join(command)}\nIt is not run again. See whether Online has the file, then say so: halfpipe online "
        f"--started {run} (or --not-started {run}), and re-run the command."
    )
