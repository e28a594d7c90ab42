"""Reads the sections and commands of the project's documents, and runs the commands."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.in_process import ROOT

FILES = ("Makefile", "Snakefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock")
DIRECTORIES = ("config", "envs", "profiles", "scripts", "src", "tests/support/standin", "workflow")
STATUS = re.compile(r"  # exit status (\d+)\b")
OURS = ("MAKE", "MFLAGS", "PYTEST", "HALFPIPE", "SNAKEMAKE")  # variables that are not passed on


@dataclass(frozen=True)
class Command:
    """A command of a console block, and the lines that are shown below it."""

    text: str
    shown: tuple[str, ...]

    @property
    def status(self) -> int:
        """The exit status: 0, or the one in the comment at its end."""
        said = STATUS.search(self.text)
        return int(said[1]) if said else 0


def sections(document: str) -> dict[str, str]:
    """Return the sections of a document, a path from the project's root, by their headings."""
    text = (ROOT / document).read_text()
    return dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def commands(section: str) -> list[Command]:
    """Return the commands of all console blocks in `section`.

    A command starts with ``$``, its further lines with ``>``; lines below it are what it prints.
    """
    found: list[Command] = []
    for block in re.findall(r"^```console\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        assert block.startswith("$ ")
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            head, *lines = piece.splitlines()
            while lines and lines[0].startswith("> "):
                head += "\n" + lines.pop(0)[2:]
            found.append(Command(head, tuple(lines)))
    return found


def pattern(shown: Sequence[str]) -> str:
    """Return a pattern for lines of a document. The amount of space does not matter; … matches any text, or lines."""
    lines = [" ".join(line.split()) for line in shown if line.strip()]
    words = [".*".join(map(re.escape, line.split("…"))) + "\n" for line in lines]
    return "".join("(?:.*\n)*" if line == "…" else each for line, each in zip(lines, words, strict=True))


def check(wanted: Sequence[Command], ended: Sequence[tuple[int, str]]) -> None:
    """Check that commands ended with their exit statuses, and printed the lines of the document."""
    assert len(ended) == len(wanted)
    for command, (status, printed) in zip(wanted, ended, strict=True):
        assert status == command.status, f"{command.text}\nended with {status}:\n{printed}"
        lines = "".join(f"{' '.join(line.split())}\n" for line in printed.splitlines() if line.strip())
        shown = "\n".join(command.shown)
        assert re.fullmatch(pattern(command.shown), lines), (
            f"{command.text}\ndid not print\n{shown}\nbut:\n{printed}"
        )


def project(home: Path) -> Path:
    """Copy the files of a clone to `home`, with this environment."""
    home.mkdir(exist_ok=True)
    for name in FILES:
        shutil.copy2(ROOT / name, home / name)
    for name in DIRECTORIES:
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__", ".snakemake"))
    # A directory with links: if `make` makes the environment again, only links are lost.
    (home / ".venv").mkdir()
    for name in ("bin", "lib"):
        (home / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    shutil.copy2(Path(sys.prefix) / "pyvenv.cfg", home / ".venv" / "pyvenv.cfg")
    return home


def run(
    home: Path, wanted: Sequence[Command], variables: Mapping[str, str] | None = None
) -> list[tuple[int, str]]:
    """Run commands one after the other in one shell; return their exit statuses and outputs."""
    mark = "@@ end of a command:"
    script = "exec 2>&1\n" + "".join(
        f"{command.text}\nstatus=$?; echo; echo '{mark}' $status\n" for command in wanted
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environment |= {"PYTHONPATH": str(home / "src"), **(variables or {})}  # before the installed package
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=900,
        check=False,
    )
    *pieces, rest = re.split(rf"^{mark} (\d+)\n", done.stdout, flags=re.MULTILINE)
    assert rest == ""
    return [(int(status), said) for said, status in zip(pieces[::2], pieces[1::2], strict=True)]
