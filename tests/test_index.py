"""The index of downlinks: an account of it is the one that would be drawn up now, whatever has changed since."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.downlink.known_retdefs import YOUNG_SECONDS
from halfpipe.ids import DownlinkId
from halfpipe.settings import Settings
from halfpipe.status.account import Account, Downlink, account, account_of
from halfpipe.status.account import Site as Looked
from halfpipe.status.account_cache import Index
from halfpipe.status.overview import overview
from tests.support.leases import left_by_another
from tests.support.level1 import with_level1
from tests.support.workflow import Site

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")
RUN = "2c2e5787"
LATER = YOUNG_SECONDS + 60  # seconds from now: nothing is young then


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Two downlinks of a run, handed off, submitted and taken."""
    home = tmp_path_factory.mktemp("made")
    site, level1 = with_level1(home, FIRST, SECOND)
    for downlink in (FIRST, SECOND):
        site.snakemake(f"submit={downlink}").good()
        shutil.rmtree(level1.stage / downlink)
    return site


@pytest.fixture
def site(made: Site, tmp_path: Path) -> Site:
    return made.clone(tmp_path)


def look(settings: Settings) -> Looked:
    return Looked(settings, time.time() + LATER)


def from_index(settings: Settings) -> list[Account]:
    found = overview(look(settings), [FIRST, SECOND]).accounts
    return sorted(found, key=lambda one: one.downlink)


def fresh(settings: Settings) -> list[Account]:
    return [account(look(settings), downlink) for downlink in (FIRST, SECOND)]


def drawn_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[DownlinkId]:
    """Return of which downlinks no account of the index counts."""
    found: list[DownlinkId] = []

    def noted(of: Downlink) -> Account:
        found.append(of.id)
        return account_of(of)

    with monkeypatch.context() as patched:
        patched.setattr("halfpipe.status.account_cache.account_of", noted)
        from_index(settings)
    return found


def write_over(path: Path, before: bytes, after: bytes) -> None:
    """Change some bytes of a file as an editor of bytes does: name, inode, size and time of modification stay."""
    stat, content = path.stat(), path.read_bytes()
    assert before in content
    assert len(before) == len(after)
    with path.open("r+b") as file:
        file.write(content.replace(before, after, 1))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def gone(site: Site, place: str) -> None:
    """Lose a directory with the second copies of the records in it."""
    for home in (site.work / place, site.work / paths.copies(place)):
        shutil.rmtree(home)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def retdef(site: Site) -> Path:
    return min((site.retdefs / FIRST).iterdir())


def put_down(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


CHANGES: dict[str, Callable[[Site], object]] = {
    "receipt edited": lambda s: write_over(s.work / f"dl={FIRST}", b'"handoff": 1', b'"handoff": 9'),
    "receipt damaged": lambda s: cut(s.work / f"dl={FIRST}"),
    "receipt gone": lambda s: (s.work / f"dl={FIRST}").unlink(),
    "directory gone": lambda s: gone(s, FIRST),
    "submissions gone": lambda s: gone(s, paths.submissions(FIRST)),
    "deliveries gone": lambda s: gone(s, paths.deliveries(RUN)),
    "RetDef new": lambda s: shutil.copy(retdef(s), s.retdefs / FIRST / f"RetDef-{FIRST}-00099.xml"),
    "RetDef reissued": lambda s: write_over(retdef(s), b'type="LSEP"', b'type="LSEC"'),
    "RetDef of another": lambda s: put_down(s.retdefs / FIRST / f"RetDef-{SECOND}-00099.xml"),
    "switch misspelt": lambda s: put_down(s.work / FIRST / "haltstage"),
    "in work": lambda s: left_by_another(s.work, paths.downlink_lease(FIRST)),
    "in the stage again": lambda s: (s.stage / FIRST).mkdir(parents=True),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_seen(site: Site, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = from_index(site.settings)
    assert [one.state for one in before] == ["taken by Level-1"] * 2
    assert drawn_up(site.settings, monkeypatch) == []
    CHANGES[change](site)
    now = fresh(site.settings)
    assert now != before
    assert from_index(site.settings) == now
    assert from_index(site.settings) == now


@pytest.mark.parametrize("home", ["", "copies/"])
@pytest.mark.parametrize("place", [FIRST, paths.receipts(FIRST), paths.deliveries(RUN)])
def test_one_copy_of_records_that_is_gone_changes_no_account(site: Site, home: str, place: str) -> None:
    before = from_index(site.settings)
    shutil.rmtree(site.work / home / place)
    assert from_index(site.settings) == before
    assert fresh(site.settings) == before


def test_an_account_of_the_index_is_the_one_that_was_drawn_up(site: Site) -> None:
    expected = fresh(site.settings)
    assert from_index(site.settings) == expected
    assert from_index(site.settings) == expected


def test_other_settings_are_seen(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from_index(site.settings)
    other = replace(site.settings, paths=replace(site.settings.paths, stage=site.home / "elsewhere"))
    assert drawn_up(other, monkeypatch) == [FIRST, SECOND]


def test_what_is_young_is_not_believed(site: Site) -> None:
    """It may be written again within the tick of the clock in which it was looked at."""
    looked = Looked(site.settings)
    overview(looked, [FIRST])
    row = Index(looked).row(FIRST)
    assert row is not None
    assert row.proof is None


@pytest.mark.parametrize("harm", ["gone", "empty", "garbage", "another form", "another's account"])
def test_a_harmed_index_is_done_without(site: Site, harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = from_index(site.settings)
    path = site.work / paths.index_of_downlinks()
    if harm == "gone":
        path.unlink()
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "garbage":
        path.write_bytes(b"garbage" * 1000)
    else:
        with sqlite3.connect(path) as file:
            other = "UPDATE downlinks SET events = 7" if harm != "another form" else "DROP TABLE downlinks"
            file.execute(other)
            if harm == "another form":
                file.execute("CREATE TABLE downlinks (dl TEXT PRIMARY KEY)")
        file.close()
    assert from_index(site.settings) == expected
    assert drawn_up(site.settings, monkeypatch) == []


def test_a_downlink_that_vanished_is_named_no_more(site: Site) -> None:
    from_index(site.settings)
    assert Index(look(site.settings)).row(SECOND) is not None
    for path in (site.work / paths.receipt(SECOND), site.work / f"submit={SECOND}"):
        path.unlink()
    for home in (site.work, site.work / "copies", site.retdefs):
        shutil.rmtree(home / SECOND)
    # Its records would be missed; that it is gone on purpose is said as the message has it.
    site.halfpipe("status").bad("lacks", f"rm -r {site.stage / paths.stage_mark()}")
    for mark in (site.stage / paths.stage_mark(), site.work / paths.stage_mark_copy()):
        shutil.rmtree(mark)
    shutil.rmtree(site.work / paths.manifest(RUN, SECOND).rpartition("/")[0])
    assert account(look(site.settings), SECOND) == overview(look(site.settings), [SECOND]).accounts[0]
    for words in (
        ["status", "--all"],
        ["find", "--run", RUN],
        ["show", "--delivered"],
        ["status", f"{FIRST}..{SECOND}"],
    ):
        said = site.halfpipe(*words).said
        assert FIRST in said
        assert SECOND not in said, words


def test_many_are_shared_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = fresh(site.settings)
    monkeypatch.setattr("halfpipe.status.overview.MANY", 2)
    monkeypatch.setattr("halfpipe.status.overview.PROCESSES", 2)
    assert from_index(site.settings) == expected
    assert drawn_up(site.settings, monkeypatch) == []
