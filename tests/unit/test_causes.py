"""Causes: what to do is commands and words before them, and every code in the source is in the registry."""

import ast
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

from click.testing import CliRunner

import snakemake_logger_plugin_halfpipe as plugin
from halfpipe.causes import CODES, Cause, Phase, Verdict
from halfpipe.cli.main import command
from halfpipe.config import VARIABLE
from halfpipe.downlink import outstanding, plan_causes
from halfpipe.errors import NOTHING, HalfPipeError, Remedy
from halfpipe.process.failure_record import SIGNALS
from halfpipe.run.run_state import LOST
from halfpipe.settings import ROOT
from halfpipe.site import batches
from halfpipe.status import failed_jobs, recap
from halfpipe.status.site_causes import LIGHTS

MAKERS = {"Cause", "Failure", "fault", "_note"}  # a code is their first argument
TABLES = {code for code, _ in SIGNALS.values()} | {code for code, *_ in plugin.OF_SLURM.values()}


def constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield the names at the top of a module that stand for a string, with those that it imports."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("halfpipe"):
            module = import_module(str(node.module))
            imported = {each.asname or each.name: getattr(module, each.name, None) for each in node.names}
            yield from ((name, value) for name, value in imported.items() if isinstance(value, str))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                for name, value in zip(names, values, strict=False):
                    if isinstance(name, ast.Name) and isinstance(value, ast.Constant):
                        yield name.id, str(value.value)


def expressions(file: Path, tree: ast.Module) -> Iterator[ast.expr]:
    """Yield the expressions of codes in a module: of causes, failures and errors, and what a code is compared with."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            makes = name in MAKERS or (name == "cls" and file.stem == "failure_record")
            yield from node.args[:1] if makes else ()
            yield from (keyword.value for keyword in node.keywords if keyword.arg == "code")
        elif isinstance(node, ast.ClassDef):
            for each in node.body:
                if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "code":
                    yield each.value
        elif isinstance(node, ast.Compare) and ast.unparse(node.left).endswith((".code", '["code"]')):
            yield from node.comparators


def codes(value: ast.expr, known: Mapping[str, str]) -> Iterator[str]:
    """Yield the codes that an expression may be; a code that another object has was looked at where that is made."""
    match value:
        case ast.Constant(value=str(code)):
            yield code
        case ast.IfExp(body=one, orelse=other):
            yield from codes(one, known)
            yield from codes(other, known)
        case ast.Set(elts=several) | ast.Tuple(elts=several):
            for each in several:
                yield from codes(each, known)
        case ast.Name(id=name) if name in known:
            yield known[name]


def test_every_code_in_the_source_is_registered_and_every_registered_code_is_used() -> None:
    found = {
        code: f"{file.relative_to(ROOT)}:{value.lineno}"
        for home in ("src", "scripts")
        for file in sorted((ROOT / home).rglob("*.py"))
        for tree in [ast.parse(file.read_text())]
        for known in [dict(constants(tree))]
        for value in expressions(file, tree)
        for code in codes(value, known)
    }
    assert {code: place for code, place in found.items() if code not in CODES} == {}
    assert TABLES - CODES.keys() == set()
    assert CODES.keys() - found.keys() - TABLES == set()


def test_decisions_by_code_know_no_other_codes() -> None:
    decided = [outstanding.BLOCKING, plan_causes.UNREPORTED, failed_jobs.TOLD, recap.CUT_OFF, LOST]
    decided += [batches.LEFT, batches.MEMORY, *LIGHTS.values()]
    assert set().union(*decided) - CODES.keys() == set()


def test_a_code_has_two_sentences() -> None:
    for code, one in CODES.items():
        assert code == one.code
        assert all(text.endswith(".") and len(text) < 115 for text in (one.meaning, one.action)), code


def test_failed_jobs_decide_the_phase_of_a_cause() -> None:
    def phase(code: str, failed: str = "") -> Phase:
        return Cause(code, Verdict.ACTION, "it is so", failed=failed).phase

    assert phase("damaged") is Phase.STAGED
    assert phase("damaged", "decode_chunk 00001, 00002; receipt") is Phase.DECODED
    assert phase("memory", "receipt; ledger") is Phase.STAGED
    assert phase("memory", "pictures") is Phase.JOB
    assert phase("of-an-earlier-version") is Phase.JOB


def test_explain_needs_no_site_for_a_code() -> None:
    said = CliRunner().invoke(command, ["explain", "not-taken", "memory"], env={VARIABLE: ""})
    assert said.exit_code == 0
    found = CliRunner().invoke(command, ["explain", "memory", "--format", "json"], env={VARIABLE: ""})
    assert [code["code"] for code in json.loads(found.output)["codes"]] == ["memory"]
    for code in ("not-taken", "memory"):
        one = CODES[code]
        assert f"{code} (phase: {one.phase}): {one.meaning}\n  → {one.action}\n" in said.output


def test_words_and_commands_are_apart() -> None:
    both = Remedy("rm a", "ls", first="see whose it is")
    assert both.steps == ["see whose it is", "rm a", "ls"]
    assert str(HalfPipeError("It is so.", both)) == "It is so. see whose it is: rm a; ls"
    cause = Cause("damaged", Verdict.ACTION, "it is so", both).as_json()
    assert (cause["first"], cause["do"]) == ("see whose it is", "rm a\nls")
    assert (NOTHING.steps, str(HalfPipeError("It is so."))) == ([], "It is so.")
