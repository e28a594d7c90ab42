"""The matrix: a cell a phase, with its worst cause; equal notes are one row with a count."""

import pytest

from halfpipe.causes import Cause, Verdict
from halfpipe.ids import DownlinkId
from halfpipe.pages.board_pages import OF_CODE, Cell, alike, cells, phase_of, rows
from halfpipe.status.account import PHASES, Account

DECODED = ((9, 9), (40, 40), (7, 9), (0, 1), (0, 0), (0, 1), (0, 1))
TAKEN = ((9, 9), (0, 0), (9, 9), (1, 1), (1, 1), (1, 1), (1, 1))


def one(
    number: int, *causes: Cause, phases: tuple[tuple[int, int], ...] = TAKEN, state: str = "taken by Level-1"
) -> Account:
    return Account(
        DownlinkId(f"23040100{number}"), state, causes, phases=dict(zip(PHASES, phases, strict=True))
    )


def cause(code: str, verdict: Verdict = Verdict.NOTE, failed: str = "", on_it: str = "") -> Cause:
    return Cause(code, verdict, f"{code} is so", failed=failed, on_it=on_it)


def test_a_cell_says_how_far_it_is_and_the_worst_of_its_causes() -> None:
    bad = (
        cause("memory", Verdict.ACTION, "decode_chunk 00001, 00002"),
        cause("level0-missing"),
        cause("events-missing"),
    )
    assert list(map(str, cells(one(1, *bad, phases=DECODED)))) == ["✓", "!", "✗ 7/9", "·", "–", "·", "·"]
    assert list(map(str, cells(one(1)))) == ["✓", "–", "✓", "✓", "✓", "✓", "✓"]
    assert list(map(str, cells(Account(DownlinkId("230401001"), "taken over")))) == ["–"] * len(PHASES)


@pytest.mark.parametrize(
    ("given", "phase"),
    [
        (cause("memory", failed="deliver_run 29d7d35d; receipt"), "staged"),
        (cause("waits-retdef"), "RetDefs"),
        (cause("ledger-lacks"), "ledger"),
        (cause("outstanding"), "decoded"),
        (cause("whatever-comes"), "decoded"),
    ],
)
def test_a_cause_is_of_its_phase_or_of_the_first_that_is_not_done(given: Cause, phase: str) -> None:
    assert phase_of(given, one(1, given, phases=DECODED)) == phase
    assert set(OF_CODE) == set(PHASES)


def test_equal_notes_are_one_row_with_a_count() -> None:
    note, other = cause("not-submitted"), cause("late-events")
    waits = (*TAKEN[:5], (0, 1), (0, 1))
    accounts = [
        one(9, cause("stage-gone", Verdict.ACTION)),
        one(8),
        one(7, note, phases=waits, state="handed off 1"),
        one(6, note, other),
        one(5, note, phases=waits, state="handed off 1"),
        one(4, cause("stage-gone", Verdict.ACTION)),
        one(3, cause("not-submitted", on_it="N. N. is on it")),
        one(2, note, state="submitted 1"),
        one(1),
    ]
    found = rows(accounts)
    assert ["".join(each.downlink[-1] for each in row.accounts) for row in found] == [*"98", "752", *"6431"]
    several = found[2]
    assert several.cells[PHASES.index("submitted")] == Cell(Verdict.NOTE, 1, 3)
    assert list(map(str, several.cells)) == ["✓", "–", "✓", "✓", "✓", "! 1/3", "1/3"]
    assert (several.state, several.first.downlink, found[1].state) == ("", "230401007", "taken")
    assert rows(accounts[2:3])[0].state == "handed off 1"


def test_notes_of_one_code_are_together_and_what_needs_action_is_not() -> None:
    lost, held = cause("level0-missing", Verdict.ACTION), cause("run-held")
    again = Cause("run-held", Verdict.NOTE, "another run")
    other = Cause("level0-missing", Verdict.ACTION, "another chunk")
    assert alike([lost, other, held, again]) == [[lost], [other], [held, again]]
