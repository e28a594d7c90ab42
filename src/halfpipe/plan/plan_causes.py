"""Causes that keep downlinks from being processed: RetDefs, switches, and processes at work.

This runs for all downlinks of the mission, so it uses names and times, and makes no object for each file.
"""

import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from halfpipe.causes import Cause, Verdict
from halfpipe.decisions import Subject, What, offer
from halfpipe.errors import Remedy, StageError
from halfpipe.files import leases
from halfpipe.files.reading import names_in
from halfpipe.ids import ChunkId
from halfpipe.notify.handoff_causes import HOUR, warnings_before
from halfpipe.plan.plan import DownlinkPlan, Plan
from halfpipe.state import halts
from halfpipe.state.halts import Switch
from halfpipe.words import count, first_names

# Codes that a command does not report for a downlink that it names: it reports the switches in another way.
UNREPORTED = {"settling", "held"}


def troubles(of: DownlinkPlan, now: float) -> Iterator[Cause]:
    """Yield the causes from a downlink's RetDefs, stage and switches at `now` (Unix seconds), processed or not."""
    plan = of.plan
    downlink = of.downlink
    staged = of.staged
    place = plan.work / downlink
    if staged.unread:
        yield Cause("file-system", Verdict.ACTION, staged.unread, Remedy(f"ls -ld {place}"))
        return
    yield from _problems(of, now)
    names = sorted(staged.names)
    yield from (_misspelt(place / name, downlink) for name in names if halts.is_misspelt(name, downlink))
    begun = any(not name.lower().startswith(halts.BEGINNING) for name in names)  # not only a switch
    if of.to_stage:
        yield from _coming(of, now)
        yield from filter(None, [of.foreign])
    elif (
        of.handed_off is None
        and begun
        and not plan.closed
        and not any(one.unread for one in of.listings.values())
    ):
        there = len(staged.chunks)
        yield Cause(
            "no-retdefs",
            Verdict.ACTION,
            "begun but not handed off, and its RetDefs are gone from the search path (paths.retdef)",
            Remedy(
                # Not a command to paste: if a file system is not mounted, the hand-off would lack chunks.
                first="Have them copied again, or their file system mounted"
                + (
                    f". If they are gone for good: snakemake dl={downlink} processes the {there} staged"
                    if there
                    else ""
                )
            ),
            of.begun,
        )
    if of.new:
        yield Cause(
            "retdef-new",
            Verdict.NOTE,
            f"the RetDef of chunk {_named(of.new)} arrived after the hand-off",
            Remedy(f"snakemake dl={downlink}"),
            of.came(now) or None,
        )
    if of.to_stage or of.handed_off is None:
        yield from (of.held[switch] for switch in of.held if switch is Switch.STAGE)


def report(of: DownlinkPlan, say: Callable[[str], object]) -> None:
    """Report the causes of a downlink that a target names, before its first job.

    Parameters
    ----------
    of
        The downlink.
    say
        Prints a line: a cause, a switch, or that Level-1 already has a hand-off.
    """
    held = [of.held[switch] for switch in (Switch.STAGE, Switch.L1) if switch in of.held]
    found = [cause for cause in (*troubles(of, time.time()), *reissued(of)) if cause.code not in UNREPORTED]
    for line in (
        *(f"downlink {of.downlink}: {cause.text}" for cause in held),
        *(
            ": ".join(filter(None, [f"downlink {of.downlink}", cause.text, str(cause.remedy)]))
            for cause in found
        ),
        *map(str, of.unreadable),
        *warnings_before(of.plan.settings, of.downlink),
    ):
        say(line)


def refuse_staging(of: DownlinkPlan, *, is_forced: bool) -> None:
    """Refuse to stage a downlink that a switch holds or another system stages.

    Parameters
    ----------
    of
        The plan of the downlink.
    is_forced
        Whether it is processed again although nothing is outstanding.

    Raises
    ------
    HalfPipeError
        Names the switch or the files. Nothing was changed.
    """
    if is_forced or of.to_stage or of.handed_off is None or of.outdated:
        halts.refuse(of.plan.work, Switch.STAGE, of.downlink)
        if of.foreign is not None:
            raise of.foreign.refused("Nothing was done.", StageError)


def general_causes(plan: Plan) -> Iterator[Cause]:
    """Yield the causes that belong to no single downlink: the search path, switches for all downlinks, other leases."""
    for home, why in plan.closed.items():
        yield _unreadable(home, why)
    for name in sorted(names_in(plan.work / "halts")):
        if halts.is_misspelt(name, None):
            yield _misspelt(plan.work / "halts" / name, None)
    yield from halts.causes(plan.work).values()
    for found in leases.all_leases(plan.work):
        if found.lives and not found.ours and not found.name.startswith("downlink-"):
            yield Cause("in-progress", Verdict.NOTE, f"{found.name} is in progress: {found}")


