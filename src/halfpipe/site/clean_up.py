"""Clean-up: what is large and can be made again, what killed jobs left half-made, and old logs.

The chunk products and the event parts of merged indexes are what is large below `paths.work`. Those of runs that are
retired, delivered and taken go: the staged RetDefs and the files that vouch for the chunks stay, so a merge that needs
a chunk later decodes it again (`halfpipe.run.run_state`), as long as its level-0 is in the archive. What a killed job
left is written over by its own next try; here go those that had no next try.

Clean-up never waits for anybody who is at work on what it looks at, and nobody has to wait for it for long.
"""

import os
import re
import stat
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any, TypeVar

from halfpipe import paths
from halfpipe.decode.chunk_products import PRODUCT
from halfpipe.downlink.stage_look import names_files
from halfpipe.downlink.submissions import Record
from halfpipe.errors import FormatError, HalfPipeError, LockedError, StateError
from halfpipe.files.advice import in_the_way
from halfpipe.files.durable import remove_tree
from halfpipe.files.json_files import read_json
from halfpipe.files.leases import Found, Lease, found
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.merge.settle import is_complete
from halfpipe.run import force_list
from halfpipe.run.chunk_files import load_chunks
from halfpipe.run.datagrams import known_datagrams
from halfpipe.run.receipt_file import hand_offs, last_number, read_receipt
from halfpipe.settings import Settings
from halfpipe.site.online_records import is_handed_off

DAY = 86400.0
DOWNLINK, RUN = re.compile(DownlinkId.PATTERN), re.compile(RunId.PATTERN)
# What jobs took of time and memory lies beside their logs, and stays.
LOG = re.compile(r".*\.(log|failure\.json)|[0-9]{8}T.*\.json", re.DOTALL)
PART = re.compile(r"\..+\.part", re.DOTALL)  # `durable.replacing`, `records`, `paths.chunk_scratch`
# Of what users name, as a receipt, and of the working directory's mark.
TOP_PART = re.compile(rf"\.(\w+={DownlinkId.PATTERN}|{re.escape(paths.format_mark())}\.\w+)\.part")
CONTEXT = PurePath(paths.context("")).name
HEARTBEAT = re.compile(r".+", re.DOTALL)  # of a process that was killed, if it is old
SCRATCH = re.compile(PurePath(paths.stage_scratch(DownlinkId.PATTERN, r"\w+")).name)
ID = re.compile(rf"(?<!\w){DownlinkId.PATTERN}(?!\w)")
LEAST_AGE = DAY  # longer than any job runs


@dataclass(frozen=True)
class Products:
    """What of a run within a downlink can be made again: files below `paths.work`, and their sizes in bytes.

    `kept` says why they stay; empty, they go, or are gone. `failed`: they should go and could not.
    """

    run: RunId
    downlink: DownlinkId
    sizes: Mapping[str, int]
    kept: str = ""
    failed: bool = False

    @property
    def files(self) -> int:
        """How many they are."""
        return len(self.sizes)

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(self.sizes.values())


@dataclass(frozen=True)
class Leftover:
    """A file or a directory that a killed job left, and whose job it was.

    `changed` is when it was last changed, or something in it, in Unix seconds. `kept` says why it stays; empty,
    it goes, or is gone. `failed`: it should go and could not.
    """

    path: Path
    downlink: DownlinkId | None
    run: RunId | None
    is_directory: bool
    size: int
    changed: float
    kept: str = ""
    failed: bool = False


T = TypeVar("T", Products, Leftover)


def why_kept(settings: Settings, now: float, run: RunId, downlinks: Sequence[DownlinkId]) -> str:
    """Say why the products of `run`, which `downlinks` brought, have to stay; empty if they may go.

    `now` is in Unix seconds.
    """
    try:
        return next(_reasons(settings, now, run, downlinks), "")
    except (HalfPipeError, OSError) as error:
        return f"what is recorded of it cannot be read: {error}"


