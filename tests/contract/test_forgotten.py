"""What Level-1 may have is never forgotten: losses, lost records, and what people accept and release."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.causes import Verdict
from halfpipe.downlink.record_causes import lost_downlinks, troubles
from halfpipe.files.records import Series
from halfpipe.ids import DownlinkId, RunId
from halfpipe.status.failures import failures
from tests.support.golden_cases import GOLDEN, Case, case_names, read_case
from tests.support.series import homes, values
from tests.support.workflow import Site

FIRST, SECOND = DownlinkId("240601001"), DownlinkId("240601002")
RUN = RunId("2c2e5787")


def on_site(home: Path, name: str = "dup_later_dl", **merge: Any) -> tuple[Site, Case, Path]:
    """Return a site for a golden case, and where its products are taken from: a copy that a test may change."""
    case, source = read_case(GOLDEN / name), home / "source"
    site = Site(home)
    shutil.copytree(case.directory / "in", source)
    site.replay(source)
    (home / "moot.txt").write_text("".join(f"r{r:010d} {k} {a}\n" for r, (k, a) in case.moot.items()))
    knobs = ("max_events", "chunk_scale", "chunk_floor", "min_events", "min_epus")
    site.configure(
        merge={knob: getattr(case, knob) for knob in knobs} | merge,
        moot={"file": str(home / "moot.txt")},
        ledger={"url": None},
    )
    site.add_retdefs(case.directory / "in", *case.downlinks)
    return site, case, source


def without(source: Path, downlink: str, gone: Callable[[int], bool]) -> None:
    """Take the events out of the products of a downlink of whose sequences `gone` says so."""
    for path in (source / downlink).glob("*.idx"):
        lines = path.read_text().splitlines(keepends=True)
        kept = [line for line in lines if not (line.startswith("EVT:") and gone(int(line.split()[2])))]
        path.write_text("".join(kept))


def codes(site: Site, downlink: str) -> dict[str, Verdict]:
    return {cause.code: cause.verdict for cause in troubles(site.settings, DownlinkId(downlink), [RUN])}


def recorded(site: Site, downlink: str) -> dict[str, bytes]:
    """Return what says what was delivered of the run, and what a downlink brought of it."""
    home = site.work / "runs" / RUN
    brought = [home / downlink / name for name in ("datagrams.idx", "events.npy", "chunks.json")]
    records = [*(home / "deliveries").glob("*.json"), *(site.work / paths.receipts(downlink)).glob("*.json")]
    return {str(path.relative_to(site.work)): path.read_bytes() for path in [*brought, *records]}


@pytest.mark.parametrize("damage", ["emptied", "cut", "deleted"])
@pytest.mark.parametrize("copies", [1, 2])
def test_a_delivery_that_is_lost_in_both_copies_stops_the_run(
    tmp_path: Path, damage: str, copies: int
) -> None:
    """Row 1: the other downlink of the run would deliver the same events again."""
    site, case, _ = on_site(tmp_path)
    site.process(FIRST)
    files = [home / "000001.json" for home in homes(site.work, paths.deliveries(RUN))]
    before = files[0].read_bytes()
    for path in files[:copies]:
        if damage == "deleted" and copies == 1:
            path.unlink()
        else:
            path.write_bytes(before[:-30] if damage == "cut" else b"")
    if copies == 2:
        site.snakemake(f"dl={SECOND}").bad(*map(str, files))
        assert site.staged(SECOND) == {}
        assert codes(site, FIRST) == {"record-damaged": Verdict.ACTION}
        files[1].write_bytes(before)
    site.process(SECOND)
    assert site.staged(SECOND) == case.steps[1].expected.files
    assert codes(site, FIRST) == {}
    assert [path.read_bytes() for path in files] == [before, before]


@pytest.fixture(scope="module")
def first_done(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that has processed the first downlink; tests take clones."""
    site, _, _ = on_site(tmp_path_factory.mktemp("first"))
    site.process(FIRST)
    return site


