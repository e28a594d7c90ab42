"""docs/legacy.md keeps its word: every piece of the earlier system has one row, and what a row names exists."""

import ast
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml

from halfpipe import paths
from halfpipe.cli.main import command as halfpipe
from halfpipe.config import known_keys
from halfpipe.downlink.halts import Switch
from halfpipe.downlink.texts import texts
from halfpipe.ledger import tables
from halfpipe.settings import SUBMIT_CONTRACT
from tests.support import verbs
from tests.support.documents import slugs
from tests.support.in_process import ROOT

TEXT = (ROOT / "docs" / "legacy.md").read_text()
HEADER = "| legacy | what it was | here |"
CODE = re.compile(r"`([^`]+)`")
REFERENCE = re.compile(r"\b(rule|script|verb|key|path|doc|module|setting|file) `([^`]+)`(?: \(`([^`]+)`\))?")
REASON = re.compile(r"none\b[^:]*:(?: \S+){3,}")  # why nothing does the work now, in more than a word or two
TEXTS = {*texts([], Counter({("2c2e5787", "PktFile"): 1})), "magic7"}  # of a hand-off

# What may stand in the last column besides references and commands: each is explained by its row.
PLAIN = {"-F", "-m", "dl=<dl>", "<dl>/", "r%010d", "{dl}", "{rawdir}", "chunk", "run", "evt", "force"}


@dataclass(frozen=True)
class Row:
    """A row of a table, with the heading that it stands under."""

    heading: str
    legacy: str
    was: str
    here: str

    @property
    def names(self) -> list[str]:
        """The pieces that the row is about."""
        return CODE.findall(self.legacy)


def sections() -> dict[str, list[str]]:
    """Return the lines of each section, by its heading."""
    found: dict[str, list[str]] = {"": []}
    for line in TEXT.splitlines():
        if line.startswith("## "):
            found[line.removeprefix("## ")] = []
        else:
            found[list(found)[-1]].append(line)
    return found


def rows() -> list[Row]:
    """Return the rows of all tables of pieces."""
    found = []
    for heading, lines in sections().items():
        if HEADER in lines:
            start = lines.index(HEADER)
            assert lines.count(HEADER) == 1, heading
            for line in lines[start + 2 :]:
                if line.startswith("|"):
                    cells = [cell.strip() for cell in line.strip("|").split("|")]
                    assert len(cells) == 3, line
                    found.append(Row(heading, *cells))
    return found


def is_document(target: str) -> bool:
    document, _, section = target.partition("#")
    if not (document.startswith("docs/") or document in ("README.md", "CONTRIBUTING.md")):
        return False
    return (ROOT / document).is_file() and (not section or section in slugs(ROOT / document))


def is_rule(target: str) -> bool:
    included = re.findall(r'include: "(workflow/rules/\w+\.smk)"', (ROOT / "Snakefile").read_text())
    return target in chain.from_iterable(
        re.findall(r"^rule (\w+):", (ROOT / file).read_text(), re.MULTILINE) for file in included
    )


@cache
def sources() -> dict[str, str]:
    """Return the text of what is started, the programs and the rules, and of the package, by path."""
    files = chain(
        (ROOT / "scripts").glob("*.py"),
        (ROOT / "workflow").rglob("*.smk"),
        (ROOT / "src" / "halfpipe").rglob("*.py"),
    )
    return {str(file.relative_to(ROOT)): file.read_text() for file in files}


def is_started(script: str) -> bool:
    """Tell whether a rule starts `script`, the config of the site does, or a document tells people to."""
    if not script.startswith("scripts/") or script not in sources():
        return False
    rules = "".join(text for path, text in sources().items() if path.endswith(".smk"))
    if f'program("{Path(script).stem}"' in rules:
        return True
    tell = [ROOT / "README.md", ROOT / "config" / "s3df.yaml", *(ROOT / "docs").glob("*.md")]
    return any(script in file.read_text() for file in tell if file.name != "legacy.md")


