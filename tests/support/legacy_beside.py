"""A random delivery history beside what the legacy's rule makes of it: has all that differs a reason?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.difference_reasons import Decided, Reason, present, why
from halfpipe.legacy.legacy_replay import EPUS, merged
from halfpipe.merge.decision import Decision, in_sources
from halfpipe.merge.intervals import Interval
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams, settled
from tests.support.model import Chunk

KEY = np.dtype([("sequence", "u8"), ("apid", "u2")])
RUN = RunId("2c2e5787")


def table(rows: Sequence[tuple[int, int]]) -> NDArray[np.void]:
    """Return events in order, each once."""
    return in_one([np.array(rows, KEY)])


@dataclass
class Beside:
    """What the legacy delivers of the run, and what is delivered here, by downlink."""

    there: dict[str, NDArray[np.void]] = field(default_factory=dict)
    here: dict[str, Decision] = field(default_factory=dict)
    spans: dict[str, list[Interval]] = field(default_factory=dict)

    def step(
        self, downlink: str, brought: Mapping[str, Sequence[Chunk]], decision: Decision
    ) -> Iterator[tuple[bool, int, Reason]]:
        """Let the legacy process a downlink; yield what only one side delivers: whether here, sequence and reason."""
        order = in_sources(DownlinkId(downlink), (DownlinkId(dl) for dl in brought))
        lines = [KnownDatagrams.of(d.line for chunk in brought[dl] for d in chunk.datagrams) for dl in order]
        known = table([(e.sequence, e.apid) for dl in order for chunk in brought[dl] for e in chunk.events])
        others = [dl for dl in self.spans if dl != downlink]
        found = merged(RUN, lines, known, [span for dl in others for span in self.spans[dl]])
        if not found.refused:
            self.spans[downlink], self.there[downlink] = found.recorded, known[found.delivered]
        self.here[downlink] = decision
        decided = Decided(
            RUN,
            known,
            [found],
            table([row for dl, rows in self.there.items() if dl != downlink for row in rows.tolist()]),
            {"spans": decision.spans, "settled": decision.settled},
            [span for dl, one in self.here.items() if dl != downlink for span in one.spans],
            settled(KnownDatagrams.together(lines).segments(), EPUS),
        )
        ours, theirs = (
            table(decision.events[["sequence", "apid"]].tolist()),
            self.there.get(downlink, known[:0]),
        )
        for rows, here in ((ours[~present(ours, theirs)], True), (theirs[~present(theirs, ours)], False)):
            codes, reasons = why(rows, decided, here=here)
            yield from (
                (here, int(row["sequence"]), reasons[code]) for row, code in zip(rows, codes, strict=True)
            )
