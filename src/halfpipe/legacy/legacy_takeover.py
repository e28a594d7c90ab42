"""The legacy's tree taken over, downlink by downlink, and a report of what became of each."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.files import working_directory
from halfpipe.files.advice import advice
from halfpipe.files.durable import flushed_together, write_bytes
from halfpipe.files.leases import Lease
from halfpipe.ids import DownlinkId
from halfpipe.legacy import legacy_tree
from halfpipe.legacy.legacy_downlink import Known, Report, mark, take
from halfpipe.run import force_list
from halfpipe.settings import Settings

log = logging.getLogger(__name__)

BATCH = 1000  # downlinks that are flushed to disk together


def takeover(
    settings: Settings,
    root: Path,
    *,
    do: bool,
    shown: Callable[[list[DownlinkId]], Iterable[DownlinkId]] = iter,
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
    shown
        Wraps the downlinks, to show progress.

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
        rest = iter(shown(downlinks))
        on_disk: list[legacy_tree.LegacyDownlink] = []
        while (batch := list(islice(rest, BATCH))) or on_disk:
            with flushed_together() if do else nullcontext():
                for written in on_disk:
                    mark(work, written)
                on_disk = [
                    legacy for dl in batch if (legacy := _one(settings, report, dl)) is not None and do
                ]
    return report


def _one(settings: Settings, report: Report, downlink: DownlinkId) -> legacy_tree.LegacyDownlink | None:
    """Take one downlink over; return it if it was. What fails is told, and the others go on."""
    try:
        legacy = legacy_tree.LegacyDownlink.at(report.root / downlink)
        runs = take(settings, legacy, report)
        if report.done and any(run.known is Known.WHOLE for run in runs or ()):
            _enter(settings, downlink)
    except (HalfPipeError, OSError) as error:
        report.refuse(downlink, error)
        return None
    report.odd += [str(path.relative_to(report.root)) for path in legacy.odd]
    return None if runs is None else legacy


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