def _named(chunks: Iterable[int]) -> str:
    return ", ".join(map(ChunkId.of, sorted(chunks)))


def _coming(of: DownlinkPlan, now: float) -> Iterator[Cause]:
    """Yield why an outstanding downlink waits: for a missing RetDef, or until its youngest one settles."""
    youngest = of.came(now)
    settle = of.plan.settings.retdef.settle_seconds
    if of.holes:
        age = now - youngest if youngest else 0.0
        late = age > of.plan.settings.alarm.late_hours * HOUR
        yield Cause(
            "waits-retdef",
            Verdict.ACTION if late else Verdict.NOTE,
            f"waits for the RetDef of chunk {_named(of.holes)}"
            + (f", for {age / HOUR:.0f} h" if late else ""),
            Remedy(
                f"snakemake dl={of.downlink}",
                first="Have the RetDef made and copied",
                accept=[
                    offer(What.LEFT_OUT, Subject(of.downlink, chunk=ChunkId.of(number)))
                    for number in of.holes
                ],
            ),
            youngest or None,
        )
    elif youngest and now - youngest < settle:
        ready = f"ready in {youngest + settle - now:.0f} s, when its youngest RetDef is {settle:g} s old"
        yield Cause("settling", Verdict.NOTE, ready, since=youngest)


def _problems(of: DownlinkPlan, now: float) -> Iterator[Cause]:
    """Yield the misplaced or misnamed RetDefs in a downlink's directories, and directories that cannot be listed."""
    for (home, other), names in of.strays.items():
        place = home / of.downlink
        if other:
            text = f"{place} has {count(len(names), 'RetDef')} of downlink {other}, which do not count here"
            # Not a command that moves files: behind a link it might remove the only ones.
            first = f"Move them to {home / other}; if one of the two is a link to the other, remove the link"
            yield Cause(
                "retdef-elsewhere",
                Verdict.ACTION,
                text,
                Remedy(f"ls -ld {place} {home / other}", first=first),
            )
            continue
        text = (
            f"{first_names([f'{place}/{name}' for name in names])}: does not count, because the name is not "
            f"RetDef-{of.downlink}-<chunk>.xml, chunk 00001 to 99999"
        )
        is_young = now - of.came(now) < of.plan.settings.retdef.settle_seconds  # a copy may be in progress
        verdict = Verdict.NOTE if is_young else Verdict.ACTION
        yield Cause("retdef-elsewhere", verdict, text, Remedy(first="Rename or remove it"))
    yield from unlisted(of)


def unlisted(of: DownlinkPlan) -> Iterator[Cause]:
    """Yield the directories of a downlink that cannot be listed, so that a late RetDef there is not seen."""
    for home, listing in of.listings.items():
        if listing.unread:
            yield _unreadable(home / of.downlink, listing.unread)


def reissued(of: DownlinkPlan) -> Iterator[Cause]:
    """Yield the RetDefs that differ from the one that was processed, and those that differ between two places."""
    for chunk, sums in of.checksums.items():
        first, *others = sums
        if of.processed.get(chunk, sums[first]) != sums[first]:
            text = (
                f"the RetDef of chunk {chunk} was reissued: {first} differs from the one that was processed"
            )
            remedy = Remedy(f"snakemake -F dl={of.downlink}", first="To use the new one", hands_off=True)
            yield Cause("retdef-reissued", Verdict.ACTION, text, remedy)
        for other in others:
            if sums[other] != sums[first]:
                text = f"chunk {chunk} has two RetDefs that differ: {first}, which counts, and {other}"
                look = Remedy(f"diff {first} {other}", first="See which one is right, and remove the other")
                yield Cause("retdef-reissued", Verdict.ACTION, text, look)


def _misspelt(file: Path, downlink: str | None) -> Cause:
    names = ", ".join(halts.OF_ALL if downlink is None else halts.OF_A_DOWNLINK)
    text = f"{file} is not a known switch, and holds nothing; valid names here: {names}"
    remedy = Remedy(shlex.join(["rm", str(file)]), first="Rename or remove it")
    return Cause("misspelt", Verdict.ACTION, text, remedy)


def _unreadable(place: Path, why: str) -> Cause:
    return Cause("file-system", Verdict.ACTION, f"cannot list RetDefs: {why}", Remedy(f"ls -ld {place}"))


def lease_troubles(of: DownlinkPlan, found: leases.Found | None) -> Iterator[Cause]:
    """Yield the process that works on a downlink, leftover jobs of a killed process, or the death of the process."""
    if found is None or found.ours:  # a command tells its end before it releases its leases
        return
    if found.lives or found.jobs:
        yield Cause("in-progress", Verdict.NOTE, f"in progress: {found}")
    elif found.holder is not None and of.handed_off is None:
        text = f"begun by {found.holder.who}, which died"
        again = Remedy(f"snakemake dl={of.downlink}")
        yield Cause("killed", Verdict.ACTION, text, again, found.signed or None)
