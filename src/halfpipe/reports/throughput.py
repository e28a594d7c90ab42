"""How fast the jobs were: what each rule took over many downlinks, and what an invocation delivered."""

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files import read_json
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.usage import Usage, latest

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
        """Say in one line what was delivered.

        Parameters
        ----------
        outputs
            The outputs of all jobs that ended well, relative to `paths.work`. Manifests and receipts
            count; of those that are gone or damaged nothing is said.
        """
        receipts = runs = events = size = 0
        for name in outputs:
            path = self._work / name
            if name.startswith(paths.receipt("")):
                receipts += 1
            elif path.name == Path(paths.manifest()).name:
                with suppress(Exception):  # whatever is wrong with one, it must not fail what has ended well
                    files = _delivered(read_json(path))
                    size += sum(file["size"] for file in files)
                    events += sum(file["events"] for file in files)
                    runs += 1
        seconds = time.monotonic() - self._begun
        return (
            f"{receipts} downlinks handed off, {runs} runs with {events:,} events in {size / 1e6:,.0f} MB "
            f"delivered in {seconds:,.0f} s: {events / max(seconds, 1e-3):,.0f} events/s, "
            f"{size / 1e6 / max(seconds, 1e-3):,.1f} MB/s"
        )
