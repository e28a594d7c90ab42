"""From simulated level-0 to the receipt: the simulated events are delivered, except for waiting events.

The simulator tells which events a downlink carries, and the reference model which of them must be delivered.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from halfpipe import paths
from halfpipe.formats.evt import InfoType
from halfpipe.ids import DownlinkId, RunId
from halfpipe_simulator.scenario import Scenario
from tests.support.golden_cases import chunk_of
from tests.support.harness import events_of
from tests.support.model import Chunk, Delivery, ModelDecision, Rules, decide
from tests.support.workflow import Site

LARGE = (1 << 32) - 2000
SCENES = {
    "a run over three downlinks, a late EPU, losses and repeats": Scenario(
        seed=7, downlinks=("230401001", "230401002", "230401003"), l0keys=2
    )
    .lpa_run(
        events=400, parts=2, late_epu=957, lost_packets=3, repeated_packets=20, lost_datagrams=1,
        repeated_datagrams=4, equal_sequences=5, equal_in_one=3,
    )
    .lpa_run(events=300, first=2, lost_datagrams=1, no_stop=True)
    .lci_run(events=150, epus=(965, 966), first=2),
    "other EPUs, LCI of all kinds, waiting ends, large sequences, a leap second": Scenario(
        seed=7, downlinks=("161231001", "161231002"), start=datetime(2016, 12, 31, 23, 55, tzinfo=UTC)
    )
    .lpa_run(
        events=430, epus=(955, 958), parts=2, waiting_head=True, waiting_tail=True, first_sequence=LARGE
    )
    .lci_run(InfoType.LCI_ACD, events=210, first=1)
    .lci_run(InfoType.LCI_CAL, events=210, first=1)
    .lci_run(InfoType.LCI_TKR, events=210, first=1),
    "early mission, no start and no stop": Scenario(
        seed=7, downlinks=("081107001", "081107002"), start=datetime(2008, 9, 1, 2, 50, tzinfo=UTC)
    )
    .lpa_run(events=600, parts=2, no_start=True, no_stop=True, lost_datagrams=2)
    .lpa_run(events=300, first=1, lost_datagrams=1, no_stop=True)
    .lci_run(events=150, first=1),
}  # fmt: skip


def outcomes(site: Site, run: str, downlinks: Iterable[DownlinkId]) -> dict[DownlinkId, ModelDecision]:
    """Return the decision of the reference for each downlink with `run`, from the decoder's indexes."""
    brought: dict[str, tuple[Chunk, ...]] = {}
    recorded: dict[str, list[Delivery]] = {}
    found = {}
    for downlink in downlinks:
        indexes = sorted((site.work / paths.chunks(downlink)).glob(f"*-{run}-*.idx"))
        if indexes:
            brought[downlink] = tuple(map(chunk_of, indexes))
            found[downlink] = decide(downlink, brought, recorded, Rules())
            recorded[downlink] = [found[downlink].delivery]
    return found


@pytest.mark.parametrize("scene", SCENES)
def test_delivered_is_what_was_simulated_but_for_waiting_events(scene: str, site: Site) -> None:
    made = SCENES[scene].write(site.home / "simulated")
    truth = made.carried
    site.use(made)
    site.add_retdefs(made.path / "downlinks", *truth)
    for downlink in truth:
        site.process(downlink)
    receipts = {downlink: site.receipt(downlink) for downlink in truth}
    runs = {run for of_downlink in truth.values() for run in of_downlink}
    assert len(runs) >= 3
    for run in runs:
        delivered: list[tuple[int, int]] = []
        for downlink, expected in outcomes(site, run, truth).items():
            (found,) = (one.delivery for one in receipts[downlink].runs if one.run == run)
            home = site.stage / downlink / RunId(run).l1
            mine = [event for file in found.files for event in events_of((home / file.name).read_bytes())]
            assert mine == [(event.sequence, event.apid) for _, event in expected.delivered]
            figures = (found.kind, found.complete, found.books.late, found.books.in_texts)
            assert figures == (expected.kind, expected.complete, expected.late, expected.undelivered)
            delivered += mine
        assert len(set(delivered)) == len(delivered), "no event twice"
        carried = {(row[0], row[1]) for of_downlink in truth.values() for row in of_downlink.get(run, ())}
        assert set(delivered) <= carried
        assert len(delivered) + found.books.in_texts + found.books.late == len(carried)
    for chunk in made.chunks:  # a merge keeps one of two events of an EPU that share a sequence
        sequences = [sequence for datagram in chunk.sound for sequence in datagram.sequences]
        of_chunk = receipts[chunk.downlink].receipt.chunks[int(chunk.number) - 1]
        assert of_chunk.missing_events == len(sequences) - len(set(sequences))
    for downlink, receipt in receipts.items():
        text = site.stage / downlink / f"magic7_{downlink}.txt"
        assert text.exists() == any(one.delivery.files for one in receipt.runs)
        if text.exists():
            assert text.read_text().split(" ", 3)[2] == "ATT"
    assert site.outstanding(*truth) == frozenset()
