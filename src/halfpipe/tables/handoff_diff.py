"""Differences between two hand-offs of a downlink, from their records."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from halfpipe.errors import MissingInputError
from halfpipe.ids import DownlinkId
from halfpipe.state.hand_offs import HandOff, Receipt, hand_offs
from halfpipe.tables import frames
from halfpipe.words import count

KINDS = ["new", "gone", "changed", "same"]  # of files
SIDE_BY_SIDE: Any = {"how": "outer", "left_index": True, "right_index": True, "suffixes": ("_before", "")}
NUMBERS = ("events", "waiting", "late")
Setting = str | int | float | bool | None


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
        If a hand-off does not exist, or there is only one.
    """
    made = {each.number: each for each in hand_offs(work, downlink)}
    after = max(made, default=0) if after is None else after
    before = max((number for number in made if number < after), default=0) if before is None else before
    if not {before, after} <= made.keys():
        there = ", ".join(map(str, made)) or "none"
        raise MissingInputError(
            f"downlink {downlink}: hand-offs to compare not found; existing ones: {there}. Name two of them, for "
            f"example: halfpipe diff {downlink} 1 2"
        )
    return made[before], made[after]


def changed_runs(before: HandOff | None, after: HandOff) -> pd.DataFrame:
    """Return the changes of each run; a run that is missing in one of the hand-offs counts as empty there.

    Parameters
    ----------
    before, after
        Two hand-offs of one downlink; `before` is None if there was none.

    Returns
    -------
    DataFrame
        One row per run: ``events``, ``waiting``, ``late`` and ``state`` now; the same before (``_before``); and the
        numbers of event files that are ``new``, ``gone``, ``changed`` (same name, other bytes) and the ``same``.
    """
    both = [before] if before else [], [after]
    one, other = (frames.runs(of).droplevel("downlink")[[*NUMBERS, "state"]] for of in both)
    runs = one.merge(other, **SIDE_BY_SIDE)
    delivered = ([each for last in of for each in frames.delivered(last)] for of in both)
    one, other = (frames.event_files(of).droplevel("downlink")[["sha256"]] for of in delivered)
    files = one.merge(other, **SIDE_BY_SIDE)
    sums = files.sha256_before, files.sha256
    kinds = np.select([sums[0].isna(), sums[1].isna(), sums[0] != sums[1]], KINDS[:3], KINDS[3])
    counted = pd.crosstab(files.index.get_level_values("run"), kinds)
    runs[KINDS] = counted.reindex(index=runs.index, columns=KINDS, fill_value=0)
    nothing = {f"{name}{when}": 0 for name in NUMBERS for when in ("", "_before")}
    return runs.fillna({**nothing, "state": "not there", "state_before": "not there"}).reset_index()


def changed_bytes(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with a different set of event files, or files with other bytes."""
    return runs[(runs[KINDS[:3]].sum(axis=1) > 0) | (runs.events != runs.events_before)]


def sentences(runs: pd.DataFrame) -> Iterator[str]:
    """Yield one line per run on its changes."""
    for run in runs.itertuples():
        parts = [f"{run.events - run.events_before:+,} events"]
        for kind in KINDS:
            parts += [f"{count(number, 'file')} {kind}"] if (number := getattr(run, kind)) else []
        for name in ("waiting", "late", "state"):
            now = getattr(run, name)
            then = getattr(run, f"{name}_before")
            parts += [f"{name} {then} → {now}"] if then != now else []
        yield f"run {run.run}: {', '.join(parts)}"


def input_of(receipt: Receipt) -> dict[str, str]:
    """Return what a hand-off was made from, by name, for `changes`: chunks, and what is ignored or missing."""
    found = {f"chunk {one.chunk} is ignored": one.reason for one in receipt.ignored}
    for chunk in receipt.chunks:
        name = f"chunk {chunk.chunk}"
        sums = " ".join(file.sha256[:8] for file in chunk.files)
        found[name] = f"RetDef {chunk.retdef[:8]}, products {sums}"
        if hours := [f"{each.hour} of APID {each.apid}" for each in chunk.missing_hours]:
            found[f"{name} lacks hours"] = ", ".join(hours)
    return found


def settings_of(receipt: Receipt) -> dict[str, Setting]:
    """Return the settings of a hand-off by section and key, for `changes`."""
    sections = receipt.config.items()
    return {f"{section}.{key}": value for section, keys in sections for key, value in keys.items()}


def changes(before: Mapping[str, Setting], after: Mapping[str, Setting]) -> list[str]:
    """Return a line for each name whose value differs, or that is only in one of them."""
    pairs = (
        (name, before.get(name, "nothing"), after.get(name, "nothing"))
        for name in sorted(before.keys() | after.keys())
    )
    return [f"{name}: {then} → {now}" for name, then, now in pairs if then != now]
