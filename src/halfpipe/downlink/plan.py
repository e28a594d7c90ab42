"""Which files a target needs. Everything follows from RetDefs, and from what decoders have vouched for.

The plan is made when the DAG is built, so a dry run shows all work; nothing is scanned but the search
path of RetDefs and the directory of each downlink that is asked for.
"""

import errno
import json
import os
import shlex
from collections.abc import Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from halfpipe import paths
from halfpipe.downlink import halts, receipt_inputs
from halfpipe.errors import ConfigError, HalfPipeError, MissingInputError
from halfpipe.files.advice import cannot_be_read
from halfpipe.formats.retdef import FILE_NAME, made_here, parse_retdef, read_content, read_retdef
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.settings import Settings

MOST_HOLES = 20  # as many as a downlink has chunks (ground-chain §4)
CLOCK_SECONDS = 600.0  # by which a file server's clock may be ahead


@dataclass(frozen=True)
class DownlinkPlan:
    """The chunks of one downlink and the runs that they bring.

    `retdefs` are the RetDefs that count: what is staged comes first, then the first hit on the search
    path. `ignored` chunks are left out on purpose, for a reason. `odd` is what lies where RetDefs are looked for
    and does not count, in words.
    """

    downlink: DownlinkId
    work: Path
    search: tuple[Path, ...]
    retdefs: Mapping[ChunkId, Path]
    ignored: Mapping[ChunkId, str]
    odd: tuple[str, ...] = ()

    @cached_property
    def chunks(self) -> tuple[ChunkId, ...]:
        """All chunks from 1 to the last, but the ignored: a missing one is the failing job of its RetDef."""
        numbers = [chunk.number for chunk in (*self.retdefs, *self.ignored)]
        every = (ChunkId.of(number) for number in range(1, max(numbers, default=1) + 1))
        holes = (chunk for chunk in every if chunk not in self.retdefs and chunk not in self.ignored)
        # One misnumbered RetDef can make a hole of any size; a few failing jobs are enough to say so.
        return tuple(sorted([*(self.retdefs.keys() - self.ignored.keys()), *islice(holes, MOST_HOLES)]))

    @property
    def holes(self) -> tuple[ChunkId, ...]:
        """Chunks without a RetDef that nobody has said may be missing."""
        return tuple(chunk for chunk in self.chunks if chunk not in self.retdefs)

    def refuse_closed(self) -> None:
        """Refuse directories of somebody else that may not be looked into: Snakemake would end with a traceback.

        Raises
        ------
        HalfPipeError
            Names the directory, its owner and the command.
        """
        names = [self.downlink, paths.chunks(self.downlink), paths.runs()]
        names += [name for run in self.runs for name in (paths.run(run), f"{paths.run(run)}/{self.downlink}")]
        for name in ("", *names):
            refuse_closed(self.work / name)

    @cached_property
    def new(self) -> tuple[ChunkId, ...]:
        """Chunks with a RetDef that the downlink's receipt was made without; none if there is no receipt.

        Snakemake notices them by its records of what a receipt was made from, which a crash may cost.
        """
        made_of = receipt_inputs.chunks_of(f"{self.work}/{paths.receipt(self.downlink)}")
        if made_of is None:
            return ()
        return tuple(chunk for chunk in self.chunks if chunk in self.retdefs and chunk not in made_of)

    def news(self) -> list[str]:
        """Say which RetDefs have come since the downlink was handed off."""
        return [new_retdef_message(self.downlink, self.new)] if self.new else []

    def complaints(self) -> list[str]:
        """Say what is wrong with the RetDefs, which a dry run shows only as a job that will fail."""
        if not self.retdefs:
            return [*self.odd, no_retdefs(self.downlink, self.search)]
        said = [*self.odd]
        said += [
            f"downlink {self.downlink}: chunk {chunk} has no RetDef on the search path (paths.retdef)"
            for chunk in self.holes
        ]
        said += [str(found) for found in self._announced.values() if isinstance(found, HalfPipeError)]
        return said

    @cached_property
    def _announced(self) -> dict[ChunkId, RunId | HalfPipeError]:
        """The run of each RetDef that counts, or why it cannot be read."""
        found: dict[ChunkId, RunId | HalfPipeError] = {}
        for chunk in self.chunks:
            if chunk in self.retdefs:
                try:
                    found[chunk] = read_retdef(self.retdefs[chunk]).run
                except HalfPipeError as error:
                    found[chunk] = error
        return found

    @cached_property
    def runs_of(self) -> dict[ChunkId, frozenset[RunId]]:
        """The runs of each chunk: of its RetDef, and those that a decoder brought besides.

        A RetDef that cannot be read adds no run: staging it is a job that fails and says why.
        """
        found = {}
        for chunk in self.chunks:
            run = self._announced.get(chunk)
            announced = {run} if isinstance(run, RunId) else set()
            found[chunk] = frozenset(announced | set(self._decoded(chunk)))
        return found

    def _decoded(self, chunk: ChunkId) -> Iterable[RunId]:
        try:
            content = json.loads((self.work / paths.chunk(self.downlink, chunk)).read_bytes())
            return [RunId(run) for run in content["runs"]]
        except (OSError, ValueError, KeyError, TypeError):
            return []  # not decoded yet; if it is damaged, the job will say so

    @cached_property
    def runs(self) -> tuple[RunId, ...]:
        """All runs of the downlink."""
        return tuple(sorted(set().union(*self.runs_of.values())))

    @property
    def chunk_files(self) -> list[str]:
        """The files that vouch for the chunks."""
        return [paths.chunk(self.downlink, chunk) for chunk in self.chunks]

    def chunk_files_with(self, run: str) -> list[str]:
        """Return the files that vouch for the chunks that bring something of `run`."""
        return [paths.chunk(self.downlink, chunk) for chunk in self.chunks_with(run)]

    @property
    def manifests(self) -> list[str]:
        """The manifests of all runs."""
        return [paths.manifest(run, self.downlink) for run in self.runs]

    def chunks_with(self, run: str) -> tuple[ChunkId, ...]:
        """Return the chunks that bring something of `run`."""
        return tuple(chunk for chunk in self.chunks if run in self.runs_of[chunk])


