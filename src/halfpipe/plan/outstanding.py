"""The outstanding downlinks: those that are not handed off with the RetDefs that exist now."""

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import ConfigError, HalfPipeError, Remedy
from halfpipe.files import leases
from halfpipe.files.reading import names_in
from halfpipe.ids import DownlinkId
from halfpipe.plan.plan import Plan
from halfpipe.plan.plan_causes import general_causes, troubles, unlisted
from halfpipe.state import halts
from halfpipe.state.closed import read_closed
from halfpipe.state.halts import Switch

# Codes of causes that keep an outstanding downlink waiting.
BLOCKING = {
    "waits-retdef",
    "settling",
    "file-system",
    "no-retdefs",
    "stage-foreign",
}


@dataclass(frozen=True)
class Outstanding:
    """Outstanding downlinks: those that are `ready`, and those that are held, each with the file of the switch.

    `waiting` has a line for each other outstanding downlink, and for each problem with the search path or the switches.
    """

    ready: tuple[DownlinkId, ...]
    held: Mapping[DownlinkId, Path]
    waiting: tuple[str, ...]

    def lines(self, work: Path, done: Container[DownlinkId] | None = None) -> list[str]:
        """Return a line for each downlink that waits, is held, or is ready but in progress.

        With `done`, the downlinks of an invocation that has ended, those that became ready meanwhile get a line, too.
        """
        busy = [
            f"downlink {dl} is in progress: {who}"
            for dl in self.ready
            if (who := leases.in_progress(work, dl))
        ]
        if done is not None:
            free = (dl for dl in self.ready if dl not in done and leases.in_progress(work, dl) is None)
            busy += [f"downlink {dl} is ready now: snakemake dl={dl}" for dl in free]
        return [*self.waiting, *halts.summary(self.held), *busy]


def outstanding(plan: Plan, now: float, among: Container[str] | None = None) -> Outstanding:
    """Find the outstanding downlinks.

    With `submit.automatic`, a downlink that was handed off and not submitted is outstanding, too. A closed one is not.

    Parameters
    ----------
    plan
        The plan of the site.
    now
        Unix time, seconds.
    among
        The only downlinks to consider, any number of them, up to their hand-off. None: all downlinks.

    Raises
    ------
    ConfigError
        If `among` is None and more than `outstanding.max` are ready.
    """
    submitting = plan.settings.submit.automatic and among is None
    most = plan.settings.outstanding.max
    names = frozenset(names_in(plan.work))
    begun = {
        DownlinkId(name) for name in names if DownlinkId.matches(name) and paths.receipt(name) not in names
    }
    closed = read_closed(plan.settings)
    ready = []
    held = dict[DownlinkId, Path]()
    waiting = [cause.text for cause in general_causes(plan) if cause.verdict is Verdict.ACTION]
    for dl in sorted(begun | plan.on_search_path):
        if among is not None and dl not in among:
            continue
        handed_off = paths.receipt(dl) in names
        submits = submitting and paths.submitted(dl) not in names
        if dl in closed and not submits:
            continue
        of = plan.of(dl)
        if handed_off and not of.to_stage and not submits:
            waiting += [f"downlink {dl}: {cause.text}" for cause in unlisted(of)]
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
    """Yield a cause if more than `outstanding.max` downlinks are outstanding at `now` (Unix seconds).

    `names` are the names in the working directory.
    """
    done = paths.submitted if plan.settings.submit.automatic else paths.receipt
    if len([dl for dl in plan.on_search_path if done(dl) not in names]) <= plan.settings.outstanding.max:
        return
    try:
        outstanding(plan, now)
    except ConfigError as error:
        yield Cause(error.code, Verdict.ACTION, error.text.rstrip("."), Remedy(*error.remedy.do))
