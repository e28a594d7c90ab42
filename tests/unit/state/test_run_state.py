"""The state of a run: chunks that were cleaned up are decoded again if needed, and damaged indexes are rebuilt."""

import io
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.config import load
from halfpipe.decisions import Subject, What, decide
from halfpipe.deliver import deliver_run
from halfpipe.deliver.shrinking import ShrunkError
from halfpipe.errors import DecoderError, FormatError, LeaseLostError, MissingInputError, StateError
from halfpipe.files import leases
from halfpipe.files.records import Record
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.settings import Settings
from halfpipe.staging import event_files, stage
from halfpipe.state.deliveries import Deliveries, Delivery
from halfpipe.state.merged_index import MergedIndex
from halfpipe.state.run_state import Context, KnownRun, context_scratch, rebuild_indexes
from tests.support.golden_cases import GOLDEN, build
from tests.support.series import damage
from tests.support.workflow import REPLAY, Site

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")
RUN = RunId("2c2e5787")
DEAD = "/bin/false"


@pytest.fixture
def first(worked: Callable[..., Site]) -> Site:
    return worked("split2", FIRST)


def clean_up(site: Site, downlink: str, kinds: str = "*-*") -> None:
    for path in (site.work / downlink / "chunks").glob(kinds):
        path.unlink()


def replaying(case: str) -> str:
    return shlex.join(["sh", str(REPLAY), "--source", str(GOLDEN / case / "in")])


def settings(site: Site, command: str, *, without: bool = False, accept: str = "") -> Settings:
    """Return the settings of a site with another decoder."""
    found = load([site.configfile])
    if accept:
        decide(site.work, What.SHRUNK, Subject(SECOND, run=RUN), 10**6, accept)
    return replace(
        found,
        decoder=replace(found.decoder, command=command),
        merge=replace(found.merge, without_context=without),
    )


def context(site: Site, command: str) -> Context:
    return Context(settings(site, command), RUN, io.StringIO())


