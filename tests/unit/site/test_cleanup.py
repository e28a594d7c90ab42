"""Clean-up: exactly what may go goes, each reason to stay keeps it, and links lead nowhere."""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.downlink import submit
from halfpipe.downlink.submissions import Action, Record
from halfpipe.errors import LockedError
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.process.told_once import By, Outcome
from halfpipe.run.datagrams import dump_datagrams
from halfpipe.run.receipt_file import hand_offs, publish
from halfpipe.settings import CleanUp, Online, Paths, Settings
from halfpipe.site import clean_up
from halfpipe.site.clean_up import nobody_else
from tests.support.another_user import somebody_else
from tests.support.golden_cases import GOLDEN, read_case
from tests.support.leases import held_by_another, job_of_another, leases, left_by_another
from tests.support.series import forget, rewrite
from tests.support.workflow import Site

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")
RUN, OTHER = RunId("2c2e5787"), RunId("2c2e5788")
DAYS = 30.0
NOW = time.time()
OLD = NOW - 31 * clean_up.DAY


@pytest.fixture(scope="module")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose two downlinks make one complete run, handed off long ago and taken by Level-1."""
    site = Site(tmp_path_factory.mktemp("processed"))
    case = read_case(GOLDEN / "split2")
    site.replay(case.directory / "in")
    site.configure(merge={"max_events": case.max_events})
    site.add_retdefs(case.directory / "in", FIRST, SECOND)
    for downlink in (FIRST, SECOND):
        site.by_hand(downlink)
        submit.settle(site.settings, downlink, submitted=True)
        shutil.rmtree(site.stage / downlink)
    shutil.rmtree(site.stage / "chunktokens")
    shutil.rmtree(site.work / paths.leases())
    for path in site.work.rglob("*"):
        os.utime(path, (OLD, OLD))
    return site


@pytest.fixture
def old(processed: Site, tmp_path: Path) -> Site:
    """A copy of it, of the test's own."""
    return processed.clone(tmp_path / "site")


def settings(site: Site, days: float = DAYS) -> Settings:
    return Settings(Paths(site.work, site.stage), cleanup=CleanUp(retention_days=days, log_days=DAYS))


def cleaned(
    site: Site, *, remove: bool = True, halted: str = "", days: float = DAYS
) -> list[clean_up.Products]:
    return list(clean_up.clean_products(settings(site, days), NOW, halted, remove=remove))


def leftover(
    site: Site, *, remove: bool = True, halted: str = "", now: float = NOW
) -> list[clean_up.Leftover]:
    return list(clean_up.clean_leftovers(settings(site), now, halted, remove=remove))


def removable(site: Site) -> dict[str, bytes]:
    return {
        name: content
        for name, content in site.tree().items()
        if name.endswith((".evt", ".idx", "events.npy")) and "datagrams" not in name
    }


def test_what_can_be_made_again_goes_and_nothing_else(old: Site) -> None:
    before, goes = old.tree(), removable(old)
    assert len(goes) == 2 * (4 + 1)
    sizes = {name.removeprefix("work/"): len(content) for name, content in goes.items()}
    expected = [
        clean_up.Products(RUN, dl, {name: size for name, size in sizes.items() if dl in name})
        for dl in (FIRST, SECOND)
    ]
    assert [row.files for row in expected] == [5, 5]
    assert sum(row.size for row in expected) == sum(sizes.values())

    assert cleaned(old, remove=False) == expected
    assert old.tree() == before, "a look touches nothing"
    assert not (old.work / paths.leases()).exists(), "nor takes a lease"

    assert cleaned(old) == expected
    assert old.tree() == {name: content for name, content in before.items() if name not in goes}
    assert leases(old.work) == []
    assert cleaned(old) == []


def test_how_long_it_is_kept(old: Site) -> None:
    assert {row.kept for row in cleaned(old, days=31.1)} == {
        f"downlink {FIRST} was handed off 31.0 days ago, less than 31.1"
    }
    os.utime(old.work / paths.receipt(SECOND), (OLD, NOW - 3 * clean_up.DAY))
    assert {row.kept for row in cleaned(old)} == {
        f"downlink {SECOND} was handed off 3.0 days ago, less than 30"
    }
    assert len(removable(old)) == 10


