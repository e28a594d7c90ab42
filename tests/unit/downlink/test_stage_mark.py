"""Working directories and stages that are not mounted, are another's, or were put back from a backup are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.downlink import stage_mark
from halfpipe.errors import ConfigError
from halfpipe.files import records
from halfpipe.files.records import DamagedError, Record, Series
from halfpipe.settings import Paths, Settings

PLACE = paths.receipts("240601001")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "disk").mkdir()
    (tmp_path / "other").mkdir()
    return Settings(Paths(tmp_path / "disk" / "work", tmp_path / "other" / "stage"))


def noted(settings: Settings, *values: int) -> list[Record]:
    """Publish records and note them in the stage's mark."""
    series = Series(settings.paths.work, PLACE)
    series.read()
    made = [series.publish({"handoff": value}) for value in values]
    stage_mark.claim(settings)
    for record in made:
        stage_mark.note(settings, [(PLACE, record)])
    return made


def refused(settings: Settings, what: Callable[..., object] = stage_mark.refuse, *series: str) -> str:
    """Return the code of the error with which a site is refused."""
    with pytest.raises(ConfigError) as error:
        what(settings, *series)
    return error.value.code


def mark_of(settings: Settings) -> Path:
    return max((settings.paths.stage / paths.STAGE_MARK).iterdir())


def copy_of(settings: Settings) -> Path:
    return max((settings.paths.work / paths.STAGE_MARK_COPY).iterdir())


def test_a_new_site_may_lack_both_but_not_what_they_are_in(settings: Settings) -> None:
    stage_mark.refuse(settings)
    for place in (settings.paths.work, settings.paths.stage):
        place.parent.rmdir()
        assert refused(settings) == "not-mounted"
        place.parent.mkdir()
    stage_mark.refuse(settings)
    assert not settings.paths.work.exists()
    assert not settings.paths.stage.exists()


def test_what_is_noted_twice_is_there_once_and_the_oldest_go(settings: Settings) -> None:
    (record,) = noted(settings, 1)
    before = mark_of(settings).read_bytes()
    stage_mark.note(settings, [(PLACE, record)])
    assert mark_of(settings).read_bytes() == before
    assert copy_of(settings).read_bytes() == before
    noted(settings, 2)
    before = mark_of(settings).read_bytes()
    stage_mark.note(settings, [(PLACE, record)])
    assert mark_of(settings).read_bytes() == before, "a number that is lower than what is known"
    stage_mark.note(settings, [(f"{n:09d}/receipts", record) for n in range(3 * stage_mark.MOST)])
    assert len(mark_of(settings).read_bytes()) < 300 * stage_mark.MOST


@pytest.mark.parametrize("gone", ["emptied", "gone"])
def test_a_working_directory_that_the_stage_knows_and_is_not_there_is_refused(
    settings: Settings, gone: str
) -> None:
    noted(settings, 1)
    stage_mark.refuse(settings)
    shutil.rmtree(settings.paths.work)
    if gone == "emptied":
        settings.paths.work.mkdir()
    assert refused(settings) == "stage-foreign"
    shutil.rmtree(settings.paths.stage / paths.STAGE_MARK)
    stage_mark.refuse(settings)


def test_a_series_that_is_asked_for_is_looked_at_however_old(settings: Settings) -> None:
    (record,) = noted(settings, 1)
    stage_mark.note(settings, [(f"{n:09d}/receipts", record) for n in range(2 * stage_mark.LOOKED_AT)])
    home = settings.paths.work / PLACE
    for n in range(2 * stage_mark.LOOKED_AT):
        shutil.copytree(home, settings.paths.work / f"{n:09d}/receipts")
    shutil.rmtree(home)
    shutil.rmtree(settings.paths.work / paths.copies(PLACE))
    stage_mark.refuse(settings)
    assert refused(settings, stage_mark.refuse, PLACE) == "restored"


def test_one_copy_of_a_record_is_enough(settings: Settings) -> None:
    noted(settings, 1, 2)
    (settings.paths.work / PLACE / "000002.json").unlink()
    stage_mark.refuse(settings)
    copy = settings.paths.work / paths.copies(PLACE) / "000002.json"
    copy.write_text("{}")
    stage_mark.refuse(settings)
    with pytest.raises(DamagedError):  # whoever reads it says what to do
        Series(settings.paths.work, PLACE).read()
    copy.unlink()
    with pytest.raises(ConfigError, match=f"{PLACE}/000002.json"):
        stage_mark.refuse(settings)
    assert refused(settings) == "restored"


def test_a_stage_that_is_not_mounted_is_refused_and_nothing_is_written_there(settings: Settings) -> None:
    noted(settings, 1)
    shutil.rmtree(settings.paths.stage)
    settings.paths.stage.mkdir()
    assert refused(settings, stage_mark.claim) == "not-mounted"
    assert list(settings.paths.stage.iterdir()) == []


def test_a_stage_that_was_put_back_is_told_and_refused_by_who_delivers(settings: Settings) -> None:
    noted(settings, 1)
    assert stage_mark.stage_lacks(settings) is None
    marks = settings.paths.stage / paths.STAGE_MARK
    shutil.copytree(marks, marks.with_name("backup"))
    noted(settings, 2)
    now = mark_of(settings).read_bytes()
    shutil.rmtree(marks)
    marks.with_name("backup").rename(marks)
    cause = stage_mark.stage_lacks(settings)
    assert cause is not None
    assert (cause.code, f"{PLACE}/000002.json" in cause.text) == ("restored", True)
    stage_mark.refuse(settings)
    assert refused(settings, stage_mark.refuse_delivery) == "restored"
    shutil.copy2(copy_of(settings), marks)
    assert mark_of(settings).read_bytes() == now
    stage_mark.refuse_delivery(settings)


def test_a_process_that_stood_still_undoes_nothing_that_others_have_noted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (record,) = noted(settings, 1)
    late, publish = iter(["230401002/receipts", "230401003/receipts"]), records.publish_file

    def publish_after_two_others(home: Path, number: int, content: bytes) -> None:
        if (place := next(late, None)) is not None:
            stage_mark.note(settings, [(place, record)])
        publish(home, number, content)

    monkeypatch.setattr(stage_mark, "publish_file", publish_after_two_others)
    stage_mark.note(settings, [("230401001/receipts", record)])
    for mark in (mark_of(settings), copy_of(settings)):
        known = {place for place, *_ in json.loads(mark.read_bytes())["last"]}
        assert known == {PLACE, *(f"23040100{n}/receipts" for n in (1, 2, 3))}
        assert len(list(mark.parent.iterdir())) == 1
    assert stage_mark.stage_lacks(settings) is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"id": 1}', b'{"id": "a", "work": "b", "last": [[1]]}']
)
def test_a_damaged_mark_stops_and_is_named(settings: Settings, content: bytes) -> None:
    noted(settings, 1)
    mark_of(settings).write_bytes(content)
    with pytest.raises(ConfigError, match=str(mark_of(settings))):
        stage_mark.refuse(settings)
