"""The documents keep their word: commands run and print what is shown, tables, drawings and links are true.

The console blocks of README.md, docs/howto.md and docs/tutorial.md run in a copy of the project, verbatim and
in order, a section in one shell. A command ends well, or with the status that a comment behind it says.
"""

import ast
import dataclasses
import inspect
import itertools
import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import click
import pytest

from halfpipe import config, paths
from halfpipe.cli.config import schema, table
from halfpipe.cli.main import command as halfpipe
from halfpipe.decode.decoder_log import EXCEPTION
from halfpipe.decode.flight_settings import Call
from halfpipe.downlink.texts import texts
from halfpipe.settings import Settings
from tests.support import documents, verbs
from tests.support.documents import DOCUMENTS, Command, commands, rows, sections
from tests.support.in_process import ROOT

README, HOWTO = "README.md", "docs/howto.md"
RUN = (README, HOWTO, "docs/tutorial.md")  # the documents whose commands are run
SHELLS = [
    (document, title)
    for document in RUN
    for title, section in sections(document).items()
    if commands(section)
]
NIGHT = rows(sections(README)["At three in the morning"])
EXCLUDED = ["make test"]  # of which this test is a part

FILE_ENDINGS = {"json", "md", "py", "sh", "smk", "sqlite", "yaml"}

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)


@pytest.mark.workflow
@pytest.mark.parametrize(("document", "title"), SHELLS, ids=[title for _, title in SHELLS])
def test_commands_print_what_is_shown(document: str, title: str, tmp_path: Path) -> None:
    wanted = [each for each in commands(sections(document)[title]) if each.text not in EXCLUDED]
    ended = documents.run(documents.project(tmp_path), wanted)
    assert len(ended) == len(wanted)
    for command, (status, said) in zip(wanted, ended, strict=True):
        assert status == command.status, f"{command.text}\nended with {status}:\n{said}"
        missed = documents.missed(command, said)
        assert missed is None, f"{command.text}\ndid not print\n{missed}\nwhere it should, but:\n{said}"


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (("good",), "bad"),
        (("one", "three"), "one\ntwo\nthree"),
        (("…", "three", "two"), "one\ntwo\nthree"),
        (("one … three",), "one two"),
        (("one",), "one\ntwo"),
        ((), "one"),
    ],
)
def test_a_command_that_prints_something_else_is_found(shown: tuple[str, ...], said: str) -> None:
    assert documents.missed(Command("", shown), said) is not None


@pytest.mark.parametrize(
    "shown", [("…",), ("one", "…"), ("…", "three"), ("one", "t…o", "three"), ("one", "…", "three")]
)
def test_lines_that_are_left_out_may_be_anything(shown: tuple[str, ...]) -> None:
    assert documents.missed(Command("", shown), "one\ntwo\n\n three") is None


@pytest.mark.parametrize("document", RUN)
def test_only_the_tests_themselves_are_not_run(document: str) -> None:
    text = (ROOT / document).read_text()
    assert set(re.findall(r"^```(\w*)$.*?^```$", text, re.MULTILINE | re.DOTALL)) <= {"console", "mermaid"}
    every = [
        command for name, title in SHELLS if name == document for command in commands(sections(name)[title])
    ]
    assert len(every) == len(commands(text)) >= 10  # none stands outside a section
    assert [each.text for each in every if each.text in EXCLUDED] == (EXCLUDED if document == README else [])


def test_console_blocks_stand_only_where_they_are_run() -> None:
    others = [path for path in DOCUMENTS if str(path.relative_to(ROOT)) not in RUN]
    assert [path.name for path in others if "```console" in path.read_text()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / README).read_text().splitlines()) <= 250


def test_the_drawing_is_the_rule_graph(tmp_path: Path) -> None:
    drawing = re.search(r"^```mermaid\n(.*?)^```$", (ROOT / README).read_text(), re.MULTILINE | re.DOTALL)
    assert drawing is not None
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", drawing[1], re.MULTILINE))
    simulate = Command("$B/python scripts/simulate.py --out demo --events 200", ())
    graph = Command("$B/snakemake dl=230401001 --rulegraph mermaid-js --profile demo", ())
    ended = documents.run(documents.project(tmp_path), [Command("B=.venv/bin", ()), simulate, graph])
    assert [status for status, _ in ended] == [0, 0, 0], ended
    rules = dict(re.findall(r"^\s+(id\d+)\[(\w+)\]$", ended[2][1], re.MULTILINE))
    edges = re.findall(r"^\s+(id\d+) --> (id\d+)$", ended[2][1], re.MULTILINE)
    assert drawn == {(rules[one], rules[other]) for one, other in edges}
    assert set(re.findall(r"<b>(\w+)</b><br>", drawing[1])) == set(rules.values())
    files = {name for node in re.findall(r"</b><br>(.*?)\"\]", drawing[1]) for name in node.split("<br>")}
    assert files == {name.removeprefix("{dl}/") for name in declared(rules.values())}


