"""How fast the jobs were: what each rule took over many downlinks, and what an invocation delivered."""

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any, Self

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import read_json
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.process.usage import Usage, latest
from halfpipe.words import count

RULES = ("stage_retdef", "decode_chunk", "deliver_run", "receipt", "submit")  # in the order of the data


@dataclass(frozen=True)
class Job:
    """What the latest try of one job took and made; `events` and `size` are None if nothing says it."""

    rule: str
    usage: Usage
    events: int | None
    size: int | None


@dataclass(frozen=True)
class Rate:
    """What the jobs of one rule took, and how fast they were.

    Attributes
    ----------
    rule, jobs
        The rule and the number of its jobs.
    median_seconds, max_seconds
        Of one job, by the clock.
    cpu_seconds
        Of all jobs.
    max_memory
        Bytes, of one job.
    events, size
        What the jobs made: events, and bytes of the files they are in (and of their indexes, of a decoder).
    events_per_second, bytes_per_second
        Of one job while it runs, on average: all that was made by all seconds that it took. 0 of rules that
        make no events.
    """

    rule: str
    jobs: int
    median_seconds: float
    max_seconds: float
    cpu_seconds: float
    max_memory: int
    events: int
    size: int
    events_per_second: float
    bytes_per_second: float


def rates(jobs: Iterable[Job]) -> list[Rate]:
    """Return the rate of each rule, in the order of the data."""
    by_rule: dict[str, list[Job]] = {}
    for job in jobs:
        by_rule.setdefault(job.rule, []).append(job)
    order = [*RULES, *sorted(set(by_rule) - set(RULES))]
    return [_rate(rule, by_rule[rule]) for rule in order if rule in by_rule]


def rates_by_day(jobs: Iterable[Job]) -> dict[str, list[Rate]]:
    """Return the rate of each rule by the day on which its jobs began (UTC, as ``2026-11-26``), in order."""
    days: dict[str, list[Job]] = {}
    for job in jobs:
        days.setdefault(job.usage.begun[:10], []).append(job)
    return {day: rates(days[day]) for day in sorted(days)}


def _rate(rule: str, jobs: list[Job]) -> Rate:
    seconds = [job.usage.seconds for job in jobs]
    # Of a job whose products are gone it is not known what it made: its time would make others look slow.
    made = [(job.events, job.size, job.usage.seconds) for job in jobs if job.events is not None]
    events, size = sum(e or 0 for e, _, _ in made), sum(s or 0 for _, s, _ in made)
    spent = max(sum(s for _, _, s in made), 1e-3)
    return Rate(
        rule,
        len(jobs),
        round(median(seconds), 3),
        max(seconds),
        round(sum(job.usage.cpu_seconds for job in jobs), 3),
        max(job.usage.memory for job in jobs),
        events,
        size,
        round(events / spent, 1),
        round(size / spent, 1),
    )


def downlinks(work: Path) -> list[DownlinkId]:
    """Return all downlinks whose jobs have logs."""
    names = (path.name for path in (work / paths.logs()).glob("*"))
    return sorted(DownlinkId(name) for name in names if DownlinkId.matches(name))


def jobs(work: Path, downlinks: Iterable[DownlinkId]) -> Iterator[Job]:
    """Yield all jobs of `downlinks` of which it is recorded what they took.

    Parameters
    ----------
    work
        `paths.work`.
    downlinks
        Those that are not there have no jobs.
    """
    for downlink in downlinks:
        for path in sorted((work / paths.benchmarks(downlink)).glob(f"*{paths.BENCHMARK_SUFFIX}")):
            usage = latest(path)
            if usage is not None:
                rule, _, name = path.stem.partition("-")
                yield Job(rule, usage, *_made(work, downlink, rule, name))


def _made(work: Path, downlink: DownlinkId, rule: str, name: str) -> tuple[int | None, int | None]:
    """Return events and bytes that a job made, as what vouches for them says."""
    try:
        if rule == "decode_chunk":
            files = read_json(work / paths.chunk(downlink, ChunkId(name)))["files"]
            events = sum(file["events"] for file in files if file["kind"] == "idx")
        elif rule == "deliver_run":
            files = _delivered(read_json(work / paths.manifest(RunId(name), downlink)))
            events = sum(file["events"] for file in files)
        else:
            return None, None
        return events, sum(file["size"] for file in files)
    except (HalfPipeError, OSError, KeyError, TypeError):
        return None, None


def _delivered(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the files that a manifest's job staged: none of a run that is held."""
    return [] if manifest["held"] else manifest["files"]


class Invocation:
    """What one invocation of the workflow delivers, from `begin` on; it takes part in no decision."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._begun = 0.0

    def begin(self) -> None:
        """Count the time from now on."""
        self._begun = time.monotonic()

    def delivered(self, outputs: Iterable[str]) -> str:
        """Say in one line what was handed off, how fast runs were merged, and what was merged and not handed off.

        Parameters
        ----------
        outputs
            The outputs of all jobs that ended well, relative to `paths.work`. Manifests and receipts
            count; of those that are gone or damaged nothing is said.
        """
        seconds = max(time.monotonic() - self._begun, 1e-3)
        downlinks, handed, merged = 0, dict[str, _Made](), dict[str, _Made]()
        for name in outputs:
            path = self._work / name
            with suppress(Exception):  # whatever is wrong with one, it must not fail what has ended well
                if name.startswith(paths.receipt("")):
                    downlinks += 1
                    dl = name.removeprefix(paths.receipt(""))
                    for run in read_json(path)["runs"]:
                        handed[paths.manifest(run["run"], dl)] = _Made.of(run)
                elif path.name == Path(paths.manifest()).name:
                    merged[name] = _Made.of(read_json(path))
        if not downlinks and not merged:
            return f"nothing was handed off or merged in {seconds:,.0f} s"
        here, done = _Made.sum(merged.values()), _Made.sum(handed.values())
        said = f"{count(downlinks, 'downlink')} handed off, {done} delivered in {seconds:,.0f} s"
        if earlier := [made for name, made in handed.items() if name not in merged]:
            said += f", of these {_Made.sum(earlier)} merged before"
        said += f": {here.events / seconds:,.0f} events/s, {here.size / 1e6 / seconds:,.1f} MB/s"
        if wait := [made for name, made in merged.items() if name not in handed]:
            said += f"; {_Made.sum(wait)} merged and not handed off yet"
        return said


@dataclass(frozen=True)
class _Made:
    """What was staged of some runs; of a run that is held, nothing was."""

    runs: int
    events: int
    size: int

    @classmethod
    def of(cls, run: dict[str, Any]) -> Self:
        """Read it from what a manifest or a receipt says of a run."""
        files = _delivered(run)
        return cls(1, sum(file["events"] for file in files), sum(file["size"] for file in files))

    @classmethod
    def sum(cls, several: Collection[Self]) -> Self:
        """Return the sum."""
        return cls(*(sum(getattr(made, one.name) for made in several) for one in fields(cls)))

    def __str__(self) -> str:
        return f"{count(self.runs, 'run')} with {count(self.events, 'event')} in {self.size / 1e6:,.0f} MB"
