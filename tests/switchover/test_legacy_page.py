"""Everything that the page about the legacy names exists here."""

import re
from importlib.util import find_spec
from typing import get_type_hints

import click

from halfpipe import paths
from halfpipe.cli.main import command as halfpipe
from halfpipe.settings import Settings
from tests.support.in_process import ROOT

PAGE = ROOT / "docs" / "switch-over" / "legacy.md"


def anchors(document: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", (ROOT / document).read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def exists(kind: str, name: str) -> bool:
    """Tell whether a thing exists that docs/switch-over/legacy.md names."""
    match kind:
        case "verb":
            verb, *action = name.split()
            context = click.Context(halfpipe)
            found = halfpipe.get_command(context, verb) if verb in halfpipe.list_commands(context) else None
            choices = [vars(each.type).get("choices", ()) for each in found.params] if found else []
            return found is not None and all(any(word in each for each in choices) for word in action)
        case "key":
            place: object = Settings
            for word in name.split("."):
                place = get_type_hints(place).get(word)
            return place is not None
        case "module":
            return find_spec(name) is not None
        case "path":
            last = name.removeprefix("paths.")
            return hasattr(paths, last) or hasattr(paths, last.upper())
        case "rule":
            return any(
                f"rule {name}:" in file.read_text() for file in (ROOT / "workflow" / "rules").iterdir()
            )
        case "doc":
            file, _, anchor = name.partition("#")
            return (ROOT / file).is_file() and (not anchor or anchor in anchors(file))
        case _:
            return (ROOT / name).is_file()


def test_everything_that_the_page_names_exists() -> None:
    text = PAGE.read_text()
    named = set(re.findall(r"\b(verb|key|module|path|rule|doc|script|file) `([^`]+)`", text))
    assert len(named) > 145
    assert sorted(f"{kind} {name}" for kind, name in named if not exists(kind, name)) == []
