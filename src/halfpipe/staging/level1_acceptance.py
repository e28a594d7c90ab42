"""What Level-1 accepts: its tests of all event files of a run, from all downlinks (ground-chain §6)."""

from collections.abc import Iterable
from itertools import pairwise

from halfpipe.state.deliveries import EventFile

MAX_FILES = 1000


def refusals(files: Iterable[EventFile]) -> list[str]:
    """Return why Level-1 would refuse a run with these files; an empty list if Level-1 would accept it.

    Parameters
    ----------
    files
        All event files of one run, from all downlinks, in any order.
    """
    ordered = sorted(files, key=lambda file: file.sequences)
    tests = [
        (len(ordered) > MAX_FILES, f"{len(ordered)} event files; Level-1 takes at most {MAX_FILES}"),
    ]
    for file in ordered:
        first, last = file.sequences
        begin, end = file.seconds
        name = file.name
        events = file.events
        tests += [
            (events <= 1, f"{name} has {events} event; Level-1 needs at least 2"),
            (last < first, f"{name} ends at sequence {last}, before it begins at {first}"),
            (
                events > last - first + 3,
                f"{name} has {events} events between sequences {first} and {last}: more than two share a sequence",
            ),
            (begin > end, f"{name} ends at second {end}, before it begins at {begin}"),
        ]
    for one, other in pairwise(ordered):
        _, last = one.sequences
        _, end = one.seconds
        first, _ = other.sequences
        begin, _ = other.seconds
        tests += [
            (first <= last, f"{other.name} begins at sequence {first}, and {one.name} ends at {last}"),
            (begin < end, f"{other.name} begins at second {begin}, before {one.name} ends at {end}"),
        ]
    by_name = sorted(ordered, key=lambda file: file.name)
    by_seconds = sorted(ordered, key=lambda file: (*file.seconds, file.sequences[0]))
    in_one_order = by_name == by_seconds == ordered
    tests.append(
        (not in_one_order, "sorting the files by sequence, by seconds and by name gives different orders")
    )
    return [why for refused, why in tests if refused]
