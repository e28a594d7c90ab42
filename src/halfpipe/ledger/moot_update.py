"""Tell the MOOT database which runs have changed, by a command of the config (`moot.update`).

Contract: ``<moot.update> --run r0741234567 --scid N --startedat MET --type LPA|LCI --status STATUS
--moot-key N --moot-alias ALIAS --nevts N --hwkey N --swkey N [--evtutc0 T --evtutc1 T]``, times in UTC as
``2024-06-28 02:29:27.000000``, the last two only for a run with events: what the earlier system gave to
``MootUpdate.updateAcqSummary`` and, unless the status is InProgress, ``markAcqComplete`` (ground-chain §10).
It is called for every change of a run's row, and may be called again with the same; status 0 means done.

Which runs are to be told is noted in the transaction that changes them, and struck off only when the command
has ended well: a failure delays the news and never loses it, whoever is killed when.
"""

import logging
import shlex
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, delete, select

from halfpipe.errors import HalfPipeError
from halfpipe.ids import RunId
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import PENDING, RUNS

WAITS = (1.0, 5.0)  # seconds between the tries
LONGEST = 120.0  # seconds that the command may take

log = logging.getLogger(__name__)


def words(command: str) -> list[str]:
    """Return a command of the config as words; ``python`` as the first is the one that runs this."""
    found = shlex.split(command)
    return [sys.executable, *found[1:]] if found[:1] == ["python"] else found


def options(row: Mapping[str, Any]) -> list[str]:
    """Return the options that tell of the run of `row` (of ``glastops_acqsummary``)."""
    run = RunId.from_met(int(row["startedat"]))
    told = ["--run", run.l1]
    for column in (
        "scid",
        "startedat",
        "type",
        "status",
        "moot_key",
        "moot_alias",
        "nevts",
        "hwkey",
        "swkey",
    ):
        told += [f"--{column.replace('_', '-')}", str(row[column])]
    for column in ("evtutc0", "evtutc1"):
        if row[column] is not None:
            told += [f"--{column}", f"{row[column]:%Y-%m-%d %H:%M:%S.%f}"]
    return told


def pending(ledger: Ledger) -> list[RunId]:
    """Return the runs of which the MOOT database has not heard yet."""
    return [RunId.from_met(int(row["startedat"])) for row, _ in ledger.read(_pending)]


def send(
    ledger: Ledger,
    command: str,
    root: Path,
    output: IO[str],
    runs: Collection[RunId] | None = None,
    waits: Sequence[float] = WAITS,
) -> list[RunId]:
    """Tell the MOOT database of the runs that are pending; return those that are pending still.

    Parameters
    ----------
    ledger
        The ledger.
    command, root
        `moot.update` of the config, and where it is started.
    output
        Takes what the command prints; a file.
    runs
        Only these; None, all. The first that cannot be told ends it: MOOT is down, and all others would
        be tried in vain.
    waits
        Seconds between the tries.
    """
    todo = [
        (row, token)
        for row, token in ledger.read(_pending)
        if runs is None or RunId.from_met(int(row["startedat"])) in runs
    ]
    for done, (row, token) in enumerate(todo):
        cause = _tell([*words(command), *options(row)], root, output, waits)
        if cause:
            left = [RunId.from_met(int(row["startedat"])) for row, _ in todo[done:]]
            log.warning(
                "the MOOT database was not told of %s: %s. They stay noted; once the cause is mended: "
                "python scripts/ledger.py moot",
                ", ".join(f"run {run} ({run.l1})" for run in left),
                cause,
            )
            return left
        _strike_off(ledger, row, token)
        log.info("the MOOT database was told: %s", shlex.join(options(row)))
    return []


def _pending(connection: Connection) -> list[tuple[Mapping[str, Any], str]]:
    same = (RUNS.c.scid == PENDING.c.scid) & (RUNS.c.startedat == PENDING.c.startedat)
    found = select(RUNS, PENDING.c.token).join(PENDING, same).order_by(RUNS.c.startedat)
    return [(dict(row), row["token"]) for row in connection.execute(found).mappings()]


def _strike_off(ledger: Ledger, row: Mapping[str, Any], token: str) -> None:
    """Strike a run off; not if its row has changed since it was read, for then the note has another token."""

    def strike(connection: Connection) -> None:
        of_it = (PENDING.c.startedat == row["startedat"]) & (PENDING.c.token == token)
        connection.execute(delete(PENDING).where(of_it))

    ledger.write(strike)


def _tell(command: Sequence[str], root: Path, output: IO[str], waits: Sequence[float]) -> str:
    """Run the command, several times if need be; return what was wrong at the last, nothing if it went well."""
    cause = ""
    for wait in (0.0, *waits):
        time.sleep(wait)
        try:
            cause = _once(command, root, output)
        except HalfPipeError as error:
            return str(error)
        if not cause:
            return ""
        log.info("%s: %s", shlex.join(command), cause)
    return cause


def _once(command: Sequence[str], root: Path, output: IO[str]) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"moot.update took longer than {LONGEST:g} s"
    except OSError as error:
        raise HalfPipeError(
            f"moot.update {command[0]}: cannot be started: {error.strerror}. Correct it in the config"
        ) from error
    return f"moot.update ended with status {done.returncode}" if done.returncode else ""
