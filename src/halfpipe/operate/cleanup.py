"""Cleanup: large files that can be regenerated, partial files of killed jobs, and old logs.

The chunk products are the large files below `paths.work`. They are removed for runs that are retired, delivered and
taken by Level-1. The working copies of RetDefs and the lists of products stay, so a merge that needs a chunk later
decodes the chunk again (`halfpipe.state.run_state`), if its level-0 data are in the archive. The next attempt of a
killed job overwrites its partial files; cleanup removes those without a next attempt.

Cleanup never waits for another process, and no process has to wait long for cleanup.
"""

import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from halfpipe import paths
from halfpipe.decisions import Decisions
from halfpipe.decode.chunk_products import PRODUCT
from halfpipe.errors import HalfPipeError, LockedError
from halfpipe.files.advice import sentence
from halfpipe.files.durable import remove_tree
from halfpipe.files.leases import Lease
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.settle import is_complete
from halfpipe.notify.online_handoff import is_handed_off, kind_of
from halfpipe.notify.submissions import submissions
from halfpipe.settings import Settings
from halfpipe.staging.stage_look import is_submitted
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.downlinks_of_run import begun_downlinks
from halfpipe.state.hand_offs import current, hand_offs
from halfpipe.state.merged_index import MergedIndex, known_datagrams

DAY = 86400.0
# Seconds before partial files are removed: longer than any job runs. A job that was suspended for as long has lost its
# leases, and notices that before it writes anything.
LEAST_AGE = DAY
DL = DownlinkId.PATTERN
RUN = RunId.PATTERN
# Files below `paths.work` that can be regenerated.
PRODUCTS = re.compile(rf"{paths.chunks(f'(?P<dl>{DL})')}/(\.replaced/)?{PRODUCT.pattern}")
# Partial files, which only a killed or running job leaves: temporary names, scratch of decoders, scratch on the stage's
# file system, and heartbeats.
PARTIAL = re.compile(
    rf"(.*/)?\.[^/]+\.part|{paths.context(RUN)}|{paths.stage_scratch(DL, '[^/]+')}"
    rf"|{paths.HEARTBEATS}/[^/]+",
    re.DOTALL,
)
# Logs; the files with time and memory of the jobs stay.
LOG = re.compile(rf"{paths.LOGS}/(.*\.(log|failure\.json)|(.*/)?[0-9]{{8}}T[^/]*\.json)", re.DOTALL)
NOT_OURS = ".snakemake"  # a directory that is skipped


class FileKind(StrEnum):
    """Kind of files: products of a run, partial files, old logs."""

    RUN = "run"
    PARTIAL = "partial"
    LOGS = "logs"


@dataclass(frozen=True)
class Removable:
    """Files that are removed or kept together, or a partial directory.

    Attributes
    ----------
    what, sizes
        Their kind, and the bytes of each path.
    run, downlinks
        Jobs of these may use the files.
    kept
        Why they stay; empty if they are removed.
    failed
        Whether removing them failed.
    """

    what: FileKind
    sizes: Mapping[str, int]
    run: RunId | None = None
    downlinks: tuple[DownlinkId, ...] = ()
    kept: str = ""
    failed: bool = False

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())


def clean(settings: Settings, now: float, halted: str, *, remove: bool) -> Iterator[Removable]:
    """Remove files that are not needed, or list them.

    Parameters
    ----------
    settings, now
        The settings, and the time for their limits, Unix seconds.
    halted
        Why nothing may be removed; empty if cleanup is not held.
    remove
        Whether to remove; otherwise nothing is changed, and no lease is taken.

    Yields
    ------
    Removable
        As from `removable`, with `kept` and `failed`, each as soon as possible.
    """
    for each in removable(settings, now):
        kept = halted or at_work(settings, each) or why_kept(settings, now, each)
        failed = False
        if remove and not kept:
            try:
                with nobody_else(settings, each):
                    # Check again under the leases: a downlink may have been reprocessed since.
                    kept = why_kept(settings, now, each)
                    for path in () if kept else map(Path, each.sizes):
                        _remove(path)
            except (HalfPipeError, OSError) as error:
                kept = sentence(error) if isinstance(error, OSError) else str(error)
                failed = not isinstance(error, LockedError)
        yield replace(each, kept=kept, failed=failed)


