"""What keeps downlinks from being processed, and what an operator has put down: as causes for their account.

They are asked of the whole mission, so they look at names and times, and make no object for each file.
"""

import os
import time
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink import halts
from halfpipe.downlink.halts import Switch
from halfpipe.downlink.handoff_causes import HOUR, warnings_before
from halfpipe.downlink.plan import DownlinkPlan, Plan
from halfpipe.downlink.stage_look import foreign, refuse_foreign
from halfpipe.errors import NOTHING, ConfigError, HalfPipeError, Remedy
from halfpipe.files import lease, leases
from halfpipe.files.reading import modified, names_in
from halfpipe.formats.retdef import read_content
from halfpipe.ids import ChunkId, DownlinkId

# A RetDef that was left alone for so long before it was staged is what was staged. Clocks of file servers differ.
STAGED_AFTER_SECONDS = 60.0
# Codes of what an outstanding downlink waits for.
BLOCKING = {
    "waits-retdef",
    "settling",
    "file-system",
    "no-retdefs",
    "stage-foreign",
}
# Codes of what is said to whoever names a downlink, though it is processed all the same.
SAID = {
    "waits-retdef",
    "file-system",
    "retdef-elsewhere",
    "retdef-new",
    "retdef-reissued",
    "misspelt",
    "stage-foreign",
}


def troubles(of: DownlinkPlan, now: float) -> Iterator[Cause]:
    """Yield what is amiss at `now`, Unix seconds, with the RetDefs and the switches of a downlink, processed or not."""
    plan, downlink, staged = of.plan, of.downlink, of.staged
    place = plan.work / downlink
    if staged.unread:
        yield Cause("file-system", Verdict.ACTION, staged.unread, Remedy(f"ls -ld {place}"))
        return
    yield from _problems(of)
    names = sorted(staged.names)
    yield from (_misspelt(place / name, downlink) for name in names if halts.is_misspelt(name, downlink))
    begun = any(not name.lower().startswith(halts.BEGINNING) for name in names)  # not only held by a person
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
        then = f"{there} are staged, and it goes on with these" if there else "Have them copied again"
        text = (
            f"begun and not handed off, and its RetDefs are gone from the search path (paths.retdef). {then}"
        )
        remedy = Remedy(f"snakemake dl={downlink}") if there else NOTHING
        yield Cause("no-retdefs", Verdict.ACTION, text, remedy, modified(str(place)))
    if of.new:
        text = f"the RetDef of chunk {_named(of.new)} has come since it was handed off"
        remedy = Remedy(f"snakemake dl={downlink}")
        yield Cause("retdef-new", Verdict.NOTE, text, remedy, of.came(now) or None)
    yield from _reissued(of)
    if of.to_stage or of.handed_off is None:
        yield from filter(None, [halts.cause(plan.work, Switch.STAGE, downlink)])


def look(of: DownlinkPlan, say: Callable[[str], object]) -> None:
    """Look at a downlink that somebody has named before its first job, and say what is amiss with it.

    Parameters
    ----------
    of
        The downlink.
    say
        Takes lines for people: what is amiss, what is held, and that Level-1 has a hand-off already.
    """
    of.refuse_closed()
    held = [halts.cause(of.plan.work, switch, of.downlink) for switch in (Switch.STAGE, Switch.L1)]
    said = [cause for cause in troubles(of, time.time()) if cause.code in SAID]
    for line in (
        *(f"downlink {of.downlink}: {cause.text}" for cause in filter(None, held)),
        *(": ".join([f"downlink {of.downlink}", cause.text, *cause.remedy.steps]) for cause in said),
        *map(str, of.unreadable),
        *warnings_before(of.plan.settings, of.downlink),
    ):
        say(line)


def refuse_staging(of: DownlinkPlan, *, is_forced: bool) -> None:
    """Refuse a downlink that would be staged although a switch holds it or another system stages it.

    Parameters
    ----------
    of
        The plan of the downlink.
    is_forced
        Whether it is processed again though nothing is outstanding.

    Raises
    ------
    HalfPipeError
        Names the switch or the files. Nothing was changed.
    """
    if is_forced or of.to_stage or of.handed_off is None or of.outdated:
        halts.refuse(of.plan.work, Switch.STAGE, of.downlink)
        refuse_foreign(of.plan.settings, of.downlink, of.runs)


