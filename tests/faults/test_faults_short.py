"""Death at any moment, and a disk that keeps only what was flushed; all rules and moments in `tests/faults`."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.crashes import FIRST, KILLED, MODES, RUN, SECOND, Crashes, prepare, records, sweep
from tests.support.harness import Fault, invoke
from tests.support.leases import leases
from tests.support.workflow import Job, Site

pytestmark = pytest.mark.workflow

EVERY = 16  # moments; all of them in `make test-faults`


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
@pytest.mark.parametrize("modes", [MODES, KILLED], ids=["crash", "kill"])
def test_after_a_death_the_same_command_leaves_the_same_tree(
    modes: Sequence[str], again: bool, tmp_path: Path
) -> None:
    assert sweep(tmp_path, again, EVERY, modes) >= 10


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_another_downlink_goes_on_over_what_a_dead_merge_left(again: bool, tmp_path: Path) -> None:
    crashes = Crashes(Site(tmp_path / "site"), again, tmp_path, others=again)
    site = crashes.site
    moments = crashes.moments()
    if not again:
        site.by_hand(FIRST)
    whole = records(site)
    assert len(whole) == 130
    merging = [
        at
        for at, moment in enumerate(moments, 1)
        if moment.startswith(("os.rename", "os.remove")) and f"/runs/{RUN}/{SECOND}/" in moment
    ]
    assert len(merging) >= 3 + again
    for at in merging:
        crashes.happen(at, "kill")
        site.by_hand(FIRST)
        site.by_hand(SECOND)
        assert records(site) == whole, moments[at - 1]
        assert leases(site.work) == []


def test_no_death_loses_the_line_of_a_hand_off(tmp_path: Path) -> None:
    """One between the line and the record of the hand-off doubles it, with the same id."""
    site = Site(tmp_path / "site")
    lines = site.home / "lines.jsonl"
    site.configure(metrics={"handoffs": str(lines)})
    crashes = Crashes(site, again=False, home=tmp_path)
    moments = crashes.moments()
    written = next(at for at, moment in enumerate(moments, 1) if moment.endswith("/lines.jsonl"))
    recorded = next(at for at, m in enumerate(moments, 1) if m.startswith("os.link") and "/receipts/" in m)
    assert written < recorded
    assert len(moments) - written > 10
    for at in range(written - 1, len(moments) + 1):
        crashes.happen(at, "kill")
        crashes.run(missing=True)
        ids = [json.loads(line)["id"] for line in lines.read_text().splitlines()]
        twice = written < at <= recorded
        assert ids == [f"{FIRST}-1", *[f"{SECOND}-1"] * (2 if twice else 1)], moments[at - 1]


def test_a_head_that_dies_while_outputs_are_removed_leaves_no_receipt(tmp_path: Path) -> None:
    """Else the receipt stands over what is gone, and nothing is said to be outstanding."""
    site = Site(tmp_path / "site")
    prepare(site)
    site.process(SECOND)
    once = tmp_path / "once"
    invoke(site, f"dl={SECOND}", "-F", env=Fault("snakemake", "list", 0).environment(site, once)).good()
    moments = once.read_text().splitlines()
    receipt, output = (
        next(at for at, moment in enumerate(moments, 1) if re.fullmatch(rf"os\.remove .*/{name}", moment))
        for name in (f"dl={SECOND}", r"chunks/\d+\.json")
    )
    assert receipt < output
    once.unlink()
    invoke(site, f"dl={SECOND}", "-F", env=Fault("snakemake", "all", output + 1).environment(site, once))
    assert once.exists()
    assert not (site.work / f"dl={SECOND}").exists()
    assert Job("receipt", SECOND) in site.outstanding(SECOND)
