"""The documents agree with the code: commands and their output, config keys, layers, names of files and tests.

The console blocks of the documents in `RUN` run in a copy of the project, in order, each section in one shell. A
command must succeed, or end with the status in the comment behind it.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from halfpipe.cli.config import schema
from tests.support import documents
from tests.support.documents import commands, sections
from tests.support.in_process import ROOT

RUN = ("README.md", "docs/howto.md", "docs/tutorial.md")
SHELLS = [
    (document, title)
    for document in RUN
    for title, section in sections(document).items()
    if commands(section)
]
EXCLUDED = "make test"  # of which this test is a part


@pytest.mark.workflow
@pytest.mark.parametrize(("document", "title"), SHELLS, ids=[title for _, title in SHELLS])
def test_commands_print_the_output_that_is_shown(document: str, title: str, tmp_path: Path) -> None:
    wanted = [each for each in commands(sections(document)[title]) if each.text != EXCLUDED]
    documents.check(wanted, documents.run(documents.project(tmp_path), wanted))


def test_imports_follow_the_layers_of_the_architecture() -> None:
    section = sections("docs/architecture.md")["Layers"]
    lines = re.findall(r"^    (\S.*?)  .*$", section, re.MULTILINE)
    level = {name: n for n, line in enumerate(lines) for name in line.split()}
    home = ROOT / "src" / "halfpipe"
    assert level.keys() == {path.stem for path in home.iterdir()} - {"__pycache__"}
    down = []
    for path in home.rglob("*.py"):
        here = path.relative_to(home).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                imported = [f"{node.module}.{alias.name}" for alias in node.names]
            ours = [name.split(".")[1:] for name in imported if f"{name}.".startswith("halfpipe.")]
            names = [
                name if name in level else "__init__" for name, *_ in (inside or [""] for inside in ours)
            ]
            down += [
                f"{path.relative_to(home)}: {name}"
                for name in names
                if name != here and level[name] >= level[here]
            ]
    assert down == []


def test_the_source_has_each_message_that_is_explained() -> None:
    texts = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    rows = re.findall(r"^\| (\*.*?) \|", sections("docs/messages.md")["Messages"], re.MULTILINE)
    messages = [message for row in rows for message in re.findall(r"\*(.*?)\*", row)]
    pieces = {piece.strip() for message in messages for piece in message.split("…")}
    assert len(pieces) > 20
    assert [piece for piece in sorted(pieces) if not any(piece in text for text in texts)] == []


def test_the_schema_of_the_config_follows_from_the_model() -> None:
    path = ROOT / "config" / "config.schema.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(schema()))
    assert f"$schema={path.name}" in (ROOT / "config" / "s3df.yaml").read_text().splitlines()[0]


def named_tests(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield the tests that a text names: a file, perhaps with its folder, and perhaps a function."""
    yield from re.findall(r"(?<![\w/])(tests/[\w/]+/)?(test_\w+\.py)(?:::(\w+))?", text)


def test_tests_that_are_named_exist() -> None:
    files = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("workflow/**/*.smk"),
        ROOT / "Snakefile",
    ]
    files += [*ROOT.glob("src/**/*.py"), *ROOT.glob("scripts/*.py")]
    texts = {path.relative_to(ROOT): path.read_text() for path in ROOT.glob("tests/**/test_*.py")}
    named = {(path.name, *each) for path in files for each in named_tests(path.read_text())}
    assert len(named) > 20
    assert [
        each
        for each in sorted(named)
        if not any(
            path.name == each[2] and str(path).startswith(each[1]) and f"def {each[3]}" in text
            for path, text in texts.items()
        )
    ] == []


def test_each_promise_of_a_rule_and_each_fault_names_its_test() -> None:
    rules = "".join(path.read_text() for path in ROOT.glob("workflow/**/*.smk"))
    promises = re.findall(r'^    Promise: (.*?)"""$', rules, re.MULTILINE | re.DOTALL)
    assert len(promises) >= 8
    assert [each for each in promises if not any(function for *_, function in named_tests(each))] == []
    faults = (ROOT / "docs" / "faults.md").read_text()
    kinds = re.findall(r"^\| .* \| `(\w+)` \|$", faults, re.MULTILINE)
    assert len(kinds) == faults.count("\n| ") - 1
    (ids,) = re.findall(r'"ways", WAYS, ids=\[(.*)\]', (ROOT / "tests/faults/test_faults.py").read_text())
    assert set(kinds) == set(re.findall(r'"(\w+)"', ids))
