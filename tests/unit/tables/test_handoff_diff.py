"""`diff`: the changes between two hand-offs."""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from halfpipe.decode.chunk import Chunk
from halfpipe.errors import MissingInputError
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.state.deliveries import Delivery, DeliveryHistory, EventFile
from halfpipe.state.hand_offs import HandedRun, HandOff, NamedRun, Receipt
from halfpipe.tables import handoff_diff
from halfpipe.tables.handoff_diff import changed_bytes, changed_runs, sentences, two_hand_offs
from tests.support.golden_cases import build
from tests.support.workflow import Site

DL = DownlinkId("240601001")
KINDS = ["new", "gone", "changed", "same"]


def diff(site: Site) -> Any:
    return site.told("diff", DL)


def run(name: str, *files: tuple[str, str], delivered: int = 10, late: int = 0) -> HandedRun:
    """Return run ``0000000<name>`` of a hand-off; its first file has all events that were delivered."""
    events = [delivered, *(0 for _ in files[1:])]
    described = tuple(
        EventFile(name=file, events=number, sequences=(1, 2), seconds=(1, 2), size=9, sha256=sha256)
        for (file, sha256), number in zip(files, events, strict=False)
    )
    made = Delivery(DL, 1, (), {}, described, kind="LPA", complete=True, books=Books(late=late))
    return HandedRun(RunId(f"0000000{name}"), made, "")


def hand_off(*runs: HandedRun, chunks: Sequence[Chunk] = ()) -> HandOff:
    named = tuple(NamedRun(one.run, one.run, named=True) for one in runs)
    receipt = Receipt(DL, 1, "1", {}, tuple(chunks), (), named, ())
    histories = {one.run: DeliveryHistory([(one.delivery, one.run)]) for one in runs}
    return HandOff(Path(), receipt, "", 1, Path(), histories.__getitem__)


def test_changes_of_each_run() -> None:
    one = ("x", "1")
    before = hand_off(run("a", one, ("y", "2"), ("z", "3")), run("b", one), run("c", one))
    now = run("a", one, ("y", "9"), ("w", "4"), delivered=1_410, late=7)
    after = hand_off(now, run("c", one), run("d", ("x", "5")), run("e", delivered=0))
    found = changed_runs(before, after)
    found["run"] = found["run"].str[-1]
    assert found.set_index("run")[[*KINDS, "events", "events_before"]].T.to_dict("list") == {
        "a": [1, 1, 1, 1, 1410, 10],
        "b": [0, 1, 0, 0, 0, 10],
        "c": [0, 0, 0, 1, 10, 10],
        "d": [1, 0, 0, 0, 10, 0],
        "e": [0, 0, 0, 0, 0, 0],
    }
    changed = changed_bytes(found)
    assert list(changed["run"]) == ["a", "b", "d"]
    one_each = ", ".join(f"1 file {kind}" for kind in KINDS)
    assert next(sentences(changed)) == f"run a: +1,400 events, {one_each}, late 0 → 7"
    assert changed_bytes(changed_runs(after, after)).empty


@pytest.mark.parametrize("runs", [[run("a", ("x", "1"))], []])
def test_everything_in_a_first_hand_off_is_new(runs: list[HandedRun]) -> None:
    found = changed_bytes(changed_runs(None, hand_off(*runs)))
    assert found[["run", "new", "events"]].to_numpy().tolist() == [["0000000a", 1, 10]] * len(runs)


def test_chunks_are_listed_in_order() -> None:
    names = [f"{number:05}" for number in range(1, 10)]
    chunks = [Chunk(DL, ChunkId(name), "ab", (), ()) for name in names]
    before, after = (hand_off(chunks=found).receipt for found in ([], chunks))
    found = handoff_diff.changes(handoff_diff.input_of(before), handoff_diff.input_of(after))
    assert [line.split(":")[0] for line in found] == [f"chunk {name}" for name in names]


def test_two_equal_hand_offs_with_a_reason(site: Site) -> None:
    build("gap_one", site, DL)
    with pytest.raises(MissingInputError):
        two_hand_offs(site.work, DL)
    site.snakemake(f"dl={DL}", "-R", "deliver_run", "--config", "reason=a look").good()
    found = diff(site)
    (change,) = found["runs"]
    assert (change["events"], change["events_before"]) == (91, 91)
    assert [change[kind] for kind in KINDS] == [0, 0, 0, 2]
    assert (found["input"], found["settings"], found["HalfPipe"]) == ([], [], [])
    assert (found["before"], found["after"], found["reason"]) == (1, 2, "a look")
    # If only the receipt is rewritten, the hand-off and its reason stay the same.
    site.snakemake(f"dl={DL}", "-R", "receipt", "--config", "reason=another").good()
    assert site.receipt(DL).receipt.reason == "a look"
    head, *lines = site.halfpipe("diff", DL).good().out.splitlines()
    assert re.findall(r"hand-off \d|a look", head) == ["hand-off 1", "hand-off 2", "a look"]
    assert len(lines) == 4
    assert site.halfpipe("diff", DL, "1", "7").status == 1


def test_a_new_chunk_and_a_new_setting(site: Site, tmp_path: Path) -> None:
    build("complete_multichunk", site)
    last = max((site.retdefs / DL).iterdir())
    away = shutil.move(last, tmp_path / last.name)
    site.by_hand(DL)
    before = site.receipt(DL).runs[0].delivery
    shutil.move(away, last)
    site.configure(merge={"max_events": 50})
    site.by_hand(DL)
    after = site.receipt(DL).runs[0].delivery
    found = diff(site)
    (change,) = found["runs"]
    assert (change["events_before"], change["events"]) == (before.events, after.events)
    assert change["events"] > change["events_before"]
    assert (change["waiting_before"], change["waiting"]) == (before.books.in_texts, after.books.in_texts)
    names = [{file.name for file in each.files} for each in (before, after)]
    assert change["new"] == len(names[1] - names[0]) > 0
    assert change["changed"] + change["same"] == len(names[0] & names[1])
    (new,) = found["input"]
    assert new.startswith(f"chunk {last.stem[-5:]}: nothing → RetDef ")
    assert found["settings"] == ["merge.max_events: 1000 → 50"]
