"""Modules that each program loads at its start: every job pays for them, and on a cluster three times."""

import os
import re
import subprocess
import sys

import pytest

from tests.support.in_process import ROOT

# Each takes tenths of a second or more. numpy is not listed: most jobs need it.
HEAVY = {"asyncio", "astropy", "click", "jsonschema", "matplotlib", "pandas", "psycopg", "pydantic", "scipy"}
HEAVY |= {"snakemake", "sqlalchemy"}
PROGRAMS = sorted((ROOT / "scripts").glob("*.py"))


def loaded(program: str) -> set[str]:
    """Return the modules that a new Python has loaded at the end of a program."""
    # At its exit, because another way of starting the program would load modules itself.
    ends = "import atexit, sys; atexit.register(lambda: print('loaded:', *sys.modules))\n"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", ends + program], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split("loaded: ")[1].split())


@pytest.mark.workflow
def test_no_program_loads_anything_heavy_at_its_start() -> None:
    ledger, *others = sorted(map(str, PROGRAMS), key=lambda path: not path.endswith("/ledger.py"))
    modules = loaded(f"import runpy\nfor path in {others}: runpy.run_path(path)")
    assert "argparse" in modules
    assert not modules & HEAVY
    assert loaded(f"import runpy; runpy.run_path({ledger!r})") & HEAVY == {"asyncio", "sqlalchemy"}


def test_notebooks_and_verbs_start_light() -> None:
    assert not loaded("import halfpipe") & {"pandas", "numpy", "astropy"}
    modules = loaded("import halfpipe.cli.main as main; main.command(['--version'])")
    assert not modules & (HEAVY - {"click"} | {"numpy"})
    assert "numpy" not in loaded("import halfpipe.cli.status")
    verbs = [path.relative_to(ROOT / "src") for path in (ROOT / "src").glob("*/cli/[a-z]*.py")]
    assert len(verbs) > 15
    imports = "\n".join(f"import {'.'.join(each.with_suffix('').parts)}" for each in verbs)
    assert not loaded(imports) & (HEAVY - {"click"})
    assert "pandas" not in loaded("import halfpipe.pages.board_pages")


def test_the_rules_load_nothing_heavy() -> None:
    text = "\n".join(path.read_text() for path in (ROOT / "workflow").glob("*.smk"))
    imports = re.findall(r"^(?:from|import) (?!snakemake).*$", text, re.MULTILINE)
    assert "from halfpipe.plan.plan import Plan, expand, no_retdefs, refuse_closed" in imports
    modules = loaded("\n".join(imports))
    assert "halfpipe.plan.plan" in modules
    assert not modules & HEAVY


def test_no_other_package_is_imported_except_the_simulator_by_its_programs() -> None:
    files = [*PROGRAMS, *(ROOT / "src" / "halfpipe").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk")]
    says = re.compile(r"^\s*(?:from|import) (halfpipe_\w+)", re.MULTILINE)
    found = {(path.stem, name) for path in files for name in says.findall(path.read_text())}
    programs = ("simulate", "simulated_decoder", "simulated_magic7")
    assert found == {(program, "halfpipe_simulator") for program in programs}
