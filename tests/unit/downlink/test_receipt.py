"""The receipt: its form on real ones, what it says, and how hand-offs are counted."""

import copy
import shutil
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from pydantic import ConfigDict, TypeAdapter, ValidationError

from halfpipe import paths
from halfpipe.config import load
from halfpipe.downlink import receipt
from halfpipe.downlink.receipt_form import FromManifest, Index, Product, Receipt
from halfpipe.downlink.withdrawal import withdraw
from halfpipe.errors import DecoderError, LeaseLostError, StageError, StateError
from halfpipe.files import leases
from halfpipe.files.json_files import read_json, write_json
from halfpipe.files.reading import sha256
from halfpipe.files.records import TakenError
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.run import stage
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.receipt_file import hand_offs, publish, read_receipt, series
from halfpipe.settings import Settings
from tests.support.golden_cases import GOLDEN, Case, read_case
from tests.support.series import homes
from tests.support.workflow import Site

DL = DownlinkId("240601001")
LPA, LCI, OPEN = RunId("2c2e5787"), RunId("2c2e6cc0"), RunId("2c2e8430")  # of the case multi3
TEXTS = {"delivered_events", "event_gaps", "event_times", "moot_keys", "retired_runs"}


FORM = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


def of_the_form(content: dict[str, Any]) -> None:
    """Fail unless `content` is a receipt, and nothing else stands in it."""
    TypeAdapter(list[Receipt], config=FORM).validate_python([content])


def settings(site: Site) -> Settings:
    return load([site.configfile])


def on_site(home: Path, name: str, **merge: Any) -> tuple[Site, Case]:
    """Return a site for a golden case with its knobs."""
    case = read_case(GOLDEN / name)
    site = Site(home)
    site.replay(case.directory / "in")
    knobs = ("max_events", "chunk_scale", "chunk_floor", "min_events", "min_epus")
    site.configure(merge={knob: getattr(case, knob) for knob in knobs} | merge)
    site.add_retdefs(case.directory / "in", *case.downlinks)
    return site, case


@pytest.fixture
def delivered(tmp_path: Path) -> Site:
    """A site on which the case multi3 was processed."""
    site, _ = on_site(tmp_path, "multi3")
    site.by_hand(DL)
    return site


def test_every_key_is_described() -> None:
    parts = TypeAdapter(tuple[Receipt, FromManifest], config=FORM).json_schema()["$defs"]
    keys = {(part, key): said for part, of in parts.items() for key, said in of["properties"].items()}
    for key in parts["FromManifest"]["properties"]:
        del keys["Run", key]
    for part in ("Events", "Index"):
        for key in Product.__annotations__:
            del keys[part, key]
    assert len(keys) > 40
    assert [
        key
        for key, said in keys.items()
        if "$ref" not in said and not said.get("description", "").endswith(".")
    ] == []


@pytest.mark.parametrize(
    ("name", "merge"),
    [
        ("multi3", {}),
        ("multi3", {"min_events": 1, "max_events": 39, "chunk_scale": 1.0}),  # one run is held
        ("gap_both_partially_filled", {}),
        ("seq_over_32bit", {}),
        ("withheld_lone", {}),
        ("third_epu_late_again", {}),
        ("eventless_close_later", {}),
        ("runid_small", {}),
    ],
)
def test_receipts_of_real_runs_have_the_form(tmp_path: Path, name: str, merge: dict[str, Any]) -> None:
    site, case = on_site(tmp_path, name, **merge)
    for step in case.steps:
        site.by_hand(step.downlink)
        content = dict(read_receipt(site.work, DownlinkId(step.downlink)))
        of_the_form(content)
        assert content["runs"], "it says something"


def test_what_has_another_form(delivered: Site) -> None:
    good = dict(read_receipt(delivered.work, DL))
    of_the_form(good)

    def refused(change: Any) -> None:
        bad = copy.deepcopy(good)
        change(bad)
        with pytest.raises(ValidationError):
            of_the_form(bad)

    for key in good:
        refused(lambda bad, key=key: bad.pop(key))
    for key in good["runs"][0]:
        refused(lambda bad, key=key: bad["runs"][0].pop(key))
    # What an earlier version did not know is not in its receipts.
    assert Index.__optional_keys__ < good["chunks"][0]["files"][1].keys()
    for key in Index.__required_keys__:
        refused(lambda bad, key=key: bad["chunks"][0]["files"][1].pop(key))
    refused(lambda bad: bad.update(host="here"))
    refused(lambda bad: bad["runs"][0].update(host="here"))
    refused(lambda bad: bad.update(downlink=240601001))
    refused(lambda bad: bad["runs"][0].update(run="2C2E5787"))
    refused(lambda bad: bad["runs"][0]["files"][0].update(sequences=[1]))
    refused(lambda bad: bad["runs"][0].update(kind="lpa"))


