"""Causes that keep downlinks from being processed: RetDefs, switches, and processes at work.

This runs for all downlinks of the mission, so it uses names and times, and makes no object for each file.
"""

import os
import shlex
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import halts
from halfpipe.downlink.halts import Switch
from halfpipe.downlink.handoff_causes import HOUR, warnings_before
from halfpipe.downlink.plan import DownlinkPlan, Plan
from halfpipe.downlink.stage_look import foreign, refuse_foreign
from halfpipe.errors import HalfPipeError, Remedy
from halfpipe.files import leases
from halfpipe.files.reading import modified, names_in
from halfpipe.formats.retdef import FILE_NAME, read_content
from halfpipe.ids import ChunkId, DownlinkId

# A RetDef that last changed this long before it was staged equals its copy. Clocks of file servers differ.
STAGED_AFTER_SECONDS = 60.0
# Codes that a command reports for a named downlink, although it processes the downlink.
REPORTED = {
    "waits-retdef",
    "no-retdefs",
    "file-system",
    "retdef-elsewhere",
    "retdef-new",
    "retdef-reissued",
    "misspelt",
    "stage-foreign",
}


def troubles(of: DownlinkPlan, now: float) -> Iterator[Cause]:
    """Yield the causes from a downlink's RetDefs, stage and switches at `now` (Unix seconds), processed or not."""
    plan, downlink, staged = of.plan, of.downlink, of.staged
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
        if os.path.lexists(f"{plan.settings.paths.stage}/{paths.staged(downlink)}"):
            yield from filter(None, [foreign(plan.settings, downlink, of.runs)])
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
            modified(str(place)),
        )
    if of.new:
        yield Cause(
            "retdef-new",
            Verdict.NOTE,
            f"the RetDef of chunk {_named(of.new)} arrived after the hand-off",
            Remedy(f"snakemake dl={downlink}"),
            of.came(now) or None,
        )
    yield from _reissued(of)
    if of.to_stage or of.handed_off is None:
        yield from filter(None, [halts.cause(plan.work, Switch.STAGE, downlink)])


def report(of: DownlinkPlan, say: Callable[[str], object]) -> None:
    """Report the causes of a downlink that a target names, before its first job.

    Parameters
    ----------
    of
        The downlink.
    say
        Prints a line: a cause, a switch, or that Level-1 already has a hand-off.
    """
    held = [halts.cause(of.plan.work, switch, of.downlink) for switch in (Switch.STAGE, Switch.L1)]
    found = [cause for cause in troubles(of, time.time()) if cause.code in REPORTED]
    for line in (
        *(f"downlink {of.downlink}: {cause.text}" for cause in filter(None, held)),
        *(": ".join([f"downlink {of.downlink}", cause.text, *cause.remedy.steps]) for cause in found),
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
        refuse_foreign(of.plan.settings, of.downlink, of.runs)


def general_causes(plan: Plan) -> Iterator[Cause]:
    """Yield the causes that belong to no single downlink: the search path, switches for all downlinks, other leases."""
    work = plan.settings.paths.work
    for home, why in plan.closed.items():
        yield _unreadable(home, why)
    for name in sorted(names_in(work / "halts")):
        if halts.is_misspelt(name, None):
            yield _misspelt(work / "halts" / name, None)
    for switch in Switch:
        yield from filter(None, [halts.cause(work, switch)])
    for found in leases.all_leases(work):
        if found.lives and not found.ours and not found.name.startswith("downlink-"):
            yield Cause("in-progress", Verdict.NOTE, f"{found.name} is in progress: {found}")


def _named(chunks: Iterable[int]) -> str:
    return ", ".join(map(ChunkId.of, sorted(chunks)))


def _coming(of: DownlinkPlan, now: float) -> Iterator[Cause]:
    """Yield why an outstanding downlink waits: for a missing RetDef, or until its youngest one settles."""
    youngest, settle = of.came(now), of.plan.settings.retdef.settle_seconds
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
                first="Have it made and copied, or list the chunk under ignore.chunks",
            ),
            youngest or None,
        )
    elif youngest and now - youngest < settle:
        ready = f"ready in {youngest + settle - now:.0f} s, when its youngest RetDef is {settle:g} s old"
        yield Cause("settling", Verdict.NOTE, ready, since=youngest)


