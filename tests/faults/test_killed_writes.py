"""A downlink that is killed at each durable write is finished by the next command: same bytes, one submission."""

import re
from functools import partial
from pathlib import Path
from shutil import copytree

import pytest

from halfpipe import paths
from halfpipe.files.pointers import resolves
from halfpipe.files.records import Series
from halfpipe.ids import RunId
from halfpipe.ledger.check import check
from halfpipe.ledger.database import Ledger
from halfpipe.notify.submissions import submissions
from tests.support import forks
from tests.support.harness import differing
from tests.support.leases import time_passes
from tests.support.level1 import with_level1
from tests.support.series import noted

FIRST, SECOND = "240601001", "240601002"
RUN = RunId("2c2e5787")
LIMIT = 1.0  # seconds that submit.command may take
POINTERS = {
    paths.manifest(RUN, SECOND): paths.deliveries(RUN),
    paths.receipt(SECOND): paths.receipts(SECOND),
    paths.loaded(SECOND): paths.receipts(SECOND),
    paths.submitted(SECOND): paths.submissions(SECOND),
}
RECORDS = {paths.deliveries(RUN), paths.receipts(SECOND), paths.submissions(SECOND)}
MARKS = {f"work/{paths.STAGE_MARK_COPY}", f"stage/{paths.STAGE_MARK}"}
# Everything that can hold a number of a hand-off, except the ledger's row, whose database writes it.
WRITES = {f"work/{name}" for name in (*POINTERS, *RECORDS, *map(paths.copies, RECORDS))} | MARKS
PART = re.compile(r"os\.(?:link|rename) (.*)/\.([^/]+?)(?:\.[0-9a-f]{32})?\.part")


def written(moment: str, home: Path) -> str:
    """Return which of `WRITES` gets its final name right after this moment: a pointer, or a directory of records."""
    found = PART.fullmatch(moment)
    if found is None:
        return ""
    place, name = Path(found[1]).relative_to(home), found[2]
    return str(place if re.fullmatch(r"\d{6}\.json", name) else place / name)


@pytest.mark.parametrize(
    "all_writes", [False, pytest.param(True, marks=pytest.mark.faults)], ids=["pointers", "all"]
)
def test_the_next_command_finishes_a_downlink_that_was_killed_at_a_write(
    all_writes: bool, tmp_path: Path
) -> None:
    site, level1 = with_level1(tmp_path / "site", FIRST, SECOND)
    url = f"sqlite:///{site.home}/ledger.sqlite"
    site.configure(ledger={"url": url}, submit={"seconds": LIMIT})
    site.by_hand(FIRST, jobs=site.listed(f"submit={FIRST}"))
    process = partial(site.by_hand, SECOND, jobs=site.listed(f"submit={SECOND}"))
    before = copytree(site.home, tmp_path / "before")
    moments = forks.moments(process, site.home)
    writes = {at: written(moment, site.home) for at, moment in enumerate(moments, 1)}
    assert {*writes.values()} >= WRITES
    expected, marked = site.tree(), noted(site.stage)
    of_submissions = re.compile(rf"work/(?:copies/)?{SECOND}/submissions/.*|work/submit={SECOND}")
    pointers = {f"work/{name}" for name in POINTERS}
    for at, write in writes.items():
        if write not in pointers and not (all_writes and write.startswith(("work/", "stage/"))):
            continue
        forks.restored(site.home, before)
        assert forks.killed(process, site.home, at), write
        time_passes(site.work)
        process(missing=True)
        # The records of a submission contain the time.
        wrong = [name for name in differing(site.tree(), expected) if not of_submissions.fullmatch(name)]
        assert wrong == [], write
        for pointer, series in POINTERS.items():
            assert resolves(site.work / pointer, Series(site.work, series).read()[-1].seal), write
        assert [place for place, _ in noted(site.stage)] == [place for place, _ in marked], write
        assert check(Ledger(url), site.settings) == [], write
        assert level1.commands(SECOND) == ["createStream"], write
        confirmed = submissions(site.work, SECOND).last_confirmed
        assert confirmed is not None
        assert confirmed.receipt == site.receipt(SECOND).seal, write
