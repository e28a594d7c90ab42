"""The golden cases: chunk products made with a fixed seed, and what must come out of them byte for byte."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

GOLDEN = Path(__file__).parent / "golden"
TEXTS = ("delivered_events", "retired_runs", "event_gaps")


@dataclass(frozen=True)
class Expected:
    """What must be there after one step: `files` by path below the downlink's stage directory."""

    directory: Path
    downlink: str

    @cached_property
    def files(self) -> dict[str, bytes]:
        """The staged event files by name below the stage of the downlink (``r…/r…-e….evt``)."""
        stage = self.directory / "stage"
        return {str(path.relative_to(stage)): path.read_bytes() for path in sorted(stage.glob("r*/*.evt"))}

    @cached_property
    def spans(self) -> dict[str, list[tuple[int, int]]]:
        """The spans that this step delivers, by Level-1's name of the run."""
        content = json.loads((self.directory / "spans.json").read_text())
        return {run: [(first, last) for first, last in spans] for run, spans in content.items()}

    def lines(self, text: str) -> list[str]:
        """Return the lines of a text (one of `TEXTS`), sorted, for their order is free."""
        return sorted((self.directory / f"{text}_{self.downlink}.txt").read_text().splitlines())


@dataclass(frozen=True)
class Step:
    """A downlink that is processed, the runs it brings (MET seconds of their start)."""

    downlink: str
    runs: tuple[int, ...]
    expected: Expected


@dataclass(frozen=True)
class Case:
    """One golden case with its knobs; `moot` gives key and alias by run."""

    name: str
    directory: Path
    description: str
    max_events: int
    chunk_scale: float
    chunk_floor: float
    min_events: int
    min_epus: int
    latc: int | None
    moot: dict[int, tuple[int, str]]
    steps: tuple[Step, ...]

    def products(self, downlink: str, run: int) -> list[Path]:
        """Return the index files of `run` that the chunks of `downlink` bring, in file-name order."""
        return sorted((self.directory / "in" / downlink).glob(f"*-{run:08x}-????-?????.idx"))

    @property
    def downlinks(self) -> list[str]:
        """The downlinks of the case, in id order."""
        return sorted({step.downlink for step in self.steps})


def read_case(directory: Path) -> Case:
    """Read the case in `directory`."""
    content = yaml.safe_load((directory / "case.yaml").read_text())
    steps = tuple(
        Step(
            step["dl"],
            tuple(step["runs"]),
            Expected(directory / "expect" / f"{number:02d}-{step['dl']}", step["dl"]),
        )
        for number, step in enumerate(content["steps"], start=1)
    )
    return Case(
        name=directory.name,
        directory=directory,
        description=content["description"],
        max_events=content["max_events"],
        chunk_scale=content["chunk_scale"],
        chunk_floor=content["chunk_floor"],
        min_events=content["min_events"],
        min_epus=content.get("min_epus", 2),
        latc=content["latc"],
        moot={run: (key, alias) for run, (key, alias) in (content["moot"] or {}).items()},
        steps=steps,
    )


def case_names() -> list[str]:
    """Return the names of all golden cases."""
    return sorted(path.parent.name for path in GOLDEN.glob("*/case.yaml"))


def cases() -> Iterator[Case]:
    """Read all golden cases."""
    return (read_case(GOLDEN / name) for name in case_names())
