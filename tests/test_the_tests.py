"""The tests themselves: where their helpers lie, how they begin, and what they say last."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.in_process import ROOT
from tests.support.workflow import run

TESTS = ROOT / "tests"
# Says what becomes of the signals that a shell has what it puts into the background ignore.
SAYS_SIGNALS = """
import signal, subprocess, sys
import tests.conftest
asks = "import signal; print(*(signal.getsignal(n) == signal.SIG_IGN for n in (signal.SIGINT, signal.SIGQUIT)))"
subprocess.run([sys.executable, "-c", asks], check=True)
"""


def modules() -> list[Path]:
    """Return the modules of tests, but for what they share."""
    return [path for path in sorted(TESTS.rglob("*.py")) if TESTS / "support" not in path.parents]


def imported(path: Path) -> set[str]:
    """Return the modules of tests that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == "tests"}


def test_what_tests_share_lies_in_one_folder() -> None:
    lost = {
        str(path.relative_to(ROOT)): names
        for path in modules()
        if (
            names := {
                name for name in imported(path) if not name.startswith(("tests.support", "tests.stories"))
            }
        )
    }
    assert lost == {}
    others = {
        path.name for path in modules() if not path.name.startswith("test_") and path.parent.name != "stories"
    }
    assert others <= {"__init__.py", "conftest.py"}


def test_units_mirror_the_package() -> None:
    folders = {path.parent.relative_to(TESTS / "unit") for path in TESTS.glob("unit/**/test_*.py")}
    package = {Path(), Path("simulator")}
    package |= {
        path.parent.relative_to(ROOT / "src" / "halfpipe") for path in ROOT.glob("src/halfpipe/**/*.py")
    }
    assert folders - package == set()


def test_what_tests_start_ignores_no_signal() -> None:
    in_background = ["sh", "-c", 'trap "" INT QUIT; exec "$@"', "sh", sys.executable, "-c", SAYS_SIGNALS]
    said = subprocess.run(in_background, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said == "False False\n"


@pytest.mark.workflow
def test_it_is_said_last_what_could_not_be_tried(tmp_path: Path) -> None:
    for directory in map(Path, os.environ["PATH"].split(os.pathsep)):
        for program in directory.glob("*"):
            if program.name != "bwrap" and not (tmp_path / program.name).exists():
                (tmp_path / program.name).symlink_to(program)
    command = [sys.executable, "-m", "pytest", "tests/test_flight.py", "-k", "products_and_environment"]
    said = run(command, {"PATH": str(tmp_path)}).good().said
    before, last = said.rstrip().rsplit("\n", 2)[:2]
    assert "\nSKIPPED [1] " in before
    assert last == (
        "1 test of the flight programs was not run: bubblewrap is not installed (Debian: apt-get install bubblewrap)"
    )