@dataclass
class Plan:
    """The plan of everything under one configuration."""

    settings: Settings
    _plans: dict[str, DownlinkPlan] = field(default_factory=dict, repr=False)

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.settings.paths.work

    @property
    def search(self) -> tuple[Path, ...]:
        """The search path of RetDefs."""
        return self.settings.paths.retdef

    def of(self, downlink: str) -> DownlinkPlan:
        """Return the plan of one downlink; it is made once."""
        plan = self._plans.get(downlink)
        if plan is None:
            dl = DownlinkId(downlink)
            plan = self._plans[dl] = self._make(dl)
        return plan

    def _make(self, dl: DownlinkId) -> DownlinkPlan:
        retdefs: dict[ChunkId, Path] = {}
        odd: list[str] = []
        homes = (self.work, *self.search)
        for home, listing in zip(homes, [listed(f"{self.work}/{dl}", dl), *self.listings(dl)], strict=True):
            if listing.unread is not None and home == self.work:
                raise HalfPipeError(cannot_be_read(home / dl, listing.unread))
            for chunk in listing.chunks:
                retdefs.setdefault(ChunkId(chunk), home / paths.retdef(dl, chunk))
            odd += listing.problems(home, dl)
        return DownlinkPlan(dl, self.work, self.search, retdefs, self.settings.ignored(dl), tuple(odd))

    def source(
        self, downlink: DownlinkId, chunk: ChunkId, listings: "Iterable[Listing] | None" = None
    ) -> Path | None:
        """Return the first RetDef of a chunk on the search path that counts, None if there is none.

        `listings` is what `listings` gives; None: it is asked.
        """
        name = paths.retdef(downlink, chunk)
        there = zip(self.search, self.listings(downlink) if listings is None else listings, strict=True)
        homes = (home for home, listing in there if chunk in listing.chunks)
        return next((home / name for home in homes if os.path.isfile(f"{home}/{name}")), None)  # noqa: PTH113

    def reissued(self, downlink: str) -> list[str]:
        """Say which staged RetDefs of `downlink` differ from what the search path holds now."""
        said, staged = [], f"{self.work / downlink}/"
        listings = self.listings(downlink)
        for chunk, path in self.of(downlink).retdefs.items():
            if not str(path).startswith(staged):
                continue
            source = self.source(DownlinkId(downlink), chunk, listings)
            if source is None or source == path:
                continue
            with suppress(HalfPipeError):  # a source that cannot be read says nothing
                if read_content(source) == read_content(path):
                    continue
                said.append(
                    f"RetDef of chunk {chunk} of downlink {downlink} was issued again: {source} differs from what "
                    f"was processed. To have it count: snakemake -F dl={downlink}"
                )
        return said

    def target(self, downlink: DownlinkId) -> str:
        """Return how far a downlink goes that no target names: to its receipt, or to its submission."""
        if not self.settings.submit.automatic or halts.holding(self.work, halts.Switch.L1, downlink):
            return paths.receipt(downlink)
        return paths.submitted(downlink)

    def outstanding(self, now: float, among: Container[str] | None = None) -> "Outstanding":
        """Find the outstanding downlinks on the search path.

        With `submit.automatic` a downlink that was handed off and not submitted to Level-1 is outstanding too.

        Parameters
        ----------
        now
            Unix time, seconds.
        among
            Downlinks that somebody has named: only these, however many they are, and only up to their hand-off.

        Raises
        ------
        ConfigError
            If nobody has named any, and there are more than `outstanding.max`.
        """
        settle_seconds, most = self.settings.retdef.settle_seconds, self.settings.outstanding.max
        submitting = self.settings.submit.automatic and among is None
        names = names_in(self.work)
        downlinks, closed = self.on_search_path()
        if among is not None:
            downlinks = {dl for dl in downlinks if dl in among}
            names = frozenset(name for name in names if name.removeprefix(paths.receipt("")) in among)
        told = [cannot_be_listed(home, error) for home, error in closed.items()]
        told += halts.misspelt(self.work)
        ready, waiting, incomplete, held = [], [], {}, {}
        for dl in sorted(downlinks):
            listings = self.listings(dl, closed)
            told += [
                line
                for home, one in zip(self.search, listings, strict=True)
                for line in one.problems(home, dl)
            ]
            handed_off = paths.receipt(dl) in names
            to_stage = (
                bool(self.unprocessed_chunks(dl, listings))
                if handed_off
                else any(one.chunks for one in listings)
            )
            if not to_stage and not (submitting and handed_off and paths.submitted(dl) not in names):
                continue
            switch = halts.Switch.STAGE if to_stage else halts.Switch.L1
            try:
                if file := halts.holding(self.work, switch, dl):
                    held[dl] = file
                    continue
                plan = self._make(dl)  # not kept: it is made again under the downlink's lock
            except HalfPipeError as error:
                waiting.append(f"downlink {dl} waits: {error}")
                continue
            unread = next((one.unread for one in listings if one.unread), None)
            times = self.times(dl, listings, now)
            told += times.problems(dl)
            if plan.holes:
                waits = f"waits for the RetDef of chunk {', '.join(plan.holes)}"
                waiting.append(f"downlink {dl} {waits}")
                incomplete[dl] = f"it {waits}", now - times.written if times.written else 0.0
            elif now - times.youngest < settle_seconds:
                waiting.append(
                    f"downlink {dl} waits: its youngest RetDef is younger than {settle_seconds:g} s"
                )
            elif unread and to_stage:
                waiting.append(f"downlink {dl} waits: RetDefs of it may lie where nothing can be listed")
            else:
                ready.append(dl)
        if not closed:  # else nobody knows what is gone
            begun = sorted(name for name in names - downlinks if DownlinkId.matches(name))
            told += [
                gone(self.work, dl)
                for dl in begun
                if paths.receipt(dl) not in names and is_begun(self.work, dl)
            ]
        if among is None and len(ready) > most:
            raise ConfigError(
                f"{len(ready)} downlinks are outstanding, {ready[0]} to {ready[-1]}: more than outstanding.max "
                f"({most}). Name those that you mean, as in: snakemake dl={ready[0]} dl={ready[1]}, "
                "or raise outstanding.max in the config."
            )
        return Outstanding(tuple(ready), tuple(waiting), incomplete, held, tuple(told))

    def listings(self, downlink: str, closed: Container[Path] = ()) -> list["Listing"]:
        """Return what of `downlink` lies in each place of the search path, nothing in those that are `closed`.

        RetDefs that were made here do not count where another place has those of the site: they divide the downlink
        in another way.
        """
        found = [
            NOTHING if home in closed else listed(f"{home}/{downlink}", downlink) for home in self.search
        ]
        having = [at for at, listing in enumerate(found) if listing.chunks]
        if len(having) > 1:
            ours = [
                at
                for at in having
                if made_here(self.search[at] / paths.retdef(downlink, found[at].chunks[0]))
            ]
            for at in ours if len(ours) < len(having) else ():
                found[at] = replace(found[at], chunks=())
        return found

    def lying(self, downlink: str) -> "FoundFiles":
        """Return what lies of `downlink` in its directory and on the search path."""
        listings = self.listings(downlink, self.closed)
        try:
            names = frozenset(os.listdir(f"{self.work}/{downlink}"))  # noqa: PTH208
        except (FileNotFoundError, NotADirectoryError):
            names = frozenset()
        except OSError as error:
            return FoundFiles(frozenset(), Listing(unread=error), listings)
        return FoundFiles(names, sorted_out(names, downlink), listings)

    def expected(self, downlink: str, lying: "FoundFiles") -> int:
        """Return how many chunks a downlink should have; as many as `DownlinkPlan.chunks`."""
        there = {chunk for one in (lying.staged, *lying.listings) for chunk in one.chunks}
        ignored = self.ignored(downlink)
        last = max(map(int, there | ignored), default=0)
        return len(there - ignored) + min(last - len(there | ignored), MOST_HOLES) if there else 0

    @cached_property
    def closed(self) -> Mapping[Path, OSError]:
        """The places of the search path that cannot be listed, and why."""
        return self.on_search_path()[1]

    def on_search_path(self) -> tuple[set[DownlinkId], dict[Path, OSError]]:
        """Return all downlinks on the search path, and the places that cannot be listed."""
        downlinks: set[DownlinkId] = set()
        closed = {}
        for home in self.search:
            try:
                with os.scandir(home) as entries:
                    downlinks.update(
                        DownlinkId(e.name) for e in entries if DownlinkId.matches(e.name) and _is_directory(e)
                    )
            except OSError as error:
                closed[home] = error
        return downlinks, closed

    def unprocessed_chunks(
        self,
        downlink: str,
        listings: Iterable["Listing"],
        staged: "Listing | None" = None,
        made_of: frozenset[str] | None = None,
    ) -> set[str]:
        """Return the chunks with RetDefs that a downlink was handed off without.

        Parameters
        ----------
        downlink
            A downlink that has a receipt.
        listings
            What of it lies on the search path.
        staged
            What is staged of it; None: it is looked for.
        made_of
            The chunks that the receipt names; None: it is read.
        """
        there = set((staged or listed(f"{self.work}/{downlink}", downlink)).chunks)
        if made_of is None:
            made_of = receipt_inputs.chunks_of(f"{self.work}/{paths.receipt(downlink)}")
        if made_of is None:  # it does not say: then what was staged before it was made
            made_of, there = frozenset(there), set()
        there.update(*(one.chunks for one in listings))
        return there - made_of - self.ignored(downlink)

    def ignored(self, downlink: str) -> frozenset[str]:
        """Return the chunks of `downlink` that are left out on purpose."""
        return self._ignored.get(downlink, frozenset())

    @cached_property
    def _ignored(self) -> dict[str, frozenset[str]]:
        downlinks = {entry.dl for entry in self.settings.ignore.chunks}
        return {dl: frozenset(self.settings.ignored(dl)) for dl in downlinks}

    def times(self, downlink: str, listings: Iterable["Listing"], now: float) -> "Times":
        """Return when the RetDefs of `downlink` on the search path came, at Unix time `now`, seconds.

        The later of the times of the last write and the last change: a copy may bring the former with it. A time
        that is not yet is nobody's.
        """
        youngest, written, future = 0.0, 0.0, []
        for home, listing in zip(self.search, listings, strict=True):
            for chunk in listing.chunks:
                path = f"{home}/{paths.retdef(downlink, chunk)}"
                try:
                    stat = os.stat(path)  # noqa: PTH116
                except OSError:
                    continue  # a link that leads nowhere is a failing job, not the end of all others
                good = past_times(stat, now)
                youngest = max([youngest, *good])
                written = max([written, *good[:1]])
                if len(good) < 2:
                    future.append(path)
        return Times(youngest, written, tuple(future))


