"""The hand-off of runs to Online: one file for each whole run, and the command that informs Online.

Online takes a run as a whole, once. So a run waits until each of its EPUs is complete from start to stop, or an
operator abandons the run. Data that arrive later are reported, and never change a file that Online may have read.
"""

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import IO

from msgspec.structs import replace

from halfpipe import paths
from halfpipe.decisions import Decisions
from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.files import leases
from halfpipe.files.durable import make_directory, remove_file
from halfpipe.files.leases import Lease
from halfpipe.files.reading import names_in
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.ledger import moot_key
from halfpipe.merge.decision import all_known, decide
from halfpipe.merge.late_events import listed
from halfpipe.merge.settle import OPENS, KnownDatagrams, first_and_last
from halfpipe.merge.undelivered import missing_of_run
from halfpipe.process.command_words import filled_in
from halfpipe.settings import Merge, Settings
from halfpipe.staging import event_files, stage_mark
from halfpipe.state import halts
from halfpipe.state.attempts import By, UnknownOutcomeError, signature
from halfpipe.state.deliveries import Deliveries, Delivery
from halfpipe.state.downlinks_of_run import known_downlinks
from halfpipe.state.merged_index import known_datagrams
from halfpipe.state.online_record import Made, Making, OnlineRecord, OnlineState
from halfpipe.state.run_state import Context, KnownRun, context_scratch

log = logging.getLogger(__name__)

NO_DOWNLINK = DownlinkId(
    "000000000"
)  # the header's run id is 0, because the file belongs to no single downlink
FILE = re.compile(rf"[0-9a-f]{{8}}-({RunId.PATTERN})\.evt")  # `paths.online_file`
NOT_AGAIN = "Its command is not run again."
WHOLE = Merge(max_events=0, min_events=1, min_epus=1)  # one file for any number of events


class OnlineOutcome(StrEnum):
    """What became of a run. `OTHER`: its type is not for Online; `BEFORE`: it was handed off earlier."""

    MADE = "made"
    TOLD = "told"
    WAITS = "waits"
    HELD = "held"
    MORE = "more"
    BEFORE = "before"
    OTHER = "other"
    FAILED = "failed"


@dataclass(frozen=True)
class OnlineResult:
    """What became of one run, with a text."""

    run: RunId
    what: OnlineOutcome
    text: str

    def __str__(self) -> str:
        return f"{self.run}  {self.run.l1}  {self.text}"


def alone(settings: Settings) -> Lease:
    """Wait until no other process hands runs off, and take the lease, which callers of `hand_off` and `settle` need."""
    return Lease.of(settings, paths.ONLINE_LEASE).take("another hand-off to Online", log.warning)


def hand_off(
    settings: Settings, runs: Iterable[RunId], output: IO[str], *, again: bool = False
) -> Iterator[OnlineResult]:
    """Hand off the runs that are ready. If one fails, the next one is tried.

    Parameters
    ----------
    settings
        The settings; `paths.online` must be set.
    runs
        The runs. For a run that was handed off, or has another type, only small files are read.
    output
        The file for the output of other programs.
    again
        Whether to make the files again from everything that is known now, and to run their command.
    """
    there = files_there(_home(settings))
    for run in runs:
        try:
            yield _Run(settings, run, output).go(there.get(run), again=again)
        except (HalfPipeError, OSError) as error:
            yield OnlineResult(run, OnlineOutcome.FAILED, f"error: {error}")


def settle(settings: Settings, run: RunId, *, started: bool) -> None:
    """Record what a person found out: whether the command of a run was received.

    Raises
    ------
    HalfPipeError
        If the outcome is known.
    UnknownOutcomeError
        As for `Attempts.settle`.
    """
    record = _record_to_extend(settings, run)
    if record.state not in {OnlineState.OPEN, OnlineState.NOT_STARTED}:
        raise HalfPipeError(
            f"run {run}: there is nothing to settle, no command is open ({record.attempts.path})."
        )
    record.attempts.settle(started, By.PERSON)


def _home(settings: Settings) -> Path:
    if settings.paths.online is None:
        raise ConfigError(
            "paths.online is null: the hand-off to Online is switched off. Set it in the config."
        )
    return settings.paths.online