def test_a_run_that_was_given_up(old: Site) -> None:
    no_datagrams(old.work / paths.datagrams(RUN, SECOND))
    assert {row.kept for row in cleaned(old)} == {"the run is open: more of it may come"}
    put(old.work / paths.force() / RUN.l1)
    manifest = old.work / paths.manifest(RUN, SECOND)
    for given_up, stays in ((False, 10), (True, 0)):
        for path in (manifest, old.work / paths.manifest(RUN, FIRST)):
            rewrite(path, given_up=given_up)
        assert {row.kept == "" for row in cleaned(old)} == {given_up}, "only if it was delivered as such"
        assert len(removable(old)) == stays


def damage(path: Path) -> None:
    path.write_text("{")


def hold(path: Path) -> None:
    rewrite(path, held=["a file holds 1 event"])


def no_datagrams(path: Path) -> None:
    path.write_bytes(dump_datagrams(()))


def unrecord(path: Path) -> None:
    forget(path.parents[1], f"{path.parent.name}/{path.name}")


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


TOKENS = f"stage/{paths.tokens(RUN.l1)}"
KEEPS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a token of Level-1": (f"{TOKENS}/{RUN.l1}-e00000000000000001000", put, "Level-1 still works on it"),
    "haltCleanup": (f"{TOKENS}/haltCleanup-{FIRST}", put, "one of 1 tokens"),
    "not submitted": (f"work/{paths.submissions(SECOND)}", unrecord, f"downlink {SECOND} has no record"),
    "no stage": ("stage", shutil.rmtree, "is not there, so nobody knows what Level-1 has taken"),
    "no receipt": (f"work/{paths.receipt(SECOND)}", Path.unlink, f"downlink {SECOND} has no receipt"),
    "held": (f"work/{paths.manifest(RUN, FIRST)}", hold, f"downlink {FIRST} holds it"),
    "no RetDef": (f"work/{paths.retdef(FIRST, '00002')}", Path.unlink, "chunk 00002 could not be decoded again"),
    "no manifest": (f"work/{paths.manifest(RUN, SECOND)}", Path.unlink, "manifest.json: no such file"),
    "other content": (f"work/{paths.manifest(RUN, FIRST)}", lambda p: p.write_text("[]"), "no manifest of ours"),
    "damaged": (f"work/{paths.chunk_list(RUN, SECOND)}", damage, "chunks.json: not JSON"),
    "other datagrams": (f"work/{paths.datagrams(RUN, FIRST)}", lambda p: p.write_text("x\n"), "not what was written"),
}  # fmt: skip


@pytest.mark.parametrize("what", KEEPS)
def test_each_reason_keeps_the_run(what: str, old: Site) -> None:
    path, change, said = KEEPS[what]
    old.stage.mkdir(exist_ok=True)
    change(old.home / path)
    for touched in ((old.home / path).parent, *old.work.rglob("*")):
        os.utime(touched, (OLD, OLD))
    before = old.tree()
    for remove in (False, True):
        rows = cleaned(old, remove=remove)
        assert [row.downlink for row in rows] == [FIRST, SECOND]
        assert all(said in row.kept for row in rows), rows
    assert old.tree() == before


def test_a_halt_keeps_everything(old: Site) -> None:
    leave(old, f"work/{FIRST}/.part.part", OLD)
    before = old.tree()
    kept = [row.kept for row in cleaned(old, halted="held by a file")]
    kept += [row.kept for row in leftover(old, halted="held by a file")]
    assert kept == ["held by a file"] * 3
    assert old.tree() == before


@contextmanager
def held(work: Path, place: str) -> Iterator[str]:
    """Have a lease held, or a job of a killed head run; yield what says who that is."""
    if not place.endswith("/job"):
        with held_by_another(work, place) as holder:
            yield str(holder)
        return
    job = job_of_another(work, place.removesuffix("/job"))
    yield job.name
    shutil.rmtree(job.parent)


LEASES = {
    "downlink": paths.downlink_lease(SECOND),
    "job": f"{paths.downlink_lease(SECOND)}/job",
    "run": paths.run_lease(RUN),
}


@pytest.mark.parametrize("which", LEASES)
def test_what_is_in_work_stays_and_nobody_waits(which: str, old: Site) -> None:
    goes = removable(old)
    with held(old.work, LEASES[which]) as who:
        began = time.monotonic()
        rows = [*cleaned(old, remove=False), *cleaned(old)]
        assert time.monotonic() - began < 5
        (kept,) = {row.kept for row in rows}
        assert re.fullmatch(rf"in work: .*{re.escape(who)}.* holds {LEASES[which].split('/')[1]}", kept)
        assert not any(row.failed for row in rows)
        before = leases(old.work)
        with pytest.raises(LockedError), nobody_else(old.work, SECOND, RUN):
            pytest.fail("entered")
        assert leases(old.work) == before, "what was taken is given back"
    assert removable(old) == goes
    cleaned(old)
    assert removable(old) == {}


