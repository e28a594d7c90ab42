"""The machine that the figures are from, without names of hosts or people."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halfpipe import __version__


def described(home: Path) -> dict[str, Any]:
    """Describe the machine and the file system of `home`, and how busy the machine was in the last minute."""
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    home.mkdir(parents=True, exist_ok=True)
    disk = subprocess.run(["stat", "-f", "-c", "%T", home], capture_output=True, text=True, check=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": processor[1] if processor else "unknown",
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk": disk.stdout.strip(),
        "python": platform.python_version(),
        "halfpipe": __version__,
        "load": round(os.getloadavg()[0], 1),
    }
