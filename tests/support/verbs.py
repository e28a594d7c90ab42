"""The verbs of `halfpipe`, in this process, and on a terminal."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from halfpipe.cli.config import documents
from halfpipe.cli.main import command

COMMAND = (sys.executable, "-m", "halfpipe")
NOWHERE = {"SNAKEMAKE_PROFILE": None}  # the tester's own profile must not matter


def halfpipe(
    *words: str | Path, configfile: Path | None = None, env: Mapping[str, str] | None = None
) -> Result:
    """Run a command; the result has `exit_code`, `stdout`, `stderr`, and both as `output`.

    If it prints a JSON document, this must have the form of its schema.
    """
    given = [*map(str, words), *(["--configfile", str(configfile)] if configfile else [])]
    result = CliRunner().invoke(command, given, prog_name="halfpipe", env={**NOWHERE, **(env or {})})
    if "json" in given and result.stdout.startswith("{"):
        check_document(given, result.stdout)
    return result


def check_document(words: Sequence[str], printed: str) -> None:
    """Check a document that the command `words` printed."""
    verb = next(word for word in words if word in command.list_commands(click.Context(command)))
    schemas = documents()
    kind = next((word for word in words if f"{verb}-{word}" in schemas["$defs"]), None)
    if verb != "config":
        schemas["$ref"] = f"#/$defs/{verb}-{kind}" if kind else f"#/$defs/{verb}"
        Draft202012Validator(schemas).validate(json.loads(printed))


def on_terminal(*words: str | Path, columns: int = 80, env: Mapping[str, str] | None = None) -> str:
    """Run a command on its own terminal, and return its screen."""
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", *NOWHERE}}
    environment |= {"TERM": "xterm-256color", "COLUMNS": str(columns), **(env or {})}
    with subprocess.Popen([*COMMAND, *map(str, words)], stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        screen = b""
        try:
            while piece := os.read(ours, 1 << 16):
                screen += piece
        except OSError:  # how reading a closed terminal ends
            pass
    os.close(ours)
    return screen.decode().replace("\r\n", "\n")