def _record_to_extend(settings: Settings, run: RunId) -> OnlineRecord:
    """Return the record of a run. Each new entry is also noted in the stage's mark, because a backup would lack it."""
    return OnlineRecord(settings.paths.work, run, partial(stage_mark.noted, settings))


def lacks(known: KnownDatagrams, min_epus: int) -> list[str]:
    """Return what keeps a run from being whole for Online; empty if it is whole.

    This is stricter than completeness for Level-1 (ground-chain §7): datagrams are counted from 0, and only ``stop``
    ends a run; ``abort`` and ``pause`` do not.
    """
    missing = missing_of_run(known.segments(), min_epus)
    for apid, rows in known.by_apid().items():
        first, last = first_and_last(rows)
        closed = bytes(rows.caction[-1])
        if bytes(rows.oaction[0]) == OPENS and first > 0:
            missing.append(f"EPU {apid}: datagrams 0 to {first - 1}, before the one that opens it")
        if closed in {b"abort", b"pause"}:
            missing.append(f"EPU {apid}: its stop, because datagram {last} ends with {closed.decode()}")
    return missing


def files_there(home: Path) -> dict[RunId, str]:
    """Return the files of runs in the directory for Online, from any program."""
    return {RunId(match[1]): match[0] for match in map(FILE.fullmatch, sorted(names_in(home))) if match}


def kind_of(deliveries: Iterable[Delivery]) -> RunKind | None:
    """Return the type of a run in its latest deliveries; None if no downlink has delivered the run."""
    kinds = {delivery.kind for delivery in deliveries}
    # A run is LCI if one EPU has data other than LPA. These may come with a later downlink.
    return next((kind for kind in (RunKind.LCI, RunKind.LPA) if kind in kinds), None)


def is_handed_off(work: Path, home: Path, run: RunId) -> bool:
    """Tell whether the file of a run for Online was made, by HalfPipe or by an earlier program.

    Raises
    ------
    StateError
        If the record is damaged.
    """
    record = OnlineRecord(work, run)
    return run in files_there(home) if record.state is OnlineState.NOTHING else record.made is not None


