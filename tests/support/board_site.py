"""A site whose board has what it may have: downlinks that are handed off, and one whose decoder failed."""

from pathlib import Path

from halfpipe import paths
from halfpipe.ids import DownlinkId
from halfpipe.process.failure import Failure
from tests.support.golden_cases import build, read_case
from tests.support.workflow import Site

FIRST, SECOND, FAILED = map(DownlinkId, read_case("split3").downlinks)
DAYS = 40_000.0  # that its board looks back: the downlinks are old
HOSTILE = "<script>document.title = 'taken over &'</script>"


def lay_out(home: Path) -> Site:
    """Hand two downlinks off; the decoder of the third one has said something hostile."""
    site = Site(home)
    build("split3", site, FIRST, SECOND)
    log = site.work / paths.log("decode_chunk", FAILED, "00001")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"begun\n| its last line {HOSTILE}\n")
    Failure("decoder", f"the decoder said {HOSTILE}").write(log)
    return site
