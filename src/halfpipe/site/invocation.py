"""Snakemake as the verbs of this package run it: as a program, in the project's root, with the profile of the site."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from halfpipe.files.leases import HEAD_VARIABLE
from halfpipe.process.programs import send
from halfpipe.settings import ROOT

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
PROFILE = "SNAKEMAKE_PROFILE"
GRACE_SECONDS = 120.0  # in which Snakemake ends what it has started


@dataclass(frozen=True)
class Which:
    """How Snakemake finds the site, and how many cores of this machine it may use; None: as the profile has it."""

    words: tuple[str, ...] = ()
    is_remote: bool = False
    cores: int | None = None

    def command(self, *words: str) -> list[str]:
        """Return a command of Snakemake; `words` begin with targets, because some options take all that follow."""
        local = ["--executor", "local", "--cores", str(self.cores)] if self.cores else []
        if not local and not self.is_remote:
            local = ["--cores", str(os.cpu_count() or 1)]
        return [str(SNAKEMAKE), *words, *self.words, *local]


class Running:
    """A Snakemake that was started here, in a process group of its own."""

    def __init__(self, words: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                words,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def status(self) -> int | None:
        """Return its exit status, None while it runs."""
        return self._process.poll()

    def wait(self, seconds: float) -> int | None:
        """Wait for its end, for so long at most, and return `status`."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.status()

    def end(self) -> None:
        """End it with all that it has started: Slurm jobs are cancelled, programs here end in order, else at once."""
        if self.status() is None:
            send(self._process, signal.SIGINT, whole_group=True)
            self.wait(GRACE_SECONDS)
        if self.status() is None:
            send(self._process, signal.SIGKILL, whole_group=True)
            self._process.wait()


@contextmanager
def running(words: Sequence[str], log: Path, **variables: str) -> Iterator[Running]:
    """Run Snakemake beside this process, which ends it if it leaves first.

    Parameters
    ----------
    words
        The command.
    log
        Takes all that it prints.
    variables
        Of its environment, besides ours.
    """
    ours = {name: value for name, value in os.environ.items() if name not in {PROFILE, HEAD_VARIABLE}}
    one = Running(words, log, ours | variables)
    try:
        yield one
    finally:
        one.end()


def ticks(one: Running, seconds: float) -> Iterator[None]:
    """Yield every so many seconds as long as Snakemake runs, and once after that."""
    until = time.monotonic() + seconds
    while one.wait(max(0.05, until - time.monotonic())) is None:
        yield
        until = time.monotonic() + seconds
    yield