def deliver(site: Site, downlink: DownlinkId, command: str, **keys: Any) -> Delivery:
    chunks = [ChunkId(path.stem[-5:]) for path in sorted((site.work / downlink).glob("RetDef-*.xml"))]
    found = settings(site, command, **keys)
    with leases.downlink_job(site.settings, downlink) as held:
        record = deliver_run.merge_and_deliver(
            found, held, downlink, RUN, chunks, threads=1, output=io.StringIO()
        )
    made = Deliveries(site.work, RUN).sealed(record.seal)
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("owner", "step", "indexed"),
    [
        (stage, "put_halt_cleanup", False), (deliver_run, "merge_chunks", False), (event_files, "write_all", True),
        (deliver_run, "merge_and_deliver", True),
    ],
)  # fmt: skip
def test_a_process_that_loses_the_lease_stops(
    owner: ModuleType, step: str, indexed: bool, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    build("split2", site)
    site.by_hand(FIRST, "decode_chunk")
    (site.work / paths.receipt(FIRST)).touch()
    real, chunks = getattr(owner, step), [ChunkId("00001"), ChunkId("00002")]

    def loses(*given: object, **keys: object) -> object:
        made = real(*given, **keys)
        shutil.rmtree(site.work / paths.downlink_lease(FIRST))
        return made

    monkeypatch.setattr(owner, step, loses)
    with pytest.raises(LeaseLostError):
        deliver_run.deliver_run(site.settings, FIRST, RUN, chunks, [RUN], threads=1, output=io.StringIO())
    assert site.has_receipt(FIRST) == (step == "put_halt_cleanup")
    assert (site.work / paths.datagrams(RUN, FIRST)).exists() == indexed
    made = len(Deliveries(site.work, RUN).deliveries), len(site.staged(FIRST))
    assert made == ((1, 1) if step == "merge_and_deliver" else (0, 0))
    assert not (site.work / paths.manifest(RUN, FIRST)).exists()


def test_chunks_with_delivered_events_only_are_not_decoded_again(site: Site, tmp_path: Path) -> None:
    case = build("lci_gap_filled", site)
    site.by_hand(FIRST)
    clean_up(site, FIRST)
    source = tmp_path / "source"
    source.mkdir()
    (source / SECOND).symlink_to(case.directory / "in" / SECOND)  # the first is gone
    site.replay(source)
    site.by_hand(SECOND)
    assert site.staged(SECOND) == case.steps[1].expected.files


@pytest.mark.parametrize("gone", ["*-*", "*-*.evt", "*-*.rows"])
def test_a_merge_without_context_is_refused_unless_the_config_allows_it(
    worked: Callable[..., Site], gone: str
) -> None:
    site = worked("split2", FIRST, SECOND)
    clean_up(site, FIRST, gone)
    before = site.tree()
    with pytest.raises(MissingInputError, match=rf"chunk 0000[12] of downlink {FIRST}") as caught:
        deliver(site, SECOND, DEAD)
    assert "APID 956 from 2024-06-28 02:29:" in str(caught.value)
    assert site.tree() == before, "nothing was changed"
    # The 9 waiting events of the first downlink are gone, and Level-1 may have them.
    with pytest.raises(ShrunkError, match="9 of 79"):
        deliver(site, SECOND, DEAD, without=True)
    made = deliver(site, SECOND, DEAD, without=True, accept="the archive burned")
    assert len(set(made.missing)) == len(made.missing) >= 2
    assert (made.events, made.loss) == (70, 9)
    assert made.complete, "the datagrams of these chunks stay known"
    assert str(made.accepted).startswith("the archive burned (")


def test_a_merge_without_context_is_reported_and_leaves_the_other_downlink_alone(
    first: Site, tmp_path: Path
) -> None:
    clean_up(first, FIRST)
    before = first.receipt(FIRST)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / SECOND).symlink_to(GOLDEN / "split2" / "in" / SECOND)  # the first is gone
    first.replay(tmp_path / "source")
    first.configure(merge={"without_context": True})
    first.by_hand(SECOND)
    (one,) = first.receipt(SECOND).runs
    assert (one.delivery.complete, one.delivery.books.in_texts, one.delivery.books.late) == (True, 0, 0)
    assert len(one.delivery.missing) == len(before.receipt.chunks)
    assert first.causes(SECOND)["merged-without"].verdict is Verdict.ACTION
    assert "merged-without" not in first.causes(FIRST)
    assert first.outstanding(FIRST, SECOND) == frozenset()
    assert first.receipt(FIRST).receipt == before.receipt


def test_a_full_disk_is_not_missing_context(worked: Callable[..., Site]) -> None:
    """Otherwise a merge that may work without context would omit events that can be decoded tomorrow."""
    site = worked("split2", FIRST, SECOND)
    clean_up(site, FIRST)
    with pytest.raises(DecoderError) as caught:
        deliver(site, SECOND, "sh -c 'echo No space left on device; exit 1' sh", without=True)
    assert caught.value.code == "disk-full"


def test_a_decoder_with_other_output_than_before_is_refused(first: Site) -> None:
    (chunk, _) = MergedIndex.read(first.work, RUN, FIRST).chunks
    assert chunk.chunk == "00001"
    assert context(first, DEAD).place(FIRST, chunk) == (chunk, first.work / FIRST / "chunks")
    clean_up(first, FIRST)
    with context_scratch(first.work, RUN), pytest.raises(MissingInputError):
        context(first, replaying("gap_one")).place(FIRST, chunk)
    same = context(first, replaying("split2"))
    with context_scratch(first.work, RUN):
        again, where = same.place(FIRST, chunk)
        assert again == chunk
        assert where.parent == first.work / "runs" / RUN / ".context" / FIRST / ChunkId("00001")
        assert chunk.are_in(where)
        assert same.place(FIRST, chunk) == (chunk, where), "decoded once"
    assert not where.exists()


