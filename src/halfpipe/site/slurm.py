"""Slurm as `halfpipe process` and `halfpipe unattended` use it: arrays of elements, how many are left, and their end.

The jobs of rules are started by Snakemake, as the profile says (``executor: slurm`` in profiles/*/profile.v9+.yaml).
"""

import getpass
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from halfpipe.errors import ConfigError, HalfPipeError
from halfpipe.settings import ROOT

LARGEST = 1000  # elements of an array: Slurm's MaxArraySize is 1001 where a site has set nothing
TRIES = 3  # with one, two and three times the memory and time of the profile, as its `retries` do
ANSWER_SECONDS = 60.0  # that a command of Slurm may take
DEFAULTS = {"mem_mb": 4000, "runtime": 30}
CORES = 16  # of an element at most, where the profile has no `max-threads`


class BusyError(HalfPipeError):
    """Slurm takes no array now: its queue is full, or it does not answer."""

    code = "slurm-busy"


class Arrays:
    """The arrays of one command, all under one name, in which those of an earlier one that was killed are found too.

    Parameters
    ----------
    profile
        The content of the profile of Snakemake.
    name
        Of the jobs.
    extra
        Further options of sbatch, as `history.sbatch` has them.

    Attributes
    ----------
    slots
        How many elements are to be made, if there are downlinks for them.
    cores
        How many an element has at most.
    look
        The command that shows what Slurm says of them.
    largest
        How many elements are started at a time.
    seconds, shows
        Between two looks at them, and until what another node has written last shows here.
    """

    largest, seconds, shows = LARGEST, 10.0, 10.0

    def __init__(self, profile: Mapping[str, Any], name: str, extra: str) -> None:
        given = profile.get("default-resources") or {}
        if not isinstance(given, Mapping):
            given = dict(str(each).split("=", 1) for each in given)
        self._given = {**DEFAULTS, **given}
        self._name, self._extra = name, shlex.split(extra)
        self.look = f"squeue --states=all --name={name} --format='%i %T %r'"
        self._mine = (f"--name={name}", f"--user={getpass.getuser()}")
        self.slots = int(profile.get("jobs") or 1)
        self.cores = int(profile.get("max-threads") or CORES)

    def start(
        self, words: Sequence[str], log: str, elements: int, downlinks: int, tries: int, cores: int
    ) -> None:
        """Submit an array.

        Parameters
        ----------
        words
            The command of each element, which finds its number in its environment.
        log
            Of each element; ``%a`` is its number.
        elements, downlinks
            How many elements, and downlinks of the largest.
        tries
            The how manieth this is, from 1.
        cores
            Of each element.

        Raises
        ------
        BusyError
            If Slurm does not take it now.
        ConfigError
            If the profile asks for what cannot be read as a number.
        """
        try:
            memory, minutes = int(self._given["mem_mb"]), int(self._given["runtime"])
        except ValueError as error:
            raise ConfigError(
                f"default-resources of the profile: {error}. Write MB and minutes as numbers"
            ) from error
        named = {"--partition": "slurm_partition", "--account": "slurm_account", "--qos": "slurm_qos"}
        options = [f"{option}={self._given[key]}" for option, key in named.items() if self._given.get(key)]
        ask(
            *("sbatch", f"--array=0-{elements - 1}", f"--job-name={self._name}", f"--chdir={ROOT}"),
            *(
                f"--output={log}",
                "--open-mode=append",
                "--no-requeue",
                "--ntasks=1",
                f"--cpus-per-task={cores}",
            ),
            f"--mem={memory * cores * min(tries, TRIES)}M",
            f"--time={minutes * downlinks * min(tries, TRIES)}",
            *options,
            *self._extra,
            f"--wrap=exec {shlex.join(words)}",
        )

    def left(self) -> int | None:
        """Return how many elements wait or run; None if Slurm does not say."""
        try:
            return len(ask("squeue", "--noheader", "--array", "--format=%i", *self._mine).split())
        except BusyError:
            return None

    def end(self, *, waiting_only: bool = False) -> None:
        """Cancel all elements, or only those that have not begun.

        Raises
        ------
        BusyError
            If Slurm does not answer.
        """
        ask("scancel", *self._mine, *(["--state=PENDING"] if waiting_only else []))


def ask(*words: str) -> str:
    """Give a command of Slurm, and return what it prints.

    Raises
    ------
    BusyError
        If it fails, or does not answer.
    ConfigError
        If there is no such command.
    """
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=ANSWER_SECONDS,
        )
    except FileNotFoundError as error:
        raise ConfigError(f"{words[0]} is not on the path: start this where Slurm's commands are") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BusyError(f"{words[0]}: {error}") from error
    except subprocess.CalledProcessError as error:
        raise BusyError(
            f"{words[0]}: {' '.join(error.stderr.split()) or f'status {error.returncode}'}"
        ) from error
    return done.stdout
