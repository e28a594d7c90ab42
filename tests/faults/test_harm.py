"""Every single file below `paths.work` and the stage, harmed: what is said, and that nothing is lost or doubled.

A sample of the looks at random; `HALFPIPE_HARM=all` takes every file and prints the table by kind.
"""

import os
import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.harmed import HARMS, KINDS, MOMENTS, Seen, Story, kind_of, look
from tests.support.workflow import Site

pytestmark = pytest.mark.faults

LOOKS = 60  # for each moment a third
SEED = 17
FEW = (".snakemake", "logs/", ".cache/", "settings/")  # of these kinds all files are alike: a few are taken

OFTEN = {"receipt-missing", "file-taken", "not-submitted", "outstanding"}  # what is said of the moment itself
MENDED = {"record-mended"}
LATER = {"handoff-not-submitted"}  # while what was processed again waits for its roll-back
IN_STAGE = {"file-missing", "file-differs", "stage-partly-gone", "stage"}
# What may be said of which kind, beside what is said of the moment. "stops": every command says it, and does nothing.
SAID: dict[str, set[str]] = {
    "format.json": {"stops"},
    "stage-mark/{n}.json": {"stops"},
    "dl={dl}": {"receipt-damaged", "receipt-edited", "receipt-missing"},
    "submit={dl}": set(),
    "{dl}/RetDef-{dl}-{chunk}.xml": {
        "file-missing",
        "file-differs",
        "retdef-reissued",
        "missing-input",
        "format",
    },
    "{dl}/chunks/{chunk}.json": {"file-missing", "file-damaged", "file-differs", "format", "missing-input"},
    "{dl}/chunks/*.evt": {"file-missing", "file-differs", "format", "state", "missing-input"},
    "{dl}/chunks/*.idx": {"file-missing", "file-differs", "format", "state", "missing-input"},
    "{dl}/receipts/NNNNNN.json": MENDED,
    "{dl}/submissions/NNNNNN.json": MENDED,
    "{dl}/ledger.json": {"ledger-lacks"},
    "copies/{dl}/receipts/NNNNNN.json": MENDED,
    "copies/{dl}/submissions/NNNNNN.json": MENDED,
    "copies/runs/{run}/deliveries/NNNNNN.json": MENDED,
    "ledger.sqlite": {"ledger", "ledger-down", "ledger-lacks"},
    "runs/{run}/{dl}/datagrams.idx": {
        "datagrams-gone",
        "file-missing",
        "file-damaged",
        "format",
        "missing-input",
    },
    "runs/{run}/{dl}/events.npy": {"file-missing", "file-damaged", "state"},
    "runs/{run}/{dl}/chunks.json": {"file-missing", "file-damaged"},
    "runs/{run}/{dl}/manifest.json": {
        "manifest-gone",
        "file-missing",
        "file-damaged",
        "file-differs",
        "format",
    },
    "runs/{run}/deliveries/NNNNNN.json": MENDED,
    "force/{run}": set(),
    "settings/*.json": set(),
    "logs/{dl}/done.log": set(),
    "logs/{dl}/usage.jsonl": set(),
    ".snakemake": {"stops"},
    "stage/{dl}/r%010d/r%010d-e%020d.evt": IN_STAGE,
    "stage/{dl}/delivered_events_{dl}.txt": IN_STAGE,
    "stage/{dl}/retired_runs_{dl}.txt": IN_STAGE,
    "stage/{dl}/event_gaps_{dl}.txt": IN_STAGE,
    "stage/{dl}/event_times_{dl}.txt": IN_STAGE,
    "stage/{dl}/moot_keys_{dl}.txt": IN_STAGE,
    "stage/chunktokens/r%010d/r%010d-e%020d": IN_STAGE,
    "stage/chunktokens/r%010d/haltCleanup-{dl}": set(),
    "stage/.halfpipe-mark/{n}.json": {"stops"},
}
# Where a person must do what no command says: a backup, or a new ledger. Until then nothing goes on.
BY_HAND = {
    "format.json",
    "stage-mark/{n}.json",
    "stage/.halfpipe-mark/{n}.json",
    "ledger.sqlite",
    ".snakemake",
}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The story, told once."""
    return Story(tmp_path_factory.mktemp("story"))


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are given in this process: there are very many."""
    monkeypatch.setattr(Site, "typing", False)