def _reasons(settings: Settings, now: float, run: RunId, downlinks: Sequence[DownlinkId]) -> Iterator[str]:
    work, stage, online = settings.paths.work, settings.paths.stage, settings.paths.online
    if not stage.is_dir():
        yield f"the stage {stage} is not there, so nobody knows what Level-1 has taken"
    complete = False
    for downlink in downlinks:
        handed_off = work / paths.receipt(downlink)
        if not handed_off.is_file():
            yield f"downlink {downlink} has no receipt: it is outstanding"
        manifest = _manifest(work, run, downlink)
        complete |= manifest["complete"]
        if manifest["held"]:
            yield f"downlink {downlink} holds it, since Level-1 would refuse it"
        if not is_submitted(work, downlink):
            yield (
                f"downlink {downlink} has no record of a submission; if Level-1 has it: halfpipe submit "
                f"{downlink} --settle submitted"
            )
        made = (handoff.made or 0.0 for handoff in hand_offs(work, downlink))
        last = max(handed_off.stat().st_mtime, *made)
        days, wanted = (now - last) / DAY, settings.cleanup.retention_days
        if days < wanted:
            yield f"downlink {downlink} was handed off {days:.1f} days ago, less than {wanted:g}"
        for chunk in load_chunks(work, run, downlink):
            retdef = work / paths.retdef(downlink, chunk.chunk)
            if not retdef.is_file():
                yield f"chunk {chunk.chunk} could not be decoded again: {retdef} is gone"
    tokens = stage / paths.tokens(run.l1)
    if left := sorted(tokens.iterdir()) if tokens.exists() else []:
        yield f"Level-1 still works on it, or a downlink is not handed off: {left[0]}, one of {len(left)} tokens"
    given_up = force_list.read(work)
    # A later EPU can make a complete run open again, so a manifest's word does not suffice; without one the
    # datagrams, some megabytes, need not be read.
    if not force_list.in_effect(work, run, downlinks, given_up) and not (
        complete and is_complete(known_datagrams(work, run).segments(), settings.merge.min_epus)
    ):
        yield "the run is open: more of it may come"
    # One that was abandoned may go, whatever Online lacks.
    if (
        online is not None
        and run not in given_up.runs
        and not is_handed_off(work, online, run)
        and RunKind.of(known_datagrams(work, run).by_apid()) in settings.online.types
    ):
        yield f"Online has no file of it yet in {online}, which halfpipe online makes of this"


def _manifest(work: Path, run: RunId, downlink: DownlinkId) -> Mapping[str, Any]:
    path = work / paths.manifest(run, downlink)
    content: Mapping[str, Any] = read_json(path)
    if not isinstance(content, Mapping) or not {"held", "complete", "given_up"} <= content.keys():
        raise FormatError(f"{path}: no manifest of ours. Process downlink {downlink} again (-F)")
    return content


def is_submitted(work: Path, downlink: DownlinkId) -> bool:
    """Tell whether the latest hand-off of `downlink` is recorded as submitted, or has nothing to submit.

    That its files are gone from the stage says nothing: so they are where somebody has cleared it.

    Raises
    ------
    StateError
        If a record is damaged.
    FormatError, MissingInputError
        If its receipt is, or is not there.
    """
    has = Record(work, downlink).last_confirmed
    if has is not None and has.handoff == last_number(work, downlink):
        return True
    return not names_files(read_receipt(work, downlink))


def listed(root: Path, below: str, wanted: re.Pattern[str]) -> list[tuple[Path, os.stat_result]]:
    """Return what lies in the directory `below` `root` under the names `wanted`, in the order of the names.

    What they are is told of links themselves. A directory that is not there, or is a link, holds nothing: what
    a person has moved elsewhere is not cleaned up. Only `root` (below "") may be a link.
    """
    home = root / below
    found = []
    with suppress(FileNotFoundError, NotADirectoryError):
        there = [] if below and home.is_symlink() else home.iterdir()
        for path in sorted(path for path in there if wanted.fullmatch(path.name)):
            with suppress(FileNotFoundError):
                found.append((path, path.lstat()))
    return found


def directories(root: Path, below: str, wanted: re.Pattern[str]) -> list[str]:
    """Return the names of the directories that `listed` gives, links left out."""
    return [path.name for path, status in listed(root, below, wanted) if stat.S_ISDIR(status.st_mode)]


def removable(work: Path) -> list[Products]:
    """Find all that could be made again below `work`, in the order of runs, then downlinks."""
    there: defaultdict[tuple[RunId, DownlinkId], dict[str, int]] = defaultdict(dict)
    for downlink in map(DownlinkId, directories(work, "", DOWNLINK)):
        for path, status in listed(work, paths.chunks(downlink), PRODUCT):
            match = PRODUCT.fullmatch(path.name)
            if match is not None and stat.S_ISREG(status.st_mode):
                there[RunId(match["run"]), downlink][f"{paths.chunks(downlink)}/{path.name}"] = status.st_size
    for run in map(RunId, directories(work, paths.runs(), RUN)):
        for downlink in map(DownlinkId, directories(work, paths.run(run), DOWNLINK)):
            with suppress(FileNotFoundError):
                status = (work / paths.events(run, downlink)).lstat()
                if stat.S_ISREG(status.st_mode):
                    there[run, downlink][paths.events(run, downlink)] = status.st_size
    return [Products(*key, sizes) for key, sizes in sorted(there.items())]