@pytest.mark.parametrize("harm", ["removed", "cut", "changed", "directory", "older", "of the receipt"])
def test_a_damaged_merged_index_is_rebuilt_and_a_damaged_receipt_is_not_needed(
    harm: str, first: Site
) -> None:
    path = first.work / paths.datagrams(RUN, FIRST)
    content = path.read_bytes()
    middle = len(content) // 3
    new = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    if harm == "directory":
        shutil.rmtree(path.parent)
    elif harm == "removed":
        path.unlink()
    elif harm == "older":
        index = MergedIndex.read(first.work, RUN, FIRST)
        replace(index, chunks=index.chunks[:1]).save(first.work, RUN, FIRST)
    elif harm == "of the receipt":
        damage(first.work, paths.receipts(FIRST))
    else:
        path.write_bytes(content[:middle] if harm == "cut" else new)
    assert len(KnownRun.read(context(first, DEAD)).events(FIRST)) > 0
    assert path.read_bytes() == content


def test_damaged_rows_are_named_and_decoded_again_once_moved_away(first: Site) -> None:
    known = KnownRun.read(context(first, replaying("split2")))
    where = ["sequence", "apid", "offset", "check"]
    before = known.events(FIRST)[where].tolist()
    path = next((first.work / paths.chunks(FIRST)).glob("*.rows"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(FormatError, match=f"^{path}: ") as caught:
        known.events(FIRST)
    (do,) = caught.value.remedy.do
    assert shlex.split(do)[:2] == ["mv", str(path)]
    path.rename(shlex.split(do)[2])
    with context_scratch(first.work, RUN):
        assert known.events(FIRST)[where].tolist() == before


@pytest.mark.parametrize("begun", ["first", "again"])
@pytest.mark.parametrize("harm", ["cut", "removed"])
def test_a_merged_index_of_a_downlink_in_work_is_not_rebuilt(site: Site, begun: str, harm: str) -> None:
    """Its chunks are unknown, because one may have been decoded again after the last hand-off."""
    build("split2", site)
    site.by_hand(FIRST, *(() if begun == "again" else ("decode_chunk", "deliver_run")))
    (site.work / paths.receipt(FIRST)).unlink(missing_ok=True)
    path = site.work / paths.datagrams(RUN, FIRST)
    path.unlink() if harm == "removed" else path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StateError) as error:
        KnownRun.read(context(site, DEAD))
    assert error.value.remedy.do == (f"snakemake dl={FIRST} -R deliver_run",)
    with pytest.raises(MissingInputError) as refused:
        rebuild_indexes(site.settings, DownlinkId(FIRST), io.StringIO())
    assert refused.value.remedy.do == (f"snakemake dl={FIRST} -R deliver_run",)


def test_a_delivery_by_another_process_makes_the_merge_decide_again(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = build("rerun_first", site)
    for downlink in (FIRST, SECOND):
        site.by_hand(downlink, "decode_chunk")
    faster = site.clone(tmp_path / "faster")
    publish, turn = Deliveries.publish, iter([True])

    def slow(recorded: Deliveries, entry: Delivery) -> Record:
        if next(turn, False):
            faster.by_hand(FIRST)
            for home in (f"work/{paths.run(RUN)}", f"work/copies/{paths.run(RUN)}", "stage"):
                shutil.copytree(faster.home / home, site.home / home, dirs_exist_ok=True)
        return publish(recorded, entry)

    monkeypatch.setattr(Deliveries, "publish", slow)
    deliver(site, SECOND, DEAD)
    assert site.staged(FIRST) == case.steps[0].expected.files
    assert site.staged(SECOND) == case.steps[1].expected.files
    first, second = Deliveries(site.work, RUN).deliveries
    assert (first.downlink, second.downlink) == (FIRST, SECOND)
