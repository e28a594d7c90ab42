"""Every golden case decided by the library alone, step by step; test_golden.py compares the bytes of files."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.formats import idx
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.decision import Decision, decide
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Merge
from tests.support.golden_cases import GOLDEN, Case, Step, case_names, read_case

CASES = 48


@dataclass
class Run:
    """What is known of a run."""

    datagrams: dict[DownlinkId, KnownDatagrams] = field(default_factory=dict)
    events: dict[DownlinkId, NDArray[np.void]] = field(default_factory=dict)
    recorded: dict[DownlinkId, Decision] = field(default_factory=dict)

    def read(self, downlink: DownlinkId, products: Sequence[Path]) -> None:
        """Take in the index files `products` of `downlink`."""
        indexes = [(path.name, idx.read_index(path)) for path in products]
        self.datagrams[downlink] = KnownDatagrams.of([line for _, index in indexes for line in index.lines])
        self.events[downlink] = in_one(
            [index.events for _, index in sorted(indexes, key=lambda pair: pair[0])]
        )


@dataclass
class Outcome:
    """What one step gives, in the form of the expected files."""

    files: list[str] = field(default_factory=list)
    spans: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(
        default_factory=lambda: {"delivered_events": [], "retired_runs": [], "event_gaps": []}
    )

    def add(self, name: str, decision: Decision) -> None:
        """Write down what `decision` says of the run `name`."""
        self.spans[name] = [(first, last) for first, last in decision.spans]
        if decision.epus:
            self.texts["delivered_events"].append(
                f"{name} {len(decision.events)} {decision.orphans} {decision.kind}"
            )
        if decision.complete and decision.files:
            self.texts["retired_runs"].append(f"{name} COMPLETE")
        self.texts["event_gaps"] += [f"{name} {upper} {lower}" for upper, lower in decision.gaps]


def perform(case: Case, step: Step, runs: dict[int, Run]) -> Outcome:
    """Process one step of a case."""
    downlink = DownlinkId(step.downlink)
    limits = Merge(case.max_events, case.chunk_scale, case.chunk_floor, case.min_events, case.min_epus)
    outcome = Outcome()
    for met in step.runs:
        name = RunId.from_met(met).l1
        run = runs.setdefault(met, Run())
        run.read(downlink, case.products(downlink, met))
        known = KnownDatagrams.together(run.datagrams.values())
        decision = decide(downlink, known, run.events, run.recorded, limits)
        run.recorded[downlink] = decision
        outcome.add(name, decision)
        firsts = [int(decision.events["sequence"][begin]) for begin, _ in decision.files]
        outcome.files += [f"{name}/{paths.event_file(name, first)}" for first in firsts]
    return outcome


def test_all_cases_are_there() -> None:
    assert len(case_names()) == CASES


@pytest.mark.parametrize("name", case_names())
def test_case(name: str) -> None:
    case = read_case(GOLDEN / name)
    runs: dict[int, Run] = {}
    for number, step in enumerate(case.steps, start=1):
        outcome = perform(case, step, runs)
        where = f"{name}, step {number}: {case.description}"
        assert outcome.spans == step.expected.spans, where
        for text, lines in outcome.texts.items():
            assert sorted(lines) == step.expected.lines(text), where
        assert sorted(outcome.files) == sorted(step.expected.files), where
