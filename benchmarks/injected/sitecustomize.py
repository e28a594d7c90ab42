"""Read by Python at its start, in benchmarks only: notes what each process costs, or leaves out flushing.

`HALFPIPE_BENCH_NOTES` is a directory that takes one line of JSON for each Python process: its program,
when it began and ended (Unix seconds) and its CPU seconds. `HALFPIPE_BENCH_UNFLUSHED` makes flushing to
disk do nothing.
"""

import atexit
import json
import os
import sys
import time


def note(directory: str, began: float) -> None:
    """Write what this process cost until now."""
    cost = os.times()
    line = {
        "program": os.path.basename(sys.argv[0]),  # noqa: PTH119 - pathlib would cost every process its import
        "began": began,
        "ended": time.time(),
        "cpu": cost.user + cost.system,
    }
    with open(f"{directory}/{os.getpid()}.json", "w") as out:  # noqa: PTH123 - as above
        json.dump(line, out)


if notes := os.environ.get("HALFPIPE_BENCH_NOTES"):
    atexit.register(note, notes, time.time())
if os.environ.get("HALFPIPE_BENCH_UNFLUSHED"):
    os.fsync = lambda _: None  # type: ignore[assignment]