@pytest.mark.parametrize("which", LEASES)
def test_a_lease_that_is_taken_between_the_look_and_the_removal(which: str, old: Site) -> None:
    """The second downlink comes to work after the first was cleaned."""
    rows = clean_up.clean_products(settings(old), NOW, "", remove=True)
    assert next(rows).kept == ""
    with held(old.work, LEASES[which]) as who:
        (second,) = rows
    assert who in second.kept
    assert all(SECOND in name for name in removable(old))
    assert len(removable(old)) == 5


def test_what_changed_between_the_look_and_the_removal_stays(old: Site) -> None:
    rows = clean_up.clean_products(settings(old), NOW, "", remove=True)
    assert next(rows).kept == ""
    events = old.work / paths.events(RUN, SECOND)
    events.write_bytes(b"more")
    (second,) = rows
    assert (second.failed, events.read_bytes()) == (True, b"more")
    assert str(events) in second.kept


def test_what_is_processed_again_between_the_look_and_the_removal_stays(old: Site) -> None:
    rows = clean_up.clean_products(settings(old), NOW, "", remove=True)
    assert next(rows).kept == ""
    (old.work / paths.receipt(FIRST)).unlink()
    assert [row.kept for row in rows] == [f"downlink {FIRST} has no receipt: it is outstanding"]


def test_online_gets_its_file_first(old: Site) -> None:
    home = old.home / "online"
    off = settings(old)
    lpa, lci = (
        replace(off, paths=replace(off.paths, online=home), online=Online(types=(kind,))) for kind in RunKind
    )
    said = f"Online has no file of it yet in {home}, which halfpipe online makes of this"
    before = old.tree()
    for other in (off, lci):
        assert {row.kept for row in clean_up.clean_products(other, NOW, "", remove=False)} == {""}
    assert {row.kept for row in clean_up.clean_products(lpa, NOW, "", remove=True)} == {said}
    assert old.tree() == before, "nor is a directory made for Online"
    force = old.work / paths.force() / RUN
    put(force)
    assert {row.kept for row in clean_up.clean_products(lpa, NOW, "", remove=False)} == {""}, (
        "nobody waits for it"
    )
    force.unlink()
    put(home / f"0077014d-{RUN}.evt")
    assert [row.kept for row in clean_up.clean_products(lpa, NOW, "", remove=True)] == ["", ""]
    assert removable(old) == {}


def test_submitted_is_the_latest_hand_off(old: Site) -> None:
    forget(old.work, paths.submissions(FIRST))
    assert not (old.stage / FIRST).exists(), "that it is gone says nothing"
    assert not clean_up.is_submitted(old.work, FIRST)
    record = Record(old.work, FIRST)
    record.intend(["pipeline"], action=Action.SUBMIT, handoff=1)
    assert not clean_up.is_submitted(old.work, FIRST), "nobody knows how it ended"
    record.conclude(Outcome.TOLD, By.ANSWER, 0)
    assert clean_up.is_submitted(old.work, FIRST)
    publish(old.work, FIRST, {**hand_offs(old.work, FIRST)[-1].receipt, "handoff": 2})
    assert not clean_up.is_submitted(old.work, FIRST), "Level-1 has the one before"


def test_files_of_one_chunk_go_by_run(old: Site) -> None:
    """A chunk may bring several runs: those of an open one stay, and what nothing vouches for stays."""
    home = old.work / paths.chunks(FIRST)
    name = next(path.name for path in home.glob("*-00001.evt"))
    open_one = home / name.replace(RUN, OTHER)
    unvouched = home / name.replace("-00001.", "-00009.")
    other_size = home / next(path.name for path in home.glob("*-00002.idx"))
    for path in (open_one, unvouched):
        path.write_bytes(b"1234")
    with other_size.open("ab") as file:
        file.write(b"more\n")
    rows = cleaned(old)
    assert [(row.run, row.downlink, row.files, bool(row.kept)) for row in rows] == [
        (RUN, FIRST, 2, True),
        (RUN, FIRST, 4, False),
        (RUN, SECOND, 5, False),
        (OTHER, FIRST, 1, True),
    ]
    assert "nothing vouches for" in rows[0].kept
    assert "manifest.json: no such file" in rows[3].kept
    assert sorted(home.glob("*-*")) == sorted([open_one, unvouched, other_size])


