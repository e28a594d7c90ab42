"""The patches for the Slurm plugin: each applies to the installed version, and its own test needs it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import snakemake_executor_plugin_slurm

from tests.support.in_process import ROOT

PATCHES = sorted((ROOT / "upstream").glob("*.patch"))
PLUGIN = Path(snakemake_executor_plugin_slurm.__file__).parent


def passes(home: Path) -> bool:
    """Run the test of a patch with the plugin in `home`."""
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    ended = subprocess.run(
        words, cwd=home, env={"PYTHONPATH": str(home)}, capture_output=True, text=True, check=False
    )
    assert ended.returncode in {0, 1}, ended.stdout + ended.stderr
    return ended.returncode == 0


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_patch_applies_and_its_test_needs_it(patch: Path, tmp_path: Path) -> None:
    shutil.copytree(PLUGIN, tmp_path / PLUGIN.name)
    for part, is_good in (("tests", False), (PLUGIN.name, True)):
        subprocess.run(["git", "apply", f"--include={part}/*", patch], cwd=tmp_path, check=True)
        assert passes(tmp_path) == is_good


def test_each_patch_is_named_where_it_replaces_code() -> None:
    names = {patch.stem for patch in PATCHES}
    page = (ROOT / "docs" / "upstream.md").read_text()
    code = (ROOT / "src" / "snakemake_executor_plugin_halfpipe" / "__init__.py").read_text()
    assert set(re.findall(r"upstream/([-\w]+)\.patch", page)) == names
    assert set(re.findall(r"upstream/([-\w]+)\.patch", code)) == names