def past_times(stat: os.stat_result, now: float) -> list[float]:
    """Return when a file was written and changed last, Unix seconds, without what lies after `now`.

    A file server whose clock is some minutes off is borne with.
    """
    return [when for when in (stat.st_mtime, stat.st_ctime) if when <= now + CLOCK_SECONDS]


@dataclass(frozen=True)
class Times:
    """When RetDefs came, and were written: the youngest of each (Unix seconds, 0 if none says).

    `future` are those with a time that is not yet.
    """

    youngest: float
    written: float
    future: tuple[str, ...]

    def problems(self, downlink: str) -> list[str]:
        """Say which times do not count."""
        return [
            f"downlink {downlink}: the time of {path} lies in the future, and does not count. Set it right: "
            f"touch {shlex.quote(path)}"
            for path in self.future
        ]


@dataclass(frozen=True, slots=True)
class Listing:
    """What of a downlink's RetDefs lies in a directory: chunks in order, names of RetDefs of other downlinks.

    `unread` is why the directory cannot be listed.
    """

    chunks: Sequence[str] = ()
    elsewhere: Sequence[str] = ()
    unread: OSError | None = None

    def problems(self, home: Path, downlink: str) -> list[str]:
        """Say what is wrong with the directory of `downlink` in `home`."""
        said = [f"downlink {downlink}: {misplaced(home, downlink, name)}" for name in self.elsewhere]
        if self.unread is not None:
            said.append(f"downlink {downlink}: {cannot_be_listed(home / downlink, self.unread)}")
        return said


