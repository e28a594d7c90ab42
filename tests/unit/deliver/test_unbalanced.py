"""The books of a downlink: the step that does not balance is named."""

from msgspec.structs import replace

from halfpipe.decode.chunk import Chunk
from halfpipe.deliver.unbalanced import findings
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.books import Books
from halfpipe.state.deliveries import Delivery
from halfpipe.state.hand_offs import HandedRun
from halfpipe.state.merged_chunks import File, merged
from tests.support.receipts import chunk_of

DL, RUN = DownlinkId("240601001"), RunId("2c2e5787")
CHUNK = chunk_of(DL, 1, RUN, events=5)
GOOD = Delivery(
    DL, 1, (), {}, brought=5, books=Books(known=5, delivered=3, waiting=2), chunks=(merged(CHUNK, RUN),)
)


def steps(delivery: Delivery = GOOD, *chunks: Chunk, retdefs: int = 1) -> list[str]:
    """Return the steps at which the books of a run do not balance."""
    found = list(findings(DL, chunks or [CHUNK], [HandedRun(RUN, delivery, "")], range(1, retdefs + 1)))
    assert {cause.code for cause in found} <= {"books"}
    return [cause.text.partition("do not balance at ")[2].partition(": ")[0] for cause in found]


def test_an_unbalanced_step_is_named() -> None:
    assert steps() == []
    for known in (4, 6):
        assert steps(replace(GOOD, books=replace(GOOD.books, known=known))) == ["known, accounted for"]
    assert steps(retdefs=2) == ["RetDefs, decoded"]


def test_each_product_of_a_run_is_in_its_delivery() -> None:
    assert steps(GOOD, CHUNK, chunk_of(DL, 2, RUN)) == ["decoded, merged"], "not merged"
    assert "decoded, merged" in steps(GOOD, replace(CHUNK, runs=())), "gone"
    (one,) = GOOD.chunks
    other = replace(one, files={"another.rows": File(1, "")})
    assert steps(replace(GOOD, chunks=(other,))) == ["decoded, merged"], "decoded again since"
