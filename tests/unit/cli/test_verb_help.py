"""The help of every verb fits a screen and has all parts, and its examples can be given."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from halfpipe.cli.main import WIDEST, command
from tests.support.in_process import ROOT


def verbs(group: click.Command = command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every verb, those of groups too, with its names."""
    yield names, group
    if isinstance(group, click.Group):
        ctx = click.Context(group)
        for name in group.list_commands(ctx):
            found = group.get_command(ctx, name)
            assert found is not None
            yield from verbs(found, *names, name)


EVERY = list(verbs())
NAMES = [" ".join(("halfpipe", *names)) for names, _ in EVERY]


@pytest.mark.parametrize(("names", "verb"), EVERY, ids=NAMES)
@pytest.mark.parametrize("width", [80, WIDEST])
def test_a_help_text_fits_and_has_all_parts(names: tuple[str, ...], verb: click.Command, width: int) -> None:
    given = [*names, "--help"]
    ended = CliRunner().invoke(command, given, prog_name="halfpipe", terminal_width=width)
    assert ended.exit_code == 0, ended.output
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].startswith(f"Usage: {' '.join(('halfpipe', *names))} ")
    if names and width == WIDEST:
        assert len(lines) <= 40, "does not fit a screen"
    assert not re.search(r"[a-z,]\.\.\.$", ended.stdout, re.MULTILINE), "a sentence was cut"
    if not isinstance(verb, click.Group):
        assert "Examples:" in lines
        assert "Exit status:" in lines


@pytest.mark.parametrize(("names", "verb"), EVERY, ids=NAMES)
def test_examples_are_what_the_verb_takes(names: tuple[str, ...], verb: click.Command) -> None:
    examples = [line for line, _ in getattr(verb, "examples", ())]
    assert examples or isinstance(verb, click.Group)
    for line in examples:
        words = shlex.split(re.split(r"[|>]", line)[0])
        if words[0] == "halfpipe":
            *_, last = [found for found, _ in EVERY if list(found) == words[1 : 1 + len(found)]]
            asked = dict(EVERY)[last]
            asked.make_context(" ".join(words), words[1 + len(last) :])


def test_every_verb_that_a_remedy_names_is_there() -> None:
    named = set()
    for file in [*(ROOT / "src" / "halfpipe").rglob("*.py"), *(ROOT / "workflow").rglob("*.smk")]:
        named |= set(re.findall(r"\bhalfpipe (?!import\b|[a-z]+=)([a-z]+)\b", file.read_text()))
    assert len(named) > 10
    assert named <= set(command.list_commands(click.Context(command)))
