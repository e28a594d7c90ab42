"""Command lines of `halfpipe submit`, `online`, `cleanup` and `show`, and what they print for programs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.series import sealed_text
from tests.support.verbs import halfpipe
from tests.support.worked_site import FIRST, HALF_WAY, LCI, SECOND, SPREAD


def seal_broken(content: str) -> str:
    """Return a receipt with a checksum, of which somebody has changed a number since."""
    return sealed_text(json.loads(content)).replace('"delivered": ', '"delivered": 1', 1)


@pytest.mark.parametrize(
    "words",
    [
        ["submit"], ["submit", "--rollback"],
        ["submit", FIRST, "--rollback", "--settle", "submitted"],
        ["submit", "--settle", "submitted"], ["submit", FIRST, "--settle", "perhaps"], ["submit", FIRST, "--json"],
        ["hold", "stage"], ["hold", "stage", "--reason", " "], ["hold", "cleanup", FIRST, "--reason", "x"],
        ["hold", "everything"], ["hold", "--resume"], ["hold", "cleanup", FIRST, "--resume"],
        ["force", SPREAD], ["force", "--take-back"], ["force", FIRST], ["force", "--reopen", FIRST],
        ["force", SPREAD, "--reopen", FIRST, "--take-back"], ["force", SPREAD, "--reopen", FIRST],
        ["online", "--again", LCI, "--started", LCI], ["online", "--started", LCI, "--not-started", LCI],
        ["process", SPREAD, FIRST], ["process", SPREAD, "--again"], ["process", FIRST, "--orphans"],
        ["cleanup", "--everything"], ["status", "--no-checksums"], ["status", "--check", "--mend"],
        ["show"], ["show", "r9999999999"], ["show", "--delivered", SPREAD], ["show", "--waiting", FIRST],
        ["show", "some.evt", "--event", "0", "--sequence", "5"],
        ["find"], ["find", "--met", "1", "--utc", "2024-06-28"], ["find", "--utc", "noon"], ["explain", f"{SPREAD}:x"],
        ["acknowledge", FIRST, "--reason", "x"], ["acknowledge", FIRST, "--until", "2100-01-01"],
        ["acknowledge", "what?", "--until", "2100-01-01", "--reason", "x"], ["board"],
        ["status", "2024-07"], ["status", "2024-13"], ["show", "240601002..240601001"], ["diff", "2024-06"],
        ["ledger"], ["ledger", "moot"], ["ledger", "load"], ["ledger", "rebuild", FIRST],
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_command_line_that_cannot_be_used_does_nothing(shared: Path, words: list[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (shared.parent / "work").rglob("*")}
    assert halfpipe(*words, configfile=shared).exit_code == 2
    assert {path: path.stat().st_mtime_ns for path in (shared.parent / "work").rglob("*")} == before


@pytest.mark.parametrize(
    "words", [["show"], ["show", "--waiting"], ["explain"], ["force", "--reason", "x"]], ids=" ".join
)
def test_a_run_that_nobody_knows(shared: Path, words: list[str]) -> None:
    ended = halfpipe(*words, "r0741234999", configfile=shared)
    assert (ended.exit_code, "nothing is known of run 2c2e5937 (r0741234999)" in ended.stderr) == (1, True)


@pytest.mark.parametrize("verb", ["show", "explain"])
def test_a_downlink_of_which_there_is_nothing(shared: Path, verb: str) -> None:
    ended = halfpipe(verb, "240603001", configfile=shared)
    assert (ended.exit_code, "downlink 240603001" in ended.stderr) == (1, True)


def test_a_downlink_with_its_hand_offs_and_submissions(shared: Path) -> None:
    said = halfpipe("show", FIRST, configfile=shared).stdout
    words = [line.split()[:2] for line in said.splitlines()]
    after = words.index(["handoff", "handed_off"])
    assert [word for word, *_ in words[after:]] == ["handoff", "1", "2", "action", "submit"], said


def test_a_submission_that_fails_is_settled_and_given_again(configfile: Path) -> None:
    fails = ("--config", "submit.command='sh -c \"exit 3 # {dl}\"'")
    ended = halfpipe("submit", SECOND, *fails, configfile=configfile)
    assert ended.exit_code == 1
    assert "error: downlink " in ended.stderr
    (one,) = json.loads(halfpipe("status", SECOND, "--json", configfile=configfile).stdout)["downlinks"]
    assert "submission-failed" in {cause["code"] for cause in one["causes"]}
    said = halfpipe("submit", f"dl={SECOND}", "--settle", "not-submitted", configfile=configfile).stdout
    assert said == f"downlink {SECOND}: attempt 1 is settled, hand-off 1 not-submitted\n"
    assert halfpipe("submit", SECOND, configfile=configfile).stdout == (
        f"downlink {SECOND}, hand-off 1: submitted to Level-1\n"
    )


def test_delivered(shared: Path) -> None:
    found = json.loads(halfpipe("show", "--delivered", "--json", configfile=shared).stdout)["delivered"]
    assert [(one["downlink"], one["submitted"], one["run"], one["state"]) for one in found] == [
        (FIRST, 2, SPREAD, "open"), (FIRST, 2, LCI, "complete"), (SECOND, None, SPREAD, "open")
    ]  # fmt: skip
    *_, last = halfpipe("show", "--delivered", FIRST, configfile=shared).stdout.splitlines()
    assert last == "1 downlink, 2 runs, 72 events staged, 72 of them submitted"
    ended = halfpipe("show", "--delivered", "240602001", FIRST, configfile=shared)
    assert ended.exit_code == 1
    assert "dl=240602001: no such file" in ended.stderr
    assert ended.stdout.endswith("1 downlink, 2 runs, 72 events staged, 72 of them submitted\n")


@pytest.mark.parametrize("change", [lambda content: content[:100], lambda _: "{}", seal_broken])
def test_one_receipt_that_cannot_be_believed_does_not_stop_the_others(
    change: Callable[[str], str], configfile: Path
) -> None:
    receipt = configfile.parent / "work" / f"dl={FIRST}"
    receipt.write_text(change(receipt.read_text()))
    ended = halfpipe("show", "--delivered", configfile=configfile)
    assert ended.exit_code == 1
    assert ended.stdout.endswith("1 downlink, 1 run, 35 events staged, 0 of them submitted\n")
    assert f"error: {receipt}: " in ended.stderr
    assert ended.stderr.endswith(f". To have it rewritten: snakemake dl={FIRST} -R receipt\n")
    content = json.loads(halfpipe("show", "--delivered", "--json", configfile=configfile).stdout)
    assert [one["downlink"] for one in content["delivered"]] == [SECOND]
    assert len(content["failed"]) == 1
    every = json.loads(halfpipe("status", "--json", configfile=configfile).stdout)["downlinks"]
    assert [one["dl"] for one in every if one["verdict"] == "action"] == [FIRST]


def test_verbs_take_ranges_where_they_take_downlinks(configfile: Path) -> None:
    def of(*words: str) -> list[str]:
        shown = json.loads(halfpipe(*words, "--json", configfile=configfile).stdout)
        return [one["dl"] for one in shown["downlinks"]]

    assert of("status", "2024-06-01") == [SECOND, FIRST]
    assert of("status", "dl=2024-06") == [HALF_WAY, SECOND, FIRST]
    assert of("status", f"{SECOND}..2024-06-02", SECOND) == [HALF_WAY, SECOND]
    shown = json.loads(halfpipe("show", "2024-06-01", LCI, "--json", configfile=configfile).stdout)["shown"]
    assert len(shown) == 3
    halted = halfpipe("hold", "stage", "2024-06-01", "--reason", "says N. N.", configfile=configfile)
    assert halted.exit_code == 0
    work = configfile.parent / "work"
    assert [dl for dl in (FIRST, SECOND, HALF_WAY) if (work / dl / "haltStage").exists()] == [FIRST, SECOND]
