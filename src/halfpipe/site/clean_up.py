"""Clean-up: what is large and can be made again, what killed jobs left half-made, and old logs.

The chunk products are what is large below `paths.work`. Those of runs that are
retired, delivered and taken go: the staged RetDefs and the files that vouch for the chunks stay, so a merge that needs
a chunk later decodes it again (`halfpipe.run.run_state`), as long as its level-0 is in the archive. What a killed job
left is written over by its own next try; here go those that had no next try.

Clean-up never waits for anybody who is at work on what it looks at, and nobody has to wait for it for long.
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
from halfpipe.decode.chunk_products import PRODUCT
from halfpipe.downlink.stage_look import is_submitted, names_files
from halfpipe.downlink.submissions import submissions
from halfpipe.errors import HalfPipeError, LockedError
from halfpipe.files.advice import sentence
from halfpipe.files.durable import remove_tree
from halfpipe.files.json_files import read_json
from halfpipe.files.lease import Lease
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.settle import is_complete
from halfpipe.run import force_list
from halfpipe.run.downlinks_of_run import begun_downlinks
from halfpipe.run.merged_index import MergedIndex, known_datagrams
from halfpipe.run.receipt_file import hand_offs, read_receipt
from halfpipe.settings import Settings
from halfpipe.site.online_handoff import is_handed_off, kind_of

DAY = 86400.0
# Of what a killed job left: longer than any job runs. One that stood still for as long has lost its leases, and finds
# that out before it writes anything.
LEAST_AGE = DAY
DL, RUN = DownlinkId.PATTERN, RunId.PATTERN
# Where what can be made again is, below `paths.work`.
PRODUCTS = re.compile(rf"{paths.chunks(f'(?P<dl>{DL})')}/(\.replaced/)?{PRODUCT.pattern}")
# What only a job that was killed, or still runs, can have left: what is written beside its place, scratch of decoders,
# scratch on the stage's file system, and heartbeats.
HALF_MADE = re.compile(
    rf"(.*/)?\.[^/]+\.part|{paths.context(RUN)}|{paths.stage_scratch(DL, '[^/]+')}"
    rf"|{paths.HEARTBEATS}/[^/]+",
    re.DOTALL,
)
# What jobs took of time and memory lies beside their logs, and stays.
LOG = re.compile(rf"{paths.LOGS}/(.*\.(log|failure\.json)|(.*/)?[0-9]{{8}}T[^/]*\.json)", re.DOTALL)
NOT_OURS = {".snakemake", paths.REPIPES}  # what nothing is looked for in


class What(StrEnum):
    """What may go: products of a run, something half-made, old logs."""

    RUN = "run"
    PARTIAL = "partial"
    LOGS = "logs"


@dataclass(frozen=True)
class Removable:
    """Files that go together or stay, or a directory that is half-made: their paths, and the bytes of each.

    Jobs of `run` and `downlinks` may be at work on products. `kept` says why they stay; empty, they go, or are gone.
    `failed`: they should go and could not.
    """

    what: What
    sizes: Mapping[str, int]
    run: RunId | None = None
    downlinks: tuple[DownlinkId, ...] = ()
    kept: str = ""
    failed: bool = False

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(self.sizes.values())


def clean(settings: Settings, now: float, halted: str, *, remove: bool) -> Iterator[Removable]:
    """Remove what nobody needs, or say what it is.

    Parameters
    ----------
    settings, now
        The settings, and the time as of which they hold, Unix seconds.
    halted
        Why nothing may go at all; empty if nothing forbids it.
    remove
        False: only look, and take no lock.

    Yields
    ------
    Removable
        As `removable` gives them, each as soon as it is known what becomes of it.
    """
    for each in removable(settings, now):
        kept, failed = halted or at_work(settings, each) or why_kept(settings, now, each), False
        if remove and not kept:
            try:
                with nobody_else(settings, each):
                    # Asked again under the leases: a downlink may have been processed again since it was looked at.
                    kept = why_kept(settings, now, each)
                    for path in () if kept else map(Path, each.sizes):
                        _remove(path)
            except (HalfPipeError, OSError) as error:
                kept = sentence(error) if isinstance(error, OSError) else str(error)
                failed = not isinstance(error, LockedError)
        yield replace(each, kept=kept, failed=failed)


def removable(settings: Settings, now: float) -> list[Removable]:
    """Find what may go: by run all that can be made again, then what is half-made for long, then old logs in one.

    Links are passed over, and what they lead to: what a person has moved elsewhere is not cleaned up. Only
    `paths.work` and `paths.stage` may be links.
    """
    work, stage = settings.paths.work, settings.paths.stage
    products: defaultdict[RunId, dict[str, int]] = defaultdict(dict)
    downlinks: defaultdict[RunId, set[DownlinkId]] = defaultdict(set)
    half_made, logs = list[Removable](), dict[str, int]()
    for name, path in (
        *_below(work, ""),
        *_below(stage, paths.STAGE_SCRATCHES),
        *_below(stage, paths.STAGE_MARK),
    ):
        with suppress(FileNotFoundError):
            if HALF_MADE.fullmatch(name):
                size, changed = _half_made(path)
                if changed < now - LEAST_AGE:
                    half_made.append(Removable(What.PARTIAL, {str(path): size}))
            elif match := PRODUCTS.fullmatch(name):
                products[RunId(match["run"])][str(path)] = path.lstat().st_size
                downlinks[RunId(match["run"])].add(DownlinkId(match["dl"]))
            elif LOG.fullmatch(name) and path.lstat().st_mtime < now - settings.cleanup.log_days * DAY:
                logs[str(path)] = path.lstat().st_size
    runs = [
        Removable(What.RUN, sizes, run, tuple(sorted({*begun_downlinks(work, run), *downlinks[run]})))
        for run, sizes in sorted(products.items())
    ]
    return [*runs, *half_made, *([Removable(What.LOGS, logs)] if logs else [])]


def _below(root: Path, place: str) -> Iterator[tuple[str, Path]]:
    """Yield the files and directories below `place` in `root` that are no links, with their names below `root`.

    What is half-made is not looked into.
    """
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(root / place) as there:
        for entry in sorted(there, key=lambda entry: entry.name):
            name = f"{place}/{entry.name}".lstrip("/")
            if entry.is_file(follow_symlinks=False):
                yield name, root / name
            elif entry.is_dir(follow_symlinks=False) and name not in NOT_OURS:
                yield name, root / name
                if not HALF_MADE.fullmatch(name):
                    yield from _below(root, name)


def _half_made(path: Path) -> tuple[int, float]:
    """Return how many bytes something half-made has, and when it was last changed."""
    size, changed = 0, 0.0
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            status = each.lstat()
            size += 0 if stat.S_ISDIR(status.st_mode) else status.st_size
            changed = max(changed, status.st_mtime)
    return size, changed


def why_kept(settings: Settings, now: float, each: Removable) -> str:
    """Say why something has to stay; empty if it may go. `now` is in Unix seconds."""
    if each.what is What.PARTIAL:
        changed = max(_half_made(Path(path))[1] for path in each.sizes)
        return "" if changed < now - LEAST_AGE else "it was changed a moment ago: somebody is at work on it"
    if each.run is None:
        return ""
    try:
        return next(_reasons(settings, now, each.run, each.downlinks), "")
    except (HalfPipeError, OSError, KeyError, TypeError) as error:
        return f"what is recorded of it cannot be read: {error}"


def _reasons(settings: Settings, now: float, run: RunId, downlinks: tuple[DownlinkId, ...]) -> Iterator[str]:
    work, stage, online = settings.paths.work, settings.paths.stage, settings.paths.online
    if not stage.is_dir():
        yield f"the stage {stage} is not there, so nobody knows what Level-1 has taken"
    for downlink in downlinks:
        handed_off = work / paths.receipt(downlink)
        if not handed_off.is_file():
            yield f"downlink {downlink} has no receipt: it is outstanding"
        manifest, receipt = read_json(work / paths.manifest(run, downlink)), read_receipt(work, downlink)
        if manifest["held"]:
            yield f"downlink {downlink} holds it, since Level-1 would refuse it"
        # That its files are gone from the stage says nothing: so they are where somebody has cleared it.
        if names_files(receipt) and not is_submitted(receipt, submissions(work, downlink)):
            yield (
                f"downlink {downlink} has no record of a submission; if Level-1 has it: halfpipe submit "
                f"{downlink} --settle submitted"
            )
        made = (handoff.made or 0.0 for handoff in hand_offs(work, downlink))
        last = max(handed_off.stat().st_mtime, *made)
        days, wanted = (now - last) / DAY, settings.cleanup.retention_days
        if days < wanted:
            yield f"downlink {downlink} was handed off {days:.1f} days ago, less than {wanted:g}"
        for chunk in MergedIndex.read(work, run, downlink).chunks:
            retdef = work / paths.retdef(downlink, chunk.chunk)
            if not retdef.is_file():
                yield f"chunk {chunk.chunk} could not be decoded again: {retdef} is gone"
    tokens = stage / paths.tokens(run.l1)
    if left := sorted(tokens.iterdir()) if tokens.exists() else []:
        yield f"Level-1 still works on it, or a downlink is not handed off: {left[0]}, one of {len(left)} tokens"
    given_up = force_list.read(work)
    # A later EPU can make a complete run open again, so a manifest's word does not suffice.
    if not force_list.in_effect(work, run, downlinks, given_up) and not is_complete(
        known_datagrams(settings, run).segments(), settings.merge.min_epus
    ):
        yield "the run is open: more of it may come"
    # One that was abandoned may go, whatever Online lacks.
    if (
        online is not None
        and run not in given_up.runs
        and not is_handed_off(work, online, run)
        and kind_of(work, run) in settings.online.types
    ):
        yield f"Online has no file of it yet in {online}, which halfpipe online makes of this"


def _remove(path: Path) -> None:
    """Remove what was found, if it is there.

    It is not flushed: one that a crash of the machine brings back is the one that was there.
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
    """Say who else is at work on something, also as a job of a head that was killed; nothing is taken or waited for."""
    for lease in filter(None, (lease.look() for lease in _leases(settings, each))):
        if lease.lives and not lease.ours:
            return f"in work: {lease} holds {lease.name}"
        if lease.jobs:
            return f"in work: {', '.join(lease.jobs)}, which a killed process left behind, holds {lease.name}"
    return ""


@contextmanager
def nobody_else(settings: Settings, each: Removable) -> Iterator[None]:
    """Hold the leases of something, so that no job is at work on it meanwhile.

    Raises
    ------
    LockedError
        If somebody else has one of them, or a job of a downlink is still running.
    """
    with ExitStack() as held:
        mine = _leases(settings, each)
        for lease in mine:
            held.callback(lease.release)
        taken = [lease.try_take() for lease in mine]  # not waited for: a merge may take an hour
        if (who := at_work(settings, each)) or not all(taken):
            raise LockedError(who or "in work: somebody takes or gives back a lease of it at this moment")
        yield
