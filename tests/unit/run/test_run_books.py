"""Whether the books in a delivery are those of the run as it is now."""

from dataclasses import replace
from pathlib import Path

from halfpipe import paths
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.run.deliveries import DeliveryHistory
from halfpipe.run.run_books import state_of
from halfpipe.settings import OfChunk, Paths, Settings

RUN = RunId("2c2e5787")


def test_all_that_changes_the_books_of_a_run_changes_its_state(tmp_path: Path) -> None:
    settings = Settings(Paths(tmp_path, tmp_path / "stage"))
    merges = (replace(settings.merge, min_events=3), replace(settings.merge, min_epus=3))
    others = [replace(settings, merge=merge) for merge in merges]
    others.append(replace(settings, retire=replace(settings.retire, deliver_waiting=False)))
    states = {state_of(one, RUN, DeliveryHistory(), abandoned=False) for one in (settings, *others)}
    states.add(state_of(settings, RUN, DeliveryHistory(), abandoned=True))
    index = tmp_path / paths.datagrams(RUN, DownlinkId("240601001"))
    index.parent.mkdir(parents=True)
    index.write_text("checksum\n")
    lost = OfChunk(DownlinkId("240601001"), ChunkId("00001"), "lost")
    for ignore in (settings.ignore, replace(settings.ignore, chunks=(lost,))):
        states.add(state_of(replace(settings, ignore=ignore), RUN, DeliveryHistory(), abandoned=False))
    assert len(states) == 7