def is_path(target: str) -> bool:
    """Tell whether `target` is a function of `halfpipe.paths` that something asks."""
    name = target.removeprefix("paths.")
    asked = re.compile(rf"\bpaths\.{name}\b")
    return (
        target.startswith("paths.")
        and inspect.isfunction(getattr(paths, name, None))
        and any(asked.search(text) for text in sources().values())
    )


@cache
def loaded() -> frozenset[str]:
    """Return the modules of the package that programs and rules import, those that they import included."""
    found, rest = set[str](), [path for path in sources() if not path.startswith("src/")]
    while rest:
        path = rest.pop()
        if path.startswith("workflow/rules/"):
            continue  # rules are no Python, and import nothing
        for node in ast.walk(ast.parse(sources()[path])):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("halfpipe"):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                file = f"src/{name.replace('.', '/')}.py"
                if file in sources() and name not in found:
                    found.add(name)
                    rest.append(file)
    return frozenset(found)


def value_of(file: str, target: str) -> Any:
    """Return what `file` has under the key `target`, whose parts are separated by dots."""
    found: Any = yaml.safe_load((ROOT / file).read_text())
    for part in target.split("."):
        if not isinstance(found, dict):
            raise KeyError(target)
        found = found[part]
    return found


def is_setting(target: str) -> bool:
    try:
        value_of("config/flight.yaml", target)
    except KeyError:
        return False
    return True


def is_key(target: str) -> bool:
    """Tell whether `target` is a key of the configuration."""
    return target in known_keys()


CHECKS: dict[str, Callable[[str], bool]] = {
    "rule": is_rule,
    "script": is_started,
    "verb": lambda target: verbs.find(halfpipe, *target.split()) is not None,
    "key": is_key,
    "path": is_path,
    "doc": is_document,
    "module": lambda target: target in loaded(),
    "setting": is_setting,
    "file": lambda target: (ROOT / target).is_file(),
}


def has(kind: str, target: str, word: str) -> bool:
    """Tell whether a reference has what stands in brackets behind it."""
    if kind == "script":
        text = (ROOT / target).read_text()
        return word.startswith("--") and f'"{word}"' in text
    if kind == "verb":
        verb = verbs.find(halfpipe, *target.split())
        return verb is not None and any(word in param.opts for param in verb.params)
    if kind == "module":
        return hasattr(importlib.import_module(target), word)
    if kind == "setting":
        return word in repr(value_of("config/flight.yaml", target))
    return (kind, target) == ("path", "paths.text") and word in TEXTS


def is_command(text: str) -> bool:
    """Tell whether `text` is a command of Snakemake, by its targets and rules."""
    words = text.split()
    if words.pop(0) != "snakemake":
        return False
    while words:
        word = words.pop(0)
        if word == "-R":
            if not words or not is_rule(words.pop(0)):
                return False
        elif word not in ("-n", "dl=<dl>"):
            return False
    return True


def problems(here: str) -> list[str]:
    """Return what is wrong with the last cell of a row."""
    found = []
    for kind, target, word in REFERENCE.findall(here):
        if not CHECKS[kind](target):
            found.append(f"there is no {kind} {target}, or nothing uses it")
        elif word and not has(kind, target, word):
            found.append(f"{kind} {target} has no {word}")
    for name in CODE.findall(REFERENCE.sub("", here)):
        if name not in PLAIN and not is_command(name):
            found.append(f"{name} does not say what it is")
    if here.startswith("none"):
        if not REASON.match(here):
            found.append("no reason")
    elif not REFERENCE.search(here):
        found.append("neither a successor nor a reason")
    return found


ROWS = rows()


def named(pattern: str) -> set[str]:
    """Return what `pattern` finds as a group in the names of the first column that it fits as a whole."""
    found = (re.fullmatch(pattern, name) for row in ROWS for name in row.names)
    return {match[1] for match in found if match}


def row_of(name: str) -> Row:
    return next(row for row in ROWS if name in row.names)


