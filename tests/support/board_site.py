"""A site whose board has what it may have: downlinks that are handed off, and one whose decoder failed."""

from halfpipe.ids import DownlinkId
from halfpipe.process.failure import Failure
from tests.support.golden_cases import read_case
from tests.support.harness import job_log
from tests.support.workflow import Site

FIRST, SECOND, FAILED = map(DownlinkId, read_case("split3").downlinks)
DAYS = 40_000.0  # that its board looks back: the downlinks are old
HOSTILE = "<script>document.title = 'taken over &'</script>"


HANDED_OFF = ("split3", FIRST, SECOND)  # the golden case, and what was processed of it


def lay_out(site: Site) -> Site:
    """Have the decoder of the third downlink fail, which has said something hostile; two are handed off."""
    why = Failure("decoder", f"the decoder said {HOSTILE}")
    job_log(site.work, "decode_chunk-00001", why, FAILED, f"begun\n| its last line {HOSTILE}\n")
    return site
