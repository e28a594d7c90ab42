"""Working directories and stages that are not mounted, belong to others, or were restored are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.errors import ConfigError
from halfpipe.files import records
from halfpipe.files.records import DamagedError, Record, Series
from halfpipe.settings import Paths, Settings
from halfpipe.staging import stage_mark

PLACE = paths.receipts("240601001")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "disk").mkdir()
    (tmp_path / "other").mkdir()
    return Settings(Paths(tmp_path / "disk" / "work", tmp_path / "other" / "stage"))


def noted(settings: Settings, *values: int) -> list[Record]:
    series = Series(settings.paths.work, PLACE)
    series.read()
    made = [series.publish({"handoff": value}) for value in values]
    stage_mark.note(settings, ())
    for record in made:
        stage_mark.note(settings, [(PLACE, record)])
    return made


def refused(settings: Settings, what: Callable[..., object] = stage_mark.refuse, *series: str) -> str:
    """Return the code of the error that refuses a site."""
    with pytest.raises(ConfigError) as error:
        what(settings, *series)
    return error.value.code


def mark_of(settings: Settings) -> Path:
    return max((settings.paths.stage / paths.STAGE_MARK).iterdir())


def copy_of(settings: Settings) -> Path:
    return max((settings.paths.work / paths.STAGE_MARK_COPY).iterdir())


def test_a_new_site_lacks_both_directories_but_not_their_parents(settings: Settings) -> None:
    stage_mark.refuse(settings)
    for place in (settings.paths.work, settings.paths.stage):
        place.parent.rmdir()
        assert refused(settings) == "not-mounted"
        place.parent.mkdir()
    stage_mark.refuse(settings)
    assert not settings.paths.work.exists()
    assert not settings.paths.stage.exists()


def test_a_mark_has_the_last_record_of_each_series_and_drops_the_oldest(settings: Settings) -> None:
    (record,) = noted(settings, 1)
    before = mark_of(settings).read_bytes()
    stage_mark.note(settings, [(PLACE, record)])
    assert mark_of(settings).read_bytes() == before
    assert copy_of(settings).read_bytes() == before
    noted(settings, 2)
    before = mark_of(settings).read_bytes()
    stage_mark.note(settings, [(PLACE, record)])
    assert mark_of(settings).read_bytes() == before, "a lower number than the noted one"
    stage_mark.note(settings, [(f"{n:09d}/receipts", record) for n in range(3 * stage_mark.MOST)])
    assert len(mark_of(settings).read_bytes()) < 300 * stage_mark.MOST


@pytest.mark.parametrize("gone", ["emptied", "gone"])
def test_an_emptied_working_directory_is_refused(settings: Settings, gone: str) -> None:
    noted(settings, 1)
    stage_mark.refuse(settings)
    shutil.rmtree(settings.paths.work)
    if gone == "emptied":
        settings.paths.work.mkdir()
    assert refused(settings) == "stage-foreign"
    shutil.rmtree(settings.paths.stage / paths.STAGE_MARK)
    stage_mark.refuse(settings)


def test_a_named_series_is_checked_even_if_it_is_old(settings: Settings) -> None:
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
    with pytest.raises(DamagedError):  # reading the series reports the damage
        Series(settings.paths.work, PLACE).read()
    copy.unlink()
    with pytest.raises(ConfigError, match=f"{PLACE}/000002.json"):
        stage_mark.refuse(settings)
    assert refused(settings) == "restored"


def test_a_restored_stage_is_refused(settings: Settings) -> None:
    (record,) = noted(settings, 1)
    stage_mark.note(settings, [("230401001/receipts", record)])
    shutil.copytree(settings.paths.work / PLACE, settings.paths.work / "230401001/receipts")
    assert stage_mark.trouble(settings) is None
    marks = settings.paths.stage / paths.STAGE_MARK
    shutil.copytree(marks, marks.with_name("backup"))
    noted(settings, 2)
    now = mark_of(settings).read_bytes()
    shutil.rmtree(marks)
    marks.with_name("backup").rename(marks)
    cause = stage_mark.trouble(settings)
    assert cause is not None
    assert (cause.code, f"{PLACE}/000002.json" in cause.text) == ("restored", True)
    assert "230401001" not in cause.text, "it lacks nothing of that series"
    assert refused(settings) == "restored"
    shutil.copy2(copy_of(settings), marks)
    assert mark_of(settings).read_bytes() == now
    stage_mark.refuse(settings)


def test_a_suspended_process_undoes_no_note(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert mark_of(settings).name == copy_of(settings).name


MARK: dict[str, object] = {"id": "a", "work": "b", "last": []}
OTHERS: list[dict[str, object]] = [
    MARK | {"last": [["series", 1]]},
    MARK | {"last": [[1, 1, "seal"]]},
    MARK | {"more": 1},
    {"id": "a"},
]


@pytest.mark.parametrize("content", [b"", b"[]", *(records.sealed(other, None) for other in OTHERS)])
def test_a_damaged_mark_is_refused(settings: Settings, content: bytes) -> None:
    noted(settings, 1)
    mark_of(settings).write_bytes(content)
    assert refused(settings) == "damaged"
    cause = stage_mark.trouble(settings)
    assert cause is not None
    assert cause.code == "damaged"


def test_a_mark_that_cannot_be_read_is_refused_and_fails_no_submission(settings: Settings) -> None:
    (record,) = noted(settings, 1)
    mark = mark_of(settings)
    mark.unlink()
    mark.mkdir()
    assert refused(settings) == "file-system"
    stage_mark.noted(settings, PLACE, record)
    assert list(mark.iterdir()) == []
