"""How fast the jobs were: what each rule took and made, over many downlinks."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.json_files import read_json
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.process.usage import Usage, tries
from halfpipe.status.recap import staged

RULES = ("decode_chunk", "deliver_run", "receipt", "submit")  # in the order of the data
MEGA = 10**6


def downlinks(work: Path) -> list[DownlinkId]:
    """Return all downlinks whose jobs have logs."""
    names = (path.name for path in (work / paths.logs()).glob("*"))
    return sorted(DownlinkId(name) for name in names if DownlinkId.matches(name))


def jobs(work: Path, downlinks: Iterable[DownlinkId]) -> pd.DataFrame:
    """Return a row for each job of which it is recorded what its latest try took.

    Parameters
    ----------
    work
        `paths.work`.
    downlinks
        Those that are not there have no jobs.

    Returns
    -------
    DataFrame
        ``rule``; ``day`` on which it began, UTC; ``seconds`` by the clock; ``cpu_seconds``; ``memory``, bytes;
        ``events`` and ``size``, bytes, of what it made, and ``spent``, the seconds that this took: none if nothing
        says what it made.
    """
    rows = []
    for downlink in downlinks:
        latest: dict[str, Usage] = {}
        for took in tries(work, downlink):
            latest.setdefault(took.job, took)
        for job, took in sorted(latest.items()):
            rule, _, name = job.partition("-")
            events, size = _made(work, downlink, rule, name)
            spent = None if events is None else took.seconds
            rows.append(
                (rule, took.begun[:10], took.seconds, took.cpu_seconds, took.memory, events, size, spent)
            )
    columns = ["rule", "day", "seconds", "cpu_seconds", "memory", "events", "size", "spent"]
    found = pd.DataFrame(rows, columns=columns)
    return found.astype(dict.fromkeys(columns[2:], float))


def _made(work: Path, downlink: DownlinkId, rule: str, name: str) -> tuple[int | None, int | None]:
    """Return events and bytes that a job made, as what vouches for them says."""
    try:
        if rule == "decode_chunk":
            files = read_json(work / paths.chunk(downlink, ChunkId(name)))["files"]
            events = sum(file["events"] for file in files if file["kind"] == "idx")
            return events, sum(file["size"] for file in files)
        if rule == "deliver_run":
            made = staged(read_json(work / paths.manifest(RunId(name), downlink)))
            return made["events"], made["size"]
    except (HalfPipeError, OSError, KeyError, TypeError):
        pass
    return None, None


def rates(jobs: pd.DataFrame, by: Sequence[str] = ("rule",)) -> pd.DataFrame:
    """Return what the jobs of each rule took, in the order of the data, and how fast they were.

    ``events/s`` and ``MB/s`` are those of one job while it runs: all that was made by all seconds that this took. A
    job whose products are gone does not count there: its time would make others look slow. MB are 10^6 bytes.
    """
    order = [*RULES, *sorted(set(jobs["rule"]) - set(RULES))]
    every = jobs.assign(rule=pd.Categorical(jobs["rule"], order)).groupby(list(by), observed=True)
    found = every.agg(
        jobs=("seconds", "size"),
        median_s=("seconds", "median"),
        max_s=("seconds", "max"),
        CPU_s=("cpu_seconds", "sum"),
        memory_MB=("memory", "max"),
        events=("events", "sum"),
        MB=("size", "sum"),
        spent=("spent", "sum"),
    ).reset_index()
    spent = found.pop("spent").clip(lower=1e-3)
    found["events/s"] = (found["events"] / spent).round()
    found["MB/s"] = (found["MB"] / MEGA / spent).round(3)
    found[["memory_MB", "MB"]] = (found[["memory_MB", "MB"]] / MEGA).round()
    whole = ["memory_MB", "events", "MB", "events/s"]
    return found.round(3).astype({"rule": str, **dict.fromkeys(whole, int)})
