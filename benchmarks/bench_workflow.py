"""Snakemake with all its jobs: a run from chunk products to the receipt, and a whole downlink."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.conftest import Race, copying_flushed
from benchmarks.measure import ROOT, SNAKEMAKE, WATCHED, Figure, Launcher, Usage
from benchmarks.scenes import Scene, Shape, build
from benchmarks.sizes import Sizes
from halfpipe.state.hand_offs import current

SECONDS_PER_EVENT = 6e-6
SHARE = 0.25
JOBS = ("deliver_run.py", "decode_chunk.py", "receipt.py")
RUNS = 3  # of a downlink of 3 GB, of a million events each


def bench_from_products_to_receipt(
    race: Race, launcher: Launcher, sizes: Sizes, scene: Scene, scratch: Path
) -> None:
    """Merge, deliver and hand off one run whose chunks are decoded."""
    home, out = scratch / "site", scratch / "copied"
    downlink = scene.downlinks[0]

    def ready() -> None:
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        scene.site(home)

    race.run(
        f"snakemake -c2, one run of {sizes.events:,} events, from chunk products to the receipt",
        lambda: launcher.run([SNAKEMAKE, "-c2", f"dl={downlink}", "--configfile", home / "config.yaml"]),
        {"cp and sync": copying_flushed(launcher, scene.products(".evt"), out)},
        ready=ready,
        seconds=SECONDS_PER_EVENT * sizes.events,
    )
    assert "2 of 2: receipt" in launcher.said, launcher.said
    assert [run.delivery.events for run in current(home / "work", downlink).runs] == [sizes.events]


@dataclass(frozen=True)
class Note:
    """The notes of a Python process at its end: see benchmarks/injected/sitecustomize.py."""

    program: str
    began: float
    ended: float
    cpu: float


def useful(notes: Sequence[Note], starts: dict[str, Usage]) -> tuple[float, float]:
    """Return the time in which at least one job worked, and the CPU seconds of all jobs' work.

    A job works from the end of its program's start to its end. A start takes as long as the same program with
    ``--help``. The decoder's start does not count as CPU seconds, but as work of its job.
    """
    spans = sorted(
        (note.began + starts[note.program].wall, note.ended) for note in notes if note.program in JOBS
    )
    wall, until = 0.0, 0.0
    for begin, end in spans:
        wall += max(0.0, end - max(begin, until))
        until = max(until, end)
    known = [note for note in notes if note.program in starts]
    return wall, sum(max(0.0, note.cpu - starts[note.program].cpu) for note in known)


def bench_downlink(race: Race, launcher: Launcher, sizes: Sizes, scratch: Path) -> None:
    """Process a whole downlink, and find the share of its time outside of jobs' work."""
    scene = build(sizes.home / "scenes", Shape(sizes.events, chunks=4, runs=RUNS, level0=True))
    home, notes = scratch / "site", scratch / "notes"
    downlink = scene.downlinks[0]
    programs = [*JOBS, "simulated_decoder.py"]
    notes.mkdir()
    starts = {name: start_of(name, launcher, _noting(notes)) for name in programs}
    shares: list[float] = []
    cpu_shares: list[float] = []
    heads: list[float] = []

    def ready() -> None:
        shutil.rmtree(notes, ignore_errors=True)
        notes.mkdir()
        scene.site(home, decoded=False)

    def step() -> Usage:
        command = [SNAKEMAKE, "-c2", f"dl={downlink}", "--configfile", home / "config.yaml"]
        usage = launcher.run(command, env=_noting(notes))
        noted = [Note(**json.loads(path.read_bytes())) for path in notes.iterdir()]
        wall, cpu = useful(noted, starts)
        shares.append(1 - wall / usage.wall)
        cpu_shares.append(1 - cpu / usage.cpu)
        heads.append(sum(note.cpu for note in noted if note.program == SNAKEMAKE.name))
        return usage

    race.rounds = min(race.rounds, 3)
    size = sum(path.stat().st_size for path in scene.packets)
    race.run(
        f"snakemake -c2, a downlink of {size / 1e9:.2g} GB of SIMULATED level-0, {RUNS} runs, to the receipt",
        step,
        {},
        ready=ready,
    )
    delivered = [run.delivery.events for run in current(home / "work", downlink).runs]
    assert delivered == RUNS * [sizes.events]
    last = slice(-race.rounds, None)
    race.add(Figure("share of the time in which no job works", tuple(shares[last]), "share", SHARE))
    race.add(Figure("share of CPU seconds outside of jobs' work", tuple(cpu_shares[last]), "share"))
    race.add(Figure("CPU seconds of Snakemake's head", tuple(heads[last]), "s"))
    race.add(Figure("start of a job's program", tuple(starts[name].wall for name in JOBS), "s"))


def start_of(program: str, launcher: Launcher, env: Mapping[str, str]) -> Usage:
    """Return the cost of starting a program: the median of three."""
    command = [sys.executable, ROOT / "scripts" / program, "--help"]
    return sorted((launcher.run(command, env=env) for _ in range(3)), key=lambda usage: usage.wall)[1]


def _noting(notes: Path) -> dict[str, str]:
    return {**WATCHED, "HALFPIPE_BENCH_NOTES": str(notes)}
