"""The receipt: its keys, its content, and the hand-off that it records."""

import re
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from halfpipe import paths
from halfpipe.config import write_down
from halfpipe.decode.chunk import DecoderLog, read_chunk
from halfpipe.deliver import receipt
from halfpipe.errors import LeaseLostError, StageError, StateError
from halfpipe.files import leases
from halfpipe.files.leases import Lease
from halfpipe.files.reading import sha256
from halfpipe.files.records import TakenError
from halfpipe.files.typed import values, write_stored
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.settings import ROOT, Paths, Settings
from halfpipe.staging.stage import put_halt_cleanup
from halfpipe.state import halts
from halfpipe.state.deliveries import Deliveries, Delivery, EventFile, MootKey
from halfpipe.state.hand_offs import HandedRun, Receipt, hand_offs, series, withdraw
from scripts import receipt as program
from tests.support.golden_cases import build
from tests.support.receipts import publish
from tests.support.workflow import Site

DL = DownlinkId("240601001")
LPA, LCI, OPEN = RunId("2c2e5787"), RunId("2c2e6cc0"), RunId("2c2e8430")  # of the case multi3
CHUNKS = [ChunkId.of(number) for number in range(1, 6)]
OF_NAMES = {"exceptions", "DFI", "counts", "datagrams", "files"}  # the keys of these objects are ids or names
TEXTS = {"delivered_events", "event_gaps", "event_times", "moot_keys", "retired_runs"}


def keys(value: Any) -> set[str]:
    """Return all keys in a value of JSON, but those that are ids or names."""
    if isinstance(value, list | tuple):
        return set().union(*map(keys, value))
    if not isinstance(value, dict):
        return set()
    named = {key for key, each in value.items() if key in OF_NAMES and isinstance(each, dict)}
    inside = (keys([*each.values()] if key in named else each) for key, each in value.items())
    return set(value).union(*inside)


@pytest.fixture
def delivered(worked: Callable[..., Site]) -> Site:
    return worked("multi3", DL)


@pytest.mark.parametrize(
    ("name", "merge"),
    [
        ("multi3", {"min_events": 1, "max_events": 39, "chunk_scale": 1.0}),  # one run is refused
        ("withheld_lone", {}),
        ("third_epu_late_again", {}),
    ],
)
def test_each_key_is_documented(site: Site, name: str, merge: dict[str, Any]) -> None:
    documented = set(re.findall(r"`(\w+)`", (ROOT / "docs" / "receipt.md").read_text()))
    case = build(name, site)
    site.configure(merge=merge)
    for step in case.steps:
        site.by_hand(step.downlink)
        last = site.receipt(step.downlink)
        assert last.runs, "it says something"
        for stored in (last.receipt, *(one.delivery for one in last.runs)):
            assert (
                keys(values(replace(stored, config={}) if stored is last.receipt else stored)) <= documented
            )


def test_a_receipt_has_its_inputs_and_no_path_of_this_machine(delivered: Site) -> None:
    last = delivered.receipt(DL)
    content = last.receipt
    assert [chunk.retdef for chunk in content.chunks] == [
        sha256(delivered.work / paths.retdef(DL, chunk)) for chunk in CHUNKS
    ]
    assert {text.name for text in content.texts} == {f"{name}_{DL}.txt" for name in TEXTS}
    assert content.config == delivered.settings.provenance
    for run in content.runs:
        assert run.delivery == Deliveries(delivered.work, run.run).seal(DL)
    for series_of in (paths.receipts(DL), *(paths.deliveries(run.run) for run in content.runs)):
        written = (delivered.work / series_of / "000001.json").read_bytes()
        assert str(delivered.home).encode() not in written, "the same input gives the same records anywhere"


def hand_off(site: Site, *runs: RunId) -> Receipt:
    with leases.downlink_job(site.settings, DL) as lease:
        return receipt.hand_off(site.settings, lease, DL, CHUNKS, runs or (LPA, LCI, OPEN), StringIO())


def test_books_and_vanished_files_refuse_a_hand_off(delivered: Site) -> None:
    with pytest.raises(StateError) as caught:
        hand_off(delivered, LPA, OPEN)
    assert caught.value.code == "books"
    recorded = Deliveries(delivered.work, LCI)
    recorded.publish(replace(recorded.latest()[DL], handoff=2))
    chunk = read_chunk(delivered.work, DL, "00002")
    reported = DecoderLog(exceptions={LPA: {"DFI": 2, "PktFile": 1}})
    write_stored(delivered.work / paths.chunk(DL, "00002"), replace(chunk, log=reported))
    made = hand_off(delivered)
    assert made.chunks[1].log == reported
    # Level-1 cannot have taken files that vanish before the hand-off.
    shutil.rmtree(delivered.stage / DL / LCI.l1)
    with pytest.raises(StageError, match=LCI) as gone:
        hand_off(delivered)
    assert str(gone.value.remedy).endswith(f"snakemake dl={DL} -R deliver_run")
    assert [handoff.number for handoff in hand_offs(delivered.work, DL)] == [1]


