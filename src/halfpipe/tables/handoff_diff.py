"""What changed between two hand-offs of a downlink: from the copies of their receipts, which stay."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halfpipe.decode.shortfall import missing_hours
from halfpipe.downlink.receipt import state_of
from halfpipe.errors import MissingInputError
from halfpipe.ids import DownlinkId
from halfpipe.run import receipt_file
from halfpipe.run.receipt_file import hand_offs
from halfpipe.words import count

Receipt = Mapping[str, Any]


@dataclass(frozen=True)
class HandOff:
    """A hand-off: its number, when its receipt was written, and why it was made, if somebody said so."""

    number: int
    when: datetime | None
    reason: str | None


@dataclass(frozen=True)
class RunChange:
    """What changed of a run; a run that one of the hand-offs does not have counts as empty there.

    Attributes
    ----------
    run
        The run.
    events, orphans, late
        Before and after.
    new, gone, changed, same
        Names of event files; `changed` have the same name and other bytes.
    spans_gone, spans_new
        First and last sequences of file series that are in one of them only.
    state
        Before and after, in a word; None where there is no such run.
    """

    run: str
    events: tuple[int, int]
    orphans: tuple[int, int]
    late: tuple[int, int]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    changed: tuple[str, ...]
    same: tuple[str, ...]
    spans_gone: tuple[tuple[int, int], ...]
    spans_new: tuple[tuple[int, int], ...]
    state: tuple[str | None, str | None]

    @property
    def is_same(self) -> bool:
        """Whether nothing changed of it."""
        pairs = (self.events, self.orphans, self.late, self.state)
        return not (self.new or self.gone or self.changed) and all(one == other for one, other in pairs)


@dataclass(frozen=True)
class Diff:
    """What changed from the hand-off `before` to `after`; `input`, `config` and `software` are sentences."""

    downlink: DownlinkId
    before: HandOff
    after: HandOff
    runs: tuple[RunChange, ...]
    input: tuple[str, ...]
    config: tuple[str, ...]
    software: tuple[str, str]


def diff(work: Path, downlink: DownlinkId, before: int | None = None, after: int | None = None) -> Diff:
    """Compare two hand-offs of a downlink.

    Parameters
    ----------
    work, downlink
        `paths.work`, and the downlink.
    before, after
        Numbers of hand-offs; None: the last two.

    Raises
    ------
    MissingInputError
        If there is no such hand-off, or only one.
    """
    made = {each.number: each for each in hand_offs(work, downlink)}
    numbers = sorted(made)
    if after is None:
        after = numbers[-1] if numbers else 0
    if before is None:
        before = max((number for number in numbers if number < after), default=0)
    for number in (before, after):
        if number not in numbers:
            there = ", ".join(map(str, numbers)) or "none"
            raise MissingInputError(
                f"downlink {downlink} has no two hand-offs to compare: there are {there}. Name two of them, as in: "
                f"halfpipe diff {downlink} 1 2"
            )
    old, new = (made[number].receipt for number in (before, after))
    runs = sorted({run["run"] for receipt in (old, new) for run in receipt["runs"]})
    return Diff(
        downlink,
        _handoff(made[before]),
        _handoff(made[after]),
        tuple(_of_run(run, old, new) for run in runs),
        tuple(_input(old, new)),
        tuple(_config(old["config"], new["config"])),
        (old["software"]["halfpipe"], new["software"]["halfpipe"]),
    )


def _handoff(made: receipt_file.HandOff) -> HandOff:
    when = datetime.fromtimestamp(made.made or 0.0, UTC)
    return HandOff(made.number, when, made.receipt.get("reason"))


def _of_run(run: str, old: Receipt, new: Receipt) -> RunChange:
    none: dict[str, Any] = {"delivered": 0, "orphans": 0, "late": 0, "files": [], "spans": []}
    found = [next((one for one in receipt["runs"] if one["run"] == run), None) for receipt in (old, new)]
    one, other = (each or none for each in found)
    before, after = ({file["name"]: file["sha256"] for file in each["files"]} for each in (one, other))
    both = sorted(before.keys() & after.keys())
    spans, later = ({(a, b) for a, b in each["spans"]} for each in (one, other))
    first, second = (state_of(each) if each else None for each in found)
    return RunChange(
        run,
        (one["delivered"], other["delivered"]),
        (one["orphans"], other["orphans"]),
        (one["late"], other["late"]),
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(before.keys() - after.keys())),
        tuple(name for name in both if before[name] != after[name]),
        tuple(name for name in both if before[name] == after[name]),
        tuple(sorted(spans - later)),
        tuple(sorted(later - spans)),
        (first, second),
    )


def _input(old: Receipt, new: Receipt) -> Iterator[str]:
    """Say what changed of the chunks, their RetDefs, and the hours of level-0."""
    before, after = ({chunk["chunk"]: chunk for chunk in receipt["chunks"]} for receipt in (old, new))
    for says, names in (
        ("came", after.keys() - before.keys()),
        ("went", before.keys() - after.keys()),
        (
            "has another RetDef",
            {
                name
                for name in before.keys() & after.keys()
                if before[name]["retdef"] != after[name]["retdef"]
            },
        ),
        (
            "was decoded to other bytes",
            {name for name in before.keys() & after.keys() if _bytes(before[name]) != _bytes(after[name])},
        ),
    ):
        for name in sorted(names):
            yield f"chunk {name} {says}"
    hours = [
        {
            (chunk["chunk"], hour["hour"], hour["apid"])
            for chunk in chunks.values()
            for hour in missing_hours(chunk)
        }
        for chunks in (before, after)
    ]
    for says, found in (("arrived", hours[0] - hours[1]), ("is missing now", hours[1] - hours[0])):
        for name, hour, apid in sorted(found):
            yield f"hour {hour} of APID {apid} {says} (chunk {name})"
    ignored = [{one["chunk"]: one["reason"] for one in receipt["ignored"]} for receipt in (old, new)]
    for name in sorted(ignored[1].keys() - ignored[0].keys()):
        yield f"chunk {name} is ignored: {ignored[1][name]}"


def _bytes(chunk: Mapping[str, Any]) -> list[str]:
    return [file["sha256"] for file in chunk["files"]]


def _config(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    flat = [
        {f"{section}.{key}": value for section, keys in config.items() for key, value in keys.items()}
        for config in (old, new)
    ]
    for key in sorted(flat[0].keys() | flat[1].keys()):
        before, after = (each.get(key) for each in flat)
        if before != after:
            yield f"{key} was {before}, is {after}"


def sentence(change: RunChange) -> str:
    """Say in one line what changed of a run."""
    if change.is_same:
        return f"the same: {count(change.events[1], 'event')} in {count(len(change.same), 'file')}"
    parts = [f"{change.events[1] - change.events[0]:+,} events"]
    lists = (
        ("new", change.new),
        ("gone", change.gone),
        ("with other bytes", change.changed),
        ("the same", change.same),
    )
    parts += [f"{count(len(names), 'file')} {says}" for says, names in lists if names]
    new = [f"{first} to {last}" for first, last in change.spans_new[:2]]
    parts += [f"delivers {', '.join(new)}{' and more' if len(change.spans_new) > 2 else ''}"] if new else []
    for says, (before, after) in (("orphans", change.orphans), ("late", change.late)):
        parts += [f"{says} {before:,} → {after:,}"] if before != after else []
    if change.state[0] != change.state[1]:
        parts.append(f"{change.state[0] or 'not there'} → {change.state[1] or 'not there'}")
    return ", ".join(parts)
