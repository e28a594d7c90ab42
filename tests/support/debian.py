"""Installing Debian's packages that tests need."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence


def install(packages: Iterable[str], otherwise: str) -> None:
    """Install packages without starting a server of theirs; where this is not root, end with `otherwise`."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(otherwise)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *command], env=env, check=True)


def only_installs(argv: Sequence[str], install: Callable[[], None], otherwise: str | None) -> int:
    """Be the program of a module that only installs what is missing (``--install``)."""
    if list(argv) != ["--install"]:
        print(otherwise)
        return 2
    install()
    return 0
