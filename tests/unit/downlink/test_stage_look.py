"""What lies in the stage of a downlink, against what its records say."""

from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.downlink.stage_look import foreign
from halfpipe.files.durable import write_text
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval
from halfpipe.run.deliveries import Deliveries, Delivery, EventFile
from halfpipe.settings import Paths, Settings

DL = DownlinkId("240601001")
RUN, OTHER = RunId("2c2e5787"), RunId("2c2e6cc0")
OURS = paths.event_file(RUN.l1, 10)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(Paths(tmp_path / "work", tmp_path / "stage"))


def put(settings: Settings, *names: str) -> None:
    for name in names:
        write_text(settings.paths.stage / name, name)


def delivered(settings: Settings) -> None:
    """Record that the downlink has delivered a file of the first run, as before it shows."""
    files = (EventFile(OURS, 2, (10, 11), (0, 1), 3, ""),)
    Deliveries(settings.paths.work, RUN).publish(
        Delivery(DL, (Interval(10, 11),), {}, files, (0.0, 1.0), (0.0, 1.0), handoff=1)
    )
    write_text(settings.paths.work / paths.datagrams(RUN, DL), "")


@pytest.mark.parametrize(
    ("name", "of_others_now", "and_later"),
    [
        (f"{DL}/{RUN.l1}/{OURS}", True, False),
        (f"{DL}/{RUN.l1}/{RUN.l1}-e{99:020d}.evt", True, True),
        (f"{DL}/{OTHER.l1}/{paths.event_file(OTHER.l1, 10)}", True, True),
        (f"{DL}/logs/1.txt", True, True),
        (f"{DL}/{paths.text('delivered_events', DL)}", True, False),
        (f"{paths.tokens(RUN.l1)}/{Path(OURS).stem}", False, False),
        (f"240601002/{RUN.l1}/{OURS}", False, False),
    ],
)
def test_what_no_record_explains_is_of_others(
    settings: Settings, name: str, of_others_now: bool, and_later: bool
) -> None:
    """Of what a job of ours was killed at a record is there."""
    put(settings, name)
    cause = foreign(settings, DL, [RUN])
    assert (cause is not None) is of_others_now
    if cause is not None:
        assert (cause.code, str(settings.paths.stage / name) in cause.text) == ("stage-foreign", True)
    delivered(settings)
    assert (foreign(settings, DL, [RUN]) is not None) is and_later


@pytest.mark.parametrize(("run", "of_others"), [(OTHER, True), (RUN, False)], ids=["never filled", "emptied"])
def test_an_empty_directory_is_ours_if_we_have_filled_it(
    settings: Settings, run: RunId, of_others: bool
) -> None:
    (settings.paths.stage / paths.staged_run(DL, run.l1)).mkdir(parents=True)
    delivered(settings)
    assert (foreign(settings, DL, [RUN, OTHER]) is not None) is of_others