def removable(settings: Settings, now: float) -> list[Removable]:
    """Find removable files: for each run the files that can be regenerated, then old partial files, then all old logs.

    Links are skipped, because files that a person moved elsewhere are not cleaned up. Only `paths.work` and
    `paths.stage` may be links.
    """
    work = settings.paths.work
    stage = settings.paths.stage
    products: defaultdict[RunId, dict[str, int]] = defaultdict(dict)
    downlinks: defaultdict[RunId, set[DownlinkId]] = defaultdict(set)
    partial = list[Removable]()
    logs = dict[str, int]()
    for name, path in (
        *_below(work, ""),
        *_below(stage, paths.STAGE_SCRATCHES),
        *_below(stage, paths.STAGE_MARK),
    ):
        with suppress(FileNotFoundError):
            if PARTIAL.fullmatch(name):
                size, changed = _size_and_change(path)
                if changed < now - LEAST_AGE:
                    partial.append(Removable(FileKind.PARTIAL, {str(path): size}))
            elif match := PRODUCTS.fullmatch(name):
                run = RunId(match["run"])
                products[run][str(path)] = path.lstat().st_size
                downlinks[run].add(DownlinkId(match["dl"]))
            elif LOG.fullmatch(name) and path.lstat().st_mtime < now - settings.cleanup.log_days * DAY:
                logs[str(path)] = path.lstat().st_size
    runs = [
        Removable(FileKind.RUN, sizes, run, tuple(sorted({*begun_downlinks(work, run), *downlinks[run]})))
        for run, sizes in sorted(products.items())
    ]
    return [*runs, *partial, *([Removable(FileKind.LOGS, logs)] if logs else [])]


def _below(root: Path, place: str) -> Iterator[tuple[str, Path]]:
    """Yield files and directories below `place` in `root`, with their names relative to `root`; links are skipped.

    Partial directories are not searched.
    """
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(root / place) as there:
        for entry in sorted(there, key=lambda entry: entry.name):
            name = f"{place}/{entry.name}".lstrip("/")
            if entry.is_file(follow_symlinks=False):
                yield name, root / name
            elif entry.is_dir(follow_symlinks=False) and name != NOT_OURS:
                yield name, root / name
                if not PARTIAL.fullmatch(name):
                    yield from _below(root, name)


def _size_and_change(path: Path) -> tuple[int, float]:
    """Return the bytes of a partial file or directory, and the time of its last change."""
    size = 0
    changed = 0.0
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            status = each.lstat()
            size += 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            changed = max(changed, status.st_mtime)
    return size, changed


def why_kept(settings: Settings, now: float, each: Removable) -> str:
    """Return why files must stay; empty if they may be removed. `now` is in Unix seconds."""
    if each.what is FileKind.PARTIAL:
        changed = max(_size_and_change(Path(path))[1] for path in each.sizes)
        return "" if changed < now - LEAST_AGE else "it was changed a moment ago"
    if each.run is None:
        return ""
    try:
        return next(_reasons(settings, now, each.run, each.downlinks), "")
    except (HalfPipeError, OSError) as error:
        return f"its records cannot be read: {error}"


