"""Random histories of a run: the replay of the legacy's rule gives what the model of the legacy gives."""

import pytest
from hypothesis import given

from tests.support.histories import EVERY_DAY, LONG, ArrivalHistory, histories
from tests.support.model import Chunk
from tests.switchover.support.legacy_beside import Beside


@pytest.mark.parametrize("many", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "many"])
def test_the_replay_gives_what_the_model_gives(many: bool) -> None:
    @(LONG if many else EVERY_DAY)
    @given(histories())
    def holds(history: ArrivalHistory) -> None:
        beside = Beside()
        arrived: dict[str, tuple[Chunk, ...]] = {}
        for downlink in history.steps:
            (arrived[downlink],) = history.contents[downlink]
            assert beside.process(downlink, arrived) == []

    holds()
