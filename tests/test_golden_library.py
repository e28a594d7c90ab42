"""Every golden case through the library alone: decided step by step, files put together record by record."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from halfpipe.formats import evt, idx
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.deliver import Decision, Policy, Recorded, decide, merge_chunks
from halfpipe.merge.settle import KnownDatagrams
from tests.golden_cases import GOLDEN, Case, Step, case_names, read_case

CASES = 48


@dataclass
class Run:
    """What is known of a run: `files` of each downlink are those that `file` of its events counts into."""

    datagrams: dict[DownlinkId, KnownDatagrams] = field(default_factory=dict)
    events: dict[DownlinkId, NDArray[np.void]] = field(default_factory=dict)
    files: dict[DownlinkId, list[Path]] = field(default_factory=dict)
    recorded: dict[DownlinkId, Recorded] = field(default_factory=dict)

    def read(self, downlink: DownlinkId, products: Sequence[Path]) -> None:
        """Take in the index files `products` of `downlink`."""
        lines: list[bytes] = []
        files: list[Path] = []
        chunks = []
        for path in products:
            index = idx.read_index(path)
            events = index.events.copy()
            events["file"] += len(files)
            files += [path.parent / name for name in index.files]
            lines += index.lines
            chunks.append((path.name, events))
        self.datagrams[downlink] = KnownDatagrams.of(lines)
        self.events[downlink] = merge_chunks(chunks)
        self.files[downlink] = files


def assemble(
    decision: Decision, run: Run, begin: int, end: int, header: tuple[int, int, str], latc: int | None
) -> bytes:
    """Return the bytes of one event file: the events `begin` to `end` of a decision.

    `header` is the downlink's number, MOOT key and alias; `latc` overrides LATC_master of LPA records.
    """
    records = []
    seconds = []
    events = decision.events[begin:end]
    for event in events:
        path = run.files[decision.sources[event["source"]]][event["file"]]
        file = evt.open_evt(path)
        offset = np.array([event["offset"]], dtype=np.int64)
        layout = evt.record_layout(file.data, offset, path.name)
        record = bytearray(file.data[event["offset"] : event["offset"] + layout.sizes[0]].tobytes())
        if latc is not None and layout.infotypes[0] == evt.InfoType.LPA:
            at = len(record) - evt.LATC_FROM_END
            record[at : at + 4] = latc.to_bytes(4, "little")
        records.append(bytes(record))
        context = evt.contexts(file.data, offset)[0]
        assert context["scalers_sequence"] == event["sequence"]
        seconds.append(int(context["current_timeSecs"]))
    runid, key, alias = header
    head = evt.pack_header(
        runid=runid,
        seconds=(seconds[0], seconds[-1]),
        sequences=(int(events["sequence"][0]), int(events["sequence"][-1])),
        events=len(events),
        moot_key=key,
        moot_alias=alias,
    )
    return head + b"".join(records)


@dataclass
class Outcome:
    """What one step gives, in the form of the expected files."""

    files: dict[str, bytes] = field(default_factory=dict)
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
    policy = Policy(case.max_events, case.chunk_scale, case.chunk_floor, case.min_events, case.min_epus)
    outcome = Outcome()
    for met in step.runs:
        name = RunId.from_met(met).l1
        run = runs.setdefault(met, Run())
        run.read(downlink, case.products(downlink, met))
        decision = decide(downlink, run.datagrams, run.events, run.recorded, policy)
        run.recorded[downlink] = Recorded(decision.spans, decision.datagrams)
        outcome.add(name, decision)
        header = (downlink.number, *case.moot.get(met, (evt.MOOT_UNSET_KEY, evt.MOOT_UNSET_ALIAS)))
        for begin, end in decision.files:
            first = int(decision.events["sequence"][begin])
            content = assemble(decision, run, begin, end, header, case.latc)
            outcome.files[f"{name}/{name}-e{first:020d}.evt"] = content
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
        for path, content in outcome.files.items():
            assert content == step.expected.files[path], f"{where}, {path}"
