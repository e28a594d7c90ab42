"""Notify the MOOT database of runs that changed, with a command of the config (`moot.update`).

Contract: ``<moot.update> --run r0741234567 --scid N --startedat MET --type LPA|LCI --status STATUS
--moot-key N --moot-alias ALIAS --nevts N --hwkey N --swkey N [--evtutc0 T --evtutc1 T]``, times in UTC as
``2024-06-28 02:29:27.000000``, the last two only for a run with events. The legacy passed these values to
``MootUpdate.updateAcqSummary`` and, unless the status was InProgress, to ``markAcqComplete`` (ground-chain §10).
The command runs after every change of a run's row, sometimes twice with the same values; exit status 0 means done.

The transaction that changes a run's row also writes a new token. After the command succeeds, the token of the row that
was sent is written beside it. A run is pending until both tokens are equal. So a failure or a kill delays an update but
never loses it. If two processes send updates of one run at once, the older update may reach MOOT last. Then its token
is also written last, and the run is pending again. Each load also sends some updates that earlier loads left over.
"""

import logging
import secrets
import shlex
from collections.abc import Sequence
from functools import partial
from typing import IO

from sqlalchemy import Connection, insert, or_, select, update

from halfpipe.ids import RunId
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.rows import Row
from halfpipe.ledger.tables import PENDING, RUNS
from halfpipe.process.command_words import filled_in
from halfpipe.process.programs import Ending, Log
from halfpipe.process.programs import run as run_program
from halfpipe.settings import ROOT

LONGEST = 120.0  # seconds for one call of the command
ROW = ("scid", "startedat", "type", "status", "moot_key", "moot_alias", "nevts", "hwkey", "swkey")
CATCH_UP = 20  # a load sends at most this many runs of earlier loads, because the submission waits for it

IS_PENDING = or_(PENDING.c.sent.is_(None), PENDING.c.sent != PENDING.c.token)

log = logging.getLogger(__name__)


def options(row: Row) -> list[str]:
    """Return the command's options for a row of ``glastops_acqsummary``."""
    run = RunId.from_met(int(row["startedat"]))
    words = ["--run", run.l1]
    for column in ROW:
        if row[column] is not None:  # another system's row may have no key
            words += [f"--{column.replace('_', '-')}", str(row[column])]
    for column in ("evtutc0", "evtutc1"):
        if row[column] is not None:
            words += [f"--{column}", f"{row[column]:%Y-%m-%d %H:%M:%S.%f}"]
    return words


def pending(ledger: Ledger) -> list[RunId]:
    """Return the runs with changes that the MOOT database has not received."""
    same = (RUNS.c.scid == PENDING.c.scid) & (RUNS.c.startedat == PENDING.c.startedat)
    which = select(PENDING.c.startedat).join(RUNS, same).where(IS_PENDING).order_by(PENDING.c.startedat)
    met = ledger.read(lambda connection: connection.execute(which).scalars().all())
    return [RunId.from_met(int(seconds)) for seconds in met]


def send(ledger: Ledger, command: str, output: IO[str], runs: Sequence[RunId] | None = None) -> list[RunId]:
    """Send the pending runs to the MOOT database, each once; return those that are still pending.

    Parameters
    ----------
    ledger
        The ledger.
    command
        `moot.update` of the config. If it hangs or does not exist, no further run is sent.
    output
        Receives the output of the command.
    runs
        Runs to send first, before at most `CATCH_UP` others; None: all.
    """
    noted = pending(ledger)
    own = [run for run in noted if runs is None or run in runs]
    for run in list(dict.fromkeys([*own, *noted]))[: len(own) + CATCH_UP]:
        if (ending := _send_run(run, ledger, command, output)) is not None:
            log.warning("run %s (%s): moot.update %s", run, run.l1, ending.how)
            if ending.status is None or ending.late:  # it would fail for other runs, too
                break
    if left := pending(ledger):
        log.warning(
            "the MOOT database did not receive %d runs (%s). Each later load tries some of them. To send all once the "
            "cause is fixed: halfpipe ledger moot",
            len(left),
            ", ".join(run.l1 for run in left[:CATCH_UP]),
        )
    return left


def _send_run(run: RunId, ledger: Ledger, command: str, output: IO[str]) -> Ending | None:
    """Send the row of a run until no change is pending; return how the command ended if it failed."""
    of_it = PENDING.c.startedat == run.met

    def noted(connection: Connection) -> tuple[Row, str] | None:
        token = connection.execute(select(PENDING.c.token).where(of_it, IS_PENDING)).scalar()
        row = connection.execute(select(RUNS).where(RUNS.c.startedat == run.met)).mappings().first()
        return None if token is None or row is None else (dict(row), token)

    while found := ledger.read(noted):
        row, token = found
        words = [*filled_in(command, {}), *options(row)]
        ending = run_program(words, ROOT, Log(output), seconds=LONGEST)
        if not ending.well:
            return ending
        log.info("sent to the MOOT database: %s", shlex.join(options(row)))
        sent = update(PENDING).where(of_it).values(sent=token)
        ledger.write(partial(Connection.execute, statement=sent))
    return None


def note(connection: Connection, row: Row) -> None:
    """Note, with a new token, that the MOOT database has not received a row."""
    key = {"scid": row["scid"], "startedat": row["startedat"], "token": secrets.token_hex(16)}
    connection.execute(insert(PENDING), [key])
