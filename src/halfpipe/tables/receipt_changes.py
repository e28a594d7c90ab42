"""What is different between two receipts of a downlink: files, events and spans of each run."""

from collections.abc import Iterator, Mapping
from typing import Any

from halfpipe.words import count

NOTHING: Mapping[str, Any] = {"files": [], "delivered": 0, "spans": []}


def changes(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """Say what is different, a line for each run that is; nothing if Level-1 gets the same bytes.

    Parameters
    ----------
    before, after
        What two receipts of one downlink hold (`halfpipe.downlink.receipt_form.Receipt`); None: there was none.
    """
    then, now = _runs(before or {"runs": []}), _runs(after)
    lines = ((run, _of_run(then.get(run, NOTHING), now.get(run, NOTHING))) for run in sorted({*then, *now}))
    return [f"run {run}: {line}" for run, line in lines if line]


def _runs(receipt: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {run["run"]: run for run in receipt["runs"]}


def _of_run(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    said = [*_files(before, after)]
    if before["delivered"] != after["delivered"]:
        said.append(
            f"{after['delivered'] - before['delivered']:+,} events ({before['delivered']:,} to {after['delivered']:,})"
        )
    if before["spans"] != after["spans"]:
        said.append(f"spans {_spans(before)} are now {_spans(after)}")
    return ", ".join(said)


def _files(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Yield how many files came, went, or have other bytes; with them how many have the same."""
    then, now = ({file["name"]: file["sha256"] for file in run["files"]} for run in (before, after))
    kinds = {
        "new": len(now.keys() - then.keys()),
        "gone": len(then.keys() - now.keys()),
        "with other bytes": sum(name in now and now[name] != then[name] for name in then),
    }
    if any(kinds.values()):
        kinds["the same"] = sum(then.get(name) == now[name] for name in now)
    yield from (f"{count(number, 'file')} {what}" for what, number in kinds.items() if number)


def _spans(run: Mapping[str, Any]) -> str:
    return " ".join(f"{first}-{last}" for first, last in run["spans"]) or "none"