class _Run:
    """The hand-off of one run; `output` gets the output of other programs."""

    def __init__(self, settings: Settings, run: RunId, output: IO[str]) -> None:
        self.settings = settings
        self.run = run
        self.output = output
        self.work = settings.paths.work
        self.home = _home(settings)
        self.record = _record_to_extend(settings, run)

    def go(self, other: str | None, *, again: bool) -> OnlineResult:
        """Hand the run off if it is ready and not handed off yet; `other` is its file, perhaps from another program."""
        work = self.work
        run = self.run
        record = self.record
        record.attempts.wait(log.warning)
        if record.state is OnlineState.OPEN:
            raise record.unknown().refused(NOT_AGAIN)
        state = OnlineState.MAKING if again else record.state
        if state is OnlineState.DONE and record.made is not None:
            return self._compare(record.made)
        if state is OnlineState.NOTHING and other is not None:
            text = f"{other} existed and was made by another program: it is not changed"
            return OnlineResult(run, OnlineOutcome.BEFORE, text)
        if state is not OnlineState.NOT_STARTED:
            kind = kind_of(Deliveries(work, run, only_look=True).latest().values())
            if kind not in self.settings.online.types:
                why = f"{kind}: not for Online (online.types)" if kind else "no downlink has delivered it yet"
                return OnlineResult(run, OnlineOutcome.OTHER, why)
        for downlink in [None, *known_downlinks(work, run)]:
            if switch := halts.holding(work, halts.Switch.ONLINE, downlink):
                return OnlineResult(run, OnlineOutcome.HELD, f"held by {switch}")
        stage_mark.refuse(self.settings, record.attempts.place)
        if state is OnlineState.NOT_STARTED and record.made is not None:
            return self._start(record.made)
        return self._make()

    def _sizes(self) -> dict[DownlinkId, int]:
        """Return the bytes of datagram lines of each downlink."""
        of = {dl: self.work / paths.datagrams(self.run, dl) for dl in known_downlinks(self.work, self.run)}
        return {dl: path.stat().st_size for dl, path in of.items()}

    def _compare(self, made: Made) -> OnlineResult:
        """Return whether more is known of the run than when its file was made."""
        name = made.file.name
        if self._sizes() != made.brought:
            known = known_datagrams(self.work, Decisions.read(self.work), self.run).rows
            if new := int((~listed(known, made.datagrams)).sum()):
                text = (
                    f"{name} was made before {new} datagrams arrived and was not changed; to regenerate it: "
                )
                return OnlineResult(self.run, OnlineOutcome.MORE, f"{text}halfpipe online --again {self.run}")
        return OnlineResult(self.run, OnlineOutcome.BEFORE, f"{name} was made before")

    def _make(self) -> OnlineResult:
        """Make the file of the run if the run is whole or abandoned, then start its command."""
        work = self.work
        run = self.run
        settings = self.settings
        with leases.run_lease(settings, run, log.warning), context_scratch(work, run):
            known = KnownRun.read(Context(settings, run, self.output))
            datagrams = known.all_datagrams
            missing = "; ".join(lacks(datagrams, settings.merge.min_epus))
            if missing and not (known.context.decisions.is_abandoned(run) and len(datagrams.rows)):
                return OnlineResult(run, OnlineOutcome.WAITS, f"waits: {missing}")
            # Merge as if nothing was delivered: one file with each event of all downlinks once, in order.
            # If several downlinks have an event, the copy of the lowest downlink counts.
            events = {downlink: known.events(downlink) for downlink in known.indexes}
            rows = all_known(events)
            decision = decide(min(events), datagrams, rows, {}, WHOLE, settle_all=True)
            records = event_files.Records(decision.events, tuple(known.files))
            if not decision.files:
                return OnlineResult(run, OnlineOutcome.WAITS, "has no events, so there is no file of it")

            moot = moot_key.of_run(settings, run, datagrams.rows)
            ground_id = int(datagrams.rows.groundid.min())
            (described,) = event_files.name_files(records, decision.files, run)
            described = replace(described, name=paths.online_file(ground_id, run))
            self.record.attempts.publish(Making(*signature(), described.name))
            make_directory(self.home.parent, self.home.name)
            header = event_files.Header(NO_DOWNLINK, moot, settings.merge.latc_override)
            file = event_files.write_file(records, decision.files[0], described, header, self.home)
            # Earlier files have another name if the lowest ground id was different.
            for name in self.record.names - {file.name}:
                remove_file(self.home / name)
            made = Made(
                *signature(),
                file=file,
                ground_id=ground_id,
                key=moot.key,
                alias=moot.alias,
                datagrams=decision.datagrams,
                brought=self._sizes(),
                missing=missing,
                tell=settings.online.command is not None,
            )
            self.record.attempts.publish(made)

        parts = [f"{file.name} made, {file.events} events, {file.size:,} bytes"]
        parts += [f"abandoned, though it lacks {missing}"] if missing else []
        parts += [f"without: {gone}" for gone in known.missing]
        parts += [self._start(made).text] if settings.online.command is not None else []
        return OnlineResult(run, OnlineOutcome.MADE, "; ".join(parts))

    def _start(self, made: Made) -> OnlineResult:
        """Run the command for the file.

        Raises
        ------
        HalfPipeError
            If it failed, or its outcome is unknown.
        """
        run = self.run
        online = self.settings.online
        file = self.home / made.file.name
        if online.command is None:
            return OnlineResult(
                run, OnlineOutcome.WAITS, f"{file.name} is made, its command waits: online.command is null"
            )
        if not file.exists():
            raise HalfPipeError(
                f"run {run}: {file} is gone and its command was not run yet. Make it again: halfpipe online --again "
                f"{run}; or if Online has it, record that: halfpipe online {run} --settle started"
            )
        words = filled_in(
            online.command,
            {
                "file": str(file),
                "run": run,
                "l1_run": run.l1,
                "gid": f"{made.ground_id:08x}",
                "key": str(made.key),
                "alias": made.alias,
            },
        )
        try:
            answer = self.record.attempts.run(words, self.output, online.seconds)
        except UnknownOutcomeError as error:
            raise self.record.unknown(str(error)).refused(NOT_AGAIN) from error
        if answer.status != 0:
            raise HalfPipeError(
                f"run {run}: {file} is made, but online.command {answer.how}: {answer.shown}Fix this and rerun the "
                "command, which runs it again. If it has done its work, record that first: halfpipe online {run} "
                "--settle started"
            )
        return OnlineResult(run, OnlineOutcome.TOLD, f"command run for {file.name}")
