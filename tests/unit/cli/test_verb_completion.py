"""Completion: a real bash, in which the script was sourced, is asked; the scripts of the other shells are there."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.verbs import halfpipe
from tests.support.worked_site import CUT, FIRST, HALF_WAY, LCI, SECOND, SPREAD


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
        f'PATH="{home}:$PATH"; export SNAKEMAKE_PROFILE="{profile}"; eval "$(halfpipe completion bash)"; '
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        'complete -p halfpipe >/dev/null; _halfpipe_completion halfpipe; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "--norc", "-c", ask], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash(home: Path, shared: Path) -> None:
    site = shared.parent
    assert completed(home, "halfpipe un") == ["unattended"]
    assert completed(home, "halfpipe ledger re") == ["rebuild", "refresh", "remove"]
    assert completed(home, "halfpipe status --no") == ["--no-checksums"]
    assert completed(home, "halfpipe halt s") == ["stage"]
    assert completed(home, "halfpipe completion z") == ["zsh"]
    assert completed(home, "halfpipe status 24", site) == [FIRST, SECOND, HALF_WAY]
    assert completed(home, f"halfpipe status {FIRST} 24", site) == [SECOND, HALF_WAY], "each once"
    assert completed(home, "halfpipe index 2c", site) == [SPREAD, LCI, CUT]
    assert completed(home, "halfpipe show 2", site) == [FIRST, SECOND, HALF_WAY, SPREAD, LCI, CUT]
    assert completed(home, f"halfpipe --configfile {shared} submit 2406010") == [FIRST, SECOND]
    assert completed(home, "halfpipe status 24", "no such profile") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts(shell: str) -> None:
    ended = halfpipe("completion", shell)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert f"_HALFPIPE_COMPLETE={shell}_complete" in ended.stdout
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=ended.stdout, text=True, check=True)
