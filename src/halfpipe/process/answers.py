"""The output of short commands of other systems; a failed command counts as no output."""

import subprocess
from collections.abc import Sequence


def answer(words: Sequence[str], seconds: float) -> str:
    """Return what a command prints; empty if it cannot be started, fails, or takes longer than `seconds`."""
    try:
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=seconds
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
