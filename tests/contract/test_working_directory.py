"""A working directory gets the mark of its format by the first real command, and another format is refused by all."""

import json

import pytest

from halfpipe import paths
from tests.support.golden_cases import GOLDEN, build
from tests.support.workflow import Site

DL = "240601001"


@pytest.fixture
def good(site: Site) -> Site:
    """A site with a downlink that can be processed."""
    build("complete_basic", site)
    return site


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


def test_what_another_system_has_staged_of_a_downlink_is_left_alone(good: Site) -> None:
    foreign = good.stage / DL / "r0741234567" / f"r0741234567-e{10:020d}.evt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("of others\n")
    good.snakemake(f"dl={DL}").bad(DL, str(foreign.parent))
    assert not (good.work / DL).exists(), "nothing was begun"
    good.snakemake().good()  # names none, and leaves this one out
    assert [path for path in good.stage.rglob("*") if path.is_file()] == [foreign]
    (one,) = good.told("status")["downlinks"]
    assert (one["verdict"], one["causes"][0]["code"]) == ("action", "stage-foreign")


def test_a_stage_that_is_not_mounted_is_refused_and_nothing_is_written_there(good: Site) -> None:
    good.by_hand(DL)
    good.add_retdefs(GOLDEN / "split2" / "in", "240601002")
    good.stage.rename(good.home / "mounted")
    good.stage.mkdir()
    for words in (["dl=240601002"], [f"dl={DL}", "-F"], [f"submit={DL}"], []):
        good.snakemake(*words).bad(str(good.stage))
        assert list(good.stage.iterdir()) == []
    assert good.halfpipe("status").status == 2
