"""Commands of the config: how their words come about, and where those that read level-0 find it.

All are started in the project's root.
"""

import shlex
import sys
from collections.abc import Mapping

from halfpipe.settings import BUILT_IN, PLACEHOLDER, Settings


def filled_in(command: str, stands_for: Mapping[str, str]) -> list[str]:
    """Return the words of a command of the config, its names in braces filled in.

    ``python`` as the first word is the one that runs this: cron's `PATH` has none, or another.
    """
    words = [
        PLACEHOLDER.sub(lambda match: stands_for.get(match[1], match[0]), word)
        for word in shlex.split(command)
    ]
    return [sys.executable, *words[1:]] if words[:1] == ["python"] else words


def archive(settings: Settings, arch: str) -> str:
    """Return the root of the level-0 archive for a RetDef that names `arch` as it.

    That is `paths.level0` of the config if set, else `arch` with its prefix replaced by `paths.map`.
    """
    at = settings.paths
    return str(at.level0) if at.level0 is not None else map_prefix(arch, at.map)


def decoder(settings: Settings, level0: str) -> list[str]:
    """Return the words of the decoder, for level-0 below `level0`, as it is seen from here."""
    return _words(settings.decoder.command, "python scripts/simulated_decoder.py --level0 {level0}", level0)


def magic7(settings: Settings, arch: str) -> list[str]:
    """Return the words of the magic-7 program, none if there is none."""
    root = archive(settings, arch)
    words = _words(settings.magic7.command, "python scripts/simulated_magic7.py", root)
    return [*words, "--arch", root] if words else []


def _words(command: str | None, built_in: str, level0: str) -> list[str]:
    return filled_in(built_in if command == BUILT_IN else command or "", {"level0": level0})


def map_prefix(path: str, prefixes: Mapping[str, str]) -> str:
    """Replace the longest of `prefixes` that `path` begins with, whole path components only."""
    for old in sorted(prefixes, key=len, reverse=True):
        if path == old.rstrip("/") or path.startswith(old.rstrip("/") + "/"):
            return prefixes[old].rstrip("/") + path[len(old.rstrip("/")) :]
    return path
