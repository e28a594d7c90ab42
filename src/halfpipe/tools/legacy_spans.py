"""The legacy's record of what it delivered of a run: spans, in a pickle of Python 2 that is read and never loaded.

Nothing in the file is ever called: it is taken apart into its operations, and all but those that a list of pairs of
whole numbers needs are refused.
"""

import pickletools
from pathlib import Path
from typing import Any

from halfpipe.errors import FormatError
from halfpipe.files.reading import open_regular
from halfpipe.merge.intervals import HIGHEST, Interval

MOST_BYTES = 1 << 20  # a run has a few spans, of some forty bytes each
LONGEST_LINE = 32  # bytes: a sequence has twenty digits at the most
DEEPEST = 5  # a list, a mark, two numbers, and one to spare
KNOWN = frozenset({"MARK", "LIST", "TUPLE", "INT", "LONG", "APPEND", "PUT", "GET", "STOP"})

_MARK = object()


def read_spans(path: Path) -> tuple[Interval, ...]:
    """Read the spans that the legacy recorded, in order of their first sequences.

    Raises
    ------
    FormatError
        If the file is anything but a list of spans as the legacy wrote it; names the operation and the byte.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise FormatError(f"{path}: no record of spans: more than {MOST_BYTES} bytes")
    if any(len(line) > LONGEST_LINE for line in content.split(b"\n")):
        raise FormatError(f"{path}: no record of spans: a line of more than {LONGEST_LINE} bytes")
    at = 0
    stack: list[Any] = []
    try:
        memo: dict[int, Any] = {}
        for operation, argument, place in pickletools.genops(content):
            at = place or 0
            if operation.name not in KNOWN:
                raise ValueError(f"operation {operation.name} is none that a list of spans needs")
            if operation.name == "STOP":
                break
            _take(operation.name, argument, stack, memo)
    except (ValueError, IndexError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: no record of spans: {error or 'damaged'} (at byte {at})") from error
    if at + 1 != len(content) or len(stack) != 1 or not isinstance(stack[0], list):
        raise FormatError(
            f"{path}: no record of spans: more, or something else, than one list (at byte {at})"
        )
    return tuple(sorted(stack[0]))


def _take(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """Do one operation on the stack.

    Raises
    ------
    ValueError, IndexError, KeyError
        If it cannot be one of those by which a list of spans is made.
    """
    if name in {"INT", "LONG"}:
        if type(argument) is not int or not 0 <= argument <= HIGHEST:
            raise ValueError(f"{argument!r:.40} is no sequence")
        stack.append(argument)
    elif name == "MARK":
        stack.append(_MARK)
    elif name == "PUT":
        if (
            argument in memo
            or not 0 <= argument <= len(memo) + 1
            or not isinstance(stack[-1], list | Interval)
        ):
            raise ValueError(f"memo {argument!r:.40} is out of turn")
        memo[argument] = stack[-1]
    elif name == "GET":
        stack.append(memo[argument])
    elif name == "APPEND":
        span = stack.pop()
        if not isinstance(stack[-1], list) or not isinstance(span, Interval):
            raise ValueError("something else than a span is put into a list")
        stack[-1].append(span)
    else:
        mark = len(stack) - 1 - next(n for n, each in enumerate(reversed([_MARK, *stack])) if each is _MARK)
        if mark < 0:
            raise ValueError(f"{name} without a mark")
        items = stack[mark + 1 :]
        del stack[mark:]
        stack.append([] if name == "LIST" and not items else _span(name, items))
    if len(stack) > DEEPEST:
        raise ValueError("too deep for a list of spans")


def _span(name: str, items: list[Any]) -> Interval:
    if name != "TUPLE" or [type(item) for item in items] != [int, int] or items[0] > items[1]:
        raise ValueError(f"a {name.lower()} of {len(items)} items that is no span")
    return Interval(*items)
