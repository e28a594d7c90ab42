"""Command lines of verbs, and their output for programs."""

import re
from collections import Counter

import pytest

from halfpipe import paths
from halfpipe.process.failure_record import Failure
from halfpipe.words import count
from tests.support.harness import job_log
from tests.support.series import damage
from tests.support.settings import put
from tests.support.worked_site import FIRST, HALF_WAY, LCI, SECOND, SPREAD
from tests.support.workflow import Site


@pytest.mark.parametrize(
    "words",
    [
        ["submit"], ["submit", "--rollback"],
        ["submit", FIRST, "--rollback", "--settle", "submitted"],
        ["submit", "--settle", "submitted"], ["submit", FIRST, "--settle", "perhaps"],
        ["submit", FIRST, "--format=json"],
        ["hold", "stage"], ["hold", "stage", "--reason", " "], ["hold", "cleanup", FIRST, "--reason", "x"],
        ["hold", "everything"], ["hold", "--undo"], ["hold", "cleanup", FIRST, "--undo"],
        ["accept", SPREAD], ["accept", "--undo"], ["accept", FIRST, "events=1"], ["accept", f"{FIRST}/00001", "events"],
        ["accept", f"{FIRST}/00001", "late=1", "--reason", "x"], ["accept", SPREAD, "abandoned"],
        ["accept", f"{FIRST}/00001", "left-out=1", "--reason", "x"], ["accept", SPREAD, "lost", "--reason", "x"],
        ["accept", f"{FIRST}/00001", "events=x", "--reason", "x"], ["accept", SPREAD, "reopened", "--reason", "x"],
        ["accept", f"{FIRST}/{SPREAD}", "reopened", "--undo", "--reason", "x"],
        ["online", LCI], ["online", "--again"], ["online", "--settle", "started"],
        ["online", LCI, "--again", "--settle", "started"], ["online", LCI, "--settle", "perhaps"],
        ["process", SPREAD, FIRST], ["process", SPREAD, "--again"], ["process", FIRST, "--waiting"],
        ["cleanup", "--everything"], ["status", "--no-checksums"], ["status", "--check", "--repair"],
        ["show"], ["show", "r9999999999"], ["show", "--table", "runs", SPREAD], ["show", "--table", "waiting", FIRST],
        ["show", "some.evt", "--event", "0", "--sequence", "5"], ["show", LCI, "--format", "csv"],
        ["show", SPREAD, "--event", "0"], ["show", "some.evt", "--books"],
        ["statsu"],
        ["find"], ["find", "--met", "1", "--utc", "2024-06-28T00:00"], ["find", "--utc", "noon"],
        ["find", "--utc", "2024-06-28"], ["find", "2024-06-28"], ["explain", f"{SPREAD}:x"], ["explain", "not-a-code"],
        ["unattended", "--timeout-minutes", "0"],
        ["events", SPREAD, "--format", "parquet"], ["events", SPREAD, "--output", "events.txt"],
        ["board"],
        ["status", "2024-07"], ["status", "2024-13"], ["show", "240601002..240601001"], ["diff", "2024-06"],
        ["ledger"], ["ledger", "moot"], ["ledger", "load"], ["ledger", "rebuild", FIRST],
    ],
    ids=" ".join,
)  # fmt: skip
def test_an_invalid_command_line_does_nothing(shared: Site, words: list[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in shared.work.rglob("*")}
    assert shared.halfpipe(*words).status == 2
    assert {path: path.stat().st_mtime_ns for path in shared.work.rglob("*")} == before


def test_a_time_without_its_option_names_the_option(shared: Site) -> None:
    assert "--utc 20" in shared.halfpipe("find", "2024-06-28").errors


@pytest.mark.parametrize(
    ("verb", "of", "says"),
    [
        *((verb, "r0741234999", "run 2c2e5937 (r0741234999)")
          for verb in ("show", "show --table waiting", "explain")),
        *((verb, "240603001", "downlink 240603001")
          for verb in ("show", "process", "ledger check", "ledger load")),
    ],
)  # fmt: skip
def test_an_unknown_run_or_downlink_is_an_error(shared: Site, verb: str, of: str, says: str) -> None:
    ended = shared.halfpipe(*verb.split(), of)
    assert (ended.status, says in ended.errors) == (1, True)


def test_a_downlink_with_its_hand_offs_and_submissions(shared: Site) -> None:
    said = shared.halfpipe("show", FIRST).out
    words = [line.split() for line in said.splitlines()]
    after = words.index(["when", "action", "handoff", "outcome", "reason"])
    assert [(action, handoff) for _, action, handoff, *_ in words[after + 1 :]] == [
        ("hand-off", "1"), ("hand-off", "2"), ("submit", "2")
    ], said  # fmt: skip


def test_a_failed_submission_is_settled_and_repeated(own: Site) -> None:
    fails = ("--config", "submit.command='sh -c \"exit 3 # {dl}\"'")
    ended = own.halfpipe("submit", SECOND, *fails)
    assert ended.status == 1
    assert "error: downlink " in ended.errors
    (one,) = own.told("status", SECOND)["downlinks"]
    assert "submission" in {cause["code"] for cause in one["causes"]}
    said = own.halfpipe("submit", f"dl={SECOND}", "--settle", "not-submitted").out
    assert said == f"downlink {SECOND}: attempt 1 is settled, hand-off 1 not-submitted\n"
    assert own.halfpipe("submit", SECOND).out == f"downlink {SECOND}, hand-off 1: submitted to Level-1\n"


def test_delivered(shared: Site) -> None:
    found = shared.told("show", "--table", "runs")["runs"]
    assert [(one["downlink"], one["submitted"], one["run"], one["state"]) for one in found] == [
        (FIRST, 2, SPREAD, "open"), (SECOND, None, SPREAD, "open"), (FIRST, 2, LCI, "complete")
    ]  # fmt: skip
    *_, last = shared.halfpipe("show", "--table", "runs", FIRST).out.splitlines()
    assert last == "1 downlink, 2 runs, 72 events staged, 72 of them submitted"
    ended = shared.halfpipe("show", "--table", "runs", "240602001", FIRST)
    assert ended.status == 1
    assert "snakemake dl=240602001" in ended.errors
    assert ended.out.endswith("1 downlink, 2 runs, 72 events staged, 72 of them submitted\n")


@pytest.mark.parametrize("name", ["downlinks", "files", "chunks", "jobs", "records"])
def test_a_table_for_people_has_the_rows_of_the_one_for_programs(name: str, shared: Site) -> None:
    rows = shared.told("show", "--table", name)[name]
    head, *lines, foot = shared.halfpipe("show", "--table", name).good().out.splitlines()
    assert [line.split()[0] for line in lines] == [str(row[head.split()[0]]) for row in rows]
    assert foot == count(len(rows), name.removesuffix("s"))


def test_texts_have_the_figures_of_the_documents(shared: Site) -> None:
    _, *rows, total = shared.halfpipe("cleanup").out.splitlines()
    assert [row.split()[1:5] for row in rows] == [
        [
            one["run"],
            *(str(n) for n in (len(one["downlinks"]), len(one["sizes"]), sum(one["sizes"].values()))),
        ]
        for one in shared.told("cleanup")["found"]
    ]
    assert (len(rows), total.split()[0]) == (3, "0")
    said = shared.halfpipe("online").out.strip().split(", ")
    counts = Counter(one["what"] for one in shared.told("online")["runs"])
    assert {*said} == {f"{many} {what}" for what, many in counts.items()}
    off = ("--config", "paths.online=null")
    assert [shared.halfpipe("online", *words, *off).status for words in ((), ("--again", LCI))] == [0, 2]
    (books,) = shared.told("show", "--books", SPREAD)["shown"]
    lines = shared.halfpipe("show", "--books", SPREAD).out.splitlines()
    assert len(lines) == 1 + sum(1 + len(books[part]) for part in ("chunks", "runs", "accounts"))
    said = shared.halfpipe("explain", SPREAD).out.splitlines()
    (group,) = shared.told("explain", SPREAD)["groups"]
    assert re.findall(r"\d+", said[1]) == [str(group[name]) for name in ("events", "first", "last", "apid")]
    assert [len(said), len(shared.halfpipe("explain", LCI).out.splitlines())] == [3 + len(group["why"]), 2]
    assert said[-1] == f"    → {group['do']}"


def test_a_downlink_without_runs_is_explained_by_the_causes_of_status(own: Site) -> None:
    failed, short, unknown = "240603001", "240603002", "240603003"
    log = job_log(own.work, "decode_chunk-00001", Failure("decoder", "exit status 3"), failed)
    put(own.retdefs, 1, dl=failed)
    put(own.retdefs, 1, 3, dl=short)
    phases = {
        failed: ("decoder", "decoded"),
        short: ("waits-retdef", "RetDefs"),
        unknown: ("waits-retdef", "RetDefs"),
    }
    for downlink, (code, phase) in phases.items():
        (one,) = own.told("status", downlink)["downlinks"]
        found = own.told("explain", downlink)
        assert (found["causes"], found["failed"], found["groups"]) == (one["causes"], [], [])
        assert [cause["code"] for cause in found["causes"]] == [code]
        ended = own.halfpipe("explain", downlink)
        assert (ended.status, ended.out.count(f"downlink {downlink} (phase: {phase}): ")) == (1, 1), (
            ended.said
        )
    for said in (f"snakemake dl={failed}", str(log)):
        assert said in own.halfpipe("explain", failed).out
    ended = own.halfpipe("explain", failed, SPREAD)
    assert (f"downlink {failed} " in ended.out, f"run {SPREAD}" in ended.out) == (True, True)


def test_one_hand_off_that_cannot_be_read_does_not_stop_the_others(own: Site) -> None:
    damage(own.work, paths.receipts(FIRST))
    (own.work / paths.receipt(FIRST)).write_text("damaged")  # else the copy has what the record had
    ended = own.halfpipe("show", "--table", "runs")
    assert ended.status == 1
    assert ended.out.endswith("1 downlink, 1 run, 35 events staged, 0 of them submitted\n")
    assert paths.receipts(FIRST) in ended.errors
    content = own.told("show", "--table", "runs")
    assert [one["downlink"] for one in content["runs"]] == [SECOND]
    assert len(content["failed"]) == 1
    every = own.told("status")["downlinks"]
    assert [one["dl"] for one in every if one["verdict"] == "action"] == [FIRST]


def test_verbs_take_ranges_where_they_take_downlinks(own: Site) -> None:
    def of(*words: str) -> list[str]:
        return [one["dl"] for one in own.told(*words)["downlinks"]]

    assert of("status", "2024-06-01") == [SECOND, FIRST]
    assert of("status", "dl=2024-06") == [HALF_WAY, SECOND, FIRST]
    assert of("status", f"{SECOND}..2024-06-02", SECOND) == [HALF_WAY, SECOND]
    assert len(own.told("show", "2024-06-01", LCI)["shown"]) == 3
    own.halfpipe("hold", "stage", "2024-06-01", "--reason", "says N. N.").good()
    held = [dl for dl in (FIRST, SECOND, HALF_WAY) if (own.work / dl / "haltStage").exists()]
    assert held == [FIRST, SECOND]


@pytest.mark.parametrize(
    ("words", "now"),
    [
        (["cleanup", "--remove"], "--do"),
        (["hold", "stage", "--resume"], "--undo"),
        (["online", "--started", LCI], "--settle started"),
        (["online", "--not-started", LCI], "--settle not-started"),
    ],
)
def test_a_former_spelling_is_refused_with_the_present_one(shared: Site, words: list[str], now: str) -> None:
    ended = shared.halfpipe(*words)
    assert ended.status == 2
    assert f"{words[-1] if words[-1] != LCI else words[-2]} is {now} now" in ended.said
