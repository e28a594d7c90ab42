"""What is different between two receipts."""

from typing import Any

from halfpipe.tables.receipt_changes import changes


def run(name: str, *files: tuple[str, str], delivered: int = 10, spans: Any = ((1, 10),)) -> dict[str, Any]:
    return {
        "run": name,
        "files": [{"name": file, "sha256": sha256} for file, sha256 in files],
        "delivered": delivered,
        "spans": [list(span) for span in spans],
    }


def test_the_same_bytes_are_no_change_whatever_else_a_receipt_says() -> None:
    before, after = ({"handoff": number, "runs": [run("a", ("x", "1"))]} for number in (1, 2))
    assert changes(before, after) == []


def test_each_run_that_differs_has_a_line() -> None:
    before = {
        "runs": [run("a", ("x", "1"), ("y", "2"), ("z", "3")), run("b", ("x", "1")), run("c", ("x", "1"))]
    }
    now = run("a", ("x", "1"), ("y", "9"), ("w", "4"), delivered=1_410, spans=((1, 10), (20, 1_430)))
    after = {"runs": [now, run("c", ("x", "1")), run("d", ("x", "5"))]}
    assert changes(before, after) == [
        "run a: 1 file new, 1 file gone, 1 file with other bytes, 1 file the same, +1,400 events (10 to 1,410), "
        "spans 1-10 are now 1-10 20-1430",
        "run b: 1 file gone, -10 events (10 to 0), spans 1-10 are now none",
        "run d: 1 file new, +10 events (0 to 10), spans none are now 1-10",
    ]


def test_a_first_hand_off_is_all_new() -> None:
    assert changes(None, {"runs": [run("a", ("x", "1"))]}) == [
        "run a: 1 file new, +10 events (0 to 10), spans none are now 1-10"
    ]
