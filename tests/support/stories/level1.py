"""A stand-in for the pipeline client of the stories, which knows streams and can answer wrongly.

    level1.py STREAMS create|rollback|exists DL

What goes wrong at the next call stands in `mode` beside STREAMS: `refuse` (fails, and was not heard), `fail` (was
heard, and fails), `forget` (ends well, and was not heard).
"""

import json
import sys
from pathlib import Path


def main(streams: str, command: str, downlink: str) -> int:
    """Behave as the client."""
    path = Path(streams)
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    if command == "exists":
        return 0 if ["create", downlink] in known else 1
    mode = path.with_name("mode")
    wrong = mode.read_text() if mode.exists() else ""
    mode.unlink(missing_ok=True)
    print(f"STAND-IN: {command} {downlink} {wrong}", flush=True)
    if wrong not in {"refuse", "forget"}:
        with path.open("a") as file:
            file.write(json.dumps([command, downlink]) + "\n")
    return 3 if wrong in {"refuse", "fail"} else 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
