"""Which chunks a receipt was made of: what tells a new RetDef without Snakemake's records.

Where no downlink is named this is asked of every receipt of the mission, so a receipt as the project
writes it is not parsed.
"""

import json
import re

BEGIN, END = b'\n "chunks": [\n', b"\n ],\n"  # of the list at the top, which alone is indented by one
CHUNK = re.compile(rb'^   "chunk": "([0-9]{5})",?$', re.MULTILINE)


def chunks_of(path: str) -> frozenset[str] | None:
    """Return the chunks that the receipt `path` names, None if there is none, or it does not say.

    A receipt that is damaged says nothing: that is told by whoever vouches for receipts, and makes no work here.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - a Path for each takes as long as reading it
            content = file.read()
    except OSError:
        return None
    begin = content.find(BEGIN)
    end = content.find(END, begin)
    if 0 < begin < end and content.endswith(b"\n}\n"):
        return frozenset(found.decode() for found in CHUNK.findall(content, begin, end + 1))
    try:
        return frozenset(str(chunk["chunk"]) for chunk in json.loads(content)["chunks"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