def _problems(of: DownlinkPlan, now: float) -> Iterator[Cause]:
    """Yield the misplaced or misnamed RetDefs in a downlink's directories, and directories that cannot be listed."""
    for home, listing in of.listings.items():
        for name in listing.elsewhere:
            path, match = home / of.downlink / name, FILE_NAME.fullmatch(name)
            if match is None or match[1] == of.downlink:  # there is no chunk 00000
                text = f"{path} does not count: the name is not RetDef-{of.downlink}-<chunk>.xml, chunk 00001 to 99999"
                since = modified(str(path))
                # A copy in progress may have another name.
                is_young = now - (since or 0.0) < of.plan.settings.retdef.settle_seconds
                verdict = Verdict.NOTE if is_young else Verdict.ACTION
                yield Cause("retdef-elsewhere", verdict, text, Remedy(first="Rename or remove it"), since)
                continue
            right = home / match[1]
            into, twice = shlex.quote(str(right)), (right / name).exists()
            yield Cause(
                "retdef-elsewhere",
                Verdict.NOTE if twice else Verdict.ACTION,
                f"{path} is a RetDef of downlink {right.name} and does not count here"
                + ("; it is also in the right directory" if twice else ""),
                Remedy(
                    shlex.join(["rm", str(path)])
                    if twice
                    else f"mkdir -p {into} && mv {shlex.quote(str(path))} {into}/"
                ),
                modified(str(path)),
            )
    yield from unlisted(of)


def unlisted(of: DownlinkPlan) -> Iterator[Cause]:
    """Yield the directories of a downlink that cannot be listed, so that a late RetDef there is not seen."""
    for home, listing in of.listings.items():
        if listing.unread:
            yield _unreadable(home / of.downlink, listing.unread)


def _reissued(of: DownlinkPlan) -> Iterator[Cause]:
    """Yield the working copies of RetDefs that differ from their sources; file times usually show equality."""
    work, left = of.plan.work, set(of.staged.chunks)
    for home, listing in of.listings.items():
        for chunk in left.intersection(listing.chunks):
            name = paths.retdef(of.downlink, chunk)
            try:
                source, copy = os.stat(f"{home}/{name}"), os.stat(f"{work}/{name}")  # noqa: PTH116
                left.discard(chunk)
                last = max(source.st_mtime, source.st_ctime)
                if source.st_size == copy.st_size and last <= copy.st_mtime - STAGED_AFTER_SECONDS:
                    continue
                if read_content(home / name) == read_content(work / name):
                    continue
            except (OSError, HalfPipeError):  # cannot be compared
                continue
            text = f"the RetDef of chunk {chunk} was reissued: {home / name} differs from the one that was processed"
            remedy = Remedy(f"snakemake -F dl={of.downlink}", first="To use the new one", hands_off=True)
            yield Cause("retdef-reissued", Verdict.ACTION, text, remedy)


def _misspelt(file: Path, downlink: str | None) -> Cause:
    names = ", ".join(halts.OF_ALL if downlink is None else halts.OF_A_DOWNLINK)
    text = f"{file} is not a known switch, and holds nothing; valid names here: {names}"
    return Cause(
        "misspelt",
        Verdict.ACTION,
        text,
        Remedy(shlex.join(["rm", str(file)]), first="Rename or remove it"),
        modified(str(file)),
    )


def _unreadable(place: Path, why: str) -> Cause:
    return Cause("file-system", Verdict.ACTION, f"cannot list RetDefs: {why}", Remedy(f"ls -ld {place}"))


def lease_troubles(work: Path, downlink: DownlinkId) -> Iterator[Cause]:
    """Yield the process that works on a downlink, leftover jobs of a killed process, or the death of the process."""
    found = leases.look(work, paths.downlink_lease(downlink))
    if found is None or found.ours:  # a command tells its end before it releases its leases
        return
    if found.lives or found.jobs:
        yield Cause("in-progress", Verdict.NOTE, f"in progress: {found}")
    elif found.holder is not None and modified(f"{work}/{paths.receipt(downlink)}") is None:
        again = Remedy(f"snakemake dl={downlink}")
        yield Cause(
            "killed", Verdict.ACTION, f"begun by {found.holder.who}, which died", again, found.signed or None
        )