def clean_products(settings: Settings, now: float, halted: str, *, remove: bool) -> Iterator[Products]:
    """Remove the products that nobody needs, or say which they are; one run within one downlink at a time.

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
    Products
        Of each run within each downlink, as soon as it is known what becomes of them.
    """
    work = settings.paths.work
    by_run: defaultdict[RunId, list[Products]] = defaultdict(list)
    for products in removable(work):
        by_run[products.run].append(products)
    for run, of_run in by_run.items():
        recorded = map(DownlinkId, directories(work, paths.run(run), DOWNLINK))
        downlinks = sorted({*recorded, *(products.downlink for products in of_run)})
        why = partial(why_kept, settings, now, run, downlinks)
        kept = halted or at_work(work, downlinks, (run,)) or why()
        for products in of_run:
            if kept:
                yield replace(products, kept=kept)
                continue
            going, others = _vouched(work, products)
            if others.sizes:
                yield others
            if going.sizes:
                yield _removed(work, going, partial(_remove_products, work, why)) if remove else going


def _remove_products(work: Path, why: Callable[[], str], products: Products) -> Products:
    # Asked again under the leases, for the downlink may have been processed again since it was looked at.
    if kept := why():
        return replace(products, kept=kept)
    gone = {name: size for name, size in products.sizes.items() if remove_unchanged(work / name, size)}
    return replace(products, sizes=gone)


def _removed(work: Path, what: T, remove: Callable[[T], T]) -> T:
    """Return what `remove` has removed under the leases; if it could not, why it stays."""
    try:
        with nobody_else(work, what.downlink, what.run):
            return remove(what)
    except HalfPipeError as error:
        return replace(what, kept=str(error), failed=not isinstance(error, LockedError))


def remove_unchanged(path: Path, size: int) -> bool:
    """Remove the plain file `path`, which was found with `size` bytes; return False if it is gone already.

    It is not flushed: one that a crash of the machine brings back is the one that was there.

    Raises
    ------
    HalfPipeError
        If it is something else by now, or cannot be removed.
    """
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != size:
            raise StateError(
                f"{path}: a moment ago this was a file of {size} bytes, and now it is not, so it was left "
                "there. Somebody else is at work on it: see who, then re-run the command."
            )
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise in_the_way(path, error) from error
    return True


def _vouched(work: Path, products: Products) -> tuple[Products, Products]:
    """Divide files into those that the merged index was made from, with its own events, and others, which stay.

    A chunk that was left out later (``ignore.chunks``), or a product of another size, is not made
    again as it is.
    """
    vouched = {
        f"{paths.chunks(products.downlink)}/{name}": size
        for chunk in load_chunks(work, products.run, products.downlink)
        for name, size in chunk.files.items()
    }
    events = paths.events(products.run, products.downlink)
    going = {
        name: size for name, size in products.sizes.items() if name == events or vouched.get(name) == size
    }
    others = {name: size for name, size in products.sizes.items() if name not in going}
    kept = f"nothing vouches for {next(iter(others), '')}; see halfpipe status --check"
    return replace(products, sizes=going), replace(products, sizes=others, kept=kept)


def left_half_made(work: Path, stage: Path) -> list[Leftover]:
    """Find what only a job that was killed, or still runs, can have left below `work` and `stage`."""
    left = [*_left(work, "", TOP_PART), *_left(stage, paths.stage_scratches(), SCRATCH)]
    # Of chunks that no `deliver_run` came to.
    left += _left(work, str(PurePath(paths.kept_indexes(""))), DOWNLINK)
    old = time.time() - LEAST_AGE
    left += (heart for heart in _left(work, paths.heartbeats(), HEARTBEAT) if heart.changed < old)
    others = (paths.runs(), paths.copies(""), paths.all_settings(), paths.stage_mark_copy())
    for top in (
        *(work / name for name in (*directories(work, "", DOWNLINK), *others)),
        stage / paths.stage_mark(),
    ):
        left += _half_made(top)
    return left


def _half_made(top: Path) -> Iterator[Leftover]:
    """Find what is half-made below a directory, by its name; a run and a downlink are called in its path."""
    for place, below, names in [] if top.is_symlink() else os.walk(top):
        half = [name for name in (*below, *names) if PART.fullmatch(name) or name == CONTEXT]
        below[:] = set(below).difference(half)
        for name in half:
            yield from _leftover(Path(place, name), Path(place).relative_to(top.parent).parts)


def _left(root: Path, below: str, wanted: re.Pattern[str]) -> Iterator[Leftover]:
    """Find files and directories under the names `wanted`, which say the downlink if there is one."""
    for path, _ in listed(root, below, wanted):
        yield from _leftover(path, ID.findall(path.name))