@pytest.mark.parametrize("heading", dict.fromkeys(row.heading for row in ROWS))
def test_what_a_row_names_exists(heading: str) -> None:
    bad = {row.legacy: problems(row.here) for row in ROWS if row.heading == heading}
    assert {legacy: found for legacy, found in bad.items() if found} == {}


def test_every_row_says_what_the_piece_was() -> None:
    assert [row for row in ROWS if not row.names or not row.was] == []
    assert [row.legacy for row in ROWS if re.sub(r"[\s,]", "", CODE.sub("", row.legacy))] == []


def test_no_piece_has_two_rows() -> None:
    counted = Counter(name for row in ROWS for name in row.names)
    assert [name for name, times in counted.items() if times > 1] == []


@pytest.mark.parametrize("heading", ["Processes", "Programs"])
def test_what_did_something_is_followed_by_what_does_something(heading: str) -> None:
    does = {"rule", "script", "verb", "module", "key", "setting", "file"}
    idle = [
        row.legacy
        for row in ROWS
        if row.heading == heading
        and not row.here.startswith("none")
        and not does.intersection(kind for kind, *_ in REFERENCE.findall(row.here))
        and "docs/operations.md" not in row.here
        and "CONTRIBUTING.md" not in row.here
    ]
    assert idle == []


def test_each_switch_has_its_row() -> None:
    assert named(r"(halt[A-Z][a-zA-Z0-9]*)") == {switch.value for switch in Switch}
    for switch in Switch:
        places = {
            target for kind, target, _ in REFERENCE.findall(row_of(switch.value).here) if kind == "path"
        }
        of_downlink = set() if switch is Switch.CLEANUP else {"paths.downlink_halt"}
        assert places == {"paths.halt"} | of_downlink


def test_the_tables_and_columns_that_level_1_reads_are_those_of_the_ledger() -> None:
    of_legacy = {name for name in tables.METADATA.tables if name.startswith("glastops_")}
    assert named(r"(glastops_\w+)") == of_legacy
    assert named(r"acqsummary\.(\w+)") == set(tables.RUNS.columns.keys())
    assert named(r"downlink\.(\w+)") == {*tables.DOWNLINKS.columns.keys()} - {"handoff"}  # that is new


def test_the_texts_of_the_hand_off_have_their_rows() -> None:
    assert named(r"(\w+)_<dl>\.txt") == TEXTS - {"chunk_exceptions"}  # that is new


def test_level_1_is_given_what_its_row_says() -> None:
    assert row_of("DOWNLINK_ID") is row_of("DOWNLINK_RAWDIR")
    words = SUBMIT_CONTRACT.split()
    assert {"createStream", "-S", "DOWNLINK_ID={dl}", "DOWNLINK_RAWDIR={rawdir}", "L1Proc"} <= {*words}
    assert "key `submit.command`" in row_of("DOWNLINK_ID").here


def test_what_is_bound_into_the_container_is_what_the_rows_say() -> None:
    binds = value_of("config/flight.yaml", "binds")
    rows_of_binds = [row for row in ROWS if row.heading == "Site" and "setting `binds`" in row.here]
    names = [name for row in rows_of_binds for name in row.names]
    assert len(names) > 8
    places = {place for bind in binds for place in bind.split(":")}
    assert [n for n in names if n.startswith("/") and n not in places] == []
    assert [n for n in names if not any(f"/{n.lstrip('/')}" in place for place in places)] == []


def answers() -> list[tuple[str, str]]:
    """Return the questions of the migration with their answers."""
    answer = re.compile(r"^\*\*(Q\d+): .*?\*\*(.*?)(?=^\*\*Q|^#|\Z)", re.MULTILINE | re.DOTALL)
    documents = ("operations.md", "online.md")
    return [
        found for document in documents for found in answer.findall((ROOT / "docs" / document).read_text())
    ]


