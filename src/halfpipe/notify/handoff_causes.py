"""Causes in the records of a hand-off, for which commands refuse to submit it.

Nothing here takes a lease, so records of a downlink in progress may look contradictory.
"""

import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, Remedy, StateError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.notify.submissions import submissions
from halfpipe.settings import Settings, is_production
from halfpipe.staging import stage_mark
from halfpipe.state.attempts import Action, Attempts, Outcome
from halfpipe.state.deliveries import DeliveryHistory
from halfpipe.state.hand_offs import HandOff
from halfpipe.words import utc

HOUR = 3600.0

Submissions = Mapping[DownlinkId, Attempts | None]


def overlapping(work: Path, downlink: DownlinkId, deliveries: DeliveryHistory) -> Submissions:
    """Return the submissions of the downlinks of a run that overlap with `downlink`; None if they cannot be read."""
    pairs = [pair for *pair, _ in deliveries.overlaps() if downlink in pair]
    return {dl: submissions_of(work, dl) for pair in pairs for dl in pair}


def submissions_of(work: Path, downlink: DownlinkId) -> Attempts | None:
    """Return the submissions of a downlink; None if they cannot be read, which the account of the downlink reports."""
    with suppress(HalfPipeError):
        return submissions(work, downlink, only_look=True)
    return None


def overlaps(
    run: RunId, downlink: DownlinkId, deliveries: DeliveryHistory, submitted: Submissions
) -> Iterator[Cause]:
    """Yield a cause for each other downlink that has delivered the same sequences; `submitted` as `overlapping`."""
    for one, other, (first, last) in deliveries.overlaps():
        if downlink not in (one, other):
            continue
        # Only a downlink that was processed here can be reprocessed, preferably one that Level-1 does not have.
        ours = [dl for dl in (other, one) if not deliveries.latest()[dl].origin]
        remedy = Remedy(f"halfpipe show {run}")
        if ours:
            again = min(ours, key=lambda dl: _may_be_submitted(submitted[dl]))
            do_first = (
                "It will deliver less than before, so accept the loss that the command names, and rerun it"
            )
            if _may_be_submitted(submitted[again]):
                do_first = f"If Level-1 has downlink {again}, have it rolled back. {do_first}"
            remedy = Remedy(f"snakemake dl={again} -R {paths.manifest(run, again)}", first=do_first)
        yield Cause(
            "deliveries-overlap",
            Verdict.ACTION,
            f"downlinks {one} and {other} both delivered sequences {first} to {last} of run {run}: Level-1 refuses the "
            "run, or has these events twice",
            remedy,
        )


def _may_be_submitted(record: Attempts | None) -> bool:
    return record is None or any(attempt.outcome is not Outcome.NOT_SUBMITTED for attempt in record.every)


def warnings_before(settings: Settings, downlink: DownlinkId) -> list[str]:
    """Return a warning, before a downlink is processed again, if Level-1 already has a hand-off of it."""
    try:
        last = submissions(settings.paths.work, downlink).last_confirmed
    except StateError as error:
        return [str(error)]
    if last is None:
        return []
    return [
        f"downlink {downlink}: Level-1 has hand-off {last.handoff} (submitted {utc(last.since)}), and takes later "
        f"hand-offs only after a rollback: {how_to_roll_back(settings, downlink)}"
    ]


def forgotten(settings: Settings, record: Attempts) -> Cause | None:
    """Return a cause if the stage's mark or the ledger shows a submission that has no record; None if nothing does."""
    known_by = ""
    if (number := stage_mark.last_noted(settings, record.place)) > len(record.series.records):
        known_by = f"the stage's mark names record {number}"
    elif record.last_confirmed is None and settings.ledger.url is not None:
        from halfpipe.ledger.load import submitted  # noqa: PLC0415 - the library of the database

        with suppress(HalfPipeError):  # another cause reports this
            if seal := submitted(settings, DownlinkId(record.id)):
                known_by = f"the ledger has receipt {seal[:16]} as submitted"
    if not known_by:
        return None
    return Cause(
        "damaged",
        Verdict.ACTION,
        f"{known_by}, but {record.path} has no such record: both copies are lost",
        Remedy(
            f"halfpipe submit {record.id} --settle submitted",
            first="If the pipeline shows that Level-1 has the downlink, confirm it",
        ),
    )


def how_to_roll_back(settings: Settings, downlink: str) -> Remedy:
    """Return the remedy that gives Level-1 a later hand-off: a rollback, with the command in the config or by hand."""
    load = f"halfpipe ledger load {downlink}" if settings.ledger.url is not None else ""
    if settings.submit.rollback is not None:
        return Remedy(*filter(None, [load]), f"halfpipe submit {downlink} --rollback")
    by_hand = f"roll stream {downlink} back in the pipeline by hand"
    return Remedy(
        f"halfpipe submit {downlink} --settle submitted",
        first=f"run {load}, then {by_hand}" if load else by_hand,
    )


def simulated(settings: Settings, handed: HandOff, action: Action = Action.SUBMIT) -> Cause | None:
    """Return a cause if a hand-off has simulated data, and its submission or rollback is for Level-1 in production."""
    key = "command"
    command = settings.submit.command
    if action is Action.ROLLBACK:
        key = "rollback"
        command = settings.submit.rollback
    if not (settings.is_simulated or handed.receipt.simulated) or not is_production(command):
        return None
    is_wanted = command is not None or settings.submit.automatic
    return Cause(
        "simulated",
        Verdict.ACTION if is_wanted else Verdict.NOTE,
        "its data are SIMULATED, and must never reach Level-1 in production",
        Remedy(first=f"To try a submission, set submit.{key} to a stand-in for Level-1"),
    )


def unsettled(
    settings: Settings, record: Attempts, how: str = "", *, gone: int | None = None
) -> Cause | None:
    """Return a cause if it is not known whether the latest attempt reached Level-1.

    Parameters
    ----------
    settings, record
        The settings, and the submissions of a downlink.
    how
        How the command ended, if this is known from running it.
    gone
        The number of the hand-off whose files are gone from the stage; None if there is none.
    """
    last = record.last
    downlink = DownlinkId(record.id)
    if last is None or last.is_known:
        return None
    what = f"hand-off {last.handoff}" + (" by a rollback" if last.action is Action.ROLLBACK else "")
    confirm = f"halfpipe submit {downlink} --settle submitted"
    taken = (
        "; its files are gone from the stage, so Level-1 may have taken it" if last.handoff == gone else ""
    )
    if last.outcome is Outcome.WRITTEN:
        text = f"{what} is not confirmed: a person must run its command{taken}"
        command = shlex.join(last.command)
        remedy = Remedy(command, confirm, first="Run the command, then confirm it")
        if settings.is_simulated and is_production(command):
            deny = f"halfpipe submit {downlink} --settle not-submitted"
            remedy = Remedy(deny, first="Do not run it, because the data are SIMULATED. Record this")
        return Cause("written-for-person", Verdict.ACTION, text, remedy, last.since)
    # A rerun runs submit.check, unless the check has already found no stream. It cannot detect rollbacks.
    asks = settings.submit.check is not None and last.action is Action.SUBMIT and not last.check_disagrees
    see = "Check the pipeline, and record what it shows (submitted or not-submitted)"
    return Cause(
        "submission",
        Verdict.ACTION,
        f"it is not known whether Level-1 has {what}: {last.why_unknown(how)}{taken}",
        Remedy(f"snakemake submit={downlink}") if asks else Remedy(confirm, first=see),
        last.since,
    )
