"""Which files a target needs. Everything follows from RetDefs, and from what decoders have vouched for.

The plan is made when the DAG is built, so a dry run shows all work; nothing is scanned but the search
path of RetDefs and the directory of each downlink that is asked for.
"""

import errno
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path

from halfpipe import paths
from halfpipe.downlink import halts
from halfpipe.errors import ConfigError, HalfPipeError, MissingInputError, Remedy
from halfpipe.files.advice import cannot_be_read, in_place_of
from halfpipe.files.reading import changed, modified, names_in, read_whole
from halfpipe.files.records import parse_record
from halfpipe.formats.retdef import FILE_NAME, RetDef, parse_retdef, read_content, read_retdef
from halfpipe.ids import ChunkId, DownlinkId, Downlinks, RunId
from halfpipe.run.receipt_file import last_hand_off
from halfpipe.run.stage import halt_tokens
from halfpipe.settings import Settings

MOST_HOLES = 20  # as many as a downlink has chunks (ground-chain §4)
CLOCK_SECONDS = 600.0  # by which a file server's clock may be ahead
CLOCKS_APART = 60.0  # seconds that the clocks of two file systems may differ by

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listing:
    """The names in a directory: those of a downlink's chunks in order, those of RetDefs of other downlinks, and all.

    `unread` is why the directory cannot be listed, empty if it can.
    """

    chunks: Sequence[str] = ()
    elsewhere: Sequence[str] = ()
    names: frozenset[str] = frozenset()
    unread: str = ""


