"""The machine that the figures are from, without names of hosts or people."""

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from halfpipe import __version__


def described(home: Path) -> dict[str, Any]:
    """Describe the machine and the file system of `home`, and how busy the machine was in the last minute."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": _after("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "disk": _disk(home),
        "python": platform.python_version(),
        "halfpipe": __version__,
        "load": round(os.getloadavg()[0], 1),
    }


def _after(file: str, key: str) -> str:
    for line in Path(file).read_text().splitlines():
        if line.startswith(key):
            return line.partition(":")[2].strip()
    return "unknown"


def _disk(home: Path) -> str:
    """Say what the file system of `home`, or of the first of its parents that exists, lies on."""
    while not home.exists():
        home = home.parent
    kind, best = "unknown", ""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, of, *_ = line.split()
        if home.is_relative_to(place) and len(place) >= len(best):
            kind, best = of, place
    device = home.stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    if not block.exists():
        return f"{kind}, no block device"
    disk = block.resolve()
    if not (disk / "queue").exists():  # a partition
        disk = disk.parent
    if disk.name.startswith(("vd", "xvd")):  # what such a disk says of itself means nothing
        return f"{kind} on a virtual disk"
    turns = (disk / "queue" / "rotational").read_text().strip() == "1"
    return f"{kind} on a {'rotating' if turns else 'solid-state'} disk"
