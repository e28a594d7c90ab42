"""A site for tests of the board: two downlinks that are handed off, and one with a failed decoder."""

from halfpipe.ids import DownlinkId, RunId
from halfpipe.process.failure_record import Failure
from tests.support.golden_cases import read_case
from tests.support.harness import job_log
from tests.support.workflow import Site

FIRST, SECOND, FAILED = map(DownlinkId, read_case("split3").downlinks)
RUN = RunId("2c2e5787")  # in both downlinks that are handed off
DAYS = 40_000.0  # age limit of the board, because the downlinks are old
HOSTILE = "<script>document.title = 'taken over &'</script>"


HANDED_OFF = ("split3", FIRST, SECOND)  # a golden case, and its processed downlinks


def lay_out(site: Site) -> Site:
    """Let the decoder of the third downlink fail with a hostile message."""
    why = Failure("decoder", f"the decoder said {HOSTILE}")
    job_log(site.work, "decode_chunk-00001", why, FAILED, f"begun\n| its last line {HOSTILE}\n")
    return site
