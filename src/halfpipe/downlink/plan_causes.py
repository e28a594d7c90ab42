"""What keeps downlinks from being processed, and what an operator has put down: as causes for their account.

They are asked of the whole mission, so they look at names and times, and make no object for each file.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import halts
from halfpipe.downlink.halts import Switch
from halfpipe.downlink.plan import (
    MOST_HOLES,
    FoundFiles,
    Listing,
    Plan,
    cannot_be_listed,
    gone,
    holds_work,
    misplaced,
    new_retdef_message,
)
from halfpipe.files import leases
from halfpipe.files.advice import cannot_be_read
from halfpipe.files.reading import modified
from halfpipe.ids import ChunkId, DownlinkId
from halfpipe.words import utc

HOUR = 3600.0
# A RetDef that was left alone for so long before it was staged is what was staged. Clocks of file servers differ.
STAGED_AFTER_SECONDS = 60.0


def troubles(
    plan: Plan,
    downlink: DownlinkId,
    now: float,
    files: FoundFiles | None = None,
    made_of: frozenset[str] | None = None,
) -> Iterator[Cause]:
    """Yield what is amiss with a downlink's RetDefs, its switches and its lease.

    Parameters
    ----------
    plan
        The plan of the site.
    downlink
        The downlink, processed or not.
    now
        Unix time, seconds.
    files
        What lies there of it, if that was looked for already.
    made_of
        The chunks that its receipt names, if that is read already.
    """
    home = f"{plan.work}/{downlink}"
    files = files or plan.lying(downlink)
    names, listings, staged = sorted(files.names), files.listings, files.staged
    if staged.unread is not None:
        place = plan.work / downlink
        yield Cause(
            "work-unreadable", Verdict.ACTION, cannot_be_read(place, staged.unread), f"ls -ld {place}"
        )
        return
    yield from _lease(plan.work, downlink)
    yield from _problems(plan, downlink, listings)
    for name in names:
        if halts.is_misspelt(name, downlink):
            yield _misspelt(plan.work / downlink / name, downlink)
    receipt_time = modified(f"{plan.work}/{paths.receipt(downlink)}")
    found = any(one.chunks for one in listings)
    new = plan.unprocessed_chunks(downlink, listings, staged, made_of) if receipt_time else set()
    if receipt_time is None and not found:
        if holds_work(names) and not plan.closed and not any(one.unread for one in listings):
            do = f"snakemake dl={downlink}" if staged.chunks else ""
            yield Cause("retdefs-gone", Verdict.ACTION, gone(plan.work, downlink), do, modified(home))
    elif receipt_time is None or new:
        yield from _coming(plan, downlink, [staged, *listings], listings, now)
    if new:
        since = plan.times(downlink, listings, now).youngest or None
        yield Cause(
            "retdef-new", Verdict.NOTE, new_retdef_message(downlink, new), f"snakemake dl={downlink}", since
        )
    if receipt_time:
        yield from _reissued(plan, downlink, staged, listings)
    yield from _held(plan, downlink, to_stage=receipt_time is None or bool(new))


def site_troubles(plan: Plan) -> Iterator[Cause]:
    """Yield what is amiss with the search path, the switches for all downlinks, and who is at work on no downlink."""
    work = plan.settings.paths.work
    for home, error in plan.closed.items():
        yield _unreadable(home, cannot_be_listed(home, error))
    for name in _names(f"{work}/halts"):
        if halts.is_misspelt(name, None):
            yield _misspelt(work / "halts" / name, None)
    for switch in Switch:
        file = f"{work}/{paths.halt(switch)}"
        if os.path.lexists(file):
            text = f"{switch.what} is held for all downlinks by {halts.with_reason(Path(file))}"
            yield Cause("switch-holds", Verdict.NOTE, text, halts.resume(switch, Path(file)), modified(file))
    for lease in leases.found(work):
        if lease.lives and not lease.ours and not lease.name.startswith("downlink-"):
            yield Cause("leased", Verdict.NOTE, f"{lease.name} is in work by {lease}", "", lease.signed)


def _coming(
    plan: Plan, downlink: DownlinkId, every: Sequence[Listing], listings: Sequence[Listing], now: float
) -> Iterator[Cause]:
    """Yield what a downlink waits for that is not handed off, or not with all its RetDefs."""
    times = plan.times(downlink, listings, now)
    for text, path in zip(times.problems(downlink), times.future, strict=True):
        yield Cause("retdef-future", Verdict.NOTE, text, f"touch {path}")
    age = now - times.written if times.written else 0.0
    missing = _holes(every, plan.ignored(downlink))
    settle = plan.settings.retdef.settle_seconds
    if missing:
        late = age > plan.settings.alarm.late_hours * HOUR
        yield Cause(
            "waits-retdef",
            Verdict.ACTION if late else Verdict.NOTE,
            f"downlink {downlink} waits for the RetDef of chunk {', '.join(missing)}"
            + (f", and has done so for {age / HOUR:.0f} h" if late else ""),
            f"have it made and copied, or list the chunk under ignore.chunks; then: snakemake dl={downlink}",
            times.written or None,
        )
    elif times.youngest and now - times.youngest < settle:
        text = f"downlink {downlink} waits: its youngest RetDef is younger than {settle:g} s"
        yield Cause("settling", Verdict.NOTE, text, "", times.youngest)


def _holes(listings: Sequence[Listing], ignored: frozenset[str]) -> list[str]:
    """Return the chunks without a RetDef below the last, the first of them."""
    there = {int(chunk) for one in listings for chunk in one.chunks} | {int(chunk) for chunk in ignored}
    if len(there) == max(there, default=0):
        return []
    holes = (number for number in range(1, max(there)) if number not in there)
    return [ChunkId.of(number) for number, _ in zip(holes, range(MOST_HOLES), strict=False)]


def _problems(plan: Plan, downlink: DownlinkId, listings: Sequence[Listing]) -> Iterator[Cause]:
    """Yield RetDefs of others in the directories of a downlink, and directories that cannot be listed."""
    for home, listing in zip(plan.search, listings, strict=True):
        for name in listing.elsewhere:
            right = f"{home}/{name.split('-')[1]}"
            twice = os.path.exists(f"{right}/{name}")  # noqa: PTH110
            path = f"{home}/{downlink}/{name}"
            yield Cause(
                "retdef-elsewhere",
                Verdict.NOTE if twice else Verdict.ACTION,
                misplaced(home, downlink, name),
                f"rm {path}" if twice else f"mkdir -p {right} && mv {path} {right}/",
                modified(path),
            )
        if listing.unread is not None:
            place = home / downlink
            yield _unreadable(place, cannot_be_listed(place, listing.unread))


def _reissued(
    plan: Plan, downlink: DownlinkId, staged: Listing, listings: Sequence[Listing]
) -> Iterator[Cause]:
    """Yield the staged RetDefs that the search path holds with other content; most are told by their times."""
    there, seen, young = frozenset(staged.chunks), set[str](), False
    for home, listing in zip(plan.search, listings, strict=True):
        for chunk in listing.chunks:
            if chunk not in there or chunk in seen:
                continue
            seen.add(chunk)
            name = paths.retdef(downlink, chunk)
            try:
                source, copy = os.stat(f"{home}/{name}"), os.stat(f"{plan.work}/{name}")  # noqa: PTH116
            except OSError:
                continue
            last = max(source.st_mtime, source.st_ctime)
            young = young or source.st_size != copy.st_size or last > copy.st_mtime - STAGED_AFTER_SECONDS
    if young:
        for text in plan.reissued(downlink):
            yield Cause("retdef-reissued", Verdict.ACTION, text, f"snakemake dl={downlink} -F")


def _held(plan: Plan, downlink: DownlinkId, *, to_stage: bool) -> Iterator[Cause]:
    """Yield the switch that holds what a downlink needs next."""
    submitted = f"{plan.work}/{paths.submitted(downlink)}"
    if to_stage:
        switch = Switch.STAGE
    elif plan.settings.submit.automatic and not os.path.lexists(submitted):
        switch = Switch.L1
    else:
        return
    file = halts.holding(plan.work, switch, downlink)
    if file is not None:
        text, do = f"{switch.what} is held by {halts.with_reason(file)}", halts.resume(switch, file, downlink)
        yield Cause("switch-holds", Verdict.NOTE, text, do, modified(str(file)))


def _misspelt(file: Path, downlink: str | None) -> Cause:
    text, do = halts.not_a_switch(file, downlink)
    return Cause("switch-misspelt", Verdict.ACTION, text, do, modified(str(file)))


def _unreadable(place: Path, text: str) -> Cause:
    return Cause("search-path-unreadable", Verdict.ACTION, text, f"ls -ld {place}")


def _lease(work: Path, downlink: DownlinkId) -> Iterator[Cause]:
    """Yield who is at work on a downlink, jobs that are left of a killed head included, or who died at work on it."""
    found = leases.look(work, paths.downlink_lease(downlink))
    if found is None:
        return
    since = found.signed or None
    if found.lives:
        yield Cause("in-work", Verdict.NOTE, f"in work by {found}", "", since)
    elif found.jobs:
        text = f"in work by jobs that a killed process left behind: {', '.join(found.jobs)}"
        yield Cause("in-work", Verdict.NOTE, text, "", since)
    elif found.holder is not None and modified(f"{work}/{paths.receipt(downlink)}") is None:
        signs = f"{work}/{paths.benchmarks(downlink)}"
        last = max(filter(None, (modified(f"{signs}/{log}") for log in _names(signs))), default=None)
        text = f"begun by {found}, which died" + (f" after {utc(last)}" if last else "")
        yield Cause("head-died", Verdict.NOTE, text, f"snakemake dl={downlink}", last or since)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))  # noqa: PTH208
    except OSError:
        return []