@dataclass(frozen=True)
class Outstanding:
    """Outstanding downlinks: those that are `ready`, and those that a halt switch holds, with its file.

    `waiting` says, a line each, what others wait for, and what is wrong with the search path and the switches.
    """

    ready: tuple[DownlinkId, ...]
    held: Mapping[DownlinkId, Path]
    waiting: tuple[str, ...]

    def lines(self, work: Path) -> list[str]:
        """Say, a line each, which wait, are held, and are ready but in work."""
        busy = [f"downlink {dl} is in work: {who}" for dl in self.ready if (who := leases.in_work(work, dl))]
        return [*self.waiting, *halts.summary(self.held), *busy]


def outstanding(plan: Plan, now: float, among: Container[str] | None = None, since: str = "") -> Outstanding:
    """Find the outstanding downlinks on the search path.

    With `submit.automatic` a downlink that was handed off and not submitted to Level-1 is outstanding too.

    Parameters
    ----------
    plan
        The plan of the site.
    now
        Unix time, seconds.
    among
        Downlinks that somebody has named: only these, however many they are, and only up to their hand-off.
    since
        Those before this id that are done are not looked at, so a RetDef that came late for one is not seen.

    Raises
    ------
    ConfigError
        If nobody has named any, and there are more than `outstanding.max`.
    """
    submitting, most = plan.settings.submit.automatic and among is None, plan.settings.outstanding.max
    names = frozenset(names_in(plan.work))
    begun = {
        DownlinkId(name) for name in names if DownlinkId.matches(name) and paths.receipt(name) not in names
    }
    ready, held = [], dict[DownlinkId, Path]()
    waiting = [cause.text for cause in site_troubles(plan) if cause.verdict is Verdict.ACTION]
    for dl in sorted(begun | plan.on_search_path()):
        if among is not None and dl not in among:
            continue
        handed_off, submits = paths.receipt(dl) in names, submitting and paths.submitted(dl) not in names
        if handed_off and dl < since and not submits:
            continue
        of = plan.of(dl)
        if handed_off and not of.to_stage and not submits:
            continue
        try:
            file = halts.holding(plan.work, Switch.STAGE if of.to_stage else Switch.L1, dl)
            causes = [cause for cause in troubles(of, now) if cause.code in BLOCKING]
        except HalfPipeError as error:
            waiting.append(f"downlink {dl}: {error}")
            continue
        if file is not None and (of.to_stage or handed_off):
            held[dl] = file
        elif causes and (of.to_stage or not handed_off):
            waiting += [f"downlink {dl}: {cause.text}" for cause in causes]
        elif of.to_stage or handed_off:
            ready.append(dl)
    if among is None and len(ready) > most:
        raise ConfigError(
            f"{len(ready)} downlinks are outstanding, {ready[0]} to {ready[-1]}: more than outstanding.max "
            f"({most}), so none is processed without being named.",
            Remedy(f"halfpipe process {ready[0]}..{ready[-1]}", first="To process them"),
            code="outstanding-many",
        )
    return Outstanding(tuple(ready), held, tuple(waiting))


def too_many(plan: Plan, now: float, names: Collection[str]) -> Iterator[Cause]:
    """Yield that more downlinks are outstanding at `now`, Unix seconds, than `outstanding.max`: none is processed.

    `names` are those in the working directory.
    """
    done = paths.submitted if plan.settings.submit.automatic else paths.receipt
    if len([dl for dl in plan.on_search_path() if done(dl) not in names]) <= plan.settings.outstanding.max:
        return
    try:
        outstanding(plan, now)
    except ConfigError as error:
        yield Cause(error.code, Verdict.ACTION, error.text.rstrip("."), Remedy(*error.remedy.do))


