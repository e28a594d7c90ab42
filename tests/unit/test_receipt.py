"""The receipt: its schema on real ones, what it says, and how hand-offs are counted."""

import copy
import json
import logging
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from halfpipe.config import schema
from halfpipe.errors import StateError
from halfpipe.files import read_json, sha256, write_json
from halfpipe.handoff import handoffs, receipt, stage
from halfpipe.ids import ChunkId, DownlinkId, RunId
from tests.golden_cases import GOLDEN, Case, read_case
from tests.workflow import Site

DL = DownlinkId("240601001")
LPA, LCI, OPEN = RunId("2c2e5787"), RunId("2c2e6cc0"), RunId("2c2e8430")  # of the case multi3
TEXTS = {"delivered_events", "event_gaps", "event_times", "moot_keys", "retired_runs"}


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


def validator() -> Draft202012Validator:
    Draft202012Validator.check_schema(schema("receipt"))
    return Draft202012Validator(schema("receipt"))


def properties(part: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every property of a schema, at any depth, and its place."""
    if isinstance(part, dict):
        for name, value in part.get("properties", {}).items():
            if "const" not in value:  # a condition, which describes nothing
                yield f"{place}.{name}", value
        for name, value in part.items():
            yield from properties(value, f"{place}.{name}")
    elif isinstance(part, list):
        for value in part:
            yield from properties(value, place)


def test_every_key_is_described_and_no_other_is_taken() -> None:
    found = dict(properties(schema("receipt")))
    assert len(found) > 60
    assert [place for place, value in found.items() if not value.get("description", "").endswith(".")] == []
    objects = [value for value in found.values() if value.get("type") == "object"]
    # Or keys that are ids, of which each value is described.
    assert all(value["additionalProperties"] is False or "propertyNames" in value for value in objects)


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
def test_receipts_of_real_runs_fit_the_schema(tmp_path: Path, name: str, merge: dict[str, Any]) -> None:
    site, case = on_site(tmp_path, name, **merge)
    for step in case.steps:
        site.by_hand(step.downlink)
        validator().validate(site.receipt(step.downlink))
        assert site.receipt(step.downlink)["runs"], "it says something"


def test_what_does_not_fit_the_schema(delivered: Site) -> None:
    good = delivered.receipt(DL)
    validator().validate(good)

    def refused(change: Any) -> None:
        bad = copy.deepcopy(good)
        change(bad)
        with pytest.raises(ValidationError):
            validator().validate(bad)

    for key in good:
        refused(lambda bad, key=key: bad.pop(key))
    for key in good["runs"][0]:
        refused(lambda bad, key=key: bad["runs"][0].pop(key))
    for key in good["chunks"][0]["files"][1]:
        refused(lambda bad, key=key: bad["chunks"][0]["files"][1].pop(key))
    refused(lambda bad: bad.update(host="here"))
    refused(lambda bad: bad.update(downlink=240601001))
    refused(lambda bad: bad["runs"][0].update(run="2C2E5787"))
    refused(lambda bad: bad["runs"][0]["files"][0].update(sequences=[1]))
    refused(lambda bad: bad["config"]["merge"].update(latc_override=2**32))


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
    written = (delivered.work / f"dl={DL}").read_bytes()
    assert (delivered.work / DL / "receipts" / "001.json").read_bytes() == written
    assert str(delivered.home).encode() not in written, "the same input gives the same receipt anywhere"


def job(site: Site, **changes: Any) -> receipt.Job:
    values: dict[str, Any] = {
        "work": site.work,
        "stage": site.stage,
        "downlink": DL,
        "chunks": tuple(ChunkId.of(n) for n in range(1, 6)),
        "runs": (LPA, LCI, OPEN),
        "magic7": None,
        "ignored": (),
        "config": {},
    }
    return receipt.Job(**values | changes)


def test_a_run_that_no_retdef_announced(delivered: Site) -> None:
    with pytest.raises(StateError) as caught:
        receipt.hand_off(job(delivered, runs=(LPA, OPEN)), StringIO())
    said = str(caught.value)
    assert said.startswith(
        "chunk 00003 of downlink 240601001 brought run 2c2e6cc0 (r0741240000), which no RetDef"
    )
    assert "give the same command again" in said


def test_made_again_alone_it_is_the_same_and_stages_nothing(delivered: Site) -> None:
    before = delivered.tree()
    receipt.withdraw(delivered.work, DL)
    assert not (delivered.work / f"dl={DL}").exists()
    receipt.withdraw(delivered.work, DL)  # nothing to remove is no error
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
    before, staged = delivered.receipt(DL), delivered.staged(DL)
    delivered.by_hand(DL)
    after = delivered.receipt(DL)
    assert (before.pop("handoff"), after.pop("handoff")) == (1, 2)
    for run in [*before["runs"], *after["runs"]]:
        run.pop("handoff")
    assert after == before
    assert delivered.staged(DL) == staged
    assert [handoff.number for handoff in handoffs.read(delivered.work, DL)] == [1, 2]
    assert sorted(path.name for path in (delivered.work / DL / "receipts").iterdir()) == [
        "001.json",
        "002.json",
    ]


def test_a_run_whose_files_are_gone_is_not_named(
    delivered: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Files that vanish between delivery and hand-off are told, with the command that brings them back."""
    monkeypatch.setattr(logging.getLogger("halfpipe"), "propagate", True)
    manifest = delivered.work / "runs" / LCI / DL / "manifest.json"
    again = read_json(manifest)
    write_json(manifest, again | {"handoff": 2})
    shutil.rmtree(delivered.stage / DL / LCI.l1)
    made = receipt.hand_off(job(delivered), StringIO())
    assert [run["named"] for run in made["runs"]] == [True, False, True]
    assert made["handoff"] == 2
    lines = (delivered.stage / DL / f"delivered_events_{DL}.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [LPA.l1, OPEN.l1]
    assert "snakemake dl=240601001 -R deliver_run" in caplog.text


def test_texts_of_an_earlier_hand_off_go(delivered: Site) -> None:
    """A magic-7 text of before must not stand beside a hand-off that has none."""
    left = delivered.stage / DL / f"magic7_{DL}.txt"
    left.write_text("x\n")
    delivered.by_hand(DL)
    assert not left.exists()


def test_level_1_may_retire_runs_only_after_it(delivered: Site) -> None:
    stage.halt_cleanup(delivered.stage, DL, [LPA, LCI])
    receipt.hand_off(job(delivered), StringIO())
    tokens = sorted(path.name for path in delivered.stage.glob("chunktokens/*/*"))
    assert len(tokens) == 3
    assert not any(token.startswith("haltCleanup") for token in tokens)


def test_the_table_for_people() -> None:
    run = {
        "run": "2c2e5787", "l1_run": "r0741234567", "kind": "LPA", "files": [1, 2], "delivered": 125001,
        "orphans": 3, "withheld": 1, "late": 0, "held": False, "complete": True,
    }  # fmt: skip
    held = run | {"run": "2c2e5788", "l1_run": "r0741234568", "files": [], "delivered": 0, "held": True}
    assert receipt.table({"downlink": DL, "handoff": 2, "runs": [run, held]}).splitlines() == [
        "downlink 240601001, hand-off 2",
        "run       MET run      kind  files  events  orphans  withheld  late  state",
        "2c2e5787  r0741234567  LPA   2      125001  3        1         0     complete",
        "2c2e5788  r0741234568  LPA   0      0       3        1         0     HELD",
    ]
    assert receipt.table({"downlink": DL, "handoff": 1, "runs": []}).splitlines()[0].startswith("downlink")


def test_hand_offs_are_appended(tmp_path: Path) -> None:
    assert handoffs.last_number(tmp_path, DL) == 0
    first = handoffs.HandOff(1, (LPA,), ({"name": "x", "size": 1, "sha256": "0" * 64},))
    handoffs.record(tmp_path, DL, first)
    handoffs.record(tmp_path, DL, handoffs.HandOff(2, (), ()))
    path = tmp_path / DL / "handoffs.jsonl"
    with path.open("a") as file:
        file.write('{"handoff": 3, "named"')  # torn
    assert handoffs.read(tmp_path, DL) == [first, handoffs.HandOff(2, (), ())]
    path.write_text(json.dumps({"handoff": 1, "named": ["no run"], "texts": []}) + "\n")
    with pytest.raises(
        StateError, match=r"handoffs\.jsonl, line 1: damaged .*restore the file from a backup"
    ):
        handoffs.read(tmp_path, DL)
