"""A random delivery history seen by the legacy's model too: does its rule, replayed, give the same?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.compared_run import Candidate, ComparedRun, Inputs
from halfpipe.legacy.comparison_reasons import Reason, why
from halfpipe.legacy.comparison_sides import Where, present
from halfpipe.merge.decision import Decision
from halfpipe.merge.intervals import Interval
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Merge
from tests.support import legacy_merge
from tests.support.model import Chunk

KEY = np.dtype([("sequence", "u8"), ("apid", "u2"), ("datagram", "u4")])
NOWHERE = Path()
RUN = RunId("2c2e5787")


def table(rows: Sequence[tuple[int, int, int]]) -> NDArray[np.void]:
    """Return events in order."""
    return np.array(sorted(rows), KEY)


def known_of(run: RunId, **known: object) -> ComparedRun:
    """Return what is known of a run, nothing but what is named, in place of what lies on disk."""
    nothing = dict.fromkeys(("spans", "settled", "recorded"), ())
    elsewhere = dict.fromkeys(("here_elsewhere", "there_elsewhere"), table([]))
    every = {"run": run, "held": False, "given_up": False, **nothing, **elsewhere, **known}
    return cast(ComparedRun, SimpleNamespace(**every))


@dataclass
class Beside:
    """What the legacy's model delivers of the run, downlink by downlink, and what its rule gives."""

    there: dict[str, Candidate] = field(default_factory=dict)
    here: dict[str, Decision] = field(default_factory=dict)
    spans: dict[str, list[legacy_merge.Span]] = field(default_factory=dict)

    def step(
        self, downlink: str, brought: Mapping[str, Sequence[Chunk]], decision: Decision
    ) -> list[tuple[Where, int, Reason]]:
        """Let the legacy process a downlink; return what only one side delivers: side, sequence and reason."""
        tables = {
            DownlinkId(dl): table(
                list(
                    {
                        (e.sequence, e.apid): (e.sequence, e.apid, e.datagram)
                        for c in chunks
                        for e in c.events
                    }.values()
                )
            )
            for dl, chunks in brought.items()
        }
        lines = {
            DownlinkId(dl): KnownDatagrams.of(d.line for chunk in chunks for d in chunk.datagrams)
            for dl, chunks in brought.items()
        }
        keys = sorted({key for rows in tables.values() for key in rows[["sequence", "apid"]].tolist()})
        every = [line for of_one in lines.values() for line in of_one.lines]
        done = [span for dl, spans in self.spans.items() if dl != downlink for span in spans]
        events = [legacy_merge.Event(sequence, apid, NOWHERE, 0) for sequence, apid in keys]
        model = legacy_merge.merge(every, events, done)

        recorded = {
            DownlinkId(dl): tuple(Interval(*span) for span in spans) for dl, spans in self.spans.items()
        }
        inputs = Inputs(
            RUN,
            DownlinkId(downlink),
            tables,
            lines,
            KnownDatagrams.of(every).ranges(),
            recorded,
            Merge(max_events=0),
        )
        given = inputs.candidate(inputs.here, legacy=True)
        if every:
            self._agree(given, model)
        if model.refused:
            before = self.there.get(downlink)
            given = before.left_by(given) if before else given
        else:
            self.spans[downlink] = model.recorded
        self.there[downlink], self.here[downlink] = given, decision

        here, facts, found = _rows(decision), self._facts(downlink, decision), []
        for rows, where in (
            (here[~present(here, given.rows)], Where.HERE),
            (given.rows[~present(given.rows, here)], Where.THERE),
        ):
            codes, reasons = why(rows, where, given, facts)
            found += [
                (where, int(row["sequence"]), reasons[code]) for row, code in zip(rows, codes, strict=True)
            ]
        return found

    def _agree(self, given: Candidate, model: legacy_merge.Merge) -> None:
        """Demand that the rule gives what the model gives."""
        assert given.merged is not None
        expected = [(event.sequence, event.apid) for span in model.spans for event in span]
        assert given.rows[["sequence", "apid"]].tolist() == expected
        assert (given.merged.refused, given.merged.complete) == (model.refused, model.complete)
        assert list(given.merged.recorded) == model.recorded
        said = (
            ""
            if model.refused
            else f"{RUN.l1} {len(model.spans[-1]) if model.spans else 0} {model.orphans} {model.kind}"
        )
        assert "".join(given.lines["delivered_events"]) == said
        assert given.lines["event_gaps"] == sorted(f"{RUN.l1} {first} {last}" for first, last in model.gaps)

    def _facts(self, downlink: str, decision: Decision) -> ComparedRun:
        others = {dl: one for dl, one in self.here.items() if dl != downlink}
        return known_of(
            RUN,
            spans=decision.spans,
            settled=decision.settled,
            recorded=[span for one in others.values() for span in one.spans],
            here_elsewhere=_joined([_rows(one) for one in others.values()]),
            there_elsewhere=_joined([one.rows for dl, one in self.there.items() if dl != downlink]),
        )


def _rows(decision: Decision) -> NDArray[np.void]:
    return table([(int(e["sequence"]), int(e["apid"]), int(e["datagram"])) for e in decision.events])


def _joined(parts: Sequence[NDArray[np.void]]) -> NDArray[np.void]:
    return np.sort(np.concatenate([table([]), *parts]), order=["sequence", "apid"])
