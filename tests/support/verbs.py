"""The verbs of `halfpipe`, given in this process, and as a person sees them on a terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from halfpipe.cli.main import command

COMMAND = (sys.executable, "-m", "halfpipe")
NOWHERE = {"SNAKEMAKE_PROFILE": None}  # what whoever starts the tests has set says nothing


def halfpipe(
    *words: str | Path, configfile: Path | None = None, env: Mapping[str, str] | None = None
) -> Result:
    """Give a command and return its end: `exit_code`, `stdout`, `stderr`, and both as `output`."""
    given = ["--configfile", str(configfile)] if configfile else []
    return CliRunner().invoke(
        command, [*map(str, words), *given], prog_name="halfpipe", env={**NOWHERE, **(env or {})}
    )


def on_terminal(*words: str | Path, columns: int = 80, env: Mapping[str, str] | None = None) -> str:
    """Give a command on a terminal of its own, and return what stands there."""
    ours, theirs = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", *NOWHERE}}
    environment |= {"TERM": "xterm-256color", "COLUMNS": str(columns), **(env or {})}
    with subprocess.Popen([*COMMAND, *map(str, words)], stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        said = b""
        try:
            while piece := os.read(ours, 1 << 16):
                said += piece
        except OSError:  # how reading a closed terminal ends
            pass
    os.close(ours)
    return said.decode().replace("\r\n", "\n")