def test_every_question_of_the_migration_has_one_row_that_leads_to_its_answer() -> None:
    led_to = [
        (row.legacy, document, question)
        for row in ROWS
        for document, question in re.findall(r"doc `([^`#]+)#[^`]+` \(\*(Q\d+)\*\)", row.here)
    ]
    assert sorted(question for *_, question in led_to) == sorted(question for question, _ in answers())
    assert sum(len(re.findall(r"\*Q\d+\*", row.here)) for row in ROWS) == len(led_to)
    lost = [
        (legacy, document, question)
        for legacy, document, question in led_to
        if not re.search(rf"^(?:\*\*|## ){question}[:.]? ", (ROOT / document).read_text(), re.MULTILINE)
    ]
    assert lost == []


def test_every_question_of_the_migration_is_answered_once() -> None:
    numbers = sorted(int(question[1:]) for question, _ in answers())
    assert numbers == list(range(1, len(numbers) + 1))
    assert [question for question, text in answers() if len(text.split()) < 10] == []
    section = (ROOT / "docs" / "operations.md").read_text().split("## Questions of the migration")[1]
    assert "](online.md#the-questions-of-the-migration)" in section
    assert "the-questions-of-the-migration" in slugs(ROOT / "docs" / "online.md")


def test_the_paragraphs_point_at_tables() -> None:
    lines = [line for line in sections()["Which paragraph is where"] if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    paragraphs = " ".join(source for source, _, _ in cells)
    assert [n for n in range(6, 11) if f"§{n}" not in paragraphs] == []
    headings = {row.heading for row in ROWS}
    for _, paragraph, where in cells:
        plain = re.split(r"[;:]", REFERENCE.sub("", where))[0]
        there = [name.strip() for name in plain.split(",")]
        assert there == ["none of the pieces"] or set(there) <= headings, paragraph
        assert all(CHECKS[kind](target) for kind, target, _ in REFERENCE.findall(where)), paragraph
    assert headings <= {name.strip() for *_, tables in cells for name in re.split(r"[,;:]", tables)}


@pytest.mark.parametrize(
    "here",
    [
        "",
        "nothing",
        "none",
        "none: gone",
        "rule `launch_chunks`",
        "script `scripts/launch.py`",
        "script `Makefile`",
        "key `merge.max_event`",
        "key `merge.max_events.more`",
        "path `paths.DL`",
        "path `paths.launch`",
        "path `receipt`",
        "doc `docs/launch.md`",
        "doc `docs/architecture.md#launch`",
        "doc `Makefile`",
        "module `halfpipe.launch`",
        "module `halfpipe.launch.chunks`",
        "module `os.path`",
        "setting `decoder.launch`",
        "file `docs`",
        "rule `receipt`, and `scripts/receipt.py`",
        "rule `receipt`, and `receipt.py`",
        "script `scripts/ledger.py` (`load`)",
        "script `scripts/submit.py` (`--rollback`)",
        "verb `launch`",
        "verb `ledger launch`",
        "verb `submit` (`--roll`)",
        "path `paths.text` (`delivered`)",
        "module `halfpipe.ids` (`RunKinds`)",
        "setting `decoder.program` (`bash`)",
        "key `merge.max_events` (`125000`)",
        "module `halfpipe.merge`",
        "rule `receipt`: `snakemake -R launch dl=<dl>`",
        "rule `receipt`: `snakemake --launch`",
    ],
)
def test_the_check_finds(here: str) -> None:
    assert problems(here)


@pytest.mark.parametrize(
    "here",
    [
        "rule `receipt`, script `scripts/receipt.py`, key `merge.max_events`, path `paths.receipt`",
        "doc `docs/architecture.md#the-task`, module `halfpipe.downlink.plan`, setting `decoder.program`",
        "file `Snakefile`",
        "none: there is nothing like it",
        "verb `ledger load`, verb `submit` (`--rollback`)",
        "path `paths.text` (`chunk_exceptions`), module `halfpipe.ids` (`RunKind`)",
        "rule `receipt`: `snakemake dl=<dl> -R receipt`",
    ],
)
def test_the_check_passes(here: str) -> None:
    assert problems(here) == []
