"""A ledger of another working directory, and one that knows more than the files, are told and refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from halfpipe.causes import Verdict
from halfpipe.errors import HalfPipeError
from halfpipe.files import working_directory
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.check import refuse_delivery, site_troubles
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.load import load, rebuild, remove
from halfpipe.settings import Settings
from tests.support.ledger_files import Database, process, run_rows, settings_of, whole

ONE, TWO = DownlinkId("240601001"), DownlinkId("240601002")
RUN, OTHER = RunId("2c2e5787"), RunId("0dbb9fe9")


def site(database: Database, work: Path) -> Settings:
    """Return the settings of a site in which something was processed, and that has the ledger."""
    working_directory.begin(work)
    process(work, ONE, {RUN: whole(965, 3)})
    return database.of(settings_of(work))


def of(settings: Settings) -> Ledger:
    """Return the ledger as the site has it."""
    return Ledger.of(settings, waits=())


def codes(settings: Settings) -> dict[str, Verdict]:
    return {cause.code: cause.verdict for cause in site_troubles(settings, (ONE, TWO))}


def code(settings: Settings, *downlinks: DownlinkId) -> str:
    """Return the code by which processing is refused, empty if it is not."""
    try:
        refuse_delivery(settings, downlinks)
    except HalfPipeError as error:
        return error.code
    return ""


def test_the_first_that_loads_has_the_ledger_and_another_is_refused(
    database: Database, tmp_path: Path
) -> None:
    mine, other = site(database, tmp_path / "mine"), site(database, tmp_path / "other")
    assert (code(mine), code(other), codes(other)) == ("", "", {}), "there is none"
    load(of(mine), mine, ONE)
    load(of(mine), mine, ONE)
    assert (code(mine, ONE), code(other, TWO), codes(mine)) == ("", "ledger-foreign", {})
    assert codes(other) == {"ledger-foreign": Verdict.ACTION}
    before = run_rows(of(mine))
    for act in (
        lambda: load(of(other), other, ONE),
        lambda: rebuild(of(other), other),
        lambda: run_rows(of(other)),
    ):
        with pytest.raises(HalfPipeError) as told:
            act()
        assert told.value.code == "ledger-foreign"
    assert run_rows(of(mine)) == before
    # The id goes wherever the working directory goes.
    moved = replace(mine, paths=replace(mine.paths, work=(tmp_path / "mine").rename(tmp_path / "moved")))
    assert code(moved, ONE) == ""


def test_a_working_directory_from_a_backup_lacks_what_the_ledger_knows(
    database: Database, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    settings = site(database, work)
    load(of(settings), settings, ONE)
    shutil.copytree(work, tmp_path / "backup")
    process(work, TWO, {OTHER: whole(965, 2)})
    load(of(settings), settings, TWO)
    assert (code(settings, ONE, TWO), codes(settings)) == ("", {})
    shutil.rmtree(work)
    (tmp_path / "backup").rename(work)
    assert (code(settings), codes(settings)) == ("work-restored", {"work-restored": Verdict.ACTION})
    remove(of(settings), settings, [TWO])
    assert (code(settings, ONE, TWO), codes(settings)) == ("", {})


def test_files_of_an_earlier_hand_off_do_not_take_the_place_of_a_later_one(
    database: Database, tmp_path: Path
) -> None:
    settings = site(database, tmp_path)
    process(tmp_path, ONE, {RUN: whole(965, 3)}, handoff=2)
    load(of(settings), settings, ONE)
    process(tmp_path, ONE, {RUN: whole(965, 3)})
    with pytest.raises(HalfPipeError) as told:
        load(of(settings), settings, ONE)
    assert told.value.code == "work-restored"
    assert (code(settings), code(settings, ONE)) == ("", "work-restored")
    remove(of(settings), settings, [ONE])
    load(of(settings), settings, ONE)


def test_a_database_that_is_down_keeps_nobody_from_processing(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"no database" * 100)
    settings = site(Database(f"sqlite:///{tmp_path / 'ledger.sqlite'}"), tmp_path / "work")
    assert code(settings, ONE) == ""
    assert codes(settings) == {"ledger-down": Verdict.NOTE}