def test_everything_in_it_is_true(delivered: Site) -> None:
    content = delivered.receipt(DL)
    for chunk in content["chunks"]:
        retdef = delivered.work / DL / f"RetDef-{DL}-{chunk['chunk']}.xml"
        assert chunk["retdef"] == sha256(retdef)
        for file in chunk["files"]:
            path = delivered.work / DL / "chunks" / file["name"]
            assert (file["size"], file["sha256"]) == (path.stat().st_size, sha256(path))
    staged = 0
    for run in content["runs"]:
        for file in run["files"]:
            path = delivered.stage / DL / run["l1_run"] / file["name"]
            assert (file["size"], file["sha256"]) == (path.stat().st_size, sha256(path))
            staged += 1
    assert staged == len(delivered.staged(DL)) == 3
    assert {text["name"] for text in content["texts"]} == {f"{name}_{DL}.txt" for name in TEXTS}
    for text in content["texts"]:
        assert text["sha256"] == sha256(delivered.stage / DL / text["name"])
    assert content["config"] == settings(delivered).provenance
    written = (delivered.work / f"dl={DL}").read_bytes()
    assert [(home / "000001.json").read_bytes() for home in homes(delivered.work, paths.receipts(DL))] == [
        written
    ] * 2
    for run in content["runs"]:
        assert run["delivery"] == Deliveries(delivered.work, RunId(run["run"])).seal(DL)
    assert str(delivered.home).encode() not in written, "the same input gives the same receipt anywhere"


def hand_off(site: Site, *runs: RunId) -> Receipt:
    chunks = [ChunkId.of(number) for number in range(1, 6)]
    with leases.downlink_job(site.work, DL) as lease:
        return receipt.hand_off(settings(site), lease, DL, chunks, runs or (LPA, LCI, OPEN), StringIO())


def test_a_run_that_no_retdef_announced(delivered: Site) -> None:
    with pytest.raises(StateError) as caught:
        hand_off(delivered, LPA, OPEN)
    said = str(caught.value)
    assert said.startswith(
        "chunk 00003 of downlink 240601001 brought run 2c2e6cc0 (r0741240000), which no RetDef"
    )
    assert "re-run the command" in said


def test_too_many_exceptions(delivered: Site) -> None:
    path = delivered.work / DL / "chunks" / "00002.json"
    chunk = read_json(path)
    chunk["said"]["exceptions_by_run"] = {LPA: {"DFI": 2, "PktFile": 1}}
    write_json(path, chunk)
    delivered.configure(decoder={"max_exceptions": 2})
    with pytest.raises(
        DecoderError, match=r"met 3 exceptions, more than .* \(2\): run 2c2e5787: 2 DFI; run .*: 1 Pkt"
    ):
        hand_off(delivered)
    delivered.configure(decoder={"max_exceptions": 3})
    made = hand_off(delivered)
    assert made["chunks"][1]["said"]["exceptions_by_run"] == {LPA: {"DFI": 2, "PktFile": 1}}


def test_made_again_alone_it_is_the_same_and_stages_nothing(delivered: Site) -> None:
    before = delivered.tree()
    withdraw(delivered.work, DL)
    assert not (delivered.work / f"dl={DL}").exists()
    withdraw(delivered.work, DL)  # nothing to remove is no error
    (delivered.stage / DL / f"retired_runs_{DL}.txt").unlink()
    delivered.by_hand_receipt(DL)
    assert delivered.tree() == before

    # Level-1 has taken everything: the stage stays empty, and the receipt the same.
    shutil.rmtree(delivered.stage / DL)
    delivered.by_hand_receipt(DL)
    assert not (delivered.stage / DL).exists()
    receipt_now = {name: content for name, content in delivered.tree().items() if name.startswith("work/")}
    assert receipt_now == {name: content for name, content in before.items() if name.startswith("work/")}


def test_processed_again_it_is_the_next_hand_off_of_the_same_files(delivered: Site) -> None:
    before, staged = dict(read_receipt(delivered.work, DL)), delivered.staged(DL)
    delivered.by_hand(DL)
    after = dict(read_receipt(delivered.work, DL))
    assert (before.pop("handoff"), after.pop("handoff")) == (1, 2)
    for run in [*before["runs"], *after["runs"]]:
        run.pop("handoff")
    assert after == before
    assert delivered.staged(DL) == staged
    assert [handoff.number for handoff in hand_offs(delivered.work, DL)] == [1, 2]
    assert sorted(path.name for path in (delivered.work / DL / "receipts").iterdir()) == [
        "000001.json",
        "000002.json",
    ]


