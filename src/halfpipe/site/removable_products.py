"""The chunk products and the event parts of merged indexes of runs that are retired, delivered and taken.

They are what is large below `paths.work`, and what can be made again: the staged RetDefs and the files that
vouch for the chunks stay, so a merge that needs a chunk later decodes it again (`halfpipe.run.run_state`),
as long as its level-0 is in the archive.
"""

import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.decode.chunk_products import PRODUCT
from halfpipe.downlink.stage_look import names_files
from halfpipe.downlink.submissions import Record
from halfpipe.errors import FormatError, HalfPipeError, LockedError, StateError
from halfpipe.files.advice import in_the_way
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.merge.settle import is_complete
from halfpipe.run import force_list
from halfpipe.run.chunk_files import load_chunks
from halfpipe.run.datagrams import known_datagrams
from halfpipe.run.receipt_file import hand_offs, last_number, read_receipt
from halfpipe.settings import Settings
from halfpipe.site.in_work import at_work, nobody_else
from halfpipe.site.online_records import is_handed_off

DAY = 86400.0
DOWNLINK, RUN = re.compile(DownlinkId.PATTERN), re.compile(RunId.PATTERN)


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


def found(work: Path) -> list[Products]:
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


def clean(settings: Settings, now: float, halted: str, *, remove: bool) -> Iterator[Products]:
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
    for products in found(work):
        by_run[products.run].append(products)
    for run, of_run in by_run.items():
        recorded = map(DownlinkId, directories(work, paths.run(run), DOWNLINK))
        downlinks = sorted({*recorded, *(products.downlink for products in of_run)})
        kept = halted or at_work(work, downlinks, (run,)) or why_kept(settings, now, run, downlinks)
        for products in of_run:
            if kept:
                yield replace(products, kept=kept)
                continue
            going, others = _vouched(work, products)
            if others.sizes:
                yield others
            if going.sizes:
                yield _removed(settings, now, going, downlinks) if remove else going


def _removed(settings: Settings, now: float, products: Products, downlinks: Sequence[DownlinkId]) -> Products:
    work = settings.paths.work
    try:
        with nobody_else(work, products.downlink, products.run):
            # Under the locks, for the downlink may have been processed again since it was looked at.
            if kept := why_kept(settings, now, products.run, downlinks):
                return replace(products, kept=kept)
            gone = {
                name: size for name, size in products.sizes.items() if remove_unchanged(work / name, size)
            }
            return replace(products, sizes=gone)
    except HalfPipeError as error:
        return replace(products, kept=str(error), failed=not isinstance(error, LockedError))


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
