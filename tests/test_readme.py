"""The README keeps its word: its commands run and print what it says, its drawing and its tables are true.

The commands run in a copy of the project, verbatim and in order, so their paths may be relative as
in a clone. In ```console blocks a command starts with ``$``, its further lines with ``>``; one that
ends with ``# fails`` must fail, every other must end well. The lines below it are what it prints,
in this order; ``…`` stands for lines, or within a line for letters, that are left out.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from halfpipe import paths
from halfpipe.handoff.texts import texts
from tests.workflow import ROOT

README = (ROOT / "README.md").read_text()
PARTS = ("Makefile", "Snakefile", "pyproject.toml", "requirements.lock")
DIRECTORIES = ("config", "envs", "profiles", "scripts", "src", "tests/standin", "workflow")
EXCLUDED = ["make test"]  # runs this test


@dataclass(frozen=True)
class Command:
    """A command of the README and the lines that are shown below it."""

    text: str
    shown: tuple[str, ...]

    @property
    def fails(self) -> bool:
        """Tell whether the command is said to fail."""
        return self.text.endswith("# fails")


def commands(section: str) -> list[Command]:
    """Return the commands of all console blocks in `section`."""
    found: list[Command] = []
    for block in re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        assert block.startswith("$ ")
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            head, *lines = piece.splitlines()
            while lines and lines[0].startswith("> "):
                head += "\n" + lines.pop(0)[2:]
            found.append(Command(head, tuple(lines)))
    return found


SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL))


def pattern(line: str) -> re.Pattern[str]:
    """Return what fits a shown line: any amount of space is as good as another."""
    words = [re.escape(part) for part in re.split(r"…", " ".join(line.split()))]
    return re.compile(".*".join(words))


def misses(command: Command, said: str) -> str | None:
    """Return the first shown line that was not printed, where it should have been."""
    printed = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    at, anywhere = 0, False
    for line in command.shown:
        if line.strip() == "…":
            anywhere = True
        elif line.strip():
            places = range(at, len(printed) if anywhere else min(at + 1, len(printed)))
            place = next((n for n in places if pattern(line).fullmatch(printed[n])), None)
            if place is None:
                return line
            at, anywhere = place + 1, False
    return None


def project(home: Path) -> Path:
    """Copy what a clone has to `home`, and give it this environment."""
    for name in PARTS:
        shutil.copy2(ROOT / name, home / name)
    for name in DIRECTORIES:
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__", ".snakemake"))
    # A directory of its own with links in it: if `make` should want to make it anew, no more than links go.
    (home / ".venv").mkdir()
    for name in ("bin", "lib"):
        (home / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    shutil.copy2(Path(sys.prefix) / "pyvenv.cfg", home / ".venv" / "pyvenv.cfg")
    return home


def run(home: Path, wanted: list[Command]) -> list[tuple[int, str]]:
    """Run commands one after the other in one shell; return their exit statuses and what they said."""
    mark = "@@ end of a command:"
    script = "exec 2>&1\n" + "".join(
        f"{command.text}\nstatus=$?; echo; echo '{mark}' $status\n" for command in wanted
    )
    hidden = ("MAKE", "MFLAGS", "PYTEST", "HALFPIPE", "SNAKEMAKE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=home,
        env={**environment, "PYTHONPATH": str(home / "src")},  # before the package that is installed
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=900,
        check=False,
    )
    *pieces, rest = re.split(rf"^{mark} (\d+)\n", done.stdout, flags=re.MULTILINE)
    assert rest == ""
    return [(int(status), said) for said, status in zip(pieces[::2], pieces[1::2], strict=True)]


@pytest.mark.parametrize("title", [title for title, section in SECTIONS.items() if commands(section)])
def test_the_commands_print_what_the_readme_shows(title: str, tmp_path: Path) -> None:
    wanted = [command for command in commands(SECTIONS[title]) if command.text not in EXCLUDED]
    ended = run(project(tmp_path), wanted)
    assert len(ended) == len(wanted)
    for command, (status, said) in zip(wanted, ended, strict=True):
        assert (status != 0) == command.fails, f"{command.text}\nended with {status}:\n{said}"
        missed = misses(command, said)
        assert missed is None, f"{command.text}\ndid not print\n{missed}\nwhere it should, but:\n{said}"


def test_only_the_tests_themselves_are_not_run() -> None:
    blocks = re.findall(r"^```(\w*)$.*?^```$", README, re.MULTILINE | re.DOTALL)
    assert set(blocks) == {"console", "mermaid"}
    every = [command.text for section in SECTIONS.values() for command in commands(section)]
    assert len(every) == len(commands(README))  # none stands outside a section
    assert [text for text in every if text in EXCLUDED] == EXCLUDED
    assert every.count("make demo") == 2


def test_the_drawing_is_the_rule_graph(tmp_path: Path) -> None:
    drawing = re.search(r"^```mermaid\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert drawing is not None
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)$", drawing[1], re.MULTILINE))
    simulate = Command("$B/python scripts/simulate.py --out demo --events 200", ())
    graph = Command("$B/snakemake dl=230401001 --rulegraph mermaid-js --configfile demo/config.yaml", ())
    ended = run(project(tmp_path), [Command("B=.venv/bin", ()), simulate, graph])
    assert [status for status, _ in ended] == [0, 0, 0], ended
    rules = dict(re.findall(r"^\s+(id\d+)\[(\w+)\]$", ended[2][1], re.MULTILINE))
    edges = re.findall(r"^\s+(id\d+) --> (id\d+)$", ended[2][1], re.MULTILINE)
    assert drawn == {(rules[one], rules[other]) for one, other in edges}
    files = set(re.findall(r"<b>(\w+)</b><br>", drawing[1]))
    assert files == set(rules.values())


def test_the_table_of_files_has_every_path() -> None:
    dl, chunk, run_, l1 = "{dl}", "{chunk}", "{run}", "r%010d"
    event_file = paths.event_file(l1, 0).replace("0" * 20, "%020d")
    lie_in_work = [
        paths.retdef(),
        paths.chunk(),
        *(f"{paths.chunks()}/*.{kind}" for kind in ("evt", "idx")),
        paths.receipt_history(dl, 0).replace("000", "{handoff}"),
        paths.handoffs(dl),
        paths.index(),
        paths.datagrams(run_, dl),
        paths.events(run_, dl),
        paths.chunk_list(run_, dl),
        paths.manifest(),
        paths.journal(run_),
        paths.receipt(),
        paths.log("{rule}-…", dl),
        paths.downlink_lock(dl),
        paths.job_locks(dl),
        paths.run_lock(run_),
        paths.unattended_lock(),
        paths.online_lock(),
        paths.online_record(run_),
        paths.unattended_logs(),
        paths.held_list(),
        paths.submitted(),
        paths.submissions(dl),
        paths.submit_line(dl),
        paths.loaded(),
        paths.ledger(),
        f"{paths.force()}/{run_}",
        paths.halt("{switch}"),
        paths.downlink_halt("{switch}", dl),
        paths.benchmark("{rule}-…", dl),
        paths.known_retdefs(dl).replace(dl, "{month}", 1),
        paths.kept_index(dl, "*"),
    ]
    every_text = texts([], Counter({("2c2e5787", "PktFile"): 1}))
    lie_in_stage = [
        f"{paths.staged_run(dl, l1)}/{event_file}",
        *(f"{paths.staged(dl)}/{paths.text(name, dl)}" for name in (*every_text, "magic7")),
        f"{paths.tokens(l1)}/{Path(event_file).stem}",
        paths.halt_cleanup(dl, l1),
    ]
    rows = re.findall(r"^\| (`.*?`) \|", SECTIONS["Where things lie"], re.MULTILINE)
    shown = [name for row in rows for name in re.findall(r"`(.*?)`", row)]
    assert sorted(shown) == sorted([*lie_in_work, *lie_in_stage])
    assert chunk in paths.retdef()


def templates() -> list[str]:
    """Return every text in the program, with … for what is filled in."""
    found = []
    sources = [*(ROOT / "src" / "halfpipe").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    for path in [*sources, ROOT / "workflow" / "common.smk"]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[-\w.]*[a-z]", "…", node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(map(str, parts)))
    return found


def test_every_message_of_the_night_table_exists() -> None:
    rows = re.findall(r"^\| (.*?) \|", SECTIONS["At three in the morning"], re.MULTILINE)
    shown = [message for row in rows for message in re.findall(r"`(.*?)`", row) if message != "check.py"]
    assert len(shown) > 20
    known = templates()
    assert [message for message in shown if not any(message.rstrip("…") in text for text in known)] == []


DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text())
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_place_that_closes_a_defect_exists() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(
        r"^\| .*? \| (.*) \|$", text.split("## What the earlier system got wrong")[1], re.MULTILINE
    )
    # `module.name` of the package, and not a key of the config such as `merge.min_events`
    places = {pair for row in rows for pair in re.findall(r"`(\w+)\.(\w+)`", row) if pair[0] != "merge"}
    sources = {path.stem: path.read_text() for path in (ROOT / "src" / "halfpipe").rglob("*.py")}
    places -= {("locks", "py")}
    assert len(places) > 15
    lost = [
        f"{module}.{name}"
        for module, name in sorted(places)
        if not re.search(rf"^ *(?:def|class) {name}\b|^{name}\b.* = ", sources.get(module, ""), re.MULTILINE)
    ]
    assert lost == []


def test_documented_dependencies_and_targets_are_those_of_the_project() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    table = (ROOT / "docs" / "architecture.md").read_text().split("## Dependencies")[1]
    rows = re.findall(r"^\| (?!package)([a-z].*?) \|", table, re.MULTILINE)
    shown = {name.split()[0] for row in rows for name in row.split(", ")}
    assert shown == {re.split(r"[=<>]", text)[0] for text in declared}
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)`", (ROOT / "CONTRIBUTING.md").read_text())) <= targets