def site_troubles(plan: Plan) -> Iterator[Cause]:
    """Yield what is amiss with the search path, the switches for all downlinks, and who is at work on no downlink."""
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
            yield Cause("in-work", Verdict.NOTE, f"{found.name} is in work by {found}", since=found.signed)


def _named(chunks: Iterable[int]) -> str:
    return ", ".join(map(ChunkId.of, sorted(chunks)))


def _coming(of: DownlinkPlan, now: float) -> Iterator[Cause]:
    """Yield what a downlink waits for that is not handed off, or not with all its RetDefs."""
    youngest, settle = of.came(now), of.plan.settings.retdef.settle_seconds
    if of.holes:
        age = now - youngest if youngest else 0.0
        late = age > of.plan.settings.alarm.late_hours * HOUR
        yield Cause(
            "waits-retdef",
            Verdict.ACTION if late else Verdict.NOTE,
            f"waits for the RetDef of chunk {_named(of.holes)}"
            + (f", and has done so for {age / HOUR:.0f} h" if late else ""),
            Remedy(
                f"snakemake dl={of.downlink}",
                first="have it made and copied, or list the chunk under ignore.chunks",
            ),
            youngest or None,
        )
    elif youngest and now - youngest < settle:
        text = f"waits: its youngest RetDef is younger than {settle:g} s"
        yield Cause("settling", Verdict.NOTE, text, since=youngest)


def _problems(of: DownlinkPlan) -> Iterator[Cause]:
    """Yield RetDefs of others in the directories of a downlink, and directories that cannot be listed."""
    for home, listing in of.listings.items():
        for name in listing.elsewhere:
            path, right = home / of.downlink / name, home / name.split("-")[1]
            twice = (right / name).exists()
            yield Cause(
                "retdef-elsewhere",
                Verdict.NOTE if twice else Verdict.ACTION,
                f"{path} is a RetDef of downlink {right.name} and does not count here"
                + ("; it also lies where it belongs" if twice else ""),
                Remedy(f"rm {path}" if twice else f"mkdir -p {right} && mv {path} {right}/"),
                modified(str(path)),
            )
        if listing.unread:
            yield _unreadable(home / of.downlink, listing.unread)


def _reissued(of: DownlinkPlan) -> Iterator[Cause]:
    """Yield the staged RetDefs that the search path holds with other content; most are told by their times."""
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
            except (OSError, HalfPipeError):  # a source that cannot be read says nothing
                continue
            text = (
                f"the RetDef of chunk {chunk} was issued again: {home / name} differs from what was processed"
            )
            remedy = Remedy(f"snakemake -F dl={of.downlink}", hands_off=True)
            yield Cause("retdef-reissued", Verdict.ACTION, text, remedy)


def _misspelt(file: Path, downlink: str | None) -> Cause:
    names = ", ".join(halts.OF_ALL if downlink is None else halts.OF_A_DOWNLINK)
    text = (
        f"{file} holds nothing: the switches here are {names}. If it is to hold, give it one of these names"
    )
    return Cause("misspelt", Verdict.ACTION, text, Remedy(f"rm {file}"), modified(str(file)))


def _unreadable(place: Path, why: str) -> Cause:
    text = f"RetDefs there are not seen: {why}"
    return Cause("file-system", Verdict.ACTION, text, Remedy(f"ls -ld {place}"))


def lease_troubles(work: Path, downlink: DownlinkId) -> Iterator[Cause]:
    """Yield who is at work on a downlink, jobs that are left of a killed head included, or who died at work on it."""
    found = lease.look(work, paths.downlink_lease(downlink))
    if found is None:
        return
    since = found.signed or None
    if found.lives or found.jobs:
        left = f"jobs that a killed process left behind: {', '.join(found.jobs)}"
        yield Cause("in-work", Verdict.NOTE, f"in work by {found if found.lives else left}", since=since)
    elif found.holder is not None and modified(f"{work}/{paths.receipt(downlink)}") is None:
        text = f"begun by {found}, which died"
        yield Cause("killed", Verdict.ACTION, text, Remedy(f"snakemake dl={downlink}"), since)
