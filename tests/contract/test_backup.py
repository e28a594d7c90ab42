"""The backup of docs/operations.md is enough to continue; later deliveries are refused."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.documents import sections
from tests.support.golden_cases import build, check
from tests.support.workflow import Site

FIRST, SECOND = "240601001", "240601002"


def back_up(work: Path, to: Path) -> None:
    """Run the command of the document."""
    if shutil.which("rsync") is None:
        pytest.skip("rsync is not installed (Debian: apt-get install rsync)")
    (line,) = re.findall(r"^    (rsync .*)$", sections("docs/operations.md")["Backup"], re.MULTILINE)
    places = {"<paths.work>": str(work), "<backup>": str(to)}
    words = shlex.split(re.sub("<.*?>", lambda found: places[found[0]], line))
    subprocess.run(words, check=True)


def test_a_restored_backup_goes_on_with_the_same_bytes(site: Site, tmp_path: Path) -> None:
    case = build("split2", site)
    site.process(FIRST)
    back_up(site.work, tmp_path / "backup")
    assert not list((tmp_path / "backup").rglob("*.evt"))
    shutil.rmtree(site.work)
    shutil.copytree(tmp_path / "backup", site.work)
    site.process(SECOND)
    check(site, case.steps[1])


def test_what_was_delivered_after_the_backup_is_refused(site: Site, tmp_path: Path) -> None:
    build("split2", site)
    site.process(FIRST)
    back_up(site.work, tmp_path / "backup")
    site.process(SECOND)
    shutil.rmtree(site.work)
    shutil.copytree(tmp_path / "backup", site.work)
    ended = site.snakemake(f"dl={SECOND}").bad()
    assert "restored from a backup" in ended.said
