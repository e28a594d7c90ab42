"""The verbs of `halfpipe`, in this process, and on a terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from click.testing import CliRunner, Result

from halfpipe.cli.main import command

COMMAND = (sys.executable, "-m", "halfpipe")
NOWHERE = {"SNAKEMAKE_PROFILE": None}  # the tester's own profile must not matter


def halfpipe(
    *words: str | Path, configfile: Path | None = None, env: Mapping[str, str] | None = None
) -> Result:
    """Run a command; the result has `exit_code`, `stdout`, `stderr`, and both as `output`."""
    given = ["--configfile", str(configfile)] if configfile else []
    return CliRunner().invoke(
        command, [*map(str, words), *given], prog_name="halfpipe", env={**NOWHERE, **(env or {})}
    )


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
