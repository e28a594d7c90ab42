"""The legacy's tree taken over, downlink by downlink, and a report of what became of each."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.files import working_directory
from halfpipe.files.advice import advice
from halfpipe.files.durable import flushed_together, write_bytes
from halfpipe.files.leases import Lease
from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy import legacy_tree
from halfpipe.legacy.legacy_downlink import Known, Taken, mark, take
from halfpipe.run import force_list
from halfpipe.settings import Settings

log = logging.getLogger(__name__)

BATCH = 1000  # downlinks that are flushed to disk together
WORST_FIRST = (Known.REFUSED, Known.NOTHING, Known.SPANS, Known.WHOLE)


@dataclass
class Report:
    """What a takeover did, or without `done` would do.

    Attributes
    ----------
    root, done
        The legacy's tree, and whether something was written.
    taken, unchanged
        How many downlinks were taken over now, and how many had been.
    left
        Why others were not: ids of downlinks by reason.
    runs
        What is known of the runs of those that were taken now: the least of their downlinks.
    refused
        In words, by downlink: records and chunk products that cannot be read, downlinks that failed.
    both
        In words, by downlink: what the legacy delivered of it, and a downlink here, too.
    given_up
        Runs that an operator of the legacy gave up, and that were not abandoned here.
    switches
        Switches of downlinks that came along, by downlink.
    odd
        What lies in the tree and is none of it.
    """

    root: Path
    done: bool
    taken: int = 0
    unchanged: int = 0
    left: dict[str, list[DownlinkId]] = field(default_factory=dict)
    runs: dict[RunId, Known] = field(default_factory=dict)
    refused: dict[DownlinkId, list[str]] = field(default_factory=dict)
    both: dict[DownlinkId, list[str]] = field(default_factory=dict)
    given_up: list[RunId] = field(default_factory=list)
    switches: dict[DownlinkId, list[str]] = field(default_factory=dict)
    odd: list[str] = field(default_factory=list)

    def add(self, taken: Taken) -> None:
        """Add what became of one downlink."""
        self.unchanged += taken.unchanged
        if taken.left:
            self.left.setdefault(taken.left.partition(":")[0], []).append(taken.downlink)
        elif not taken.unchanged:
            self.taken += 1
        if taken.both:
            self.both[taken.downlink] = taken.both
        for run in taken.runs:
            before = self.runs.get(run.of.run, Known.WHOLE)
            self.runs[run.of.run] = min(before, run.known, key=WORST_FIRST.index)
            if run.refused:
                self.refused.setdefault(taken.downlink, []).append(f"run {run.of.run}: {run.refused}")
        for chunk, why in taken.chunks.items():
            self.refused.setdefault(taken.downlink, []).append(f"chunk {chunk}: {why}")

    def counts(self) -> Counter[Known]:
        """Return how many runs are known how well."""
        return Counter(self.runs.values())

    def as_json(self) -> dict[str, Any]:
        """Return it for programs."""
        runs = {str(known): sorted(run for run, of in self.runs.items() if of is known) for known in Known}
        return asdict(self) | {"root": str(self.root), "runs": runs}


def takeover(
    settings: Settings, root: Path, *, do: bool, watch: Callable[[int, int], None] = lambda *_: None
) -> Report:
    """Take over all that the legacy has delivered, or without `do` say what would be.

    What was taken over before and has not grown stays as it is, so a takeover that died is given again, and later
    ones take over what the legacy has delivered since.

    Parameters
    ----------
    settings
        The settings.
    root
        The legacy's outputBase. Nothing in it is written.
    do
        Write it down.
    watch
        Told how many downlinks of how many are done.

    Raises
    ------
    ConfigError
        If `root` is no directory that can be read, or lies where we write.
    LockedError
        If another takeover is at work.
    """
    work = settings.paths.work
    root = root.absolute()
    for place in (work, settings.paths.stage):
        one, other = root.resolve(), place.resolve()
        if one.is_relative_to(other) or other.is_relative_to(one):
            raise ConfigError(
                f"{root}: HalfPipe writes in {place}, and never where the legacy's tree is. Name the legacy's "
                "outputBase, or set paths.work and paths.stage to places outside of it."
            )
    try:
        downlinks, odd = legacy_tree.downlinks(root)
    except OSError as error:
        raise ConfigError(f"{root}: {error.strerror}. {advice(error)}") from error
    report = Report(root, do, odd=odd)
    if do:
        working_directory.begin(work)
    with _alone(work) if do else nullcontext():
        _force(work, report)
        rest = iter(downlinks)
        on_disk: list[legacy_tree.LegacyDownlink] = []
        while (batch := list(islice(rest, BATCH))) or on_disk:
            with flushed_together() if do else nullcontext():
                for written in on_disk:
                    mark(work, written)
                on_disk = [
                    legacy for dl in batch if (legacy := _one(settings, report, dl)) is not None and do
                ]
            watch(report.taken + report.unchanged + sum(map(len, report.left.values())), len(downlinks))
    return report


def _one(settings: Settings, report: Report, downlink: DownlinkId) -> legacy_tree.LegacyDownlink | None:
    """Take one downlink over; return it if it was. What fails is told, and the others go on."""
    try:
        legacy = legacy_tree.LegacyDownlink.at(report.root / downlink)
        taken = take(settings, legacy, do=report.done)
        if report.done and any(run.known is Known.WHOLE for run in taken.runs):
            _enter(settings, downlink)
    except (HalfPipeError, OSError) as error:
        report.refused.setdefault(downlink, []).append(str(error))
        return None
    report.add(taken)
    report.odd += [str(path.relative_to(report.root)) for path in legacy.odd]
    if taken.unchanged:
        return None
    if legacy.switches:
        report.switches[downlink] = legacy.switches
    return None if taken.left else legacy


def _enter(settings: Settings, downlink: DownlinkId) -> None:
    """Enter a downlink into the ledger, by which Level-1 judges whether its runs are complete."""
    if settings.ledger.url is not None:
        from halfpipe.ledger.load import load_downlink  # noqa: PLC0415 - the library of the database

        load_downlink(settings, downlink, sys.stderr)


def _force(work: Path, report: Report) -> None:
    """Give up the runs here that an operator gave up for the legacy."""
    known = force_list.read(work).runs
    for name, run in legacy_tree.given_up(report.root):
        if run is None:
            report.odd.append(f"{legacy_tree.FORCE}/{name}")
        elif run not in known:
            report.given_up.append(run)
            if report.done:
                write_bytes(work / paths.force() / run.l1, b"taken over from the legacy\n")


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    lease = Lease(work, paths.takeover_lease())
    lease.take_or_refuse("the takeover", log.warning)
    try:
        yield
    finally:
        lease.give_back()
