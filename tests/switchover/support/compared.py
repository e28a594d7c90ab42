"""A case processed by HalfPipe and by the model of the legacy, for `halfpipe compare`."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halfpipe.formats import evt
from halfpipe.ids import DownlinkId
from halfpipe_switchover.comparison import Compared, compare
from tests.support.golden_cases import build
from tests.support.workflow import Site
from tests.switchover.support.legacy_merge import Legacy

MAGIC7 = """\
# SIMULATED attitude and orbit: a line of each in a hundred seconds, from -b to -e (Unix UTC seconds).
while [ $# -gt 0 ]; do
  case $1 in -b) begin=$2 ;; -e) end=$2 ;; esac
  shift
done
awk -v b="$begin" -v e="$end" 'BEGIN {
  for (t = 100 * int(b / 100) + 100; t <= e; t += 100) {
    print "2024-06-28 00:00:00.000000 ATT", t, "0 0 0 0 1 0 0 0.001097"
    print "2024-06-28 00:00:00.000000 ORB", t, "0 1 0 0 0 1 1 5 0"
  }
}'
"""


def magic7(begin: float, end: float) -> bytes:
    """Return what the command `MAGIC7` prints."""
    command = ["sh", "-c", MAGIC7, "magic7", "-b", str(begin), "-e", str(end)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


class BothSides:
    """A site with a case, and a stage of the legacy in its home; both have magic-7 if `with_magic7`."""

    def __init__(self, name: str | Path, site: Site, *, with_magic7: bool = False) -> None:
        self.case, self.site = build(name, site), site
        self.legacy = Legacy(self.case, site.home / "legacy", magic7 if with_magic7 else None)
        if with_magic7:
            (site.home / "magic7.sh").write_text(MAGIC7)
            site.configure(magic7={"command": shlex.join(["sh", str(site.home / "magic7.sh")])})

    def process(self, steps: int | None = None) -> list[Compared]:
        """Process the steps of the case on both sides; return the comparison right after each step."""
        found = []
        for step in self.case.steps[:steps]:
            self.site.by_hand(step.downlink)
            self.legacy.process(step)
            found.append(self.compared(step.downlink))
        return found

    def compared(self, downlink: str, other: Path | None = None) -> Compared:
        """Compare a downlink with the legacy's stage, or with `other`."""
        return compare(self.site.settings, DownlinkId(downlink), other or self.legacy.stage)


def event_file(root: Path, downlink: str) -> Path:
    """Return the only event file of a downlink in a stage or a tree."""
    (path,) = (root / downlink).glob("r*/*.evt")
    return path


def sequence_of(record: bytes) -> int:
    return int(np.frombuffer(record, evt.CONTEXT, 1)["scalers_sequence"][0])


def write_event_file(path: Path, records: Sequence[bytes]) -> None:
    """Replace the records of an event file, and update its header except MOOT key and alias."""
    header = evt.read_header(path).copy()
    contexts = [np.frombuffer(record, evt.CONTEXT, 1)[0] for record in (records[0], records[-1])]
    header["evtcnt"] = len(records)
    for name, context in zip(("beg", "end"), contexts, strict=True):
        header[f"secs_{name}"] = context["current_timeSecs"]
        header[f"gemseq_{name}"] = context["scalers_sequence"]
    path.write_bytes(header.tobytes() + b"".join(records))
