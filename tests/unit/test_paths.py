"""Paths: what a pattern's wildcards match comes back, and no two products share a name."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfpipe import paths
from halfpipe.ids import ChunkId, DownlinkId, RunId

PATTERN_OF = {"dl": DownlinkId.PATTERN, "chunk": ChunkId.PATTERN, "run": RunId.PATTERN}
PRODUCTS: dict[Callable[..., str], tuple[str, ...]] = {
    paths.retdef: ("dl", "chunk"),
    paths.chunk: ("dl", "chunk"),
    paths.index: ("run", "dl"),
    paths.manifest: ("run", "dl"),
    paths.receipt: ("dl",),
}
IDS = st.fixed_dictionaries(
    {name: st.from_regex(rf"\A{pattern}\Z", fullmatch=True) for name, pattern in PATTERN_OF.items()}
)


def matched(pattern: str, path: str) -> dict[str, str] | None:
    """Match a file name against a pattern as Snakemake does: a wildcard that comes again means the same."""
    expression, seen = "", set()
    for text, name in re.findall(r"([^{]*)(?:\{(\w+)\})?", pattern):
        expression += re.escape(text)
        if name:
            expression += f"(?P={name})" if name in seen else f"(?P<{name}>{PATTERN_OF[name]})"
            seen.add(name)
    match = re.fullmatch(expression, path)
    return match.groupdict() if match else None


@settings(max_examples=15)
@given(IDS)
def test_wildcards_come_back(ids: dict[str, str]) -> None:
    for product, names in PRODUCTS.items():
        path = product(*(ids[name] for name in names))
        assert matched(product(), path) == {name: ids[name] for name in names}
        # No rule could make what another one makes.
        others = [other for other in PRODUCTS if other is not product]
        assert [other.__name__ for other in others if matched(other(), path)] == []


def test_no_two_files_share_a_name() -> None:
    dl, chunk, run = "230401001", "00001", "2c2e5787"
    ids = {"dl": dl, "chunk": chunk, "run": run}
    every = [
        *(product(*(ids[name] for name in names)) for product, names in PRODUCTS.items()),
        paths.chunk_scratch(dl, chunk),
        f"{paths.chunks(dl)}/{paths.block_checksums(chunk)}",
        *(path(run, dl) for path in (paths.datagrams, paths.events, paths.chunk_list)),
        paths.deliveries(run),
        paths.copies(paths.deliveries(run)),
        paths.context(run),
        paths.receipts(dl),
        paths.copies(paths.receipts(dl)),
        paths.downlink_lease(dl),
        paths.run_lease(run),
        paths.heartbeats(),
    ]
    assert len(set(every)) == len(every)
    assert not paths.stage_scratch(dl, "texts").startswith(f"{paths.staged(dl)}/"), "Level-1 looks there"
    assert not any(path.startswith(("/", "~", "../")) for path in every)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (paths.retdef("230401001", "00001"), "230401001/RetDef-230401001-00001.xml"),
        (paths.chunk("230401001", "00001"), "230401001/chunks/00001.json"),
        (paths.index("2c2e5787", "230401001"), "runs/2c2e5787/230401001/index.json"),
        (paths.manifest("2c2e5787", "230401001"), "runs/2c2e5787/230401001/manifest.json"),
        (paths.receipt("230401001"), "dl=230401001"),
        (paths.staged_run("230401001", "r0741234567"), "230401001/r0741234567"),
        (paths.event_file("r0741234567", 2**40), "r0741234567-e00000001099511627776.evt"),
        (paths.text("delivered_events", "230401001"), "delivered_events_230401001.txt"),
        (paths.halt_cleanup("230401001", "r0741234567"), "chunktokens/r0741234567/haltCleanup-230401001"),
        (paths.log("deliver_run", paths.DL, paths.RUN), "logs/{dl}/deliver_run-{run}.log"),
        (paths.log("receipt", paths.DL), "logs/{dl}/receipt.log"),
    ],
)
def test_names_that_others_rely_on(path: str, expected: str) -> None:
    assert path == expected
