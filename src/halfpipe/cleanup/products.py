"""The chunk products and the event parts of merged indexes of runs that are retired, delivered and taken.

They are what is large below `paths.work`, and what can be made again: the staged RetDefs and the files that
vouch for the chunks stay, so a merge that needs a chunk later decodes it again (`halfpipe.merge.known`),
as long as its level-0 is in the archive.
"""

import re
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from halfpipe import forced, paths
from halfpipe.cleanup import below
from halfpipe.cleanup.owners import at_work, nobody_else
from halfpipe.decoder import PRODUCT
from halfpipe.errors import HalfPipeError, LockedError
from halfpipe.files import read_json
from halfpipe.handoff import handoffs
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.merge import index
from halfpipe.merge.settle import KnownDatagrams, is_complete
from halfpipe.online.record import is_handed_off
from halfpipe.submission.record import Record

DAY = 86400.0
DOWNLINK, RUN = re.compile(DownlinkId.PATTERN), re.compile(RunId.PATTERN)


@dataclass(frozen=True)
class Products:
    """What of a run within a downlink can be made again: paths below `paths.work`, and their sizes."""

    run: RunId
    downlink: DownlinkId
    files: Mapping[str, int]


@dataclass(frozen=True)
class Outcome:
    """What becomes of `files` files of a run within a downlink, of `size` bytes in all.

    `kept` says why they stay; empty, they go, or are gone. `failed`: they should go and could not.
    """

    run: RunId
    downlink: DownlinkId
    files: int
    size: int
    kept: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Rule:
    """When products go: `retention_days` after the hand-off, as things stand at `now` (Unix seconds).

    `min_epus` is ``merge.min_epus`` of the config, `online` is `paths.online`, and `online_kinds` are the
    types of runs of which Online gets a file.
    """

    work: Path
    stage: Path
    retention_days: float
    min_epus: int
    now: float
    online: Path | None = None
    online_kinds: Collection[RunKind] = ()

    def why_kept(self, run: RunId, downlinks: Iterable[DownlinkId]) -> str:
        """Say why the products of `run`, which `downlinks` brought, have to stay; empty if they may go."""
        try:
            return next(self._reasons(run, sorted(downlinks)), "")
        except (HalfPipeError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            return f"what is recorded of it cannot be read: {error}"

    def _reasons(self, run: RunId, downlinks: Sequence[DownlinkId]) -> Iterator[str]:
        if not self.stage.is_dir():
            yield f"the stage {self.stage} is not there, so nobody knows what Level-1 has taken"
        for downlink in downlinks:
            yield from self._reasons_of(run, downlink)
        tokens = self.stage / paths.tokens(run.l1)
        if left := sorted(tokens.iterdir()) if tokens.exists() else []:
            yield f"Level-1 is not done with it, or a downlink not handed off: {left[0]}, one of {len(left)} tokens"
        if not self._is_retired(run, downlinks):
            yield "the run is open: more of it may come"
        if self.online is not None and self._waits_for_online(self.online, run, downlinks):
            yield f"Online has no file of it yet in {self.online}, which scripts/online.py makes of this"

    def _reasons_of(self, run: RunId, downlink: DownlinkId) -> Iterator[str]:
        handed_off = self.work / paths.receipt(downlink)
        if not handed_off.is_file():
            yield f"downlink {downlink} has no receipt: it is outstanding"
        if _manifest(self.work, run, downlink)["held"]:
            yield f"downlink {downlink} holds it, since Level-1 would refuse it"
        if not is_submitted(self.work, self.stage, downlink):
            yield f"downlink {downlink} was not submitted: {self.stage / paths.staged(downlink)} is there"
        last = max(path.stat().st_mtime for path in (handed_off, self.work / paths.handoffs(downlink)))
        if (days := (self.now - last) / DAY) < self.retention_days:
            yield f"downlink {downlink} was handed off {days:.1f} days ago, less than {self.retention_days:g}"
        for chunk in index.load_chunks(self.work, run, downlink):
            retdef = self.work / paths.retdef(downlink, chunk.chunk)
            if not retdef.is_file():
                yield f"chunk {chunk.chunk} could not be decoded again: {retdef} is gone"

    def _is_retired(self, run: RunId, downlinks: Sequence[DownlinkId]) -> bool:
        """Tell whether the run is complete, or was given up and delivered as such.

        A later EPU can make a complete run open again, so a manifest's word does not suffice; without
        one the datagrams, some megabytes, need not be read.
        """
        if forced.in_effect(self.work, run, downlinks, forced.read(self.work)):
            return True
        if not any(_manifest(self.work, run, downlink)["complete"] for downlink in downlinks):
            return False
        return is_complete(self._known(run, downlinks).segments(), self.min_epus)

    def _waits_for_online(self, home: Path, run: RunId, downlinks: Sequence[DownlinkId]) -> bool:
        """Tell whether Online is still to get the run; one that was given up may go, whatever it lacks."""
        if run in forced.read(self.work).runs or is_handed_off(self.work, home, run):
            return False
        return RunKind.of(self._known(run, downlinks).by_apid()) in self.online_kinds

    def _known(self, run: RunId, downlinks: Iterable[DownlinkId]) -> KnownDatagrams:
        return KnownDatagrams.together(index.load_datagrams(self.work, run, dl) for dl in downlinks)


def _manifest(work: Path, run: RunId, downlink: DownlinkId) -> Mapping[str, Any]:
    content: Mapping[str, Any] = read_json(work / paths.manifest(run, downlink))
    return content


def is_submitted(work: Path, stage: Path, downlink: DownlinkId) -> bool:
    """Tell whether the latest hand-off of `downlink` is Level-1's: recorded as submitted, or taken.

    Level-1 deletes the directory of a hand-off when it is done with it (ground-chain §6).

    Raises
    ------
    StateError
        If a record is damaged.
    """
    if not (stage / paths.staged(downlink)).exists():
        return True
    latest = handoffs.last_number(work, downlink)
    has = Record(work, downlink).submitted
    return has is not None and has.handoff == latest


def found(work: Path) -> list[Products]:
    """Find all that could be made again below `work`, in the order of runs, then downlinks."""
    there: defaultdict[tuple[RunId, DownlinkId], dict[str, int]] = defaultdict(dict)
    for downlink, _ in below.listed(work, ".", DOWNLINK):
        home = paths.chunks(downlink)
        for name, status in below.listed(work, home, PRODUCT):
            match = PRODUCT.fullmatch(name)
            if match is not None and stat.S_ISREG(status.st_mode):
                there[RunId(match["run"]), DownlinkId(downlink)][f"{home}/{name}"] = status.st_size
    for run, _ in below.listed(work, paths.runs(), RUN):
        for downlink, _ in below.listed(work, paths.run(run), DOWNLINK):
            events = Path(paths.events(run, downlink))
            for _, status in below.listed(work, str(events.parent), re.compile(re.escape(events.name))):
                if stat.S_ISREG(status.st_mode):
                    there[RunId(run), DownlinkId(downlink)][str(events)] = status.st_size
    return [Products(*key, files) for key, files in sorted(there.items())]


def clean(rule: Rule, halted: str, *, remove: bool) -> Iterator[Outcome]:
    """Remove the products that nobody needs, or say which they are; one run within one downlink at a time.

    Parameters
    ----------
    rule
        When they go.
    halted
        Why nothing may go at all; empty if nothing forbids it.
    remove
        False: only look, and take no lock.

    Yields
    ------
    Outcome
        Of each run within each downlink, as soon as it is known.
    """
    by_run: defaultdict[RunId, list[Products]] = defaultdict(list)
    for products in found(rule.work):
        by_run[products.run].append(products)
    for run, of_run in by_run.items():
        recorded = {name for name, _ in below.listed(rule.work, paths.run(run), DOWNLINK)}
        downlinks = sorted({DownlinkId(dl) for dl in recorded} | {p.downlink for p in of_run})
        kept = halted or at_work(rule.work, downlinks, (run,)) or rule.why_kept(run, downlinks)
        for products in of_run:
            if kept:
                yield Outcome(run, products.downlink, len(products.files), sum(products.files.values()), kept)
            else:
                yield from _clean_one(rule, products, downlinks, remove=remove)


def _clean_one(
    rule: Rule, products: Products, downlinks: Iterable[DownlinkId], *, remove: bool
) -> Iterator[Outcome]:
    going, others = _vouched(rule.work, products)
    if others:
        kept = f"nothing vouches for {next(iter(others))}; see scripts/check.py"
        yield Outcome(products.run, products.downlink, len(others), sum(others.values()), kept)
    if going:
        what = Outcome(products.run, products.downlink, len(going), sum(going.values()))
        yield _removed(rule, what, going, downlinks) if remove else what


def _removed(rule: Rule, what: Outcome, files: Mapping[str, int], downlinks: Iterable[DownlinkId]) -> Outcome:
    try:
        with nobody_else(rule.work, what.downlink, what.run):
            # Under the locks, for the downlink may have been processed again since it was looked at.
            kept = rule.why_kept(what.run, downlinks)
            if not kept:
                freed = sum(below.remove_file(rule.work, path, size) for path, size in files.items())
                return replace(what, size=freed)
    except LockedError as error:
        kept = str(error)
    except HalfPipeError as error:
        return replace(what, kept=str(error), failed=True)
    return replace(what, kept=kept)


def _vouched(work: Path, products: Products) -> tuple[dict[str, int], dict[str, int]]:
    """Divide files into those that the merged index was made from, with its own events, and others.

    A chunk that was left out later (``ignore.chunks``), or a product of another size, is not made
    again as it is.
    """
    vouched = {
        f"{paths.chunks(products.downlink)}/{name}": size
        for chunk in index.load_chunks(work, products.run, products.downlink)
        for name, size in chunk.files.items()
    }
    events = paths.events(products.run, products.downlink)
    going = {
        path: size for path, size in products.files.items() if path == events or vouched.get(path) == size
    }
    return going, {path: size for path, size in products.files.items() if path not in going}
