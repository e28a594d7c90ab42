"""Snakemake as the verbs run it: a program in the project's root, with the profile of the site."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from halfpipe.files.leases import HEAD_VARIABLE
from halfpipe.process.programs import send
from halfpipe.settings import ROOT

SNAKEMAKE = Path(sys.executable).with_name("snakemake")
PROFILE = "SNAKEMAKE_PROFILE"
GRACE_SECONDS = 120.0  # time for Snakemake to end what it has started


@dataclass(frozen=True)
class SnakemakeCall:
    """How Snakemake is called for a site.

    Attributes
    ----------
    options
        Options that name the profile and the config files.
    is_remote
        Whether the profile runs jobs on other hosts.
    cores
        Cores of this host; None: as in a remote profile, or all of them.
    """

    options: tuple[str, ...] = ()
    is_remote: bool = False
    cores: int | None = None

    def command(self, *words: str) -> list[str]:
        """Return a command of Snakemake. `words` begin with targets, because some options take all words after them."""
        local = ["--executor", "local", "--cores", str(self.cores)] if self.cores else []
        if not local and not self.is_remote:
            local = ["--cores", str(os.cpu_count() or 1)]
        return [str(SNAKEMAKE), *words, *self.options, *local]


@contextmanager
def running(words: Sequence[str], log: Path, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run Snakemake in the background, in its own process group. It is ended at the end of the ``with``.

    Parameters
    ----------
    words
        The command.
    log
        The file for everything that it prints.
    variables
        Additional environment variables.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    ours = {name: value for name, value in os.environ.items() if name not in {PROFILE, HEAD_VARIABLE}}
    with log.open("ab") as out:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=ours | variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        # After SIGINT Snakemake cancels its Slurm jobs and ends its programs on this host.
        for number, seconds in ((signal.SIGINT, GRACE_SECONDS), (signal.SIGKILL, None)):
            if process.poll() is None:
                send(process, number, whole_group=True)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)


def ticks(process: "subprocess.Popen[bytes]", seconds: float) -> Iterator[None]:
    """Yield every `seconds` while a process runs, and once after its end."""
    ended = False
    while not ended:
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
            ended = True
        yield
