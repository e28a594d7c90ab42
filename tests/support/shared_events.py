"""Runs in which downlinks contain the same events in datagrams of other numbers."""

from hypothesis import strategies as st

from tests.support.bridge import Run
from tests.support.chunks import chunk_of
from tests.support.model import Chunk, Rules


@st.composite
def arrivals(draw: st.DrawFn) -> Run:
    """Draw a run, and process each of its downlinks once.

    Each downlink has a part of the sequences, cut into datagrams in its own way.
    """
    run = Run(Rules(min_epus=1, min_events=draw(st.sampled_from([1, 2]))))
    for downlink in draw(st.permutations(["240601001", "240601002", "240601003"])):
        run.process(downlink, [draw(_chunks())])
    return run


@st.composite
def _chunks(draw: st.DrawFn) -> Chunk:
    sequence = draw(st.integers(1, 8))
    number = draw(st.integers(0, 3))
    datagrams = {}
    for size in draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)):
        datagrams[number] = range(sequence, sequence + size)
        sequence += size
        number += 1
    return chunk_of(956, datagrams, draw(st.sampled_from([None, number - 1])))
