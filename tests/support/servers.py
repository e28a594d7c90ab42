"""Common functions for the tests' private servers: packages, user, temporary directory and waiting.

``python -m tests.support.servers xrootd`` installs the packages of one of `NEEDED`.
"""

import glob
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

POLICY = Path("/usr/sbin/policy-rc.d")  # invoke-rc.d and deb-systemd-invoke run it
# Names or patterns of required files, and the Debian packages that contain them.
NEEDED = {
    # MariaDB's packages without a service; mariadb-install-db calls a program of the client package.
    "slurm": (
        ("munged", "slurmctld", "slurmd", "sbatch", "slurmdbd", "mariadbd", "my_print_defaults"),
        ("slurm-wlm", "munge", "slurmdbd", "mariadb-server-core", "mariadb-client-core"),
    ),
    "postgresql": (("/usr/lib/postgresql/*/bin/pg_ctl",), ("postgresql",)),
    "xrootd": (("xrootd", "xrdcp", "xrdfs"), ("xrootd-server", "xrootd-client")),
    "browser": (
        ("chromium", "chromedriver", "npm", "promtool", "prometheus"),
        ("chromium", "chromium-driver", "fonts-dejavu-core", "npm", "promtool", "prometheus"),
    ),
}


def found(name: str) -> str | None:
    """Return the last match of a pattern in the order of names, or the path of a program."""
    return max(glob.glob(name), default=None) or shutil.which(Path(name).name)  # noqa: PTH207 - of the whole disk


def needed(what: str) -> None:
    """Fail if files of one of `NEEDED` are missing."""
    missing = [name for name in NEEDED[what][0] if found(name) is None]
    assert not missing, f"not here: {missing}; python -m tests.support.servers {what}"


def install(what: str) -> None:
    """Install missing packages without starting their servers; without root, exit with the remedy."""
    names, packages = NEEDED[what]
    if all(map(found, names)):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SystemExit(
            f"not here: one of {', '.join(names)}. Have Debian's {', '.join(packages)} installed"
        )
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with services_stay_down():
        for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *command], env=env, check=True)


@contextmanager
def services_stay_down() -> Iterator[None]:
    """Keep Debian's packages from starting their services; a machine's own policy is not changed."""
    try:
        descriptor = os.open(POLICY, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o755)
    except FileExistsError:
        yield
        return
    try:
        os.write(descriptor, b"#!/bin/sh\nexit 101\n")
        os.close(descriptor)
        yield
    finally:
        POLICY.unlink()


def user(name: str) -> dict[str, Any]:
    """Return arguments for `subprocess` to run as the user of a package, if this is root."""
    return {} if os.geteuid() else {"user": name, "group": name, "extra_groups": []}


@contextmanager
def directory(prefix: str) -> Iterator[Path]:
    """Make a temporary directory that all users can read, and remove leftovers of killed tests."""
    for old in Path(tempfile.gettempdir()).glob(f"{prefix}*-*"):
        if not Path(f"/proc/{old.name.removeprefix(prefix).partition('-')[0]}").exists():
            shutil.rmtree(old, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


def wait_for(what: str, ready: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until `ready`; after `seconds`, raise an AssertionError that names `what`."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)


def command_lines(*words: str) -> dict[int, str]:
    """Return the command lines of running processes that contain all `words`, by process id."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            said = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if said and all(word in said for word in words):
                found[int(path.parent.name)] = said
    return found


if __name__ == "__main__":
    install(sys.argv[1])


def put_program(home: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a shell script and put it first on the path; return its file."""
    program = home / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:/usr/bin:/bin")
    return program
