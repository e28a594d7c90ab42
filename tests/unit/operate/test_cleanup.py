"""Cleanup: exactly the removable files are removed, each reason keeps a run, and links are not followed."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from halfpipe import paths
from halfpipe.decisions import What
from halfpipe.errors import LockedError
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.notify import submit
from halfpipe.operate import cleanup
from halfpipe.operate.cleanup import FileKind, Removable
from halfpipe.settings import CleanUp, Online, Paths, Settings
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.merged_index import MergedIndex
from tests.support.leases import held_by_another, job_of_another, leases, left_by_another
from tests.support.series import damage, forget
from tests.support.workflow import Site

FIRST = DownlinkId("240601001")
SECOND = DownlinkId("240601002")
RUN = RunId("2c2e5787")
OTHER = RunId("2c2e5788")
DAYS = 30.0
NOW = time.time()
OLD = NOW - 31 * cleanup.DAY
NOBODY = 65534  # uid


@pytest.fixture
def old(worked: Callable[..., Site]) -> Site:
    """A site whose two downlinks make one complete run, handed off long ago and taken by Level-1."""
    site = worked("split2", FIRST, SECOND)
    for downlink in (FIRST, SECOND):
        submit.settle(site.settings, downlink, submitted=True)
        shutil.rmtree(site.stage / downlink)
    shutil.rmtree(site.stage / "chunktokens")
    shutil.rmtree(site.work / paths.LEASES)
    for path in site.work.rglob("*"):
        os.utime(path, (OLD, OLD))
    return site


def cleaned(
    site: Site,
    what: FileKind = FileKind.RUN,
    *,
    remove: bool = True,
    halted: str = "",
    days: float = DAYS,
    now: float = NOW,
) -> list[Removable]:
    settings = Settings(Paths(site.work, site.stage), cleanup=CleanUp(retention_days=days, log_days=DAYS))
    return [each for each in cleanup.clean(settings, now, halted, remove=remove) if each.what is what]


def large(site: Site) -> dict[str, int]:
    return {
        str(site.home / name): len(content)
        for name, content in site.tree().items()
        if name.endswith((".evt", ".idx", ".rows")) and "datagrams" not in name
    }


def test_only_files_that_can_be_regenerated_are_removed(old: Site) -> None:
    before = old.tree()
    goes = large(old)
    assert len(goes) == 2 * 6
    expected = [Removable(FileKind.RUN, goes, RUN, (FIRST, SECOND))]
    assert cleaned(old, remove=False) == expected
    assert old.tree() == before, "a look touches nothing"
    assert not (old.work / paths.LEASES).exists(), "nor takes a lease"
    assert cleaned(old) == expected
    assert old.tree() == {n: content for n, content in before.items() if str(old.home / n) not in goes}
    assert leases(old.work) == []
    assert cleaned(old) == []


def test_a_run_is_kept_for_the_retention_days(old: Site) -> None:
    (row,) = cleaned(old, days=31.1)
    assert row.kept == f"downlink {FIRST} was handed off 31.0 days ago, less than 31.1"
    os.utime(old.work / paths.receipt(SECOND), (OLD, NOW - 3 * cleanup.DAY))
    (row,) = cleaned(old)
    assert row.kept == f"downlink {SECOND} was handed off 3.0 days ago, less than 30"
    assert len(large(old)) == 12


def test_an_abandoned_run_is_removed(old: Site) -> None:
    chunks = MergedIndex.read(old.work, RUN, SECOND).chunks
    index = MergedIndex(KnownDatagrams.of(()), chunks)
    index.save(old.work, RUN, SECOND)
    assert "not the merged index" in cleaned(old)[0].kept
    deliver_again(old.work, SECOND, index=index.seal)
    assert cleaned(old)[0].kept == "the run is open: more of it may come"
    old.abandon(RUN)
    for abandoned, stays in ((False, 12), (True, 0)):
        for downlink in (SECOND, FIRST):
            deliver_again(old.work, downlink, abandoned=abandoned)
        assert (cleaned(old)[0].kept == "") is abandoned, "only if it was delivered as such"
        assert len(large(old)) == stays


def unrecord(path: Path) -> None:
    forget(path.parents[1], f"{path.parent.name}/{path.name}")


def put(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def deliver_again(work: Path, downlink: DownlinkId, **changed: Any) -> None:
    """Record the latest delivery of a downlink again, with other values."""
    recorded = Deliveries(work, RUN)
    recorded.publish(structs.replace(recorded.latest()[downlink], **changed))


TOKENS = f"stage/{paths.tokens(RUN.l1)}"
KEEPS: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "a token of Level-1": (f"{TOKENS}/{RUN.l1}-e00000000000000001000", put, "Level-1 still works on it"),
    "haltCleanup": (f"{TOKENS}/haltCleanup-{FIRST}", put, "one of 1 tokens"),
    "not submitted": (f"work/{paths.submissions(SECOND)}", unrecord, f"downlink {SECOND} has no record"),
    "no stage": ("stage", shutil.rmtree, "is missing, so it is unknown what Level-1 has taken"),
    "no receipt": (f"work/{paths.receipt(SECOND)}", Path.unlink, f"downlink {SECOND} has no receipt"),
    "refused": ("work", partial(deliver_again, downlink=FIRST, refused=("why",)), f"{FIRST} has refused it"),
    "no RetDef": (f"work/{paths.retdef(FIRST, '00002')}", Path.unlink, "chunk 00002 could not be decoded again"),
    "no delivery": ("work", partial(forget, place=paths.deliveries(RUN)), f"{FIRST} has not delivered it"),
    "damaged delivery": ("work", partial(damage, place=paths.deliveries(RUN)), "cannot be read"),
    "damaged": (f"work/{paths.datagrams(RUN, SECOND)}", lambda p: p.write_text("{"), "damaged (checksum mismatch)"),
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
        (row,) = cleaned(old, remove=remove)
        assert said in row.kept
    assert old.tree() == before


def test_a_halt_keeps_everything(old: Site) -> None:
    leave(old, f"work/{FIRST}/.part.part", OLD)
    leave(old, f"work/logs/{FIRST}/receipt.log", OLD)
    before = old.tree()
    kept = [row.kept for what in FileKind for row in cleaned(old, what, halted="held by a file")]
    assert kept == ["held by a file"] * 3
    assert old.tree() == before


@contextmanager
def held(work: Path, place: str) -> Iterator[str]:
    """Hold a lease, or run a job of a killed head; yield its description."""
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


@pytest.mark.parametrize("what", [*LEASES, "again"])
def test_what_changes_between_look_and_removal(what: str, old: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = cleanup.nobody_else
    events = old.work / paths.chunks(SECOND)
    said = list[str]()

    @contextmanager
    def late(settings: Settings, each: Removable) -> Iterator[None]:
        work = settings.paths.work
        with ExitStack() as stack:
            if each.what is FileKind.RUN and what in LEASES:
                said.append(stack.enter_context(held(work, LEASES[what])))
                there = leases(work)
                with pytest.raises(LockedError), alone(settings, each):
                    pytest.fail("entered")
                assert leases(work) == there, "what was taken is released"
            elif each.what is FileKind.RUN:
                (work / paths.receipt(FIRST)).unlink()
                said.append(f"downlink {FIRST} has no receipt")
            with alone(settings, each):
                yield

    monkeypatch.setattr(cleanup, "nobody_else", late)
    (row,) = cleaned(old)
    assert said[0] in row.kept
    assert not row.failed
    assert events.exists()


def test_a_run_is_kept_until_online_has_its_file(old: Site) -> None:
    home = old.home / "online"
    off = Settings(Paths(old.work, old.stage), cleanup=CleanUp(retention_days=DAYS))

    def kept(kind: RunKind, *, remove: bool = False) -> set[str]:
        online = replace(off, paths=replace(off.paths, online=home), online=Online(types=(kind,)))
        return {row.kept for row in cleanup.clean(online, NOW, "", remove=remove)}

    before = old.tree()
    assert kept(RunKind.LCI) == {""}
    assert kept(RunKind.LPA, remove=True) == {
        f"Online has no file of it yet in {home}, which halfpipe online makes from this"
    }
    assert old.tree() == before, "nor is a directory made for Online"
    old.abandon(RUN)
    assert kept(RunKind.LPA) == {""}, "an abandoned run is not kept for Online"
    old.decide(RUN, What.ABANDONED, undone=True)
    put(home / f"0077014d-{RUN}.evt")
    assert kept(RunKind.LPA, remove=True) == {""}
    assert large(old) == {}


def test_files_of_one_chunk_are_removed_by_run(old: Site) -> None:
    name = next((old.work / paths.chunks(FIRST)).glob("*-00001.evt"))
    open_one = leave(old, str(name.relative_to(old.home)).replace(RUN, OTHER), OLD)
    rows = cleaned(old)
    expected = [(RUN, (FIRST, SECOND), 12, False), (OTHER, (FIRST,), 1, True)]
    assert [(row.run, row.downlinks, len(row.sizes), bool(row.kept)) for row in rows] == expected
    assert rows[1].kept == f"downlink {FIRST} has not delivered it"
    assert [*large(old)] == [str(open_one)]


@pytest.mark.parametrize(
    "place", [f"{FIRST}", paths.chunks(FIRST), "runs", f"{paths.run(RUN)}/{FIRST}", "logs"]
)
def test_a_directory_that_is_a_link_is_not_searched(place: str, old: Site) -> None:
    leave(old, "work/logs/x.log", OLD)
    outside = old.home / "outside"
    (old.work / place).rename(outside)
    (old.work / place).symlink_to(outside)
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    cleaned(old)
    assert {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()} == before


def test_links_stay_and_are_removed_as_links_in_a_scratch_directory(old: Site) -> None:
    outside = leave(old, "outside/file", OLD)
    links = [*(old.work / paths.chunks(FIRST)).glob("*-*")]
    for link in links:
        link.rename(outside.parent / link.name)
        link.symlink_to(outside.parent / link.name)
    scratch = f"stage/{paths.stage_scratch(FIRST, 'texts')}"
    for name in (f"work/{FIRST}/.link.part", scratch, "work/logs/x.log"):
        (old.home / name).parent.mkdir(exist_ok=True)
        links.append(old.home / name)
        links[-1].symlink_to(outside.parent)
    tree = leave(old, f"work/{paths.context(RUN)}/own", OLD).parent
    (tree / "directory").symlink_to(outside.parent)
    for link in (*links, tree / "directory", tree):
        os.utime(link, (OLD, OLD), follow_symlinks=False)
    assert [[FIRST in name for name in row.sizes] for row in cleaned(old)] == [[False] * 6]
    assert not tree.exists()
    assert all(link.is_symlink() and link.exists() for link in links)
    assert outside.read_bytes() == b"half"


LEFT = (
    f"work/settings/.0123456789abcdef.json.{'0f' * 16}.part",
    f"work/.{paths.FORMAT_MARK}.0123456789ab.part",
    f"work/{paths.STAGE_MARK_COPY}/.000001.json.0123456789ab.part",
    f"stage/{paths.STAGE_MARK}/.000001.json.0123456789ab.part",
    f"work/.{paths.receipt(FIRST)}.part",
    f"work/{FIRST}/.RetDef-{FIRST}-00001.xml.part",
    f"work/{paths.chunk_scratch(FIRST, '00001')}/0123/half.evt",
    f"work/{paths.copies(paths.receipts(FIRST))}/.000001.json.0123456789ab.part",
    f"work/{paths.copies(paths.deliveries(RUN))}/.000001.json.0123456789ab.part",
    f"work/{paths.run(RUN)}/{FIRST}/.datagrams.idx.part",
    f"work/{paths.context(RUN)}/{FIRST}/00001/0123/half.evt",
    f"stage/{paths.stage_scratch(FIRST, RUN.l1)}/new/half.evt",
)
NOT_OURS = ("work/.part", "work/notes.part", f"stage/{FIRST}/.x.part", "stage/.halfpipe/mine/x")


def leave(site: Site, name: str, when: float) -> Path:
    path = site.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    for place in (path, *path.parents):
        if place == site.home:
            break
        os.utime(place, (when, when))
    return path


def test_partial_files_of_killed_jobs_are_removed(old: Site) -> None:
    before = {name: content for name, content in old.tree().items() if str(old.home / name) not in large(old)}
    for name in LEFT:
        leave(old, name, OLD)
    others = {name: b"half" for name in NOT_OURS if leave(old, name, OLD)}
    every = old.tree()
    looked = cleaned(old, FileKind.PARTIAL, remove=False)
    assert old.tree() == every
    removed = cleaned(old, FileKind.PARTIAL)
    assert removed == looked
    assert [(row.kept, row.failed, row.size) for row in removed] == [("", False, 4)] * len(LEFT)
    assert old.tree() == before | others
    assert not (old.work / paths.context(RUN)).exists()
    assert not (old.work / paths.chunk_scratch(FIRST, "00001")).exists()
    assert leases(old.work) == []


@contextmanager
def another_user() -> Iterator[None]:
    """Be a user who may not write or remove files of others."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_failure_is_reported_and_the_rest_is_removed(open_to_all: Path) -> None:
    site = Site(open_to_all)
    path = leave(site, f"work/{paths.chunk_scratch(FIRST, '00001')}/0123/half.evt", OLD)
    other = leave(site, f"stage/{paths.stage_scratch(SECOND, 'texts')}/half.txt", OLD)
    later = leave(site, f"work/{paths.context(RUN)}/half.evt", OLD)
    (site.work / paths.HEARTBEATS).mkdir(parents=True)
    homes = (site.work / paths.LEASES, site.work / paths.HEARTBEATS)
    for place in (*homes, later.parent.parent, later.parent, other.parent.parent, other.parent):
        place.chmod(0o777)
    for place in (*homes, *path.parents[:3]):
        os.utime(place, (OLD, OLD))
    path.parent.chmod(0o555)
    with another_user():
        rows = cleaned(site, FileKind.PARTIAL)
    path.parent.chmod(0o755)
    assert [row.failed for row in rows] == [True, False, False]
    assert f"{next(iter(rows[0].sizes))}: Permission denied" in rows[0].kept
    assert path.exists()
    assert not other.exists()
    assert not later.exists()


