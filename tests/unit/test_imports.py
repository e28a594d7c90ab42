"""What each program loads before it does anything: every job pays for it, and on a cluster three times."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.in_process import ROOT

# Tenths of a second each, or more. numpy is not here: Snakemake has it loaded already, and so have most jobs.
HEAVY = {
    "pydantic",
    "click",
    "rich",
    "asyncio", "astropy", "jsonschema", "matplotlib", "pandas", "psycopg", "scipy", "snakemake",
    "sqlalchemy", "tqdm",
}  # fmt: skip
NEEDED = {"ledger": {"asyncio", "sqlalchemy"}}
SCRIPTS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))


def loaded(tmp_path: Path, *arguments: str) -> set[str]:
    """Return the modules that a Python of its own has loaded at its end."""
    # As its last act, and not by another way of starting the program: that would load something itself.
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\natexit.register(lambda: print('loaded:', *sys.modules))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")])}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("loaded: ")[1].split())


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_program_loads_nothing_heavy_at_its_start(name: str, tmp_path: Path) -> None:
    modules = loaded(tmp_path, str(ROOT / "scripts" / f"{name}.py"), "--help")
    assert "argparse" in modules
    assert modules & HEAVY <= NEEDED.get(name, set())


def test_the_rules_load_nothing_heavy(tmp_path: Path) -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "workflow").glob("*.smk"))
    imports = re.findall(r"^(?:from|import) (?!snakemake).*$", text, re.MULTILINE)
    assert "from halfpipe.downlink.plan import Plan, expand, no_retdefs, refuse_closed" in imports
    modules = loaded(tmp_path, "-c", "\n".join(imports))
    assert "halfpipe.downlink.plan" in modules
    assert not modules & HEAVY


def imported(path: Path) -> set[str]:
    """Return the packages that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_what_processes_downlinks_does_not_know_the_simulator() -> None:
    package = list((ROOT / "src" / "halfpipe").rglob("*.py"))
    assert len(package) > 40
    assert [path for path in package if "halfpipe_simulator" in imported(path)] == []
    programs = {name for name in SCRIPTS if "halfpipe_simulator" in imported(ROOT / "scripts" / f"{name}.py")}
    assert programs == {"simulate", "simulated_decoder", "simulated_magic7", "simulated_runs"}
