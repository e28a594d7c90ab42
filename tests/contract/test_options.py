"""Snakemake's own options do what they say, or are refused before anything changes, and harm no books."""

import os
import re
import subprocess
import sys
from enum import Enum, auto
from pathlib import Path
from typing import Any

import pytest

from halfpipe import paths
from halfpipe.ids import DownlinkId, RunId
from tests.support.golden_cases import build
from tests.support.in_process import ROOT
from tests.support.workflow import Ended, Site, run

DL, SECOND, RUN = DownlinkId("240601001"), DownlinkId("240601002"), RunId("2c2e5787")
PROFILE = str(ROOT / "profiles" / "default")


class Effect(Enum):
    """What a command does: nothing, nothing because it is refused, or the jobs of a downlink again."""

    LOOKS = auto()
    REFUSED = auto()
    AGAIN = auto()


LOOKS, REFUSED, AGAIN = Effect
TABLE = {
    "-n": LOOKS,
    "-F": AGAIN,
    "-R decode_chunk": AGAIN,
    "--touch": LOOKS,
    "--unlock": LOOKS,
    "--rerun-incomplete": LOOKS,
    "--until decode_chunk": LOOKS,
    "--omit-from receipt": LOOKS,
    "--dag": LOOKS,
    "--rulegraph": LOOKS,
    "--summary": LOOKS,
    "--detailed-summary": LOOKS,
    "--list-changes code": LOOKS,
    "--list-untracked": REFUSED,
    "--delete-all-output": REFUSED,
    f"--cleanup-metadata dl={DL}": REFUSED,
    "--generate-unit-tests": REFUSED,
    "--archive site.tar.gz": REFUSED,
    "--report ELSEWHERE/report.html": LOOKS,
    "--directory ELSEWHERE": REFUSED,
    "--directory ELSEWHERE -n": REFUSED,
    "--workflow-profile none -F": REFUSED,
    f"--snakefile {ROOT}/Snakefile -F": AGAIN,
    "--logger noisy -F": AGAIN,
    "--profile s3df --executor local -F": AGAIN,
    "--sdm conda -F": REFUSED,
}
# These start processes of their own: with another directory, path or executor than the tests' process has.
TYPED = ("--snakefile", "--logger", "--profile")
# What a message of a refusal names, if not the option.
NAMED = {"--cleanup-metadata": "metadata", "--sdm": "conda", "--workflow-profile": "profiles/default"}
NOISY = """
from snakemake_interface_logger_plugins.base import LogHandlerBase
class LogHandler(LogHandlerBase):
    writes_to_stream, writes_to_file, needs_rulegraph, has_filter, has_formatter = True, False, False, True, True
    def emit(self, record):
        pass
"""


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with one downlink that is submitted, and one that is not processed."""
    site = Site(tmp_path_factory.mktemp("submitted"))
    build("split2", site)
    site.configure(submit={"command": "true {dl} {rawdir}"})
    site.snakemake(f"submit={DL}").good()
    return site


def typed(site: Site, elsewhere: Path, *words: str) -> Ended:
    """Run Snakemake as a command in another directory, which has the plugin of another logger."""
    plugin = elsewhere / "snakemake_logger_plugin_noisy"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(NOISY)
    there = os.pathsep.join([str(elsewhere), *sys.path])
    cwd = elsewhere if "--snakefile" in words else ROOT
    return run(site.command(*words), {"PYTHONPATH": there}, cwd)


def books(site: Site) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Return what the site knows of the events of its run, and the event files in the stage."""
    (shown,) = site.told("show", "--books", RUN)["shown"]
    assert shown["findings"] == []
    return shown["accounts"], site.staged(DL)


@pytest.mark.parametrize("option", TABLE)
def test_each_option_is_right_or_refused_and_harms_no_books(
    option: str, submitted: Site, tmp_path: Path
) -> None:
    site, elsewhere = submitted.clone(tmp_path / "site"), tmp_path / "elsewhere"
    words = option.replace("ELSEWHERE", str(elsewhere)).split()
    targets = [
        f"submit={DL}",
        *([f"dl={SECOND}"] if words[0] in {"-n", "--touch", "--dag", "--summary"} else []),
    ]
    elsewhere.mkdir()
    before, books_before, database = site.tree(), books(site), (site.work / paths.LEDGER).read_bytes()
    is_typed = words[0] in TYPED
    ended = typed(site, elsewhere, *targets, *words) if is_typed else site.snakemake(*targets, *words)
    after = site.tree()
    assert books(site) == books_before
    if TABLE[option] is AGAIN:
        assert {"decode_chunk", "deliver_run", "receipt"} <= {
            job.rule for job in ended.good().jobs
        } or is_typed
        records = {name: before[name] for name in before if re.search(r"/\d{6}\.json$", name)}
        assert records.items() <= after.items()
        assert site.receipt(DL).number == 2
        return
    assert (after, (site.work / paths.LEDGER).read_bytes()) == (before, database)
    if TABLE[option] is REFUSED:
        ended.bad(NAMED.get(words[0], words[0]))
    else:
        assert not re.search("Missing metadata|Traceback", ended.good().said)


@pytest.mark.parametrize(
    "words", [["--delete-temp-output"], ["--list-untrac"], ["--lu"], ["--delete-all-output", "-n"]]
)
def test_an_option_is_refused_in_whatever_way_it_is_spelled(words: list[str], submitted: Site) -> None:
    before = submitted.tree()
    submitted.snakemake(f"dl={DL}", *words).bad("refused")
    assert submitted.tree() == before


def workflow_around(site: Site, text: str) -> Ended:
    """Process a downlink with a workflow that uses this one."""
    file = site.home / "Snakefile"
    file.write_text(text.replace("ROOT", str(ROOT)))
    words = ["--snakefile", str(file), "--workflow-profile", PROFILE]
    return run(site.command(f"dl={DL}", *words), cwd=site.home)


def test_a_module_is_refused_and_an_included_workflow_finds_its_programs(site: Site) -> None:
    build("split2", site)
    workflow_around(site, 'module l0:\n    snakefile: "ROOT/Snakefile"\n\nuse rule * from l0\n').bad(
        "onstart"
    )
    assert not site.work.exists()
    workflow_around(site, 'include: "ROOT/Snakefile"\n').good()
    assert site.has_receipt(DL)


def test_a_workflow_around_this_one_sets_no_other_working_directory(submitted: Site, tmp_path: Path) -> None:
    site = submitted.clone(tmp_path / "site")
    before = site.tree()
    workflow_around(site, f'include: "ROOT/Snakefile"\nworkdir: "{tmp_path}"\n').bad(str(tmp_path))
    assert site.tree() == before


INTERRUPTED = """
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "halfpipe.settings":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.mark.parametrize(
    "rule", ["decode_chunk", "deliver_run", "receipt", "ledger", "submit", "pictures", "batch"]
)
def test_a_program_that_is_interrupted_at_its_start_prints_no_traceback(rule: str) -> None:
    words = [sys.executable, "-c", INTERRUPTED, str(ROOT / "scripts" / f"{rule}.py")]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-2, "", "")
