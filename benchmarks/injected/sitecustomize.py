"""Python reads this at its start, only in benchmarks: it notes the cost of each process, or disables flushing.

`HALFPIPE_BENCH_NOTES` is a directory that gets one line of JSON for each Python process: its program, when it began and
ended (Unix seconds), and its CPU seconds. `HALFPIPE_BENCH_UNFLUSHED` disables flushing to disk.
"""

import atexit
import json
import os
import sys
import time


def note(directory: str, began: float) -> None:
    """Write the cost of this process so far."""
    cost = os.times()
    line = {
        "program": os.path.basename(sys.argv[0]),  # noqa: PTH119 - importing pathlib would slow down every process
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