@pytest.mark.parametrize("place", [f"{FIRST}", paths.chunks(FIRST), "runs", f"{paths.run(RUN)}/{FIRST}"])
def test_a_directory_that_is_a_link_is_not_looked_into(place: str, old: Site) -> None:
    outside = old.home / "outside"
    (old.work / place).rename(outside)
    (old.work / place).symlink_to(outside)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    cleaned(old)
    leftover(old)
    clean_up.clean_logs(replace(settings(old), cleanup=CleanUp(log_days=0)), NOW, remove=True)
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before


def test_links_stay_and_are_no_leftovers(old: Site) -> None:
    outside = leave(old, "outside/file", OLD)
    links = [*(old.work / paths.chunks(FIRST)).glob("*-*"), old.work / paths.events(RUN, FIRST)]
    for link in links:
        link.rename(outside.parent / link.name)
        link.symlink_to(outside.parent / link.name)
    scratch = f"stage/{paths.stage_scratch(FIRST, 'texts')}"
    for name in (f"work/{FIRST}/.link.part", f"work/{paths.context(RUN)}", scratch):
        (old.home / name).parent.mkdir(exist_ok=True)
        (old.home / name).symlink_to(outside.parent)
        os.utime(old.home / name, (OLD, OLD), follow_symlinks=False)
    assert [row.downlink for row in cleaned(old)] == [SECOND]
    assert leftover(old) == []
    assert all(link.is_symlink() and link.exists() for link in links)


def test_a_link_in_a_scratch_directory_goes_as_a_link(old: Site) -> None:
    outside = leave(old, "outside/file", OLD)
    tree = leave(old, f"work/{paths.context(RUN)}/own", OLD).parent
    (tree / "directory").symlink_to(outside.parent)
    (tree / "file").symlink_to(outside)
    for link in (tree / "directory", tree / "file", tree):
        os.utime(link, (OLD, OLD), follow_symlinks=False)
    (row,) = leftover(old)
    assert (row.path, row.kept) == (tree, "")
    assert not tree.exists()
    assert outside.read_bytes() == b"half"


LEFT: dict[str, str | None] = {
    f"work/{paths.all_settings()}/.0123456789abcdef.json.part": None,
    f"work/.{paths.format_mark()}.0123456789ab.part": None,
    f"work/{paths.stage_mark_copy()}/.000001.json.0123456789ab.part": None,
    f"stage/{paths.stage_mark()}/.000001.json.0123456789ab.part": None,
    f"work/.{paths.receipt(FIRST)}.part": paths.downlink_lease(FIRST),
    f"work/{FIRST}/.RetDef-{FIRST}-00001.xml.part": paths.downlink_lease(FIRST),
    f"work/{paths.chunks(FIRST)}/.00001.json.part": paths.downlink_lease(FIRST),
    f"work/{paths.chunk_scratch(FIRST, '00001')}/0123/half.evt": paths.downlink_lease(FIRST),
    f"work/{paths.receipts(FIRST)}/.000001.json.0123456789ab.part": paths.downlink_lease(FIRST),
    f"work/{paths.copies(paths.receipts(FIRST))}/.000001.json.0123456789ab.part": paths.downlink_lease(FIRST),
    f"work/{paths.deliveries(RUN)}/.000001.json.0123456789ab.part": paths.run_lease(RUN),
    f"work/{paths.copies(paths.deliveries(RUN))}/.000001.json.0123456789ab.part": paths.run_lease(RUN),
    f"work/{paths.run(RUN)}/{FIRST}/.events.npy.part": paths.downlink_lease(FIRST),
    f"work/{paths.context(RUN)}/{FIRST}/00001/0123/half.evt": paths.run_lease(RUN),
    f"work/{paths.kept_index(FIRST, 'x.idx')}": paths.downlink_lease(FIRST),
    f"stage/{paths.stage_scratch(FIRST, RUN.l1)}/new/half.evt": paths.downlink_lease(FIRST),
    f"stage/{paths.stage_scratch(FIRST, 'texts')}/half.txt": paths.downlink_lease(FIRST),
}
NOT_OURS = (
    "work/.part",
    "work/notes.part",
    "work/.other.part",
    "work/.cache/indexes/notes/x",
    f"stage/{FIRST}/.x.part",
    "stage/.halfpipe/mine/x",
)


def leave(site: Site, name: str, when: float) -> Path:
    path = site.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    for place in (path, *path.parents):
        if place == site.home:
            break
        os.utime(place, (when, when))
    return path


