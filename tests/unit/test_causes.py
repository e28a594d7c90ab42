"""Causes: what to do is commands and words before them, and every code in the source is in the registry."""

import json
import re

from click.testing import CliRunner

import snakemake_logger_plugin_halfpipe as plugin
from halfpipe.causes import CODES, Cause, Phase, Verdict
from halfpipe.cli.main import command
from halfpipe.config import VARIABLE
from halfpipe.errors import NOTHING, HalfPipeError, Remedy
from halfpipe.operate import batches
from halfpipe.plan import outstanding, plan_causes
from halfpipe.process.failure_record import SIGNALS
from halfpipe.settings import ROOT
from halfpipe.state.run_state import LOST
from halfpipe.status import failed_jobs, recap
from halfpipe.status.site_causes import LIGHTS

TABLES = {code for code, _ in SIGNALS.values()} | {code for code, *_ in plugin.OF_SLURM.values()}
# How the source writes a code: of a cause, a failure or an error; and what a code is compared with.
MADE = re.compile(
    r'(?:\b(?:Cause|Failure|fault|_note|cls)\(\s*|\bcode(?:: str)? = |\bcode=|\.code [=!]= )"([^"]+)"'
)

# The same with the name of a constant.
NAMED = re.compile(r"(?:\b(?:Cause|Failure|fault|_note)\(\s*|\bcode=(?:\w+\.)?)([A-Z][A-Z_]+)\b")
CONSTANT = re.compile(r'^([A-Z][A-Z_]+) = "([^"]+)"', re.MULTILINE)


def test_every_code_in_the_source_is_registered_and_every_registered_code_is_used() -> None:
    sources = [path.read_text() for home in ("src", "scripts") for path in (ROOT / home).rglob("*.py")]
    made = {code for text in sources for code in MADE.findall(text)}
    constants = {name: code for text in sources for name, code in CONSTANT.findall(text)}
    made |= {constants[name] for text in sources for name in NAMED.findall(text) if name in constants}
    assert made - CODES.keys() == set()
    assert TABLES - CODES.keys() == set()
    words = {
        word for text in sources for word in re.findall(r'"([a-z0-9-]+)"', text) if f'"{word}": (' not in text
    }
    assert CODES.keys() - words - TABLES == set()


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