def _leftover(path: Path, names: Sequence[str]) -> Iterator[Leftover]:
    """Yield a file or directory that is there and no link; its downlink and its run are among `names`."""
    with suppress(FileNotFoundError):
        status = path.lstat()
        downlink = next((DownlinkId(name) for name in names if DOWNLINK.fullmatch(name)), None)
        run = next((RunId(name) for name in names if RUN.fullmatch(name)), None)
        if stat.S_ISDIR(status.st_mode):
            yield Leftover(path, downlink, run, True, *_measured(path))
        elif stat.S_ISREG(status.st_mode):
            yield Leftover(path, downlink, run, False, status.st_size, status.st_mtime)


def _measured(directory: Path) -> tuple[int, float]:
    """Return the bytes of the files in a directory, and the Unix time of the youngest change in it."""
    size, youngest = 0, 0.0
    for place, _, files in os.walk(directory):
        for path in (Path(place), *(Path(place, name) for name in files)):
            with suppress(FileNotFoundError):
                status = path.lstat()
                size += 0 if stat.S_ISDIR(status.st_mode) else status.st_size
                youngest = max(youngest, status.st_mtime)
    return size, youngest


def clean_leftovers(settings: Settings, now: float, halted: str, *, remove: bool) -> Iterator[Leftover]:
    """Remove what killed jobs left if it is older than a day and no job can be at work on it; or only look.

    Parameters as for `clean_products`.
    """
    work, stage = settings.paths.work, settings.paths.stage
    for what in left_half_made(work, stage):
        looked = replace(what, kept=halted or _why_kept(work, what, now))
        yield _removed(work, looked, _remove_leftover) if remove and not looked.kept else looked
    if remove and not halted:
        with suppress(OSError):  # something is in it
            (stage / paths.stage_scratches()).rmdir()


def _remove_leftover(what: Leftover) -> Leftover:
    if what.is_directory:
        remove_tree(what.path)
    else:
        remove_unchanged(what.path, what.size)
    return what


def _why_kept(work: Path, what: Leftover, now: float) -> str:
    if said := at_work(work, [what.downlink] if what.downlink else [], [what.run] if what.run else []):
        return said
    hours = (now - what.changed) / 3600
    return (
        f"changed {hours:.1f} hours ago, less than {LEAST_AGE / 3600:g}" if hours * 3600 < LEAST_AGE else ""
    )


def clean_logs(settings: Settings, now: float, *, remove: bool) -> tuple[int, int]:
    """Remove logs older than `cleanup.log_days`, or look.

    Returns
    -------
    tuple
        How many files, and their bytes.

    Raises
    ------
    HalfPipeError
        If one cannot be removed; says whose it is.
    """
    oldest = now - settings.cleanup.log_days * DAY
    old = [
        (path, status.st_size)
        for place, _, _ in os.walk(settings.paths.work / paths.logs())
        for path, status in listed(Path(place), "", LOG)
        if stat.S_ISREG(status.st_mode) and status.st_mtime < oldest
    ]
    for path, _ in old if remove else ():
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise in_the_way(path, error) from error
    return len(old), sum(size for _, size in old)


def at_work(work: Path, downlinks: Collection[DownlinkId], runs: Collection[RunId]) -> str:
    """Say who is at work on one of `downlinks`, also as a job of a head that was killed, or of `runs`.

    Nothing is taken or waited for.

    Returns
    -------
    str
        Empty if nobody is who lives.
    """
    names = {
        Path(place).name for place in (*map(paths.downlink_lease, downlinks), *map(paths.run_lease, runs))
    }
    busy = (lease for lease in found(work) if lease.name in names and (lease.lives or lease.jobs))
    return next(map(_in_work, busy), "")


def _in_work(lease: Found) -> str:
    who = (
        lease
        if lease.lives and not lease.ours
        else f"{', '.join(lease.jobs)}, which a killed process left behind,"
    )
    return f"in work: {who} holds {lease.name}"


@contextmanager
def nobody_else(work: Path, downlink: DownlinkId | None, run: RunId | None) -> Iterator[None]:
    """Hold the leases of `downlink` and `run`, so that no job of theirs runs meanwhile.

    Raises
    ------
    LockedError
        If somebody else has one of them, or a job of the downlink is still running.
    """
    places = [paths.downlink_lease(downlink)] if downlink is not None else []
    places += [paths.run_lease(run)] if run is not None else []
    with ExitStack() as held:
        for place in places:
            lease = Lease(work, place)  # not waited for: a merge may take an hour
            taken = lease.try_take()
            held.callback(lease.give_back)
            now = lease.look()
            if not taken or now is None or now.jobs:
                raise LockedError(
                    _in_work(now) if now else f"in work: {lease.home} was given back at this moment"
                )
        yield
