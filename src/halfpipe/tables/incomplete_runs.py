"""Runs that are not complete, with what is missing of them: what an operator may have to give up."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from halfpipe import paths
from halfpipe.errors import MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.formats import met
from halfpipe.ids import DownlinkId, RunId, RunKind
from halfpipe.merge.settle import Segment, enough_epus, is_complete
from halfpipe.run import force_list
from halfpipe.run.datagrams import known_datagrams
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.settings import Settings


@dataclass(frozen=True)
class Waiting:
    """An open run: since when (Unix seconds), the downlinks that brought it, and what is missing, in words."""

    run: RunId
    kind: RunKind
    started: float
    downlinks: tuple[DownlinkId, ...]
    missing: str
    given_up: bool


def waiting(settings: Settings, of: Iterable[RunId], older_than: float) -> list[Waiting]:
    """Return the runs among `of` that are not complete and started before `older_than`, Unix seconds.

    Raises
    ------
    MissingInputError
        If nothing is known of a run.
    FormatError
        If what is known of a run is damaged.
    """
    work, min_epus = settings.paths.work, settings.merge.min_epus
    given_up = force_list.read(work).runs
    found = []
    for run in of:
        started = float(met.met_to_unix(run.met))
        if started >= older_than:
            continue
        home = work / paths.run(run)
        if not home.is_dir():
            raise MissingInputError(
                f"{home}: no such directory, so nothing is known of run {run} ({run.l1}). Give a run of which a "
                "downlink was processed, or none for all of them."
            )
        downlinks = known_downlinks(work, run)
        # Most runs of a mission are complete, and small files say so.
        if not downlinks or _said_complete([work / paths.manifest(run, dl) for dl in downlinks]):
            continue
        segments = known_datagrams(work, run).segments()
        if not is_complete(segments, min_epus):
            missing = "; ".join(what_is_missing(segments, min_epus))
            kind = RunKind.of(segments)
            found.append(Waiting(run, kind, started, tuple(downlinks), missing, run in given_up))
    return found


def _said_complete(manifests: Sequence[Path]) -> bool:
    """Tell whether a manifest calls the run complete, and no other one knows of more datagrams than it."""
    if not all(path.exists() for path in manifests):
        return False
    said = [read_json(path) for path in manifests]
    if any(one["held"] for one in said):
        return False  # its datagrams are those of what was recorded before
    return any(
        one["complete"] and all(_within(other["datagrams"], one["datagrams"]) for other in said)
        for one in said
    )


def _within(
    some: Mapping[str, Sequence[Sequence[int]]], every: Mapping[str, Sequence[Sequence[int]]]
) -> bool:
    """Tell whether each range of datagram numbers, by APID, lies in one of `every`."""
    return all(
        any(first <= a and b <= last for first, last in every.get(apid, ()))
        for apid, ranges in some.items()
        for a, b in ranges
    )


def what_is_missing(segments: Mapping[int, Sequence[Segment]], min_epus: int) -> list[str]:
    """Say what keeps a run from being complete; nothing if it is."""
    said = []
    if not segments:
        said.append("no datagram is known")
    elif not enough_epus(segments, min_epus):
        said.append(f"only {len(segments)} of {min_epus} EPUs seen ({', '.join(map(str, segments))})")
    for apid, of_apid in segments.items():
        if not of_apid[0].opens:
            said.append(f"APID {apid}: its start, before datagram {of_apid[0].datagrams[0]}")
        for one, other in pairwise(of_apid):
            first, last = one.datagrams[1] + 1, other.datagrams[0] - 1
            said.append(
                f"APID {apid}: " + (f"datagrams {first} to {last}" if first < last else f"datagram {first}")
            )
        if not of_apid[-1].closes:
            said.append(f"APID {apid}: its end, after datagram {of_apid[-1].datagrams[1]}")
    return said
