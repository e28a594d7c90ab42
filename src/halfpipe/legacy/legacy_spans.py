"""The legacy's record of what it delivered of a run: pairs of numbers in a pickle of Python 2.

Of such a list only one form comes from its programs, and that is matched. Nothing in the file is ever loaded.
"""

import re
from pathlib import Path

from halfpipe.errors import FormatError
from halfpipe.files.reading import open_regular
from halfpipe.merge.intervals import HIGHEST, Interval

MOST_BYTES = 1 << 20  # a run has a few spans, of some forty bytes each
_NUMBER = rb"[IL](0|[1-9][0-9]{0,19})L?\n"
_LIST = re.compile(rb"\(l(?:p[0-9]+\n)?")
# A pair, which may be named, or the name of one that came before.
_SPAN = re.compile(rb"(?:\(" + _NUMBER + _NUMBER + rb"t(?:p([0-9]+)\n)?|g([0-9]+)\n)a")


def read_spans(path: Path) -> tuple[Interval, ...]:
    """Read the spans that the legacy recorded, in order of their first sequences.

    Raises
    ------
    FormatError
        If the file is anything but a list of spans as the legacy wrote it; names the byte.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES)  # a longer one lacks its end
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from error
    spans: list[Interval] = []
    named: dict[bytes, Interval] = {}
    begin = _LIST.match(content)
    at = begin.end() if begin else 0
    while begin and (found := _SPAN.match(content, at)):
        first, last, name, again = found.groups()
        span = named.get(again) if again else Interval(int(first), int(last))
        if span is None or not span.first <= span.last <= HIGHEST:
            break
        spans.append(span)
        if name:
            named[name] = span
        at = found.end()
    if not begin or content[at:] != b".":
        raise FormatError(f"{path}: no record of spans: not a list of pairs of sequences (at byte {at})")
    return tuple(sorted(spans))
