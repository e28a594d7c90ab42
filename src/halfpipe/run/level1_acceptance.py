"""What Level-1 accepts: its test of all event files of a run, from all downlinks (ground-chain §6)."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from halfpipe.run.deliveries import EventFile

MAX_FILES = 1000


def refusals(files: Iterable[EventFile]) -> list[str]:
    """Return why Level-1 would refuse the run that these files make up; nothing if it would take it.

    Parameters
    ----------
    files
        All event files of one run, from all downlinks, in any order.
    """
    ordered = sorted(files, key=lambda file: file.sequences)
    if not ordered:
        return []
    return [*_number(ordered), *(why for file in ordered for why in _one(file)), *_neighbours(ordered)]


def _number(files: Sequence[EventFile]) -> list[str]:
    if len(files) > MAX_FILES:
        return [f"{len(files)} event files, Level-1 takes at most {MAX_FILES}"]
    return []


def _one(file: EventFile) -> list[str]:
    (first, last), (begin, end) = file.sequences, file.seconds
    why = []
    if file.events <= 1:
        why.append(f"{file.name} holds {file.events} event, Level-1 wants at least 2")
    if last - first + 1 <= 0:
        why.append(f"{file.name} ends at sequence {last}, before it begins at {first}")
    if file.events > last - first + 3:
        why.append(
            f"{file.name} holds {file.events} events between sequences {first} and {last}: more than two are shared"
        )
    if begin > end:
        why.append(f"{file.name} ends at second {end}, before it begins at {begin}")
    return why


def _neighbours(files: Sequence[EventFile]) -> list[str]:
    why = []
    for one, other in pairwise(files):
        if other.sequences[0] <= one.sequences[1]:
            why.append(
                f"{other.name} begins at sequence {other.sequences[0]}, and {one.name} ends at {one.sequences[1]}"
            )
        if other.seconds[0] < one.seconds[1]:
            why.append(
                f"{other.name} begins at second {other.seconds[0]}, before {one.name} ends at {one.seconds[1]}"
            )
    by_name = sorted(files, key=lambda file: file.name)
    by_seconds = sorted(files, key=lambda file: (*file.seconds, file.sequences[0]))
    if by_name != list(files) or by_seconds != list(files):
        why.append("ordered by sequence, by seconds and by name, the files are not in one order")
    return why
