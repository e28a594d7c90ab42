"""Commands of the config: their words, and the level-0 archive that they read.

All commands are started in the project's root.
"""

import shlex
import sys
from collections.abc import Mapping

from halfpipe.settings import BUILT_IN, PLACEHOLDER, Settings


def filled_in(command: str, values: Mapping[str, str]) -> list[str]:
    """Return the words of a command of the config. Names in braces are replaced by their `values`.

    If the first word is ``python``, this Python is used, because cron's `PATH` has no Python or another one.
    """
    words = [
        PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), word) for word in shlex.split(command)
    ]
    return [sys.executable, *words[1:]] if words[:1] == ["python"] else words


def archive(settings: Settings, arch: str) -> str:
    """Return the root of the level-0 archive for a RetDef with the root `arch`.

    This is `paths.level0` of the config if set, otherwise `arch` with its prefix replaced by `paths.map`.
    """
    at = settings.paths
    return str(at.level0) if at.level0 is not None else map_prefix(arch, at.map)


def decoder(settings: Settings, level0: str) -> list[str]:
    """Return the words of the decoder for the archive `level0`."""
    return _words(settings.decoder.command, "python scripts/simulated_decoder.py --level0 {level0}", level0)


def magic7(settings: Settings, arch: str) -> list[str]:
    """Return the words of the magic-7 program; empty if the config has none."""
    root = archive(settings, arch)
    words = _words(settings.magic7.command, "python scripts/simulated_magic7.py", root)
    return [*words, "--arch", root] if words else []


def _words(command: str | None, built_in: str, level0: str) -> list[str]:
    return filled_in(built_in if command == BUILT_IN else command or "", {"level0": level0})


def map_prefix(path: str, prefixes: Mapping[str, str]) -> str:
    """Replace the longest of `prefixes` that `path` begins with; only whole path components count."""
    for old in sorted(prefixes, key=len, reverse=True):
        if path == old.rstrip("/") or path.startswith(old.rstrip("/") + "/"):
            return prefixes[old].rstrip("/") + path[len(old.rstrip("/")) :]
    return path