@pytest.fixture(scope="module")
def both_done(first_done: Site, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """What becomes of it when the second one is processed, and the first one again."""
    site = first_done.clone(tmp_path_factory.mktemp("both"))
    site.process(SECOND)
    site.process(FIRST, again=True)
    return site


def records(site: Site) -> dict[str, list[dict[str, Any]]]:
    """Return what all records say of deliveries and hand-offs: of both copies, which agree."""
    found = {}
    for place in (paths.deliveries(RUN), paths.receipts(FIRST), paths.receipts(SECOND)):
        found[place] = values(site.work, place)
        assert values(site.work, paths.copies(place)) == found[place]
    return found


@pytest.mark.parametrize("harm", ["cut", "deleted"])
@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("place", [paths.deliveries(RUN), paths.receipts(FIRST)])
def test_one_copy_that_is_harmed_changes_nothing(
    first_done: Site, both_done: Site, tmp_path: Path, place: str, copy: int, harm: str
) -> None:
    site = first_done.clone(tmp_path)
    path = homes(site.work, place)[copy] / "000001.json"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    else:
        path.unlink()
    site.process(SECOND)
    site.process(FIRST, again=True)
    site.halfpipe(
        "status", "--check"
    ).good()  # which reads second copies, too: a reader who has the first does not
    assert [site.staged(dl) for dl in (FIRST, SECOND)] == [both_done.staged(dl) for dl in (FIRST, SECOND)]
    assert records(site)[paths.deliveries(RUN)] == records(both_done)[paths.deliveries(RUN)]
    assert [one["handoff"] for one in records(site)[paths.receipts(FIRST)]] == [1, 2]


@pytest.mark.parametrize("which", [f"runs/{RUN}", FIRST])
def test_an_older_directory_that_is_put_back_delivers_nothing_twice(
    first_done: Site, both_done: Site, tmp_path: Path, which: str
) -> None:
    """The copies know more than it."""
    site = both_done.clone(tmp_path)
    shutil.rmtree(site.work / which)
    shutil.copytree(first_done.work / which, site.work / which)
    before = {dl: site.staged(dl) for dl in (FIRST, SECOND)}
    for dl in (FIRST, SECOND):
        site.process(dl, again=True)
    assert {dl: site.staged(dl) for dl in (FIRST, SECOND)} == before
    now, then = records(site), records(both_done)
    for place, said in then.items():
        assert now[place][: len(said)] == said, "all that the copies knew is there"
    assert [one["handoff"] for one in now[paths.receipts(FIRST)]] == [1, 2, 3]
    assert [one["handoff"] for one in now[paths.receipts(SECOND)]] == [1, 2]


def test_what_would_deliver_less_is_refused(tmp_path: Path) -> None:
    """Rows 4 and 5: nothing recorded, staged or handed off changes; the input comes back, and all is good."""
    site, case, source = on_site(tmp_path)
    site.process(FIRST)
    before, staged = recorded(site, FIRST), site.staged(FIRST)
    whole = tmp_path / "whole"
    shutil.copytree(source, whole)
    without(source, FIRST, lambda sequence: sequence > 1060)
    refused = site.snakemake(f"dl={FIRST}", "-F").bad(
        f"run {RUN} (r0741234567) of downlink {FIRST} SHRINKS: ",
        "of 51 events that Level-1 may have, between sequences 1001 and 1102, would not be delivered again; lost in "
        "chunk 00001 (",
        "00002 (",
        f"snakemake dl={FIRST} -R decode_chunk",
        f'shrink: {{accept: [{{dl: "{FIRST}", run: "{RUN}", reason: "..."}}]}}',
    )
    assert "hand-off 2" not in refused.said
    assert recorded(site, FIRST) == before
    assert site.staged(FIRST) == staged
    assert not site.has_receipt(FIRST)
    assert [cause.code for cause in failures(site.settings, FIRST)] == ["shrunk-refused"]
    site.snakemake(f"dl={FIRST}").bad("SHRINKS")  # a plain command does not slip it in
    assert recorded(site, FIRST) == before

    # Other downlinks of the run go on meanwhile, with what the first one delivered and brought.
    site.process(SECOND)
    assert site.staged(SECOND) == case.steps[1].expected.files

    shutil.copytree(whole, source, dirs_exist_ok=True)
    site.snakemake(f"dl={FIRST}", "-R", "decode_chunk").good()
    assert site.staged(FIRST) == staged
    assert site.receipt(FIRST)["handoff"] == 2
    assert codes(site, FIRST) == {}


def test_an_accepted_loss_stays_closed_until_it_is_released(tmp_path: Path) -> None:
    """Row 4: Level-1 may have the events that were lost, so another downlink must not deliver its copies."""
    site, case, source = on_site(tmp_path)
    site.process(FIRST)
    without(source, FIRST, lambda sequence: 1060 < sequence <= 1102)
    site.configure(shrink={"accept": [{"dl": str(FIRST), "run": str(RUN), "reason": "the tape is gone"}]})
    site.process(FIRST, again=True)
    (run,) = site.receipt(FIRST)["runs"]
    last = run["spans"][-1][1]
    assert last <= 1060
    assert run["closed"] == [[last + 1, 1102]]
    assert run["accepted"] == "the tape is gone"
    assert run["shrunk"] == 51 - run["delivered"] > 0
    assert any(why.endswith("as was accepted: the tape is gone") for why in run["why"])
    assert codes(site, FIRST) == {"shrunk-accepted": Verdict.NOTE, "closed-spans": Verdict.NOTE}
    # Again the same, for nothing is less than before; and what was accepted is not forgotten.
    site.process(FIRST, again=True)
    (again,) = site.receipt(FIRST)["runs"]
    assert (again["spans"], again["closed"], again["accepted"]) == (
        run["spans"],
        run["closed"],
        run["accepted"],
    )
    assert again["shrunk"] == 0

    site.process(SECOND)
    assert site.staged(SECOND) == case.steps[1].expected.files, "as if nothing had been lost"
    before = site.staged(SECOND)

    site.halfpipe("force", RUN, "--reopen", FIRST).bad("Say why")
    assert site.halfpipe("force", RUN, "--reopen", FIRST, "--reason", "rolled back").good().said == (
        f"run {RUN} (r0741234567): sequences {last + 1} to 1102 of downlink {FIRST} are open to other downlinks\n"
    )
    said = values(site.work, paths.deliveries(RUN))[-1]
    assert (said["kind"], said["downlink"], said["reason"]) == ("release", FIRST, "rolled back")
    site.halfpipe("force", RUN, "--reopen", FIRST, "--reason", "again").bad("nothing was released")
    site.process(SECOND, again=True)
    (second,) = site.receipt(SECOND)["runs"]
    assert last < second["spans"][0][0] <= 1102, "now they go with the second downlink"
    assert site.staged(SECOND) != before
    assert second["known"] == sum(second[part] for part in PARTS)


def test_a_run_that_nobody_brings_any_more(tmp_path: Path) -> None:
    """A RetDef that is issued again without a run: there is no job of that run that could refuse."""
    site, _, _ = on_site(tmp_path, "multi3")
    site.process(FIRST)
    other = RunId("2c2e8430")
    gone = {run["run"]: run for run in site.receipt(FIRST)["runs"]}[other]
    assert gone["delivered"] > 0
    chunks = [c["chunk"] for c in site.receipt(FIRST)["chunks"] if other in c["runs"]]
    ignored = [{"dl": str(FIRST), "chunk": chunk, "reason": "lost on ground"} for chunk in chunks]
    site.configure(ignore={"chunks": ignored})
    site.snakemake(f"dl={FIRST}", "-F").bad(
        f"run {other} ({gone['l1_run']}) of downlink {FIRST} SHRINKS: {gone['delivered']} events", chunks[0]
    )
    assert not site.has_receipt(FIRST)
    assert [cause.code for cause in failures(site.settings, FIRST)] == ["shrunk-refused"]
    site.configure(shrink={"accept": [{"dl": str(FIRST), "run": str(other), "reason": "it was noise"}]})
    site.process(FIRST)
    assert other not in {run["run"] for run in site.receipt(FIRST)["runs"]}
    assert not any(gone["l1_run"] in name for name in site.staged(FIRST))
    assert [cause.code for cause in troubles(site.settings, FIRST)] == []
    site.halfpipe("force", other, "--reopen", FIRST, "--reason", "rolled back").good()


def test_min_events_that_was_raised_takes_nothing_back(tmp_path: Path) -> None:
    """Row 3: what was delivered is delivered again, and by nobody else."""
    site, _, source = on_site(tmp_path)
    # All but two events that follow each other: a series of two.
    few = sorted(
        int(line.split()[2])
        for path in (source / FIRST).glob("*.idx")
        for line in path.read_text().splitlines()
        if line.startswith("EVT:")
    )[4:6]
    without(source, FIRST, lambda sequence: sequence not in few)
    site.configure(merge={"min_events": 2})
    site.process(FIRST)
    (run,) = site.receipt(FIRST)["runs"]
    assert run["spans"] == [few]
    site.configure(merge={"min_events": 3})
    site.process(FIRST, again=True)
    (run,) = site.receipt(FIRST)["runs"]
    assert (run["spans"], run["delivered"], run["withheld"], run["shrunk"]) == ([few], 2, 0, 0)
    site.process(SECOND)
    (second,) = site.receipt(SECOND)["runs"]
    assert not any(first <= sequence <= last for first, last in second["spans"] for sequence in few)


def test_a_lone_event_is_withheld_and_stays_closed(tmp_path: Path) -> None:
    site, _, source = on_site(tmp_path, min_events=1)
    lone = sorted(
        int(line.split()[2])
        for path in (source / FIRST).glob("*.idx")
        for line in path.read_text().splitlines()
        if line.startswith("EVT:")
    )[4]
    without(source, FIRST, lambda sequence: sequence != lone)
    # As the legacy, which delivered it: Level-1's test holds it here.
    site.process(FIRST)
    assert site.receipt(FIRST)["runs"][0]["held"]
    file = {
        "name": f"r0741234567-e{lone:020d}.evt", "events": 1, "sequences": [lone, lone], "seconds": [1, 1],
        "size": 1234, "sha256": "0" * 64,
    }  # fmt: skip
    line: dict[str, Any] = {
        "downlink": FIRST,
        "spans": [[lone, lone]],
        "datagrams": {},
        "files": [file],
        "times": None,
        "window": None,
    }
    series = Series(site.work, paths.deliveries(RUN))
    series.read()
    series.publish({"kind": "delivery", **line})
    site.configure(merge={"min_events": 2})
    site.process(FIRST, again=True)
    (run,) = site.receipt(FIRST)["runs"]
    assert (run["delivered"], run["withheld"], run["shrunk"], run["closed"]) == (0, 1, 0, [[lone, lone]])
    site.process(SECOND)
    for first, last in site.receipt(SECOND)["runs"][0]["spans"]:
        assert not first <= lone <= last


@pytest.mark.parametrize("gone", ["everything", "the receipt"])
def test_numbers_of_hand_offs_go_on(tmp_path: Path, gone: str) -> None:
    """Row 10: Level-1 never hears of one number twice."""
    site, case, _ = on_site(tmp_path)
    site.process(FIRST)
    site.process(FIRST, again=True)
    assert site.receipt(FIRST)["handoff"] == 2
    if gone == "everything":
        shutil.rmtree(site.work / FIRST)
        (site.work / f"dl={FIRST}").unlink()
        site.process(FIRST)
    else:
        (site.work / f"dl={FIRST}").unlink()
        taken = site.take(FIRST)
        site.process(FIRST)
        assert site.receipt(FIRST)["handoff"] == 2, "the receipt alone: nothing new was delivered"
        assert not (site.stage / FIRST).exists(), "and nothing is put into a stage that Level-1 has taken"
        assert taken == case.steps[0].expected.files
        assert codes(site, FIRST) == {}
        site.process(FIRST, again=True)
    assert site.receipt(FIRST)["handoff"] == 3
    assert lost_downlinks(site.work) == {}
    assert site.staged(FIRST) == case.steps[0].expected.files


def test_a_run_without_datagrams_is_held(tmp_path: Path) -> None:
    """Row 21: a run that was abandoned, of which only events are known, can stand in no text."""
    site, _, source = on_site(tmp_path)
    for path in (source / FIRST).glob("*.idx"):
        kept = [line for line in path.read_text().splitlines(keepends=True) if line.startswith("EVT:")]
        path.write_text("".join(kept))
    (site.work / "force").mkdir(parents=True)
    (site.work / "force" / "r0741234567").touch()
    site.process(FIRST)
    (run,) = site.receipt(FIRST)["runs"]
    assert run["held"]
    assert run["l1"]["why"] == [
        f"no datagram of run {RUN} is known from any downlink, so no text can name it, and Level-1 fails on it"
    ]
    assert run["known"] == run["held_events"] == 70
    assert site.staged(FIRST) == {}
    assert codes(site, FIRST) == {"run-held": Verdict.ACTION}


PARTS = ("delivered", "orphans", "late", "held_events", "elsewhere")


def test_a_held_run_adds_up(tmp_path: Path) -> None:
    """Row 22: a run that is held when it is processed again, beside the files that were delivered before."""
    site, _, _ = on_site(tmp_path, "rerun_first")
    site.process(FIRST)
    site.process(SECOND)
    (first,) = site.receipt(SECOND)["runs"]
    assert first["elsewhere"] == 33
    # Level-1 refuses files of one event.
    site.configure(merge={"min_events": 1, "max_events": 1})
    site.process(SECOND, again=True)
    (run,) = site.receipt(SECOND)["runs"]
    assert run["held"]
    assert run["files"] == first["files"]
    assert run["delivered"] == 57
    assert run["known"] == sum(run[part] for part in PARTS) == 90
    assert any(
        "with 57 events that an earlier hand-off delivered stand as they are" in why for why in run["why"]
    )


@pytest.mark.parametrize("name", case_names())
def test_every_receipt_adds_up(tmp_path: Path, name: str) -> None:
    """Row 22: each event that is known of a run is in one place, counted from the indexes themselves."""
    site, case, _ = on_site(tmp_path, name)
    known: dict[str, set[tuple[str, str]]] = {}
    for step in case.steps:
        site.by_hand(step.downlink)
        for met in step.runs:
            run = RunId.from_met(met)
            for path in case.products(step.downlink, met):
                events = [line.split() for line in path.read_text().splitlines() if line.startswith("EVT:")]
                known.setdefault(run, set()).update((words[2], words[7]) for words in events)
        for said in site.receipt(step.downlink)["runs"]:
            assert said["known"] == sum(said[part] for part in PARTS)
            assert said["known"] == len(known.get(said["run"], ())), said


def test_a_run_that_is_held_before_anything_was_delivered_adds_up(tmp_path: Path) -> None:
    """Row 22: what Level-1 would not take is counted as held."""
    site, _, _ = on_site(tmp_path, min_events=1, max_events=50, chunk_scale=1.0)
    site.process(FIRST)
    (run,) = site.receipt(FIRST)["runs"]
    assert run["held"]
    assert (run["held_events"], run["files"]) == (51, [])
    assert run["known"] == sum(run[part] for part in PARTS)