@dataclass(frozen=True)
class DownlinkPlan:
    """One downlink: what lies of it, its chunks, and the runs that they bring.

    `staged` is its directory, `listings` are its directories by place of the search path.
    """

    plan: "Plan"
    downlink: DownlinkId
    staged: Listing
    listings: Mapping[Path, Listing]

    @cached_property
    def ignored(self) -> set[int]:
        """The chunks that are left out on purpose."""
        return {chunk.number for chunk in self.plan.settings.ignored(self.downlink)}

    @cached_property
    def numbers(self) -> set[int]:
        """The chunks that have a RetDef, but the ignored."""
        return {
            int(chunk) for one in (self.staged, *self.listings.values()) for chunk in one.chunks
        } - self.ignored

    @cached_property
    def holes(self) -> list[int]:
        """The chunks below the last that have no RetDef, at most `MOST_HOLES`; without any it is the first."""
        there = self.numbers | self.ignored
        missing = (number for number in range(1, max(there, default=1) + 1) if number not in there)
        return list(islice(missing, MOST_HOLES))

    @cached_property
    def chunks(self) -> tuple[ChunkId, ...]:
        """All chunks from 1 to the last, but the ignored: a missing one is the failing job of its RetDef."""
        # One misnumbered RetDef can make a hole of any size; a few failing jobs are enough to say so.
        return tuple(map(ChunkId.of, sorted([*self.numbers, *self.holes])))

    @cached_property
    def retdefs(self) -> dict[ChunkId, Path]:
        """The RetDefs that count: what is staged comes first, then the first hit on the search path.

        Raises
        ------
        HalfPipeError
            If what is staged cannot be listed.
        """
        if self.staged.unread:
            raise HalfPipeError(self.staged.unread)
        found = dict[ChunkId, Path]()
        for home, listing in ((self.plan.work, self.staged), *self.listings.items()):
            for chunk in map(ChunkId, listing.chunks):
                found.setdefault(chunk, home / paths.retdef(self.downlink, chunk))
        return found

    def refuse_closed(self) -> None:
        """Refuse what Snakemake would end with a traceback for, or take for whole.

        These are directories of somebody else that may not be looked into, and directories where files should be.

        Raises
        ------
        HalfPipeError
            Names the directory, whose it is if that matters, and the command.
        """
        names = [self.downlink, paths.chunks(self.downlink), paths.RUNS]
        names += [name for run in self.runs for name in (paths.run(run), f"{paths.run(run)}/{self.downlink}")]
        for name in ("", *names):
            refuse_closed(self.plan.work / name)
        for name in (paths.receipt(self.downlink), *self.manifests):
            path = self.plan.work / name
            if path.is_dir():
                raise HalfPipeError(
                    f"{path}: is a directory, and a file should be there.",
                    in_place_of(path, Remedy(f"snakemake dl={self.downlink}")),
                )

    @cached_property
    def _read(self) -> tuple[dict[ChunkId, frozenset[RunId]], list[HalfPipeError]]:
        """The runs of each chunk, and why RetDefs cannot be read."""
        found, unreadable, retdefs = {}, [], self.retdefs
        for chunk in self.chunks:
            runs = set(self._decoded.get(chunk, ()))
            try:
                if chunk in retdefs:
                    runs.add(read_retdef(retdefs[chunk]).run)
            except HalfPipeError as error:
                unreadable.append(error)
            found[chunk] = frozenset(runs)
        return found, unreadable

    @cached_property
    def _decoded(self) -> dict[ChunkId, frozenset[RunId]]:
        """The runs that each decoded chunk contains. A job reports a product that is damaged."""
        found = {}
        for chunk in self.chunks:
            with suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads((self.plan.work / paths.chunk(self.downlink, chunk)).read_bytes())
                found[chunk] = frozenset(RunId(run) for run in content["runs"])
        return found

    @property
    def runs_of(self) -> dict[ChunkId, frozenset[RunId]]:
        """The runs of each chunk: of its RetDef, and those that a decoder brought besides.

        A RetDef that cannot be read adds no run: staging it is a job that fails and says why.
        """
        return self._read[0]

    @property
    def unreadable(self) -> list[HalfPipeError]:
        """Why RetDefs cannot be read, which a dry run shows only as jobs that will fail."""
        return self._read[1]

    @cached_property
    def runs(self) -> tuple[RunId, ...]:
        """All runs of the downlink, those included that no chunk contains any more."""
        return tuple(sorted(set().union(*self.runs_of.values()) | self._before))

    @property
    def _before(self) -> set[RunId]:
        """The runs that the downlink had when it was handed off last, or had in work then.

        What was delivered of a run that has vanished since is a loss, and its job says so. Before a hand-off the tokens
        in the stage name the runs in work.
        """
        work, found = self.plan.work, set[RunId]()
        with suppress(HalfPipeError, OSError):
            last = last_hand_off(work, self.downlink, only_look=True)
            if last is not None and not last.receipt.get("taken_over"):
                found = {RunId(run["run"]) for run in last.receipt["runs"]}
        for token in halt_tokens(self.plan.settings.paths.stage, self.downlink):
            with suppress(HalfPipeError):
                found.add(RunId.from_l1(token.parent.name))
        return {run for run in found if os.path.exists(f"{work}/{paths.datagrams(run, self.downlink)}")}  # noqa: PTH110

    @property
    def chunk_files(self) -> list[str]:
        """The files that vouch for the chunks."""
        return [paths.chunk(self.downlink, chunk) for chunk in self.chunks]

    @property
    def manifests(self) -> list[str]:
        """The manifests of all runs."""
        return [paths.manifest(run, self.downlink) for run in self.runs]

    def chunks_for(self, run: str) -> tuple[ChunkId, ...]:
        """Return the chunks that the delivery of `run` waits for.

        All chunks the first time, because a chunk may contain a run that its RetDef does not announce. After that only
        the chunks that contain the run, or did when it was merged. A RetDef that arrives late must not stage runs again
        that it does not concern, because Level-1 may have taken their files.
        """
        merged = self._merged(RunId(run))
        if merged is None:
            return self.chunks
        contain = (chunk for chunk in self.chunks if run in self.runs_of[chunk] or chunk in merged)
        return tuple(contain) or self.chunks

    @cached_property
    def outdated(self) -> tuple[str, ...]:
        """The manifests and the receipt that exist and were made of other chunks than the downlink has now.

        This is the one place that decides what a late RetDef, a chunk that is ignored, or a decoder that found another
        run makes outstanding. File times alone do not show it.
        """
        if self.handed_off is not None and self._made_of == {chunk.number for chunk in self.chunks}:
            return ()
        found = []
        for run in self.runs:
            contains = {chunk for chunk, runs in self._decoded.items() if run in runs}
            if self._merged(run) not in ({*contains}, None):
                found.append(paths.manifest(run, self.downlink))
        return (*found, *([paths.receipt(self.downlink)] if self.handed_off is not None else []))

    def _merged(self, run: RunId) -> set[ChunkId] | None:
        """Return the chunks that the manifest of a run was made of; None without a manifest that can be read."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads((self.plan.work / paths.manifest(run, self.downlink)).read_bytes())
            return {ChunkId(chunk) for chunk in content["chunks"]}
        return None

    @cached_property
    def handed_off(self) -> float | None:
        """When its receipt was written, Unix seconds; None without one."""
        return modified(f"{self.plan.work}/{paths.receipt(self.downlink)}")

    @cached_property
    def _made_of(self) -> set[int]:
        """The chunks that the receipt was made of.

        A damaged receipt counts as made of the staged RetDefs: status reports the damage, and no work follows here.
        """
        made_of = self.staged.chunks
        with suppress(OSError):
            if receipt := parse_record(read_whole(f"{self.plan.work}/{paths.receipt(self.downlink)}")):
                made_of = [chunk["chunk"] for chunk in receipt.values["chunks"]]
        return set(map(int, made_of))

    @cached_property
    def new(self) -> set[int]:
        """The chunks with RetDefs that arrived after the hand-off; none before the hand-off."""
        return self.numbers - self._made_of if self.handed_off is not None else set()

    @property
    def to_stage(self) -> bool:
        """Whether there are RetDefs on the search path that it was not handed off with."""
        return bool(self.new) or (
            self.handed_off is None and any(one.chunks for one in self.listings.values())
        )

    def came(self, now: float) -> float:
        """Return when the youngest RetDef on the search path came, before `now`: both Unix seconds, 0 if none says.

        That is the later of the times of the last write and the last change: a copy may bring the former with it. A
        file server whose clock is some minutes off is borne with.
        """
        youngest = 0.0
        for home, listing in self.listings.items():
            for chunk in listing.chunks:
                with suppress(
                    OSError
                ):  # a link that leads nowhere is a failing job, not the end of all others
                    found = os.stat(f"{home}/{paths.retdef(self.downlink, chunk)}")  # noqa: PTH116
                    times = (found.st_mtime, found.st_ctime)
                    youngest = max(youngest, *(when for when in times if when <= now + CLOCK_SECONDS), 0.0)
        return youngest


@dataclass(frozen=True)
class Plan:
    """The plan of everything under one configuration."""

    settings: Settings

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.settings.paths.work

    @property
    def search(self) -> tuple[Path, ...]:
        """The search path of RetDefs."""
        return self.settings.paths.retdef

    def of(self, downlink: str) -> DownlinkPlan:
        """Return the plan of one downlink, of what lies of it now in places that are not `closed`."""
        dl = DownlinkId(downlink)
        staged = listed(f"{self.work}/{dl}", dl)
        places = [home for home in self.search if home not in self.closed]
        return DownlinkPlan(self, dl, staged, {home: listed(f"{home}/{dl}", dl) for home in places})

    def target(self, downlink: DownlinkId) -> str:
        """Return how far a downlink goes that no target names: to its receipt, or to its submission."""
        if not self.settings.submit.automatic or halts.holding(self.work, halts.Switch.L1, downlink):
            return paths.receipt(downlink)
        return paths.submitted(downlink)

    @cached_property
    def closed(self) -> dict[Path, str]:
        """The places of the search path that cannot be listed, and why."""
        closed = {}
        for home in self.search:
            try:
                with os.scandir(home):
                    pass
            except OSError as error:
                closed[home] = cannot_be_read(home, error)
        return closed

    def on_search_path(self) -> set[DownlinkId]:
        """Return all downlinks on the search path; those in places that are `closed` nobody knows."""
        names = (name for home in self.search if home not in self.closed for name in names_in(home))
        return {DownlinkId(name) for name in names if DownlinkId.matches(name)}

    @cached_property
    def known(self) -> list[DownlinkId]:
        """All downlinks of which there are RetDefs, a directory, or a receipt, in order."""
        names = (name.removeprefix(paths.receipt("")) for name in names_in(self.work))
        in_work = {DownlinkId(name) for name in names if DownlinkId.matches(name)}
        return sorted(in_work | self.on_search_path())


def listed(directory: str, downlink: str) -> Listing:
    """Return what of the RetDefs of `downlink` lies in `directory`; a directory that is not there has none.

    Where no downlink is named this is asked of all downlinks of the mission: no object but the names.
    """
    try:
        names = names_in(directory)
    except HalfPipeError as error:
        return Listing(unread=str(error))
    before, after = f"RetDef-{downlink}-", ".xml"
    chunks, elsewhere = [], []
    for name in names:
        if name.startswith(before) and name.endswith(after):
            chunk = name[len(before) : -len(after)]
            if ChunkId.matches(chunk) and int(chunk) > 0:
                chunks.append(chunk)
        elif name.startswith("RetDef-") and FILE_NAME.fullmatch(name):
            elsewhere.append(name)
    return Listing(sorted(chunks), sorted(elsewhere), frozenset(names))


def refuse_closed(place: Path) -> None:
    """Raise an error if `place` is a directory that this user may not look into.

    Raises
    ------
    HalfPipeError
        Names it, its owner and the command.
    """
    if os.path.isdir(place) and not os.access(place, os.R_OK | os.X_OK, effective_ids=True):  # noqa: PTH112
        raise HalfPipeError(
            cannot_be_read(place, PermissionError(errno.EACCES, "Permission denied", str(place)))
        )


def no_retdefs(of: DownlinkPlan) -> MissingInputError:
    """Return the error that no RetDef of a downlink was found."""
    return MissingInputError(
        f"downlink {of.downlink} has no RetDefs; looked in {_looked_in(of)}.",
        Remedy(first="Check the id and paths.retdef in the config"),
        code="no-retdefs",
    )


def _looked_in(of: DownlinkPlan) -> str:
    return (
        ", ".join(str(home / of.downlink) for home in of.plan.search) or "an empty search path (paths.retdef)"
    )


def retdef_to_stage(settings: Settings, downlink: DownlinkId, chunk: ChunkId) -> bytes:
    """Return the RetDef of a chunk as it is to be staged: the search path's first hit, else what is staged.

    Raises
    ------
    MissingInputError
        If there is none.
    FormatError
        If it is not a good RetDef.
    """
    homes = (*settings.paths.retdef, settings.paths.work)
    found = (home / paths.retdef(downlink, chunk) for home in homes)
    source = next((path for path in found if os.path.isfile(path)), None)  # noqa: PTH113 - also one that is closed
    if source is None:
        of = Plan(settings).of(downlink)
        if not of.retdefs:
            raise no_retdefs(of)
        raise MissingInputError(
            f"no RetDef in {_looked_in(of)}, though chunk {max(of.retdefs)} has one.",
            Remedy(
                first="Have it made and copied, or in the config: ignore: {chunks: [{dl: "
                f'"{downlink}", chunk: "{chunk}", reason: "..."}}]}}'
            ),
        )
    content = read_content(source)
    parse_retdef(content, source)
    return content


def expand(settings: Settings, words: Iterable[str]) -> tuple[DownlinkId, ...]:
    """Return the downlinks that `words` stand for, each once, in order of the words.

    A single downlink stands for itself, whether there is anything of it or not. Of a range these are the downlinks
    with a directory on the RetDef search path, and those of which the working directory knows. Numbers that are not
    there between two of a day are told.

    Raises
    ------
    ConfigError
        If nothing is found in a range.
    HalfPipeError
        If a place cannot be listed, so that nobody can tell what is there.
    """
    plan, found = Plan(settings), list[DownlinkId]()
    for word in words:
        if DownlinkId.matches(word):
            found.append(DownlinkId(word))
            continue
        several = Downlinks(word)
        for why in plan.closed.values():
            raise HalfPipeError(f"{several}: RetDefs are not seen: {why} Or name downlinks one by one.")
        inside = [dl for dl in plan.known if several.first <= dl <= several.last]
        if not inside:
            raise ConfigError(
                f"{several}: there is no downlink from {several.first} to {several.last}; looked in "
                f"{', '.join(map(str, (*settings.paths.retdef, settings.paths.work)))}. Check the range and "
                "paths.retdef in the config; halfpipe status --all lists what there is."
            )
        found += inside
        ends = {int(end) for end in several.split("..") if DownlinkId.matches(end)}
        if len(ends) == 2:
            there = set(map(int, inside))
            if gone := [number for number in _between(there | ends) if number not in there]:
                few = ", ".join(f"{number:09d}" for number in gone[:MOST_HOLES])
                log.warning("%s: %d downlinks are not there: %s", several, len(gone), few)
    return tuple(dict.fromkeys(found))


def _between(numbers: Iterable[int]) -> Iterator[int]:
    """Yield the numbers of downlinks and all between two of a day."""
    for _, of_day in groupby(sorted(numbers), lambda number: number // 1000):
        first, *_, last = [*of_day] * 2
        yield from range(first, last + 1)


@dataclass(frozen=True)
class Announced:
    """A chunk that is outstanding, and what its RetDef says that it will bring."""

    downlink: DownlinkId
    chunk: ChunkId
    retdef: RetDef


def outstanding_chunks(plan: Plan) -> Iterator[Announced]:
    """Yield the chunks that are outstanding and have a good RetDef, in order.

    They are those of downlinks without a receipt, and those that came after it: then the directory that they lie in
    has changed since. A RetDef that cannot be read announces nothing: `halfpipe status` names it.
    """
    for downlink in plan.known:
        times = (changed(f"{home}/{downlink}") for home in plan.search)
        handed_off = modified(f"{plan.work}/{paths.receipt(downlink)}")
        if handed_off is not None and all((when or 0.0) < handed_off - CLOCKS_APART for when in times):
            continue
        of = plan.of(downlink)
        for chunk in of.chunks:
            if chunk in of.retdefs and (handed_off is None or chunk.number in of.new):
                with suppress(HalfPipeError):
                    yield Announced(downlink, chunk, read_retdef(of.retdefs[chunk]))