def test_what_killed_jobs_left_goes(old: Site) -> None:
    before = old.tree()
    for name in LEFT:
        leave(old, name, OLD)
    others = {name: b"half" for name in NOT_OURS if leave(old, name, OLD)}
    every = old.tree()
    looked = leftover(old, remove=False)
    assert old.tree() == every
    removed = leftover(old)
    assert removed == looked
    assert [(row.kept, row.failed, row.size) for row in removed] == [("", False, 4)] * len(LEFT)
    assert old.tree() == before | others
    assert not (old.work / paths.context(RUN)).exists()
    assert not (old.work / paths.chunk_scratch(FIRST, "00001")).exists()
    assert not (old.work / paths.kept_indexes(FIRST)).exists()
    assert leases(old.work) == []


def test_what_cannot_be_removed_is_said_and_the_rest_goes(open_to_all: Path) -> None:
    site = Site(open_to_all)
    path = leave(site, f"work/{paths.chunk_scratch(FIRST, '00001')}/0123/half.evt", OLD)
    other = leave(site, f"stage/{paths.stage_scratch(SECOND, 'texts')}/half.txt", OLD)
    later = leave(site, f"work/{paths.context(RUN)}/half.evt", OLD)
    (site.work / paths.heartbeats()).mkdir(parents=True)
    homes = (site.work / paths.leases(), site.work / paths.heartbeats())
    for place in (*homes, later.parent.parent, later.parent, other.parent.parent, other.parent):
        place.chmod(0o777)
    for place in (*homes, *path.parents[:3]):
        os.utime(place, (OLD, OLD))
    path.parent.chmod(0o555)
    with somebody_else():
        rows = leftover(site)
    path.parent.chmod(0o755)
    assert [row.failed for row in rows] == [False, True, False]
    assert "cannot be written or removed: Permission denied" in rows[1].kept
    assert path.exists()
    assert not other.exists()
    assert not later.exists()


@pytest.mark.parametrize("which", ["downlink", "job", "run"])
def test_what_a_living_job_may_write_stays(which: str, old: Site) -> None:
    place = {"downlink": paths.downlink_lease(FIRST), "run": paths.run_lease(RUN)}
    lease = place.get(which, f"{place['downlink']}/job")
    own = {name for name, of in LEFT.items() if of and (of == place["run"]) == (which == "run")}
    for name in own:
        leave(old, name, OLD)
    with held(old.work, lease) as who:
        for remove in (False, True):
            rows = leftover(old, remove=remove)
            assert len(rows) == len(own)
            assert all(who in row.kept for row in rows)
    assert all((old.home / name).exists() for name in own)
    for row in rows:
        os.utime(row.path, (NOW - 3600, NOW - 3600))
    assert {row.kept for row in leftover(old)} == {"changed 1.0 hours ago, less than 24"}
    assert {row.kept for row in leftover(old, now=NOW + clean_up.DAY)} == {""}
    assert not (old.stage / ".halfpipe").exists()


def test_old_logs_go(old: Site) -> None:
    shutil.rmtree(old.work / "logs", ignore_errors=True)
    goes = [leave(old, f"work/logs/{name}", OLD) for name in (f"{FIRST}/receipt.log", "unattended/x.log")]
    stays = [
        leave(old, f"work/logs/{name}", NOW) for name in (f"{FIRST}/deliver_run.log", "unattended/y.log")
    ]
    stays.append(leave(old, f"work/{paths.usage(FIRST)}", OLD))
    outside = leave(old, "outside/file.log", OLD)
    link = old.work / "logs" / "link.log"
    link.symlink_to(outside)
    (old.work / "logs" / "directory").symlink_to(outside.parent)
    assert clean_up.clean_logs(settings(old), NOW, remove=False) == (2, 8)
    assert all(path.exists() for path in goes)
    assert clean_up.clean_logs(settings(old), NOW, remove=True) == (2, 8)
    assert not any(path.exists() for path in goes)
    assert all(path.exists() for path in (*stays, link, outside))
    assert clean_up.clean_logs(settings(old), NOW, remove=True) == (0, 0)


def test_the_leases_of_a_dead_process_stop_nobody_and_its_heartbeat_goes_after_a_day(old: Site) -> None:
    left_by_another(old.work, paths.downlink_lease(FIRST), silent=2 * 86400)
    with held_by_another(old.work, paths.run_lease(RUN)):
        assert [row.path.parent for row in leftover(old)] == [old.work / paths.heartbeats()]
        assert len(list((old.work / paths.heartbeats()).iterdir())) == 1
    left_by_another(old.work, paths.run_lease(RUN), silent=1e4)
    cleaned(old)
    assert removable(old) == {}
    assert leases(old.work) == []
