"""Which files a target needs. Everything follows from RetDefs, and from the products of decoded chunks.

The plan is made when the DAG is built, so a dry run shows all work. It reads only the search path of RetDefs and the
directory of each requested downlink.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause
from halfpipe.decisions import Decisions, Subject, What, offer
from halfpipe.decode.chunk import Chunk, read_chunk
from halfpipe.errors import ConfigError, HalfPipeError, MissingInputError, Remedy
from halfpipe.files.advice import cannot_be_read
from halfpipe.files.reading import changed, modified, names_in
from halfpipe.formats.retdef import FILE_NAME, RetDef, parse_retdef, read_content, read_retdef
from halfpipe.ids import ChunkId, DownlinkId, Downlinks, RunId
from halfpipe.settings import Settings
from halfpipe.staging import stage_look, stage_mark
from halfpipe.staging.stage import halt_cleanup_tokens
from halfpipe.state import halts
from halfpipe.state.deliveries import Deliveries, Delivery
from halfpipe.state.downlinks_of_run import every_downlink
from halfpipe.state.hand_offs import HandOff, last_hand_off, runs_of
from halfpipe.state.merged_chunks import merged
from halfpipe.words import grouped

MOST_HOLES = 20  # about as many chunks as a downlink has (ground-chain §4)
CLOCK_SECONDS = 600.0  # most seconds that the clock of a file server may be ahead
CLOCKS_APART = 60.0  # most seconds between the clocks of two file systems


@dataclass(frozen=True, slots=True)
class Listing:
    """A directory of RetDefs: its chunks in order, the names of RetDefs that do not count here, and all names.

    `unread` says why the directory cannot be listed; it is empty if it can.
    """

    chunks: Sequence[str] = ()
    elsewhere: Sequence[str] = ()
    names: frozenset[str] = frozenset()
    unread: str = ""


@dataclass(frozen=True)
class DownlinkPlan:
    """One downlink: its files, its chunks, and their runs.

    `staged` lists its directory in the working directory, and `listings` its directories by place of the search path.
    """

    plan: "Plan"
    downlink: DownlinkId
    staged: Listing
    listings: Mapping[Path, Listing]

    @cached_property
    def ignored(self) -> set[int]:
        """The chunks that a person left out."""
        return {chunk.number for chunk in self.plan.decisions.left_out(self.downlink)}

    @cached_property
    def numbers(self) -> set[int]:
        """The chunks that have a RetDef, except ignored ones."""
        return {
            int(chunk) for one in (self.staged, *self.listings.values()) for chunk in one.chunks
        } - self.ignored

    @cached_property
    def holes(self) -> list[int]:
        """The chunks without a RetDef below the last one, at most `MOST_HOLES`; chunk 1 if there are no RetDefs."""
        there = self.numbers | self.ignored
        missing = (number for number in range(1, max(there, default=1) + 1) if number not in there)
        return list(islice(missing, MOST_HOLES))

    @cached_property
    def chunks(self) -> tuple[ChunkId, ...]:
        """All chunks from 1 to the last, except ignored ones; the job of a missing RetDef fails."""
        # One misnumbered RetDef can make a hole of any size; a few failing jobs are enough.
        return tuple(map(ChunkId.of, sorted([*self.numbers, *self.holes])))

    @cached_property
    def retdefs(self) -> dict[ChunkId, Path]:
        """The RetDef of each chunk: the staged one, or the first one on the search path.

        Raises
        ------
        HalfPipeError
            If the downlink's directory in the working directory cannot be listed.
        """
        if self.staged.unread:
            raise HalfPipeError(self.staged.unread)
        found = dict[ChunkId, Path]()
        for home, listing in ((self.plan.work, self.staged), *self.listings.items()):
            for chunk in map(ChunkId, listing.chunks):
                found.setdefault(chunk, home / paths.retdef(self.downlink, chunk))
        return found

    def refuse_closed(self) -> None:
        """Refuse directories that this user may not read, because Snakemake would print a traceback.

        Raises
        ------
        HalfPipeError
            Names the directory, its owner if that matters, and the command.
        """
        names = [self.downlink, paths.chunks(self.downlink), paths.RUNS]
        names += [name for run in self.runs for name in (paths.run(run), f"{paths.run(run)}/{self.downlink}")]
        for place in (str(self.plan.work), *(f"{self.plan.work}/{name}" for name in names)):
            refuse_closed(place)

    @cached_property
    def _announced(self) -> dict[ChunkId, RunId | HalfPipeError]:
        """The run in the RetDef of each chunk, or why the RetDef cannot be read."""
        found = dict[ChunkId, RunId | HalfPipeError]()
        for chunk in self.retdefs.keys() & self.chunks:
            try:
                found[chunk] = read_retdef(self.retdefs[chunk]).run
            except HalfPipeError as error:
                found[chunk] = error
        return found

    @cached_property
    def decoded(self) -> dict[ChunkId, Chunk]:
        """The decoded chunks. A damaged product is skipped; its job reports it."""
        found = {}
        for chunk in self.chunks:
            with suppress(HalfPipeError):
                found[chunk] = read_chunk(self.plan.work, self.downlink, chunk)
        return found

    @cached_property
    def runs_of(self) -> dict[ChunkId, frozenset[RunId]]:
        """The runs of each chunk: the run in its RetDef, and those that its decoder found.

        A RetDef that cannot be read adds no run: the job that stages it fails and reports why.
        """
        found = {}
        for chunk in self.chunks:
            announced = self._announced.get(chunk)
            found[chunk] = frozenset(self.decoded[chunk].runs if chunk in self.decoded else ())
            if isinstance(announced, RunId):
                found[chunk] |= {announced}
        return found

    @property
    def unreadable(self) -> list[HalfPipeError]:
        """The errors of RetDefs that cannot be read; a dry run shows only their jobs, which will fail."""
        every = (self._announced.get(chunk) for chunk in self.chunks)
        return [error for error in every if isinstance(error, HalfPipeError)]

    @cached_property
    def runs(self) -> tuple[RunId, ...]:
        """All runs of the downlink, including those that no chunk contains any more."""
        return tuple(sorted(set().union(*self.runs_of.values()) | self._before))

    @property
    def _before(self) -> set[RunId]:
        """The runs of the last hand-off, and the runs in progress.

        If a run has vanished since then, its delivered events are lost, and its job reports this. The tokens in the
        stage show which runs are in progress.
        """
        work = self.plan.work
        found = set[RunId]()
        if self.last is not None and not self.last.receipt.origin:
            found = {*runs_of(self.last)}
        for token in halt_cleanup_tokens(self.plan.settings.paths.stage, self.downlink):
            with suppress(HalfPipeError):
                found.add(RunId.from_l1(token.parent.name))
        return {run for run in found if os.path.exists(f"{work}/{paths.datagrams(run, self.downlink)}")}  # noqa: PTH110

    @property
    def chunk_files(self) -> list[str]:
        """The products ``{chunk}.json`` of all chunks."""
        return [paths.chunk(self.downlink, chunk) for chunk in self.chunks]

    @property
    def manifests(self) -> list[str]:
        """The pointers to the deliveries of all runs."""
        return [paths.manifest(run, self.downlink) for run in self.runs]

    def refuse_unknown(self, product: str) -> None:
        """Refuse to make the product of a chunk or a run that the downlink does not have.

        Raises
        ------
        MissingInputError
            Names the product.
        """
        if product not in (*self.chunk_files, *self.manifests):
            raise MissingInputError(
                f"{product} cannot be made: downlink {self.downlink} has no such chunk or run.",
                Remedy(f"snakemake dl={self.downlink}", first="Check the name, or process the downlink"),
            )

    def chunks_for(self, run: str) -> tuple[ChunkId, ...]:
        """Return the chunks that the delivery of `run` waits for.

        The first time these are all chunks, because a chunk may contain a run that its RetDef does not announce. Later
        these are the chunks that contain the run, or contained it when it was merged. A late RetDef must not stage
        other runs again, because Level-1 may have taken their files.
        """
        delivered = self._delivered.get(RunId(run))
        if delivered is None:
            return self.chunks
        merged = {each.chunk for each in delivered.chunks}
        contain = (chunk for chunk in self.chunks if run in self.runs_of[chunk] or chunk in merged)
        return tuple(contain) or self.chunks

    @cached_property
    def outdated(self) -> tuple[str, ...]:
        """The pointers to deliveries, and to a receipt, that were made of other products than the downlink has now.

        The cause is a late RetDef, an ignored chunk, a chunk that was decoded again or restored from a backup, or
        another run that a decoder found; file times do not always show it. They are made again if the downlink is
        named. Otherwise only late RetDefs count (`to_stage`), because ignoring a chunk after the hand-off would make a
        smaller hand-off.
        """
        found = []
        for run in self.runs:
            contain = [chunk for chunk in self.decoded.values() if run in chunk.runs]
            delivered = self._delivered.get(run)
            if delivered is not None and delivered.chunks != tuple(merged(chunk, run) for chunk in contain):
                found.append(paths.manifest(run, self.downlink))
        is_same = self._made_of == {chunk.number for chunk in self.chunks}
        if self.handed_off is not None and (found or not is_same):
            found.append(paths.receipt(self.downlink))
        return tuple(found)

    @cached_property
    def last(self) -> HandOff | None:
        """The last hand-off; None before the first, or if it cannot be read, which status reports."""
        with suppress(HalfPipeError, OSError):
            return last_hand_off(self.plan.work, self.downlink, only_look=True)
        return None

    @cached_property
    def _delivered(self) -> dict[RunId, Delivery]:
        """The latest delivery of each run; runs with records that cannot be read are skipped."""
        found = {}
        for run in self.runs:
            with suppress(HalfPipeError):
                delivered = Deliveries(self.plan.work, run, only_look=True).latest().get(self.downlink)
                if delivered is not None and not delivered.origin:
                    found[run] = delivered
        return found

    @cached_property
    def handed_off(self) -> float | None:
        """When its receipt was written, Unix seconds; None without a receipt."""
        return modified(f"{self.plan.work}/{paths.receipt(self.downlink)}")

    @cached_property
    def _made_of(self) -> set[int]:
        """The chunks from which the receipt was made.

        For a damaged receipt these are the chunks with a working copy of their RetDef, so no work is due. Status
        reports the damage.
        """
        if self.last is None:
            return set(map(int, self.staged.chunks))
        return {chunk.chunk.number for chunk in self.last.receipt.chunks}

    @cached_property
    def new(self) -> set[int]:
        """The chunks with RetDefs that arrived after the hand-off; none before the hand-off."""
        return self.numbers - self._made_of if self.handed_off is not None else set()

    @property
    def to_stage(self) -> bool:
        """Whether the search path has RetDefs that the last hand-off did not contain."""
        return bool(self.new) or (
            self.handed_off is None and any(one.chunks for one in self.listings.values())
        )

    @cached_property
    def _times(self) -> list[float]:
        """The times of modification and change of the RetDefs on the search path, Unix seconds."""
        times = list[float]()
        for home, listing in self.listings.items():
            for chunk in listing.chunks:
                with suppress(OSError):  # a broken link: only its own job fails
                    found = os.stat(f"{home}/{paths.retdef(self.downlink, chunk)}")  # noqa: PTH116
                    times += (found.st_mtime, found.st_ctime)
        return times

    def came(self, now: float) -> float:
        """Return when the youngest RetDef arrived on the search path, Unix seconds; 0 if unknown.

        This is the later of its modification and change times, because a copy may keep the modification time. Times
        more than `CLOCK_SECONDS` after `now` are ignored: a file server's clock may be some minutes off, but not more.
        """
        return max((when for when in self._times if when <= now + CLOCK_SECONDS), default=0.0)

    @cached_property
    def begun(self) -> float | None:
        """When its directory in the working directory last changed, Unix seconds; None without one."""
        return modified(f"{self.plan.work}/{self.downlink}")

    @cached_property
    def strays(self) -> dict[tuple[Path, str], list[str]]:
        """The names of RetDefs that do not count, by their directory on the search path, and the downlink in the name.

        The downlink is empty if the name is wrong.
        """
        found = []
        for home, listing in self.listings.items():
            for name in listing.elsewhere:
                match = FILE_NAME.fullmatch(name)
                is_right = match is not None and match[1] != self.downlink  # there is no chunk 00000
                found.append(((home, match[1] if match and is_right else ""), name))
        return grouped(found)

    @cached_property
    def checksums(self) -> dict[ChunkId, dict[Path, str]]:
        """The SHA-256 of each readable RetDef on the search path, by chunk, in the order of the places."""
        found: dict[ChunkId, dict[Path, str]] = {}
        for home, listing in self.listings.items():
            for chunk in map(ChunkId, listing.chunks):
                path = home / paths.retdef(self.downlink, chunk)
                with suppress(HalfPipeError):
                    found.setdefault(chunk, {})[path] = hashlib.sha256(read_content(path)).hexdigest()
        return found

    @cached_property
    def processed(self) -> dict[ChunkId, str]:
        """The SHA-256 of the RetDefs that were processed: those of the last hand-off, or else the working copies."""
        if self.last is not None:
            return {chunk.chunk: chunk.retdef for chunk in self.last.receipt.chunks if chunk.retdef}
        found = {}
        for chunk in map(ChunkId, self.staged.chunks):
            with suppress(HalfPipeError):
                content = read_content(self.plan.work / paths.retdef(self.downlink, chunk))
                found[chunk] = hashlib.sha256(content).hexdigest()
        return found

    @cached_property
    def in_stage(self) -> stage_look.Staged:
        """What the stage has of it; nothing while the stage is not mounted or belongs to another site."""
        stage = self.plan.settings.paths.stage
        if not self.plan.sees_stage:
            return stage_look.Staged(stage / paths.staged(self.downlink))
        return stage_look.look(stage, self.downlink)

    @cached_property
    def foreign(self) -> Cause | None:
        """Why staging would overwrite files of another system; None if it would not."""
        if not self.in_stage.is_there:
            return None
        return stage_look.foreign(self.in_stage, self.plan.work, self.downlink, self.runs)

    @cached_property
    def held(self) -> dict[halts.Switch, Cause]:
        """The kinds of its work that a switch holds."""
        return halts.causes(self.plan.work, self.downlink)


@dataclass(frozen=True)
class Plan:
    """The plan of everything under one configuration."""

    settings: Settings

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.settings.paths.work

    @cached_property
    def decisions(self) -> Decisions:
        """What people decided."""
        return Decisions.read(self.work)

    @cached_property
    def stage_trouble(self) -> Cause | None:
        """Why nothing can be delivered to the stage; None if the stage is good."""
        return stage_mark.trouble(self.settings)

    @property
    def sees_stage(self) -> bool:
        """Whether the files in the stage are those of this working directory; False on a bare mount point."""
        return self.stage_trouble is None or self.stage_trouble.code == "restored"

    def of(self, downlink: str) -> DownlinkPlan:
        """Return the plan of one downlink, from the files that exist now, except in places that are `closed`."""
        dl = DownlinkId(downlink)
        staged = listed(f"{self.work}/{dl}", dl)
        places = [home for home in self.settings.paths.retdef if home not in self.closed]
        return DownlinkPlan(self, dl, staged, {home: listed(f"{home}/{dl}", dl) for home in places})

    def target(self, downlink: DownlinkId) -> str:
        """Return the product to make for a downlink: its receipt, or its submission if automatic and not held."""
        if not self.settings.submit.automatic or halts.holding(self.work, halts.Switch.L1, downlink):
            return paths.receipt(downlink)
        return paths.submitted(downlink)

    @cached_property
    def closed(self) -> dict[Path, str]:
        """The places of the search path that cannot be listed, and why."""
        closed = {}
        for home in self.settings.paths.retdef:
            try:
                with os.scandir(home):
                    pass
            except OSError as error:
                closed[home] = cannot_be_read(home, error)
        return closed

    @cached_property
    def on_search_path(self) -> set[DownlinkId]:
        """All downlinks on the search path, except in places that are `closed`."""
        names = (
            name for home in self.settings.paths.retdef if home not in self.closed for name in names_in(home)
        )
        return {DownlinkId(name) for name in names if DownlinkId.matches(name)}

    @cached_property
    def known(self) -> list[DownlinkId]:
        """All downlinks that have RetDefs, a directory, or a receipt, in order."""
        return sorted({*every_downlink(self.work), *self.on_search_path})


def listed(directory: str, downlink: str) -> Listing:
    """List the RetDefs of `downlink` in `directory`; a missing directory has none.

    If no downlink is named, this runs for all downlinks of the mission, so it makes no objects except names.
    """
    try:
        names = names_in(directory)
    except HalfPipeError as error:
        return Listing(unread=str(error))
    before = f"RetDef-{downlink}-"
    chunks = []
    elsewhere = []
    for name in names:
        chunk = name.removeprefix(before).removesuffix(".xml")
        if f"{before}{chunk}.xml" == name and ChunkId.matches(chunk) and int(chunk) > 0:
            chunks.append(chunk)
        elif name.lower().startswith("retdef"):
            elsewhere.append(name)
    return Listing(sorted(chunks), sorted(elsewhere), frozenset(names))


def refuse_closed(place: str | Path) -> None:
    """Raise an error if `place` is a directory that this user may not read.

    Raises
    ------
    HalfPipeError
        Names it, its owner and the command.
    """
    if os.path.isdir(place) and not os.access(place, os.R_OK | os.X_OK, effective_ids=True):  # noqa: PTH112
        raise HalfPipeError(
            cannot_be_read(place, PermissionError(errno.EACCES, "Permission denied", str(place))),
            code="file-system",
        )


def no_retdefs(of: DownlinkPlan) -> MissingInputError:
    """Return the error that no RetDef of a downlink was found."""
    return MissingInputError(
        f"downlink {of.downlink} has no RetDefs; looked in {looked_in(of)}.",
        Remedy(first="Check the id and paths.retdef in the config"),
        code="no-retdefs",
    )


def looked_in(of: DownlinkPlan) -> str:
    """Return the directories that may have RetDefs of a downlink, for messages."""
    homes = of.plan.settings.paths.retdef
    return ", ".join(str(home / of.downlink) for home in homes) or "an empty search path (paths.retdef)"


def retdef_to_stage(settings: Settings, downlink: DownlinkId, chunk: ChunkId) -> bytes:
    """Return the RetDef of a chunk to stage: the first one on the search path, or the staged one.

    Raises
    ------
    MissingInputError
        If there is none.
    FormatError
        If it is not a valid RetDef.
    """
    homes = (*settings.paths.retdef, settings.paths.work)
    places = [home / paths.retdef(downlink, chunk) for home in homes]
    source = next(filter(os.path.isfile, places), None)  # also if it is closed
    if source is None:
        of = Plan(settings).of(downlink)
        if not of.retdefs:
            raise no_retdefs(of)
        raise MissingInputError(
            f"no RetDef in {looked_in(of)}, though chunk {max(of.retdefs)} has one.",
            Remedy(
                first="Have the RetDef made and copied",
                accept=[offer(What.LEFT_OUT, Subject(downlink, chunk=chunk))],
            ),
        )
    content = read_content(source)
    parse_retdef(content, source)
    return content


def expand(settings: Settings, words: Iterable[str]) -> tuple[DownlinkId, ...]:
    """Return the downlinks that `words` stand for, each once, in order of the words.

    A single downlink stands for itself, even if nothing is known of it. A range stands for its downlinks that have a
    directory on the search path of RetDefs, or files in the working directory.

    Raises
    ------
    ConfigError
        If a range has no downlink.
    HalfPipeError
        If a place of the search path cannot be listed.
    """
    plan = Plan(settings)
    found = list[DownlinkId]()
    for word in words:
        if DownlinkId.matches(word):
            found.append(DownlinkId(word))
            continue
        several = Downlinks(word)
        for why in plan.closed.values():
            raise HalfPipeError(
                f"{several}: cannot list RetDefs: {why} Or name downlinks one by one.", code="file-system"
            )
        inside = [dl for dl in plan.known if several.first <= dl <= several.last]
        if not inside:
            raise ConfigError(
                f"{several}: no downlink from {several.first} to {several.last}; looked in "
                f"{', '.join(map(str, (*settings.paths.retdef, settings.paths.work)))}. Check the range and "
                "paths.retdef in the config; halfpipe status --all lists what there is."
            )
        found += inside
    return tuple(dict.fromkeys(found))


@dataclass(frozen=True)
class Announced:
    """An outstanding chunk, and its RetDef."""

    downlink: DownlinkId
    chunk: ChunkId
    retdef: RetDef


def outstanding_chunks(plan: Plan, unread: Callable[[Path], object] = lambda _: None) -> Iterator[Announced]:
    """Yield the outstanding chunks that have a valid RetDef, in order.

    These are all chunks of downlinks without a receipt, and chunks with RetDefs that arrived after the receipt. Such a
    RetDef changed its directory, so a downlink is skipped if all its directories are older than its receipt. RetDefs
    that are missing or cannot be read are skipped, as are such directories; `unread` is called with each.
    """
    for home in plan.closed:
        unread(home)
    for downlink in plan.known:
        times = (changed(f"{home}/{downlink}") for home in plan.settings.paths.retdef)
        handed_off = modified(f"{plan.work}/{paths.receipt(downlink)}")
        if handed_off is not None and all((when or 0.0) < handed_off - CLOCKS_APART for when in times):
            continue
        of = plan.of(downlink)
        for home, listing in of.listings.items():
            if listing.unread:
                unread(home / downlink)
        for chunk in of.chunks if of.retdefs else ():
            if handed_off is None or chunk.number in of.new:
                home = next(iter(of.listings), plan.work)
                path = of.retdefs.get(chunk, home / paths.retdef(downlink, chunk))
                try:
                    yield Announced(downlink, chunk, read_retdef(path))
                except HalfPipeError:
                    unread(path)
