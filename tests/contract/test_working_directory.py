"""Commands refuse a working directory of another format or from a backup, and a foreign or unmounted stage."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.status.survey import Survey
from tests.support.documents import sections
from tests.support.golden_cases import GOLDEN, build, check
from tests.support.workflow import Site, run

DL, SECOND = "240601001", "240601002"


@pytest.fixture
def good(site: Site) -> Site:
    """A site with a downlink that can be processed."""
    build("complete_basic", site)
    return site


def test_every_command_refuses_another_format_and_changes_nothing(good: Site) -> None:
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
            ["board", "-o", str(good.home / "board")],
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


def test_a_working_directory_that_cannot_be_written_to_is_refused_in_words(good: Site) -> None:
    good.process(DL)
    # Without this capability, permissions hold for root, too.
    weaker = ["setpriv", "--inh-caps=-dac_override", "--bounding-set=-dac_override"]
    bound = [] if os.geteuid() else weaker
    good.work.chmod(0o555)
    try:
        for words in ([f"dl={SECOND}"], ["-n", f"dl={DL}", "-F"]):
            ended = run([*bound, *good.command(*words)])
            assert str(good.work) in ended.bad().said
    finally:
        good.work.chmod(0o755)


def test_files_that_another_system_staged_are_left_alone(good: Site) -> None:
    foreign = good.stage / DL / "r0741234567" / f"r0741234567-e{10:020d}.evt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("of others\n")
    good.snakemake(f"dl={DL}").bad(DL, str(foreign.parent))
    assert not (good.work / DL).exists(), "nothing was begun"
    good.snakemake().good()  # names no downlink, and leaves this one out
    assert [path for path in good.stage.rglob("*") if path.is_file()] == [foreign]
    (one,) = good.told("status")["downlinks"]
    assert (one["verdict"], one["causes"][0]["code"]) == ("action", "stage-foreign")


def test_a_delivery_claims_the_stage_before_its_hand_off(good: Site) -> None:
    good.snakemake(f"runs/2c2e5787/{DL}/manifest.json").good()
    other = good.clone(good.home / "other")
    shutil.rmtree(other.work)
    other.configure(paths={"stage": str(good.stage)})
    before = sorted(good.stage.rglob("*"))
    other.snakemake(f"dl={DL}").bad()
    trouble = Survey(other.settings).plan.stage_trouble
    assert trouble is not None
    assert trouble.code == "stage-foreign"
    assert sorted(good.stage.rglob("*")) == before


def test_nothing_is_written_into_a_stage_that_is_not_mounted(good: Site) -> None:
    good.by_hand(DL)
    good.add_retdefs(GOLDEN / "split2" / "in", "240601002")
    good.stage.rename(good.home / "mounted")
    good.stage.mkdir()
    for words in (["dl=240601002"], [f"dl={DL}", "-F"], [f"submit={DL}"], []):
        good.snakemake(*words).bad(str(good.stage))
        assert list(good.stage.iterdir()) == []
    for verb in (["process", "240601002"], ["submit", DL], ["cleanup"]):
        assert good.halfpipe(*verb).status == 2, verb


HARMFUL = {"mkdir", "cp", "mv", "rm", "mount", "umount", "kill"}


def test_reports_and_alarms_work_without_the_stage_and_begin_with_it(site: Site) -> None:
    """Of two downlinks, one is submitted."""
    build("split2", site)
    site.configure(submit={"command": "true {dl} {rawdir}"}, ledger={"url": None})
    for downlink in (DL, SECOND):
        site.by_hand(downlink)
    site.halfpipe("submit", DL).good()
    site.stage.rename(site.home / "mounted")
    site.stage.mkdir()
    before = site.tree()
    told = site.told("status", "--check")
    (wrong,) = (cause for cause in told["site"] if cause["verdict"] == "action")
    assert (wrong["code"], str(site.stage) in wrong["text"]) == ("not-mounted", True)
    # The content of the stage is unknown: its files are neither taken nor gone.
    found = {
        one["dl"]: (one["state"], {cause["code"] for cause in one["causes"]}) for one in told["downlinks"]
    }
    assert found == {DL: ("submitted 1", set()), SECOND: ("handed off 1", {"not-submitted"})}
    board = str(site.home / "board")
    for words in (["status"], ["status", "--check"], ["show", DL], ["explain", DL], ["board", "-o", board]):
        ended = site.halfpipe(*words)
        assert ended.status == (0 if words[0] in {"show", "explain"} else 1), words
        lines = ended.said.splitlines()
        if words[0] != "board":
            first = next(number for number, line in enumerate(lines) if "not mounted" in line)
            assert not any(DL in line for line in lines[:first])
        pasted = {line.split()[1] for line in lines if line.startswith("  → ") and not line[4].isupper()}
        assert not pasted & HARMFUL, "a command to paste must not touch the bare mount point"
    site.halfpipe("hold", "stage", "--reason", "it is not mounted").good()
    site.halfpipe("hold", "stage", "--undo").good()
    assert (site.tree(), list(site.stage.iterdir())) == (before, [])

    heard, made = (site.home / name for name in ("heard", "made"))
    site.configure(alarm={"command": f"tee {heard}"}, board={"dir": str(made)})
    ended = site.halfpipe("unattended", "--timer")
    assert (ended.status, ended.said) == (1, "")
    assert "the site (not-mounted)" in heard.read_text()
    assert "not mounted" in (made / paths.BOARD).read_text()
    assert list(site.stage.iterdir()) == []


def test_a_missing_search_path_hides_no_processed_downlink(good: Site) -> None:
    good.process(DL)
    good.retdefs.rename(good.home / "away")
    told = good.told("status")
    assert "file-system" in [cause["code"] for cause in told["site"]]
    assert [one["state"] for one in told["downlinks"]] == ["handed off 1"]
    assert good.halfpipe("show", DL).status == good.halfpipe("explain", DL).status == 0
    assert good.halfpipe("process", DL).status == 2
    good.snakemake(f"dl={DL}").bad("paths.retdef")


def back_up(work: Path, to: Path) -> None:
    """Run the command of the document."""
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed (Debian: apt-get install rsync)")
    (line,) = re.findall(r"^    (rsync .*)$", sections("docs/operations.md")["Backup"], re.MULTILINE)
    places = {"<paths.work>": str(work), "<backup>": str(to)}
    words = shlex.split(re.sub("<.*?>", lambda found: places[found[0]], line))
    subprocess.run(words, check=True)


@pytest.mark.parametrize("lost", [False, True], ids=["nothing lost", "a delivery lost"])
def test_a_restored_backup_goes_on_with_the_same_bytes_unless_it_lacks_a_delivery(
    lost: bool, site: Site, tmp_path: Path
) -> None:
    case = build("split2", site)
    site.process(DL)
    back_up(site.work, tmp_path / "backup")
    assert not list((tmp_path / "backup").rglob("*.evt"))
    if lost:
        site.process(SECOND)
    shutil.rmtree(site.work)
    shutil.copytree(tmp_path / "backup", site.work)
    if lost:
        site.snakemake(f"dl={SECOND}").bad("restored from a backup")
    else:
        site.process(SECOND)
        check(site, case.steps[1])
