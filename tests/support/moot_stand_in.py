"""Stands in for what updates the MOOT database: notes its arguments in a file, and fails when it is told to.

``moot_stand_in.py HOME ...``: appends the arguments as JSON to HOME/told; while HOME/down holds a number above
0 that is counted down, and it fails.
"""

import json
import sys
from pathlib import Path


def main(home: Path, arguments: list[str]) -> int:
    """Note `arguments`, or fail."""
    down = home / "down"
    left = int(down.read_text()) if down.exists() else 0
    if left:
        down.write_text(str(left - 1))
        print("the MOOT database is down (simulated)")
        return 3
    with (home / "told").open("a") as file:
        file.write(json.dumps(arguments) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), sys.argv[2:]))
