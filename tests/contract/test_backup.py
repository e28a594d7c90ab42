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


@pytest.mark.parametrize("lost", [False, True], ids=["nothing lost", "a delivery lost"])
def test_a_restored_backup_goes_on_with_the_same_bytes_unless_it_lacks_a_delivery(
    lost: bool, site: Site, tmp_path: Path
) -> None:
    case = build("split2", site)
    site.process(FIRST)
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
