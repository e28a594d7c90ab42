"""The help of every verb: what it says, how wide it is, and that its examples can be given."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from halfpipe.cli.main import VERBS, command
from halfpipe.cli.verbs import WIDEST
from tests.support.verbs import halfpipe


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


def test_all_that_operators_had_is_a_verb() -> None:
    listed = {name for of_subject in VERBS.values() for name in of_subject}
    assert listed >= {
        "status", "show", "delivered", "waiting", "throughput", "submit", "online", "cleanup",
        "ledger", "unattended", "evt", "index", "halt", "resume", "force", "config",
    }  # fmt: skip
    assert {"halfpipe evt show", "halfpipe evt check", "halfpipe ledger rebuild"} <= set(NAMES)


@pytest.mark.parametrize(("names", "verb"), EVERY, ids=NAMES)
@pytest.mark.parametrize("width", [80, 200])
def test_a_help_text_fits_and_has_all_parts(names: tuple[str, ...], verb: click.Command, width: int) -> None:
    ended = halfpipe(*names, "--help", env={"COLUMNS": str(width)})
    assert ended.exit_code == 0, ended.output
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) <= min(width, WIDEST)
    assert lines[0].startswith(f"Usage: {' '.join(('halfpipe', *names))} ")
    assert not re.search(r"[a-z,]\.\.\.$", ended.stdout, re.MULTILINE), "a sentence was cut"
    if not isinstance(verb, click.Group):
        assert "Examples:" in lines
        assert "Exit status:" in lines
    assert halfpipe(*names, "-h").stdout.split() == ended.stdout.split()


def test_the_list_of_verbs_says_what_each_says_first() -> None:
    for of_subject in VERBS.values():
        for name, said in of_subject.items():
            verb = command.get_command(click.Context(command), name)
            assert verb is not None
            assert verb.help is not None
            assert verb.help.split("\n\n")[0].replace("\n", " ") == said


@pytest.mark.parametrize(("names", "verb"), EVERY, ids=NAMES)
def test_examples_are_what_the_verb_takes(names: tuple[str, ...], verb: click.Command) -> None:
    examples = [line for line, _ in getattr(verb, "examples", ())]
    assert examples or isinstance(verb, click.Group)
    for line in examples:
        inside = re.fullmatch(r'eval "\$\((.*)\)"', line)
        words = shlex.split(re.split(r"[|>]", inside[1] if inside else line)[0])
        if words[0] == "halfpipe":
            *_, last = [found for found, _ in EVERY if list(found) == words[1 : 1 + len(found)]]
            asked = dict(EVERY)[last]
            asked.make_context(" ".join(words), words[1 + len(last) :])


def test_a_verb_that_is_misspelt_is_named() -> None:
    ended = halfpipe("statsu")
    assert ended.exit_code == 2
    assert "No such command 'statsu'. Did you mean" in ended.stderr
    assert "'status'" in ended.stderr
