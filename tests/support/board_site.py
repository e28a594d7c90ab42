"""A site whose board has what it may have: downlinks that are handed off, and one whose decoder failed."""

from pathlib import Path

from halfpipe import paths
from halfpipe.ids import DownlinkId
from halfpipe.process.failure import Failure
from tests.support.golden_cases import GOLDEN, read_case
from tests.support.workflow import Site

CASE = read_case(GOLDEN / "split3")
FIRST, SECOND, FAILED = (DownlinkId(downlink) for downlink in CASE.downlinks)
DAYS = 40_000.0  # that its board looks back: the downlinks are old
HOSTILE = "<script>document.title = 'taken over &'</script>"


def lay_out(home: Path) -> Site:
    """Hand two downlinks off; the decoder of the third one has said something hostile."""
    site = Site(home)
    site.replay(CASE.directory / "in", *CASE.downlinks)
    site.by_hand(FIRST)
    site.by_hand(SECOND)
    log = site.work / paths.log("decode_chunk", FAILED, "00001")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"begun\n| its last line {HOSTILE}\n")
    Failure("decoder", f"the decoder said {HOSTILE}").write(log)
    return site
