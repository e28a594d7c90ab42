"""Run a command and its children with another clock: Debian's libfaketime.

    python -m tests.support.other_clock 40d make test
    python -m tests.support.other_clock 2028-02-29T23:58:00 .venv/bin/python -m pytest tests/unit

The argument is a number of days ahead, or the initial time in the zone of ``TZ``; the clock runs on from there. Times
of files use this clock too. ``python -m tests.support.servers clock`` installs libfaketime.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from tests.support import servers

FILE_TIMES = Path(__file__).with_name("file_times.c")
LIBRARY = servers.found(servers.NEEDED["clock"][0][0])
PLACE = "/tmp"  # a name in LD_PRELOAD may not have a space, and all users must be able to read it


def ahead(clock: str) -> int:
    """Convert the command-line argument for a clock to the number of seconds that it is ahead."""
    if days := re.fullmatch(r"(\d+)d", clock):
        return int(timedelta(days=int(days[1])).total_seconds())
    return round(datetime.fromisoformat(clock).timestamp() - datetime.now().timestamp())


def environment(clock: str, home: Path) -> dict[str, str]:
    """Return the environment for the clock. A library is built in `home`, which must outlive the programs."""
    servers.needed("clock")
    library = home / "file_times.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", library, FILE_TIMES, "-ldl"], check=True)
    home.chmod(0o755)
    library.chmod(0o755)
    return {
        "LD_PRELOAD": f"{library}:{LIBRARY}",
        "FAKETIME": f"{ahead(clock):+d}",
        "FAKE_UTIME": "1",
        # Waiting times stay the same.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Otherwise processes share their start times, which is not possible in containers.
        "FAKETIME_DISABLE_SHM": "1",
    }


def main(argv: Sequence[str]) -> int:
    """Run a command; return its exit status."""
    if len(argv) < 2:
        print(__doc__)
        return 2
    clock, *command = argv
    with tempfile.TemporaryDirectory(prefix="clock-", dir=PLACE) as home:
        return subprocess.run(
            command, env={**os.environ, **environment(clock, Path(home))}, check=False
        ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