@dataclass(frozen=True, slots=True)
class FoundFiles:
    """What lies of a downlink: the names in its directory, what is staged, and the places of the search path."""

    names: frozenset[str]
    staged: Listing
    listings: Sequence[Listing]


@dataclass(frozen=True)
class Outstanding:
    """Outstanding downlinks, and in words those that are not ready yet.

    `incomplete` are those that wait for a RetDef, in words, with the age of the youngest in seconds;
    `held` are those that a halt switch holds, with its file. `told` is what lies where it should not, or cannot be
    read, while all others go on.
    """

    ready: tuple[DownlinkId, ...]
    waiting: tuple[str, ...]
    incomplete: Mapping[DownlinkId, tuple[str, float]]
    held: Mapping[DownlinkId, Path]
    messages: tuple[str, ...] = ()


def listed(directory: str, downlink: str) -> Listing:
    """Return what of the RetDefs of `downlink` lies in `directory`; a directory that is not there has none.

    Where no downlink is named this is asked of all downlinks of the mission: no object but the names.
    """
    try:
        names = os.listdir(directory)  # noqa: PTH208 - a Path for each name takes longer than all else
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    except OSError as error:
        return Listing(unread=error)
    return sorted_out(names, downlink)


def sorted_out(names: Iterable[str], downlink: str) -> Listing:
    """Return what `names`, those in a directory, are to `downlink`."""
    before, after = f"RetDef-{downlink}-", ".xml"
    chunks, elsewhere = [], []
    for name in names:
        if name.startswith(before) and name.endswith(after):
            chunk = name[len(before) : -len(after)]
            if ChunkId.matches(chunk) and int(chunk) > 0:
                chunks.append(chunk)
        elif name.startswith("RetDef-") and FILE_NAME.fullmatch(name):
            elsewhere.append(name)
    return Listing(sorted(chunks), sorted(elsewhere))