def test_files_that_vanish_before_the_hand_off_refuse_it(delivered: Site) -> None:
    """Nobody was told of them, so nobody can have taken them: it is told with the command that brings them back."""
    manifest = delivered.work / "runs" / LCI / DL / "manifest.json"
    write_json(manifest, read_json(manifest) | {"handoff": 2})
    shutil.rmtree(delivered.stage / DL / LCI.l1)
    before = hand_offs(delivered.work, DL)
    with pytest.raises(StageError, match=f"run {LCI} of downlink {DL}.*snakemake dl={DL} -R deliver_run"):
        hand_off(delivered)
    assert hand_offs(delivered.work, DL) == before


def test_a_run_that_was_taken_with_an_earlier_hand_off_is_not_named(delivered: Site) -> None:
    manifest = delivered.work / "runs" / LPA / DL / "manifest.json"
    write_json(manifest, read_json(manifest) | {"handoff": 2})
    shutil.rmtree(delivered.stage / DL / LCI.l1)
    made = hand_off(delivered)
    assert [run["named"] for run in made["runs"]] == [True, False, True]
    assert made["handoff"] == 2
    lines = (delivered.stage / DL / f"delivered_events_{DL}.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [LPA.l1, OPEN.l1]


def test_texts_of_an_earlier_hand_off_go(delivered: Site) -> None:
    """A magic-7 text of before must not stand beside a hand-off that has none."""
    left = delivered.stage / DL / f"magic7_{DL}.txt"
    left.write_text("x\n")
    delivered.by_hand(DL)
    assert not left.exists()


def test_level_1_may_retire_runs_only_after_it(delivered: Site) -> None:
    stage.keep_from_retiring(delivered.stage, DL, [LPA, LCI])
    made, known = hand_off(delivered), series(delivered.work, DL)
    assert len(list(delivered.stage.glob("chunktokens/*/haltCleanup-*"))) == 2, "it is not recorded yet"
    with leases.downlink_job(delivered.work, DL) as lease:
        receipt.save(settings(delivered), lease, known, DL, [LPA, LCI, OPEN], made)
    tokens = sorted(path.name for path in delivered.stage.glob("chunktokens/*/*"))
    assert len(tokens) == 3
    assert not any(token.startswith("haltCleanup") for token in tokens)


def test_who_decided_before_another_one_had_handed_off_records_nothing(delivered: Site) -> None:
    made, known = hand_off(delivered), series(delivered.work, DL)
    publish(delivered.work, DL, {**made, "handoff": made["handoff"] + 1})
    made["reason"] = "a stale one"
    with leases.downlink_job(delivered.work, DL) as lease, pytest.raises(TakenError):
        receipt.save(settings(delivered), lease, known, DL, [LPA, LCI, OPEN], made)
    assert len(series(delivered.work, DL).records) == len(known.records) + 1


def test_who_has_lost_the_downlink_puts_no_text_into_the_stage(tmp_path: Path) -> None:
    site, _ = on_site(tmp_path, "multi3")
    site.by_hand(DL, hand_off=False)
    lost = leases.Lease(site.work, paths.downlink_lease(DL))
    chunks = [ChunkId.of(number) for number in range(1, 6)]
    with pytest.raises(LeaseLostError):
        receipt.hand_off(settings(site), lost, DL, chunks, (LPA, LCI, OPEN), StringIO())
    assert list((site.stage / DL).glob("*.txt")) == []


def test_who_has_lost_the_downlink_takes_back_no_token(delivered: Site) -> None:
    made, known = hand_off(delivered), series(delivered.work, DL)
    withdraw(delivered.work, DL)
    stage.keep_from_retiring(delivered.stage, DL, [LPA, LCI])  # who has followed processes it again
    lost = leases.Lease(delivered.work, paths.downlink_lease(DL))
    with pytest.raises(LeaseLostError):
        receipt.save(settings(delivered), lost, known, DL, [LPA, LCI, OPEN], made)
    assert len(list(delivered.stage.glob("chunktokens/*/haltCleanup-*"))) == 2
    assert not delivered.has_receipt(DL)


def test_the_table_for_people() -> None:
    run = {
        "run": "2c2e5787", "l1_run": "r0741234567", "kind": "LPA", "files": [1, 2], "known": 125004,
        "delivered": 125001, "orphans": 3, "late": 0, "held_events": 0, "elsewhere": 0, "held": False, "complete": True,
    }  # fmt: skip
    held = run | {
        "run": "2c2e5788", "l1_run": "r0741234568", "files": [], "delivered": 0, "held": True, "held_events": 125001,
    }  # fmt: skip
    assert receipt.table({"downlink": DL, "handoff": 2, "runs": [run, held]}).splitlines() == [
        "downlink 240601001, hand-off 2",
        "run       L1 run       kind  files  known   delivered  orphans  late  held    elsewhere  state",
        "2c2e5787  r0741234567  LPA   2      125004  125001     3        0     0       0          complete",
        "2c2e5788  r0741234568  LPA   0      125004  0          3        0     125001  0          HELD",
    ]
    assert receipt.table({"downlink": DL, "handoff": 1, "runs": []}).splitlines()[0].startswith("downlink")
