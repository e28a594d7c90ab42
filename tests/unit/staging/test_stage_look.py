"""Files in the stage without a record belong to another system."""

from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import write_text
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval
from halfpipe.settings import Paths, Settings
from halfpipe.staging.stage_look import refuse_foreign
from halfpipe.state.deliveries import Deliveries, Delivery, EventFile
from tests.support.series import damage

DL = DownlinkId("240601001")
RUN, OTHER = RunId("2c2e5787"), RunId("2c2e6cc0")
OURS = paths.event_file(RUN.l1, 10)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(Paths(tmp_path / "work", tmp_path / "stage"))


def delivered(settings: Settings) -> None:
    files = (EventFile(OURS, 2, (10, 11), (0, 1), 3, ""),)
    Deliveries(settings.paths.work, RUN).publish(Delivery(DL, 1, (Interval(10, 11),), {}, files))
    write_text(settings.paths.work / paths.datagrams(RUN, DL), "")


def foreign(settings: Settings, *runs: RunId) -> HalfPipeError | None:
    """Return the error by which a job refuses to stage the downlink."""
    try:
        refuse_foreign(settings, DL, runs)
    except HalfPipeError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("name", "is_foreign", "even_after_a_delivery"),
    [
        (f"{DL}/{RUN.l1}/{OURS}", True, False),
        (f"{DL}/{RUN.l1}/{RUN.l1}-e{99:020d}.evt", True, True),
        (f"{DL}/{OTHER.l1}/{paths.event_file(OTHER.l1, 10)}", True, True),
        (f"{DL}/logs/1.txt", True, True),
        (f"{DL}/{paths.text('delivered_events', DL)}", True, False),
        (f"{paths.tokens(RUN.l1)}/{Path(OURS).stem}", False, False),
        (f"240601002/{RUN.l1}/{OURS}", False, False),
        (f"{DL}/{RUN.l1}/", True, False),  # an empty directory: Level-1 moves the files first
        (f"{DL}/{OTHER.l1}/", True, True),
    ],
)
def test_files_without_a_record_are_foreign(
    settings: Settings, name: str, is_foreign: bool, even_after_a_delivery: bool
) -> None:
    """A killed job leaves a record of its files."""
    if name.endswith("/"):
        (settings.paths.stage / name).mkdir(parents=True)
    else:
        write_text(settings.paths.stage / name, name)
    cause = foreign(settings, RUN)
    assert (cause is not None) is is_foreign
    if cause is not None:
        assert (cause.code, str(settings.paths.stage / name) in cause.text) == ("stage-foreign", True)
    delivered(settings)
    assert (foreign(settings, RUN, OTHER) is not None) is even_after_a_delivery
    damage(settings.paths.work, paths.deliveries(RUN))
    in_the_run = name.startswith(f"{DL}/{RUN.l1}/")
    assert (foreign(settings, RUN) is not None) is (even_after_a_delivery and not in_the_run)