NOTHING = Listing()


def names_in(work: Path) -> frozenset[str]:
    """Return the names in the working directory: of downlinks, receipts, submissions.

    Raises
    ------
    HalfPipeError
        If it cannot be listed.
    """
    try:
        return frozenset(os.listdir(work))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except OSError as error:
        raise HalfPipeError(f"{cannot_be_read(work, error)}, then re-run the command.") from error


def _is_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return True  # whoever lists it will be told why not


def refuse_closed(place: Path) -> None:
    """Raise an error if `place` is a directory that this user may not look into.

    Raises
    ------
    HalfPipeError
        Names it, its owner and the command.
    """
    if os.path.isdir(place) and not os.access(place, os.R_OK | os.X_OK, effective_ids=True):  # noqa: PTH112
        denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        raise HalfPipeError(f"{cannot_be_read(place, denied)}, then re-run the command.")


def cannot_be_listed(place: Path, error: OSError) -> str:
    """Say why RetDefs below `place` are not found."""
    return f"RetDefs there are not seen: {cannot_be_read(place, error)}"


def misplaced(home: Path, downlink: str, name: str) -> str:
    """Say of the RetDef `name`, which lies in the directory of `downlink` and is another's, where it belongs."""
    right = home / name.split("-")[1] / name
    remedy = (
        f"it also lies where it belongs, so remove it: rm {home / downlink / name}"
        if right.exists()
        else f"move it: mkdir -p {right.parent} && mv {home / downlink / name} {right}"
    )
    return f"{home / downlink / name} is a RetDef of downlink {name.split('-')[1]} and does not count here; {remedy}"


