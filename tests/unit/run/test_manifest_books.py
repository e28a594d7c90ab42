"""Whether the books in a manifest are those of the run as it is now."""

from dataclasses import replace
from pathlib import Path

from halfpipe.ids import RunId
from halfpipe.run.deliveries import DeliveryHistory
from halfpipe.run.manifest_books import state_of
from halfpipe.settings import Paths, Settings

RUN = RunId("2c2e5787")


def test_every_setting_that_changes_the_books_of_a_run_changes_its_state(tmp_path: Path) -> None:
    settings = Settings(Paths(tmp_path, tmp_path / "stage"))
    merges = (replace(settings.merge, min_events=3), replace(settings.merge, min_epus=3))
    others = [replace(settings, merge=merge) for merge in merges]
    others.append(replace(settings, retire=replace(settings.retire, deliver_waiting=False)))
    states = {state_of(one, RUN, DeliveryHistory(), abandoned=False) for one in (settings, *others)}
    states.add(state_of(settings, RUN, DeliveryHistory(), abandoned=True))
    assert len(states) == 5
