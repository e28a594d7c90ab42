"""A random delivery history seen by the legacy's model too: is each event that only one side delivers explained?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe.ids import RunId
from halfpipe.merge.decision import Decision
from halfpipe.merge.intervals import Interval
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.tools.compared_events import Where, present, series
from halfpipe.tools.comparison_reasons import UNEXPLAINED, Facts, Reason, epus_of_legacy, why
from tests.support import legacy_merge
from tests.support.model import Chunk

KEY = np.dtype([("sequence", "u8"), ("apid", "u2"), ("datagram", "u4")])
NOWHERE = Path()


def table(rows: Sequence[tuple[int, int, int]]) -> NDArray[np.void]:
    """Return events in order."""
    return np.array(sorted(rows), KEY)


@dataclass
class Beside:
    """What the legacy delivers of the run, downlink by downlink, and what is known of each delivery."""

    there: dict[str, NDArray[np.void]] = field(default_factory=dict)
    here: dict[str, Decision] = field(default_factory=dict)
    known: dict[str, NDArray[np.void]] = field(default_factory=dict)
    spans: dict[str, list[legacy_merge.Span]] = field(default_factory=dict)
    would_be_told: bool = True
    """Whether each event of an LPA run that both sides deliver would be unexplained, were it missing there."""

    def step(
        self, downlink: str, brought: Mapping[str, Sequence[Chunk]], decision: Decision
    ) -> list[tuple[Where, int, Reason]]:
        """Let the legacy process a downlink; return what only one side delivers: side, sequence and reason."""
        chunks = [chunk for of_downlink in brought.values() for chunk in of_downlink]
        lines = [datagram.line for chunk in chunks for datagram in chunk.datagrams]
        numbers = {(e.sequence, e.apid): e.datagram for chunk in chunks for e in chunk.events}
        known = table([(*key, number) for key, number in numbers.items()])
        events = [legacy_merge.Event(*key, NOWHERE, 0) for key in sorted(numbers)]
        done = [span for dl, spans in self.spans.items() if dl != downlink for span in spans]
        merged = legacy_merge.merge(lines, events, done)
        if not merged.refused:
            self.spans[downlink] = merged.recorded
            delivered = [(e.sequence, e.apid) for span in merged.spans for e in span]
            self.there[downlink] = table([(*key, numbers[key]) for key in delivered])
        self.here[downlink], self.known[downlink] = decision, known

        here, there = self._rows(decision), self.there.get(downlink, known[:0])
        facts = self._facts(downlink, KnownDatagrams.of(lines), decision, there)
        found = []
        for rows, where in (
            (here[~present(here, there)], Where.HERE),
            (there[~present(there, here)], Where.THERE),
        ):
            codes, reasons = why(rows, where, facts)
            found += [
                (where, int(row["sequence"]), reasons[code]) for row, code in zip(rows, codes, strict=True)
            ]
        lpa = epus_of_legacy(facts.datagrams.by_apid()) is not None
        codes, reasons = why(here[present(here, there)], Where.HERE, facts)
        if lpa:
            self.would_be_told &= all(reasons[code] == UNEXPLAINED for code in codes)
        return found

    def _rows(self, decision: Decision) -> NDArray[np.void]:
        events = decision.events
        return table([(int(e["sequence"]), int(e["apid"]), int(e["datagram"])) for e in events])

    def _facts(
        self, downlink: str, datagrams: KnownDatagrams, decision: Decision, there: NDArray[np.void]
    ) -> Facts:
        others = {dl: one for dl, one in self.here.items() if dl != downlink}
        bridged: list[Interval] = []
        for dl in others:
            delivered = self.there.get(dl, there[:0])
            known = self.known[dl]
            bridged += series(delivered["sequence"], known["sequence"][~present(known, delivered)])
        return Facts(
            run=RunId("2c2e5787"),
            datagrams=datagrams,
            known=self.known[downlink],
            settled=decision.settled,
            spans=decision.spans,
            recorded=tuple(span for one in others.values() for span in one.spans),
            here_elsewhere=np.sort(
                np.concatenate([there[:0], *(self._rows(one) for one in others.values())]),
                order=["sequence", "apid"],
            ),
            there_elsewhere=np.sort(
                np.concatenate([there[:0], *(rows for dl, rows in self.there.items() if dl != downlink)]),
                order=["sequence", "apid"],
            ),
            bridged=tuple(bridged),
            damaged=(),
            there_known=None,
            apids_there=frozenset(np.unique(there["apid"]).tolist()),
            held=False,
            given_up=False,
            legacy=True,
        )
