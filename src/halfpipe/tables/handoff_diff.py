"""What changed between two hand-offs of a downlink: from the copies of their receipts, which stay."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from halfpipe.decode.shortfall import missing_hours
from halfpipe.errors import MissingInputError
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import HandOff, hand_offs
from halfpipe.tables import frames
from halfpipe.tables.frames import Receipt
from halfpipe.words import count

SIDES = {"left_only": "gone", "right_only": "new", "both": "same"}
NUMBERS = ("events", "orphans", "late")


def two_hand_offs(
    work: Path, downlink: DownlinkId, before: int | None = None, after: int | None = None
) -> tuple[HandOff, HandOff]:
    """Return two hand-offs of a downlink.

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
    after = max(made, default=0) if after is None else after
    before = max((number for number in made if number < after), default=0) if before is None else before
    if not {before, after} <= made.keys():
        there = ", ".join(map(str, made)) or "none"
        raise MissingInputError(
            f"downlink {downlink} has no two hand-offs to compare: there are {there}. Name two of them, as in: "
            f"halfpipe diff {downlink} 1 2"
        )
    return made[before], made[after]


def changed_runs(before: Receipt | None, after: Receipt) -> pd.DataFrame:
    """Return what changed of each run; a run that one of the receipts does not have counts as empty there.

    Parameters
    ----------
    before, after
        What two receipts of one downlink hold; None: there was none.

    Returns
    -------
    DataFrame
        By run: ``events``, ``orphans``, ``late`` and ``state`` now, the same with ``_before``, and how many event files
        are ``new``, ``gone``, ``changed`` (same name, other bytes) and the ``same``.
    """
    both = [[before] if before else [], [after]]
    runs = _joined(["run"], *(frames.runs(of)[["run", *NUMBERS, "state"]] for of in both)).set_index("run")
    files = _joined(["run", "name"], *(frames.files(of)[["run", "name", "sha256"]] for of in both))
    files.loc[(files["side"] == "same") & (files["sha256"] != files["sha256_before"]), "side"] = "changed"
    kinds = ["new", "gone", "changed", "same"]
    counted = pd.crosstab(files["run"], files["side"]).reindex(index=runs.index, columns=kinds, fill_value=0)
    for name in NUMBERS:
        runs[[name, f"{name}_before"]] = runs[[name, f"{name}_before"]].fillna(0).astype(int)
    states = runs[["state", "state_before"]].fillna("not there")
    return runs.assign(**states, **counted).drop(columns="side").reset_index()


def changed_bytes(runs: pd.DataFrame) -> pd.DataFrame:
    """Return those runs of which Level-1 gets other bytes, or others' files."""
    return runs[
        (runs[["new", "gone", "changed"]].sum(axis=1) > 0) | (runs["events"] != runs["events_before"])
    ]


def sentences(runs: pd.DataFrame) -> Iterator[str]:
    """Say in one line what changed of each run."""
    for run in runs.itertuples():
        parts = [f"{run.events - run.events_before:+,} events"]
        for says in ("new", "gone", "changed", "same"):
            parts += [f"{count(number, 'file')} {says}"] if (number := getattr(run, says)) else []
        for says in ("orphans", "late", "state"):
            now, then = getattr(run, says), getattr(run, f"{says}_before")
            parts += [f"{says} {then} → {now}"] if then != now else []
        yield f"run {run.run}: {', '.join(parts)}"


def changed_input(before: Receipt, after: Receipt) -> list[str]:
    """Say what changed of the chunks, their RetDefs, and the hours of level-0."""
    old, new = ({chunk["chunk"]: chunk for chunk in receipt["chunks"]} for receipt in (before, after))
    said = [f"chunk {name} {'came' if name in new else 'went'}" for name in sorted(old.keys() ^ new.keys())]
    for name in sorted(old.keys() & new.keys()):
        made = [[file["sha256"] for file in chunk["files"]] for chunk in (old[name], new[name])]
        if old[name]["retdef"] != new[name]["retdef"]:
            said.append(f"chunk {name} has another RetDef")
        elif made[0] != made[1]:
            said.append(f"chunk {name} was decoded to other bytes")
    missing = [
        {
            (hour["hour"], hour["apid"], name)
            for name, chunk in chunks.items()
            for hour in missing_hours(chunk)
        }
        for chunks in (old, new)
    ]
    for hour, apid, name in sorted(missing[0] ^ missing[1]):
        how = "is missing now" if (hour, apid, name) in missing[1] else "arrived"
        said.append(f"hour {hour} of APID {apid} {how} (chunk {name})")
    ignored = [{one["chunk"]: one["reason"] for one in receipt["ignored"]} for receipt in (before, after)]
    return said + [
        f"chunk {name} is ignored: {why}" for name, why in ignored[1].items() if name not in ignored[0]
    ]


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Say what changed of the settings that a receipt holds."""
    flat = [
        {f"{section}.{key}": value for section, keys in config.items() for key, value in keys.items()}
        for config in (before, after)
    ]
    keys = sorted(flat[0].keys() | flat[1].keys())
    pairs = ((key, *(each.get(key) for each in flat)) for key in keys)
    return [f"{key} was {then}, is {now}" for key, then, now in pairs if then != now]


def _joined(on: list[str], before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Return what is in either, a row each, in order; ``side`` says where: new, gone or the same."""
    found = before.merge(after, "outer", on, suffixes=("_before", ""), indicator="side")
    return found.assign(side=found["side"].astype(str).map(SIDES))