def files(story: Story, moment: str) -> list[str]:
    """Return the files that are harmed, in random order; of those that are many and alike a few."""
    names = story.files(moment)
    random.Random(f"{SEED} {moment}").shuffle(names)
    found, taken = [], defaultdict[str, int](int)
    for name in names:
        kind = kind_of(name)
        assert kind is not None, f"{name}: of no kind that the table has"
        taken[kind] += 1
        if taken[kind] <= 2 or not kind.startswith(FEW):
            found.append(name)
    return found


def verdict(seen: Seen) -> str:
    """Say what is wrong with what came of a harm; empty if nothing is."""
    kind = str(seen.kind)
    codes = {code.rstrip("!") if not code.startswith("!") else "stops" for code in seen.said}
    strange = codes - SAID[kind] - OFTEN - LATER
    if strange:
        return f"says {sorted(strange)}"
    if seen.end.startswith("same"):
        return ""
    if kind in BY_HAND and seen.end.startswith("needs action"):
        return ""
    # Of what it was told of Level-1 moves the event files away, and so nobody can tell.
    taken = (
        kind == "stage/{dl}/r%010d/r%010d-e%020d.evt" and seen.how == "removed" and seen.moment == "submitted"
    )
    return "" if taken and "file-taken" in codes else seen.end


def table(seen: Iterable[Seen]) -> str:
    """Return a table by kind, harm and moment: what status and check say, how commands end, what comes of it."""
    lines: dict[tuple[str, ...], int] = defaultdict(int)
    for one in seen:
        row = (
            str(one.kind),
            one.how,
            one.moment,
            " ".join(code if code[0] != "!" else "stops" for code in one.status),
            " ".join(
                code if code[0] != "!" else "stops" for code in one.check if code.rstrip("!") not in OFTEN
            ),
            " ".join(map(str, one.exits)),
            one.end.partition(",")[0].partition("|")[0],
        )
        lines[row] += 1
    return "\n".join(" | ".join([*row, str(count)]) for row, count in sorted(lines.items()))


def test_the_table_has_every_kind(story: Story) -> None:
    assert SAID.keys() == KINDS.keys()
    there = {kind_of(name) for moment in MOMENTS for name in story.files(moment)}
    assert KINDS.keys() <= there


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_harmed_file_loses_and_doubles_nothing(story: Story, moment: str) -> None:
    looks = [(name, how) for name in files(story, moment) for how in HARMS]
    if os.environ.get("HALFPIPE_HARM") != "all":
        looks = random.Random(SEED).sample(looks, LOOKS // len(MOMENTS))
    seen = [one for name, how in looks if (one := look(story, moment, name, how)) is not None]
    print(table(seen))
    wrong = [f"{one.name} {one.how}: {said}" for one in seen if (said := verdict(one))]
    assert not wrong, "\n".join(wrong)
    assert len(seen) > LOOKS // len(MOMENTS) // 2


def test_what_lies_in_the_stage_and_is_of_nobody_is_not_submitted(story: Story) -> None:
    story.restore("delivered")
    strange = Path(story.site.stage) / "230401001" / "r0000000001"
    strange.mkdir()
    assert "file-strange!" in story.said("status")[1]
    assert "file-strange!" in story.said("check")[1]
    assert story.next_invocation()[0] == 1
    assert story.calls()["submit 230401001"] == 0
    strange.rmdir()
    assert story.next_invocation()[0] == 0
    assert story.calls()["submit 230401001"] == 1
