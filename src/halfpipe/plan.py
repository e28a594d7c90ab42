"""Which files a target needs. Everything follows from RetDefs, and from what decoders have vouched for.

The plan is made when the DAG is built, so a dry run shows all work; nothing is scanned but the search
path of RetDefs and the directory of each downlink that is asked for.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

from halfpipe import halts, paths
from halfpipe.errors import ConfigError, HalfPipeError, MissingInputError
from halfpipe.formats.retdef import parse_retdef, read_content
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.retdefs import RetDefs

MOST_HOLES = 20  # as many as a downlink has chunks (ground-chain §4)


@dataclass(frozen=True)
class DownlinkPlan:
    """The chunks of one downlink and the runs that they bring.

    `retdefs` are the RetDefs that count: what is staged comes first, then the first hit on the search
    path. `ignored` chunks are left out on purpose, for a reason.
    """

    downlink: DownlinkId
    work: Path
    retdefs: Mapping[ChunkId, Path]
    ignored: Mapping[ChunkId, str]

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

    def complaints(self) -> list[str]:
        """Say what is wrong with the RetDefs, which a dry run shows only as a job that will fail."""
        said = [
            f"downlink {self.downlink}: chunk {chunk} has no RetDef on the search path (paths.retdef)"
            for chunk in self.holes
        ]
        said += [str(found) for found in self._announced.values() if isinstance(found, HalfPipeError)]
        return said

    @cached_property
    def known(self) -> RetDefs:
        """What is known of the RetDefs, those that count and those on the search path."""
        return RetDefs(self.work, self.downlink)

    @cached_property
    def _announced(self) -> dict[ChunkId, RunId | HalfPipeError]:
        """The run of each RetDef that counts, or why it cannot be read."""
        found: dict[ChunkId, RunId | HalfPipeError] = {}
        for chunk in self.chunks:
            if chunk in self.retdefs:
                try:
                    found[chunk] = self.known.run(self.retdefs[chunk])
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
    """The plan of everything under one configuration.

    Parameters
    ----------
    work
        `paths.work`.
    search
        Search path of RetDefs.
    ignored
        Chunks left out, with the reason.
    """

    work: Path
    search: tuple[Path, ...]
    ignored: Iterable[tuple[DownlinkId, ChunkId, str]] = ()
    _plans: dict[str, DownlinkPlan] = field(default_factory=dict, repr=False)

    def of(self, downlink: str) -> DownlinkPlan:
        """Return the plan of one downlink; it is made once."""
        plan = self._plans.get(downlink)
        if plan is None:
            dl = DownlinkId(downlink)
            plan = self._plans[dl] = self._make(dl)
        return plan

    def _make(self, dl: DownlinkId) -> DownlinkPlan:
        retdefs: dict[ChunkId, Path] = {}
        for home in (self.work, *self.search):
            for chunk, path in _retdefs(home, dl).items():
                retdefs.setdefault(chunk, path)
        left_out = {chunk: reason for of, chunk, reason in self.ignored if of == dl}
        return DownlinkPlan(dl, self.work, retdefs, left_out)

    def source(self, downlink: DownlinkId, chunk: ChunkId) -> Path | None:
        """Return the first RetDef of a chunk on the search path, None if there is none."""
        name = paths.retdef(downlink, chunk)
        return next((path for home in self.search if (path := home / name).is_file()), None)

    def reissued(self, downlink: str) -> list[str]:
        """Say which staged RetDefs of `downlink` differ from what the search path holds now."""
        said, known, staged = [], self.of(downlink).known, f"{self.work / downlink}/"
        for chunk, path in self.of(downlink).retdefs.items():
            if not str(path).startswith(staged):
                continue
            source = self.source(DownlinkId(downlink), chunk)
            if source is None or source == path:
                continue
            with suppress(HalfPipeError):  # a source that cannot be read says nothing
                if known.sha256(source) == known.sha256(path):
                    continue
                said.append(
                    f"RetDef of chunk {chunk} of downlink {downlink} was issued again: {source} differs from what "
                    f"was processed. It counts when the downlink is processed again by name: -F dl={downlink}"
                )
        return said

    def outstanding(
        self, *, now: float, settle_seconds: float, most: int, submitting: bool = False
    ) -> "Outstanding":
        """Find the outstanding downlinks on the search path.

        Parameters
        ----------
        now
            Unix time, seconds.
        settle_seconds
            A downlink is left alone as long as its youngest RetDef is younger.
        most
            More outstanding downlinks are refused.
        submitting
            A downlink that was handed off and not submitted to Level-1 is outstanding too.

        Raises
        ------
        ConfigError
            If there are more than `most`.
        """
        downlinks: set[DownlinkId] = set()
        for home in self.search:
            with os.scandir(home) as entries:
                downlinks.update(
                    DownlinkId(e.name) for e in entries if DownlinkId.matches(e.name) and e.is_dir()
                )
        ready, waiting, incomplete, held = [], [], {}, {}
        for dl in sorted(downlinks):
            to_stage = self._is_outstanding(dl)
            if not to_stage and not (submitting and not (self.work / paths.submitted(dl)).exists()):
                continue
            switch = halts.Switch.STAGE if to_stage else halts.Switch.L1
            if file := halts.holding(self.work, switch, dl):
                held[dl] = file
                continue
            plan = self._make(dl)  # not kept: it is made again under the downlink's lock
            if plan.holes:
                waiting.append(f"downlink {dl} waits for the RetDef of chunk {', '.join(plan.holes)}")
                incomplete[waiting[-1]] = now - self._youngest(dl)
            elif now - self._youngest(dl) < settle_seconds:
                waiting.append(
                    f"downlink {dl} waits: its youngest RetDef is younger than {settle_seconds:g} s"
                )
            else:
                ready.append(dl)
        if len(ready) > most:
            raise ConfigError(
                f"{len(ready)} downlinks are outstanding, {ready[0]} to {ready[-1]}: more than outstanding.max "
                f"({most}). Name those that you mean, as in: snakemake dl={ready[0]} dl={ready[1]}, "
                "or raise outstanding.max in the config."
            )
        return Outstanding(tuple(ready), tuple(waiting), incomplete, held)

    def _youngest(self, downlink: DownlinkId) -> float:
        """Return the time of the youngest RetDef on the search path; those that are staged say nothing."""
        times = [0.0]
        for home in self.search:
            for path in _retdefs(home, downlink).values():
                # A link that leads nowhere is a failing job, not the end of all others.
                with suppress(OSError):
                    times.append(path.stat().st_mtime)
        return max(times)

    def _is_outstanding(self, downlink: DownlinkId) -> bool:
        if not (self.work / paths.receipt(downlink)).exists():
            return any(_chunks(home, downlink) for home in self.search)
        left_out = {chunk for of, chunk, _ in self.ignored if of == downlink}
        staged = left_out.union(_chunks(self.work, downlink))
        return any(not staged.issuperset(_chunks(home, downlink)) for home in self.search)


@dataclass(frozen=True)
class Outstanding:
    """Outstanding downlinks, and in words those that are not ready yet.

    `incomplete` are those of `waiting` that wait for a RetDef, with the age of the youngest in seconds;
    `held` are those that a halt switch holds, with its file.
    """

    ready: tuple[DownlinkId, ...]
    waiting: tuple[str, ...]
    incomplete: Mapping[str, float]
    held: Mapping[DownlinkId, Path]


def _retdefs(home: Path, downlink: DownlinkId) -> dict[ChunkId, Path]:
    """Return the RetDefs of `downlink` that lie below `home`, a place of the search path, by chunk."""
    return {ChunkId(chunk): home / paths.retdef(downlink, chunk) for chunk in _chunks(home, downlink)}


def _chunks(home: Path, downlink: DownlinkId) -> list[str]:
    """Return the chunks whose RetDefs lie below `home`, in order.

    Where no downlink is named this is asked of all downlinks of the mission: no object but the names.
    """
    before, after = f"RetDef-{downlink}-", ".xml"
    try:
        names = os.listdir(f"{home}/{downlink}")  # noqa: PTH208 - a Path for each name takes longer than all else
    except (FileNotFoundError, NotADirectoryError):
        return []
    chunks = (
        name[len(before) : -len(after)] for name in names if name.startswith(before) and name.endswith(after)
    )
    return sorted(chunk for chunk in chunks if ChunkId.matches(chunk) and int(chunk) > 0)


def retdef_to_stage(work: Path, downlink: DownlinkId, chunk: ChunkId, search: Iterable[Path]) -> bytes:
    """Return the RetDef of a chunk as it is to be staged: the search path's first hit, else what is staged.

    Raises
    ------
    MissingInputError
        If there is none.
    FormatError
        If it is not a good RetDef.
    """
    plan = Plan(work, tuple(search))
    staged = work / paths.retdef(downlink, chunk)
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
                "ignore.chunks in the config with a reason; then give the same command again."
            )
        raise MissingInputError(
            f"downlink {downlink} has no RetDefs; looked in {where}. Check the id and paths.retdef in the config."
        )
    content = read_content(source)
    parse_retdef(content, source)
    return content