def test_partial_files_changed_within_a_day_stay(old: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it changes while others are removed, because a job has started again."""
    found = [leave(old, name, OLD) for name in LEFT]
    listed = cleanup.removable

    def begun(settings: Settings, now: float) -> list[Removable]:
        rows = listed(settings, now)
        for path in found:
            os.utime(path, (NOW - 3600, NOW - 3600))
        return rows

    monkeypatch.setattr(cleanup, "removable", begun)
    assert all(row.kept and not row.failed for row in cleaned(old, FileKind.PARTIAL))
    assert cleaned(old, FileKind.PARTIAL) == []
    assert all(path.exists() for path in found)
    assert {row.kept for row in cleaned(old, FileKind.PARTIAL, now=NOW + cleanup.DAY)} == {""}


def test_old_logs_are_removed(old: Site) -> None:
    shutil.rmtree(old.work / "logs", ignore_errors=True)
    goes = [leave(old, f"work/logs/{name}", OLD) for name in (f"{FIRST}/receipt.log", "unattended/x.log")]
    stays = [
        leave(old, f"work/logs/{name}", NOW) for name in (f"{FIRST}/deliver_run.log", "unattended/y.log")
    ]
    stays.append(leave(old, f"work/{paths.usage(FIRST)}", OLD))
    expected = [Removable(FileKind.LOGS, {str(path): 4 for path in goes})]
    assert cleaned(old, FileKind.LOGS, remove=False) == expected
    assert all(path.exists() for path in goes)
    assert cleaned(old, FileKind.LOGS) == expected
    assert not any(path.exists() for path in goes)
    assert all(path.exists() for path in stays)
    assert cleaned(old, FileKind.LOGS) == []


def test_leases_of_a_dead_process_keep_nothing_and_its_heartbeat_is_removed_after_a_day(old: Site) -> None:
    left_by_another(old.work, paths.downlink_lease(FIRST), silent=2 * 86400)
    with held_by_another(old.work, paths.run_lease(RUN)):
        (row,) = cleaned(old, FileKind.PARTIAL)
        assert [Path(path).parent for path in row.sizes] == [old.work / paths.HEARTBEATS]
        assert len(list((old.work / paths.HEARTBEATS).iterdir())) == 1
    left_by_another(old.work, paths.run_lease(RUN), silent=1e4)
    cleaned(old)
    assert large(old) == {}
    assert leases(old.work) == []