def test_level_1_may_retire_runs_only_after_the_receipt(delivered: Site) -> None:
    put_halt_cleanup(delivered.stage, DL, [LPA, LCI])
    made, known = hand_off(delivered), series(delivered.work, DL)
    assert len(list(delivered.stage.glob("chunktokens/*/haltCleanup-*"))) == 2, "it is not recorded yet"
    with leases.downlink_job(delivered.settings, DL) as lease:
        receipt.save(delivered.settings, lease, known, DL, [LPA, LCI, OPEN], made)
    tokens = sorted(path.name for path in delivered.stage.glob("chunktokens/*/*"))
    assert len(tokens) == 3
    assert not any(token.startswith("haltCleanup") for token in tokens)


def test_a_decision_before_another_hand_off_records_nothing(delivered: Site) -> None:
    made, known = hand_off(delivered), series(delivered.work, DL)
    publish(delivered.work, replace(made, handoff=made.handoff + 1))
    made = replace(made, reason="a stale one")
    with leases.downlink_job(delivered.settings, DL) as lease, pytest.raises(TakenError):
        receipt.save(delivered.settings, lease, known, DL, [LPA, LCI, OPEN], made)
    assert len(series(delivered.work, DL).records) == len(known.records) + 1


def test_without_its_lease_a_process_writes_no_text_and_removes_no_token(delivered: Site) -> None:
    made, known = hand_off(delivered), series(delivered.work, DL)
    withdraw(delivered.work, DL)
    put_halt_cleanup(delivered.stage, DL, [LPA, LCI])  # the process that took the lease over works on it
    lost = Lease.of(delivered.settings, paths.downlink_lease(DL))
    with pytest.raises(LeaseLostError):
        receipt.save(delivered.settings, lost, known, DL, [LPA, LCI, OPEN], made)
    assert len(list(delivered.stage.glob("chunktokens/*/haltCleanup-*"))) == 2
    assert not delivered.has_receipt(DL)
    for path in delivered.stage.glob(f"{DL}/*.txt"):
        path.unlink()
    with pytest.raises(LeaseLostError):
        receipt.hand_off(delivered.settings, lost, DL, CHUNKS, (LPA, LCI, OPEN), StringIO())
    assert list((delivered.stage / DL).glob("*.txt")) == []


def test_a_held_downlink_is_not_handed_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(Paths(tmp_path / "work", tmp_path / "stage"))
    settings.paths.work.mkdir()
    halts.hold(settings.paths.work, halts.Switch.STAGE, DL, "the robot is down")
    assert program.main(["--settings", str(write_down(settings)), "--downlink", DL]) == 1
    assert "staging is held by" in capsys.readouterr().err
    assert not (settings.paths.work / paths.receipt(DL)).exists()


# The texts for Level-1, line by line (ground-chain §6): a line that it cannot read fails the delivery.
DELIVERY = Delivery(
    DL, 1, (), {}, kind="LPA", epus=(956, 957), complete=True, gaps=((1049, 1060), (1100, 1131)),
    files=(EventFile("", 50, (1, 2), (1, 2), 1, ""),), times=(1719541768.0662724, 1719541785.7613216),
    moot=MootKey(2959, "nomSciOps"), books=Books(known=53, delivered=50, waiting=3),
)  # fmt: skip


def texts(**change: Any) -> dict[str, str]:
    return receipt.texts([HandedRun(LPA, replace(DELIVERY, **change), "")], {})


def retired(**change: Any) -> str:
    return texts(**change)["retired_runs"]


def test_a_run_is_retired_only_together_with_its_files() -> None:
    abandoned = {"complete": False, "abandoned": True}
    assert retired() == retired(abandoned=True) == "r0741234567 COMPLETE\n"
    assert (retired(complete=False), retired(**abandoned)) == ("", "r0741234567 INCOMPLETE\n")
    # Level-1 fails on a retired run that brings no files.
    assert retired(files=()) == retired(files=(), **abandoned) == ""
    assert retired(refused=("why",)) == retired(refused=("why",), **abandoned) == ""


def test_how_many_lines_there_are_and_none_is_blank() -> None:
    names = ("delivered_events", "retired_runs", "event_gaps", "event_times", "moot_keys")
    changes: list[tuple[dict[str, Any], list[int]]] = [
        ({"epus": ()}, [0, 0, 0, 0, 0]),
        ({"files": (), "times": None}, [1, 0, 2, 0, 1]),
        ({"gaps": (), "times": (0.0, 1e10)}, [1, 1, 0, 1, 1]),
    ]
    for change, lines in changes:
        found = texts(**change)
        assert [found[name].count("\n") for name in names] == lines
        assert all(line for text in found.values() for line in text.splitlines())


def test_exceptions_of_decoders_stand_in_a_text_of_their_own() -> None:
    assert "chunk_exceptions" not in receipt.texts([], {})
    found = receipt.texts([], {(LPA, "PktRetriever"): 3, (LPA, "DFI"): 1})
    assert found["chunk_exceptions"] == "r0741234567 DFI 1\nr0741234567 PktRetriever 3\n"
