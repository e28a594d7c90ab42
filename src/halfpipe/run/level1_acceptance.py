"""What Level-1 accepts: its test of all event files of a run, from all downlinks (ground-chain §6)."""

from collections.abc import Iterable
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
    why = []
    if len(ordered) > MAX_FILES:
        why.append(f"{len(ordered)} event files, Level-1 takes at most {MAX_FILES}")
    for file in ordered:
        (first, last), (begin, end), name = file.sequences, file.seconds, file.name
        if file.events <= 1:
            why.append(f"{name} holds {file.events} event, Level-1 wants at least 2")
        if last < first:
            why.append(f"{name} ends at sequence {last}, before it begins at {first}")
        if file.events > last - first + 3:
            why.append(
                f"{name} holds {file.events} events between sequences {first} and {last}: more than two are shared"
            )
        if begin > end:
            why.append(f"{name} ends at second {end}, before it begins at {begin}")
    for one, other in pairwise(ordered):
        if other.sequences[0] <= one.sequences[1]:
            why.append(
                f"{other.name} begins at sequence {other.sequences[0]}, and {one.name} ends at {one.sequences[1]}"
            )
        if other.seconds[0] < one.seconds[1]:
            why.append(
                f"{other.name} begins at second {other.seconds[0]}, before {one.name} ends at {one.seconds[1]}"
            )
    by_name = sorted(ordered, key=lambda file: file.name)
    by_seconds = sorted(ordered, key=lambda file: (*file.seconds, file.sequences[0]))
    if not by_name == by_seconds == ordered:
        why.append("ordered by sequence, by seconds and by name, the files are not in one order")
    return why