def declared(rules: Any = None) -> set[str]:
    """Return the outputs of `rules`, or of all, as `paths` has them with the wildcards open."""
    found = set()
    for file in sorted((ROOT / "workflow" / "rules").glob("*.smk")):
        for rule, block in re.findall(
            r"^rule (\w+):\n((?:(?: {4}.*)?\n)+)", file.read_text() + "\n", re.MULTILINE
        ):
            outputs = re.search(r"^ {4}output:\n((?: {8}.*\n)+)", block, re.MULTILINE)
            if outputs and (rules is None or rule in rules):
                found |= {getattr(paths, name)() for name in re.findall(r"paths\.(\w+)\(\)", outputs[1])}
    return found


FILLED_IN = {
    "dl": "{dl}", "chunk": "{chunk}", "run": "{run}", "run_": "{run}", "l1_run": "r%010d", "switch": "{switch}",
    "rule": "{rule}-…", "ids": "{dl}", "sequence": 0, "handoff": 0, "ground_id": 0, "name": "*", "what": "*",
    "place": "{series}",
}  # fmt: skip
SHOWN_AS = {"0" * 20: "%020d", "0" * 8: "{ground_id}", "000": "{handoff}", "retdefs/{dl}": "retdefs/{month}"}


def known_places() -> dict[str, str]:
    """Return what each function of `paths` gives, as the documents write it, by its name."""
    found = {}
    for name, function in inspect.getmembers(paths, inspect.isfunction):
        place = function(*[FILLED_IN[parameter] for parameter in inspect.signature(function).parameters])
        for zeros, words in SHOWN_AS.items():
            place = place.replace(zeros, words)
        found[name] = place
    return found


def shown_files(section: str) -> list[str]:
    return [
        name for row in rows(sections("docs/files.md")[section]) for name in re.findall(r"`(.*?)`", row[0])
    ]


def test_the_tables_of_files_have_every_path() -> None:
    places = known_places()
    assert len(places) > 40
    event_file = f"{places['staged_run']}/{places.pop('event_file')}"
    texts_of = [*texts([], Counter({("2c2e5787", "PktFile"): 1})), "magic7"]
    in_stage = {
        name for name in places if name in {"staged", "staged_run", "tokens", "halt_cleanup", "stage_mark"}
    } | {name for name in places if name.startswith("stage_scratch")}
    staged = {f"{places['staged']}/{paths.text(name, '{dl}')}" for name in texts_of}
    of_stage = {
        event_file,
        *staged,
        f"{places['tokens']}/{Path(event_file).stem}",
        *(places[n] for n in in_stage),
    }
    of_online = {places.pop("online_file")}
    of_board = {places.pop(name) for name in ("board", "board_page", "board_picture", "board_compared")}
    of_chunk = f"{places['chunks']}/{places.pop('block_checksums')}"
    places.pop("text")
    of_work = {place for name, place in places.items() if name not in in_stage} | {of_chunk}
    # What no function of `paths` names: a decoder's products, and a run that an operator gives up.
    of_work |= {f"{places['chunks']}/*.evt", f"{places['chunks']}/*.idx", f"{places['force']}/{{run}}"}
    series = {
        places[name] for name in ("receipts", "submissions", "deliveries", "online_record", "repipe_record")
    }
    of_work |= {f"{place}/NNNNNN.json" for place in (*series, places["copies"])}
    of_work.add(places["log"].removesuffix(".log") + paths.FAILURE_SUFFIX)
    for section, known in (
        ("Under paths.work", of_work),
        ("Under paths.stage", of_stage),
        ("Under paths.online", of_online),
        ("Under board.dir", of_board),
    ):
        shown = shown_files(section)
        assert len(shown) == len(set(shown)), section
        homes = {place for place in known if any(name.startswith(f"{place}/") for name in shown)}
        assert known - homes <= set(shown) <= known, section


