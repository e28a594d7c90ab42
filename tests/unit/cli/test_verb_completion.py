"""Completion by click itself: a real bash, in which its script was sourced, is asked, as docs/operations.md has it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.in_process import ROOT
from tests.support.worked_site import CUT, FIRST, HALF_WAY, LCI, SECOND, SPREAD

(DOCUMENTED,) = re.findall(
    r'`(eval "\$\(_HALFPIPE_COMPLETE=.*?)`', (ROOT / "docs" / "operations.md").read_text()
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the command, as the environment has it."""
    home = tmp_path_factory.mktemp("bin")
    program = home / "halfpipe"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m halfpipe "$@"\n')
    program.chmod(0o755)
    return home


def completed(home: Path, line: str, profile: Path | str = "") -> list[str]:
    """Return what bash offers at the end of a line."""
    words = line.split(" ")
    ask = (
        f'PATH="{home}:$PATH"; export SNAKEMAKE_PROFILE="{profile}"; {DOCUMENTED}; '
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        'complete -p halfpipe >/dev/null; _halfpipe_completion halfpipe; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "--norc", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash(home: Path, shared: Path) -> None:
    site = shared.parent
    assert completed(home, f"halfpipe status {FIRST} 24", site) == [SECOND, HALF_WAY], "each once"
    assert completed(home, f"halfpipe --configfile {shared} force 2c") == [SPREAD, LCI, CUT]
    assert completed(home, "halfpipe status 24", "no such profile") == []