def _reasons(settings: Settings, now: float, run: RunId, downlinks: tuple[DownlinkId, ...]) -> Iterator[str]:
    work = settings.paths.work
    stage = settings.paths.stage
    online = settings.paths.online
    if not stage.is_dir():
        yield f"the stage {stage} is missing, so it is unknown what Level-1 has taken"
    latest = Deliveries(work, run).latest()
    for downlink in downlinks:
        handed_off = work / paths.receipt(downlink)
        if not handed_off.is_file():
            yield f"downlink {downlink} has no receipt: it is outstanding"
        last = current(work, downlink)
        delivery = latest.get(downlink)
        if delivery is None:
            yield f"downlink {downlink} has not delivered it"
        elif delivery.refused:
            yield f"downlink {downlink} has refused it, because Level-1 would reject it"
        # Missing files in the stage prove nothing, because a person may have cleared the stage.
        if last.names_files and not is_submitted(last, submissions(work, downlink)):
            yield (
                f"downlink {downlink} has no record of a submission; if Level-1 has it: halfpipe submit "
                f"{downlink} --settle submitted"
            )
        made = (handoff.made or 0.0 for handoff in hand_offs(work, downlink))
        youngest = max(handed_off.stat().st_mtime, *made)
        days = (now - youngest) / DAY
        wanted = settings.cleanup.retention_days
        if days < wanted:
            yield f"downlink {downlink} was handed off {days:.1f} days ago, less than {wanted:g}"
        for chunk in MergedIndex.read(work, run, downlink).chunks:
            retdef = work / paths.retdef(downlink, chunk.chunk)
            if not retdef.is_file():
                yield f"chunk {chunk.chunk} could not be decoded again: {retdef} is gone"
    tokens = stage / paths.tokens(run.l1)
    if left := sorted(tokens.iterdir()) if tokens.exists() else []:
        yield f"Level-1 still works on it, or a downlink is not handed off: {left[0]}, one of {len(left)} tokens"
    decisions = Decisions.read(work)
    abandoned = decisions.is_abandoned(run)
    # Level-1 may retire an abandoned run only if it was delivered as one.
    is_retired = abandoned and any(delivery.abandoned for delivery in latest.values())
    # Data of another EPU can make a complete run open again, so the deliveries do not suffice.
    if not is_retired and not is_complete(
        known_datagrams(work, decisions, run).segments(), settings.merge.min_epus
    ):
        yield "the run is open: more of it may come"
    # Files of an abandoned run are removed, even if Online has no file of the run.
    if (
        online is not None
        and not abandoned
        and not is_handed_off(work, online, run)
        and kind_of(latest.values()) in settings.online.types
    ):
        yield f"Online has no file of it yet in {online}, which halfpipe online makes from this"


def _remove(path: Path) -> None:
    """Remove a file or directory, if it exists.

    The directory is not flushed, because it does no harm if the file comes back after a crash of the machine.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(path.lstat().st_mode):
            remove_tree(path)
        else:
            path.unlink()


def _leases(settings: Settings, each: Removable) -> list[Lease]:
    places = [paths.downlink_lease(downlink) for downlink in each.downlinks]
    places += [paths.run_lease(each.run)] if each.run is not None else []
    return [Lease.of(settings, place) for place in places]


def at_work(settings: Settings, each: Removable) -> str:
    """Return which other process or leftover job of a killed head uses the files; empty: none. Takes no lease."""
    for lease in filter(None, (lease.look() for lease in _leases(settings, each))):
        if lease.jobs or (lease.lives and not lease.ours):
            return f"in progress: {lease} holds {lease.name}"
    return ""


@contextmanager
def nobody_else(settings: Settings, each: Removable) -> Iterator[None]:
    """Hold the leases of the files, so that no job uses them meanwhile.

    Raises
    ------
    LockedError
        If another process holds one of the leases, or a job of a downlink is still running.
    """
    with ExitStack() as held:
        mine = [held.enter_context(lease) for lease in _leases(settings, each)]  # released, also if not taken
        taken = [lease.try_take() for lease in mine]  # without waiting, because a merge may take an hour
        if (who := at_work(settings, each)) or not all(taken):
            raise LockedError(
                who or "in progress: another process takes or releases a lease of it at this moment"
            )
        yield