def test_what_is_said_to_be_declared_is_what_rules_make() -> None:
    said = [
        row[0].strip("`") for row in rows(sections("docs/files.md")["Under paths.work"]) if row[2] == "yes"
    ]
    assert sorted(said) == sorted(declared())


def templates() -> list[str]:
    """Return every text in the program, with … for what is filled in."""
    found = []
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    for path in [*sources, *(ROOT / "workflow").glob("*.smk")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[-\w.]*[a-z]", "…", node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
    return found


def test_the_codes_of_causes_are_those_that_the_tables_have() -> None:
    sources = [path.read_text() for path in sorted((ROOT / "src/halfpipe").rglob("*.py"))]
    calls = (node for source in sources for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    firsts = {call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Cause"}
    made = {first.value for first in firsts if isinstance(first, ast.Constant)}
    tables = re.findall(
        r"^\| (`[a-z0-9-]+`(?:, `[a-z0-9-]+`)*) \|", (ROOT / "docs/operations.md").read_text(), re.MULTILINE
    )
    documented = {code for cell in tables for code in re.findall(r"`([a-z0-9-]+)`", cell)}
    assert len(made) > 30
    assert not made - documented
    assert {code for code in documented if not any(f'"{code}"' in source for source in sources)} == set()


def test_every_message_of_the_night_table_exists() -> None:
    shown = [message for row in NIGHT for message in re.findall(r"`(.*?)`", row[0].split(" (from ")[0])]
    assert len(shown) > 20
    known = templates()
    lost = [message for message in shown if not any(message.rstrip("…") in text for text in known)]
    assert [message for message in lost if not EXCEPTION.fullmatch(message)] == []


@every_document
def test_commands_that_a_document_names_exist(path: Path) -> None:
    text = "".join(file.read_text() for file in (ROOT / "workflow" / "rules").glob("*.smk"))
    rules = set(re.findall(r"^rule (\w+)", text, re.MULTILINE))
    wrong = []
    for line in documents.code(path.read_text()):
        words = documents.words_of("halfpipe", line)
        wrong += [line] if words is not None and not is_verb(words) else []
        forced = itertools.pairwise(documents.words_of("snakemake", line) or [])
        wrong += [line for option, rule in forced if option == "-R" and rule not in rules]
    assert wrong == []


def is_verb(words: list[str]) -> bool:
    """Tell whether `words` are a verb of `halfpipe` with options that it has."""
    verb: click.Command = halfpipe
    options = options_of(verb)
    for before, word in itertools.pairwise(["", *words]):
        if re.match(r"-\D", word):
            if word.partition("=")[0] not in options:
                return False
        elif isinstance(verb, click.Group) and not before.startswith("-") and word != "VERB":
            found = verbs.find(verb, word)
            if found is None:
                return False
            verb = found
            options |= options_of(verb)
    return True


def options_of(verb: click.Command) -> set[str]:
    # Not `get_params`: the verb would keep the option for help of the context that it is asked with.
    return {"-h", "--help", *(option for each in verb.params for option in each.opts)}


@pytest.mark.parametrize(
    ("line", "good"),
    [
        ("$ halfpipe status --all --profile demo", True),
        ("*/10 * * * * cd /x && .venv/bin/halfpipe unattended --quiet", True),
        ("halfpipe --profile s3df ledger check # is it?", True),
        ("halfpipe launch", False),
        ("halfpipe ledger launch", False),
        ("halfpipe status --launch", False),
    ],
)
def test_a_verb_that_does_not_exist_is_found(line: str, good: bool) -> None:
    words = documents.words_of("halfpipe", line)
    assert words is not None
    assert is_verb(words) == good


def is_defined(module: str, name: str) -> bool:
    """Tell whether a module of the package of that name defines `name`."""
    sources = [path.read_text() for path in (ROOT / "src" / "halfpipe").rglob(f"{module}.py")]
    made = re.compile(rf"^ *(?:def|class) {name}\b|^{name}\b.* = ", re.MULTILINE)
    return any(map(made.search, sources))


@every_document
def test_files_and_keys_that_a_document_names_exist(path: Path) -> None:
    if path.name == "CHANGELOG.md":
        return  # it names what has gone
    shown = "\n".join(documents.code(path.read_text()))
    roots = "src|tests|scripts|docs|config|profiles|workflow|envs|benchmarks"
    files = re.findall(
        rf"(?<![\w./>}}-])((?:{roots})/[\w./+-]+\.(?:py|md|ya?ml|smk|json|service|timer))", shown
    )
    made = {
        "benchmarks/results/bench.json",
        "scripts/make_thing.py",
    }  # by a measurement, and by whoever adds a rule
    assert [name for name in files if not (ROOT / name).exists() and name not in made] == []
    every_key = [key.split(".") for key in config.known_keys()]
    sections_of_config = {section for section, *_ in every_key}
    keys = re.findall(rf"(?<![\w./-])({'|'.join(sections_of_config)})\.([a-z_]+)(?![\w(.-])", shown)
    known = {(each[-2], each[-1]) for each in every_key if len(each) > 1}
    known |= {(program, each.name) for program in ("decoder", "magic7") for each in dataclasses.fields(Call)}
    lost = [
        pair for pair in keys if pair not in known and pair[1] not in FILE_ENDINGS and not is_defined(*pair)
    ]
    assert lost == []


@every_document
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)", path.read_text())
    lost = []
    for file, place in links:
        target = path.parent / file if file else path
        if not target.exists() or (place and place not in documents.slugs(target)):
            lost.append(f"{file}#{place}")
    assert lost == []


def test_every_document_can_be_reached_from_the_readme() -> None:
    linked, rest = set[Path](), [ROOT / README]
    while rest:
        path = rest.pop()
        linked.add(path)
        links = re.findall(r"\]\((?!https?:)([^)#]+\.md)", path.read_text())
        rest += [
            (path.parent / link).resolve() for link in links if (path.parent / link).resolve() not in linked
        ]
    assert [path.name for path in DOCUMENTS if path not in linked] == []


def test_every_place_that_closes_a_defect_exists() -> None:
    section = sections("docs/decisions.md")["What the earlier system got wrong, and where that is closed"]
    # `module.name` of the package, and not a key of the config such as `merge.min_events`
    places = {
        pair for row in rows(section) for pair in re.findall(r"`(\w+)\.(\w+)`", row[1]) if pair[0] != "merge"
    }
    places = {pair for pair in places if pair[1] != "py"}
    assert len(places) > 15
    assert [pair for pair in sorted(places) if not is_defined(*pair)] == []


def test_imports_lead_up_the_layers_of_the_architecture() -> None:
    section = sections("docs/architecture.md")["Layers"]
    lines = re.findall(r"^    (\S.*?)  .*$", section, re.MULTILINE)
    level = {name: n for n, line in enumerate(lines) for name in line.split()}
    home = ROOT / "src" / "halfpipe"
    assert level.keys() == {path.stem for path in home.iterdir()} - {"__init__", "__main__", "__pycache__"}
    down = []
    for path in home.rglob("*.py"):
        here = path.relative_to(home).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("halfpipe"):
                continue
            _, *inside = str(node.module).split(".")
            names = inside[:1] or [alias.name for alias in node.names]
            down += [
                f"{path.relative_to(home)}: {name}"
                for name in names
                if here in level and name in level and name != here and level[name] >= level[here]
            ]
    assert down == []


def test_documented_dependencies_are_those_of_the_project() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    table = rows(sections("docs/decisions.md")["Dependencies"])
    shown = [name.split()[0] for row in table for name in row[0].split(", ")]
    assert sorted(shown) == sorted(re.split(r"[=<>]", text)[0] for text in listed)


@every_document
def test_targets_of_make_that_a_document_names_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)) | {".venv"}
    given = [
        words for line in documents.code(path.read_text()) if (words := documents.words_of("make", line))
    ]
    assert {word for words in given for word in words if "=" not in word} <= targets


def test_contributing_has_every_target_of_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = rows(sections("CONTRIBUTING.md")["Run and test"])
    assert {name for row in said for name in re.findall(r"`make ([a-z-]+)`", row[0])} == targets - {"help"}


def test_config_readme_has_the_keys_as_the_model_has_them() -> None:
    text = (ROOT / "config" / "README.md").read_text()
    between = re.search(r"^<!-- keys: begin -->\n(.*)^<!-- keys: end -->$", text, re.MULTILINE | re.DOTALL)
    assert between is not None
    assert between[1].strip() == "\n".join(table())


def test_the_schema_for_editors_is_that_of_the_model() -> None:
    path = ROOT / "config" / "config.schema.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(schema()))
    for example in (ROOT / "config").glob("s3df.yaml"):
        assert f"$schema={path.name}" in example.read_text().splitlines()[0]
    assert json.loads(path.read_text())["properties"].keys() == Settings.__dataclass_fields__.keys()
