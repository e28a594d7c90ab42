"""A working directory gets the mark of its format by the first real command, and another format is refused by all."""

import json
import shutil

import pytest

from halfpipe import paths
from halfpipe.files import working_directory
from tests.support.golden_cases import GOLDEN, build
from tests.support.workflow import Site

DL = "240601001"


@pytest.fixture
def good(site: Site) -> Site:
    """A site with a downlink that can be processed."""
    build("complete_basic", site)
    return site


def test_the_first_real_run_makes_it(good: Site) -> None:
    mark = good.work / paths.FORMAT_MARK
    good.snakemake("-n", f"dl={DL}").good()
    assert not mark.exists()
    good.process(DL)
    known = mark.read_bytes()
    assert working_directory.refuse_other(good.work) == json.loads(known)["id"]
    good.process(DL, again=True)
    assert mark.read_bytes() == known


def test_another_format_is_refused_by_every_command_and_nothing_is_changed(good: Site) -> None:
    good.process(DL)
    mark = good.work / paths.FORMAT_MARK
    content = json.loads(mark.read_text())
    aside = mark.rename(good.home / "aside")
    for other in (None, json.dumps(content | {"format": 7})):
        if other is not None:
            mark.write_text(other)
        before = good.tree()
        for words in ([f"dl={DL}", "-F"], ["-n", f"dl={DL}"], []):
            good.snakemake(*words).bad("format")
        for words in (
            ["status"],
            ["show", DL],
            ["unattended"],
            ["process", DL],
            ["hold", "stage", "--reason", "x"],
        ):
            assert good.halfpipe(*words).status == 2, words
        assert good.tree() == before
        assert (mark.read_text() if mark.exists() else None) == other
    aside.rename(mark)
    assert good.outstanding(DL) == frozenset()


def staged(site: Site) -> dict[str, bytes]:
    """Return all that lies in the stage, but for marks."""
    return {name: content for name, content in site.tree().items() if name.startswith("stage/")}


def test_what_another_system_has_staged_of_a_downlink_is_left_alone(good: Site) -> None:
    run = "r0741234567"
    for name in (
        f"{DL}/{run}/{run}-e{10:020d}.evt",
        f"{DL}/delivered_events_{DL}.txt",
        f"chunktokens/{run}/{run}-e{10:020d}",
    ):
        path = good.stage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"of others: {name}\n")
    before = staged(good)
    good.snakemake(f"dl={DL}").bad(DL, str(good.stage / DL / run))
    assert not (good.stage / paths.STAGE_MARK).exists()
    good.snakemake().good()  # names none, and leaves this one out
    assert staged(good) == before
    (one,) = good.told("status")["downlinks"]
    assert (one["verdict"], one["causes"][0]["code"]) == ("action", "stage-foreign")
    shutil.rmtree(good.stage / DL)
    good.process(DL)


def test_a_stage_that_is_not_mounted_is_refused_and_nothing_is_written_there(good: Site) -> None:
    good.by_hand(DL)
    good.add_retdefs(GOLDEN / "split2" / "in", "240601002")
    good.stage.rename(good.home / "mounted")
    good.stage.mkdir()
    for words in (["dl=240601002"], [f"dl={DL}", "-F"], [f"submit={DL}"], []):
        good.snakemake(*words).bad(str(good.stage))
        assert list(good.stage.iterdir()) == []
    assert good.halfpipe("status").status == 2