def new_retdef_message(downlink: str, chunks: Iterable[str]) -> str:
    """Say which RetDefs have come since a downlink was handed off."""
    return (
        f"downlink {downlink}: the RetDef of chunk {', '.join(sorted(chunks))} has come since it was handed off. "
        f"To process it with this chunk: snakemake dl={downlink}"
    )


def is_begun(work: Path, downlink: str) -> bool:
    """Tell whether a downlink's directory holds more than what an operator has put down."""
    try:
        return holds_work(os.listdir(f"{work}/{downlink}"))  # noqa: PTH208
    except OSError:
        return False


def holds_work(names: Iterable[str]) -> bool:
    """Tell whether there is more among the names in a downlink's directory than what an operator has put down."""
    return any(not name.lower().startswith(halts.BEGINNING) for name in names)


def gone(work: Path, downlink: str) -> str:
    """Say of a downlink that was begun and not handed off that its RetDefs are gone from the search path."""
    staged = len(listed(f"{work}/{downlink}", downlink).chunks)
    what = (
        f"{staged} of them are staged, and it goes on with these: snakemake dl={downlink}"
        if staged
        else "Have them copied again"
    )
    return (
        f"downlink {downlink} was begun and is not handed off, and its RetDefs are gone from the search path "
        f"(paths.retdef). {what}"
    )


def no_retdefs(downlink: str, search: Sequence[Path]) -> str:
    """Say where RetDefs of a downlink were looked for in vain."""
    where = ", ".join(str(home / downlink) for home in search) or "an empty search path (paths.retdef)"
    return (
        f"downlink {downlink} has no RetDefs; looked in {where}. Check the id and paths.retdef in the config."
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
    plan = Plan(settings)
    staged = plan.work / paths.retdef(downlink, chunk)
    source = plan.source(downlink, chunk) or (staged if staged.is_file() else None)
    if source is None:
        others = plan.of(downlink).retdefs
        where = (
            ", ".join(str(home / downlink) for home in plan.search) or "an empty search path (paths.retdef)"
        )
        if others:
            raise MissingInputError(
                f"chunk {chunk} of downlink {downlink} has no RetDef, though there are RetDefs up to chunk "
                f"{max(others)}; looked in {where}. Have it made and copied, or list the chunk under "
                "ignore.chunks in the config with a reason; then re-run the command."
            )
        raise MissingInputError(no_retdefs(downlink, plan.search), code="no-retdefs")
    content = read_content(source)
    parse_retdef(content, source)
    return content
