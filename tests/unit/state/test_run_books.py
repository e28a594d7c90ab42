"""Whether the books in a delivery are those of the run as it is now."""

from dataclasses import replace
from pathlib import Path

from halfpipe import paths
from halfpipe.decisions import Decisions, Subject, What, decide
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.settings import Paths, Settings
from halfpipe.state.deliveries import DeliveryHistory
from halfpipe.state.run_books import state_of

RUN = RunId("2c2e5787")


def test_all_that_changes_the_books_of_a_run_changes_its_state(tmp_path: Path) -> None:
    settings = Settings(Paths(tmp_path, tmp_path / "stage"))
    merges = (replace(settings.merge, min_events=3), replace(settings.merge, min_epus=3))
    others = [replace(settings, merge=merge) for merge in merges]
    others.append(replace(settings, retire=replace(settings.retire, deliver_waiting=False)))
    states = {state_of(one, Decisions(), RUN, DeliveryHistory()) for one in (settings, *others)}
    decide(tmp_path, What.ABANDONED, Subject(None, run=RUN), None, "lost")
    states.add(state_of(settings, Decisions.read(tmp_path), RUN, DeliveryHistory()))
    decide(tmp_path, What.ABANDONED, Subject(None, run=RUN), None, "it came", undone=True)
    index = tmp_path / paths.datagrams(RUN, DownlinkId("240601001"))
    index.parent.mkdir(parents=True)
    index.write_text("checksum\n")
    states.add(state_of(settings, Decisions.read(tmp_path), RUN, DeliveryHistory()))
    decide(tmp_path, What.LEFT_OUT, Subject(DownlinkId("240601001"), chunk=ChunkId("00001")), None, "lost")
    states.add(state_of(settings, Decisions.read(tmp_path), RUN, DeliveryHistory()))
    assert len(states) == 7
