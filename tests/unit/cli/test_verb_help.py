"""The help of every verb fits a screen and has all parts, and its examples are valid."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from halfpipe.cli.main import WIDEST, command
from tests.support.in_process import ROOT

CONTEXT = click.Context(command)
EVERY = {name: command.get_command(CONTEXT, name) for name in command.list_commands(CONTEXT)}


@pytest.mark.parametrize("verb", ["", *EVERY])
@pytest.mark.parametrize("width", [80, WIDEST])
def test_a_help_text_fits_and_has_all_parts(verb: str, width: int) -> None:
    given = [*filter(None, [verb]), "--help"]
    ended = CliRunner().invoke(command, given, prog_name="halfpipe", terminal_width=width)
    assert ended.exit_code == 0, ended.output
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].startswith(f"Usage: {' '.join(('halfpipe', *given[:-1]))} ")
    assert not re.search(r"[a-z,]\.\.\.$", ended.stdout, re.MULTILINE), "a sentence was cut"
    if verb:
        assert width < WIDEST or len(lines) <= 40, "does not fit a screen"
        assert {"Examples:", "Exit status:"} <= set(lines)
        assert "--profile" in lines[-1], "how to select the site"


@pytest.mark.parametrize("verb", EVERY)
def test_examples_are_valid(verb: str) -> None:
    examples = [line for line, _ in getattr(EVERY[verb], "examples", ())]
    assert examples
    for line in examples:
        words = shlex.split(re.split(r"[|>]", line)[0])
        if words[0] == "halfpipe":
            asked = EVERY[words[1]]
            assert asked is not None
            asked.make_context(words[1], words[2:])


def test_every_verb_in_a_remedy_exists() -> None:
    named = set()
    for file in [*(ROOT / "src" / "halfpipe").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk")]:
        named |= set(re.findall(r"\bhalfpipe (?!import\b|[a-z]+=)([a-z]+)\b", file.read_text()))
    assert len(named) > 10
    assert named <= EVERY.keys()
