"""Paths: the names that others rely on."""

import pytest

from halfpipe import paths


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (paths.retdef("230401001", "00001"), "230401001/RetDef-230401001-00001.xml"),
        (paths.chunk("230401001", "00001"), "230401001/chunks/00001.json"),
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
