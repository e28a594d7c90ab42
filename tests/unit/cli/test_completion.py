"""What a shell completes, asked for as a shell does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from halfpipe.ids import RunId
from tests.support.in_process import ROOT
from tests.support.worked_site import FIRST, LCI
from tests.support.workflow import Site

HALFPIPE = Path(sys.executable).with_name("halfpipe")


def completed(*words: str, shell: str = "bash") -> set[str]:
    """Return the words that `halfpipe` offers for the last of these words."""
    asked = {"COMP_WORDS": " ".join(("halfpipe", *words)), "COMP_CWORD": str(len(words))}
    environment = {**os.environ, **asked, "_HALFPIPE_COMPLETE": f"{shell}_complete"}
    done = subprocess.run([HALFPIPE], env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    return {line.partition(",")[2] for line in done.stdout.split()}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["submit", FIRST[:5]], FIRST),
        (["show", LCI[:6]], LCI),
        (["online", "r"], RunId(LCI).l1),
        (["explain", "disk-f"], "disk-full"),
        (["ack", "disk-f"], "disk-full"),
        (["ack", FIRST[:5]], FIRST),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_shell_completes_what_the_site_has(shared: Site, words: list[str], wanted: str) -> None:
    found = completed(words[0], "--configfile", str(shared.configfile), words[1])
    assert wanted in found
    assert all(one.startswith(words[1]) for one in found)


@pytest.mark.parametrize("verb", ["accept", "ack", "events", "explain", "find", "online", "show", "submit"])
def test_a_shell_waits_for_no_library_of_arrays_or_tables(shared: Site, verb: str) -> None:
    asked = {"COMP_WORDS": f"halfpipe {verb} --configfile {shared.configfile} 2", "COMP_CWORD": "4"}
    environment = {
        **os.environ,
        **asked,
        "_HALFPIPE_COMPLETE": "bash_complete",
        "PYTHONPROFILEIMPORTTIME": "1",
    }
    done = subprocess.run([HALFPIPE], env=environment, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "halfpipe.cli.completion" in loaded
    assert not loaded & {"numpy", "pandas", "sqlalchemy"}


def test_a_shell_completes_profiles_and_nothing_without_a_site(tmp_path: Path) -> None:
    assert completed("--profile", "s3") == {"s3df"}
    assert completed("submit", "--configfile", str(tmp_path / "none.yaml"), "2") == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    environment = {**os.environ, "_HALFPIPE_COMPLETE": f"{shell}_source"}
    done = subprocess.run([HALFPIPE], env=environment, capture_output=True, text=True, check=False)
    assert f"_HALFPIPE_COMPLETE={shell}_complete" in done.stdout
