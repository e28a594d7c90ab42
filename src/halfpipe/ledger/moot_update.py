"""Tell the MOOT database which runs have changed, by a command of the config (`moot.update`).

Contract: ``<moot.update> --run r0741234567 --scid N --startedat MET --type LPA|LCI --status STATUS
--moot-key N --moot-alias ALIAS --nevts N --hwkey N --swkey N [--evtutc0 T --evtutc1 T]``, times in UTC as
``2024-06-28 02:29:27.000000``, the last two only for a run with events: what the earlier system gave to
``MootUpdate.updateAcqSummary`` and, unless the status is InProgress, ``markAcqComplete`` (ground-chain §10).
It is called for every change of a run's row, and may be called again with the same; status 0 means done.

Which runs are to be told is noted in the transaction that changes them, each time with a token of its own. Once the
command has ended well the token of what was told is written beside it: a run is pending until they are the same. So a
failure delays the news and never loses it, whoever is killed when; and whoever comes last with older news makes the run
pending again, since it may have come last to MOOT, too. Each load tells some of what earlier ones had to leave.
"""

import logging
import secrets
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from typing import IO, Any

from sqlalchemy import Connection, insert, or_, select, update

from halfpipe.ids import RunId
from halfpipe.ledger.database import Ledger
from halfpipe.ledger.tables import PENDING, RUNS
from halfpipe.process.command_words import filled_in
from halfpipe.process.programs import Ending, Log
from halfpipe.process.programs import run as run_program
from halfpipe.settings import ROOT

LONGEST = 120.0  # seconds that the command may take
ROW = ("scid", "startedat", "type", "status", "moot_key", "moot_alias", "nevts", "hwkey", "swkey")
CATCH_UP = 20  # runs of earlier loads that a load tells at most, for a submission waits for it

IS_PENDING = or_(PENDING.c.told.is_(None), PENDING.c.told != PENDING.c.token)

log = logging.getLogger(__name__)


def options(row: Mapping[str, Any]) -> list[str]:
    """Return the options that tell of the run of `row` (of ``glastops_acqsummary``)."""
    run = RunId.from_met(int(row["startedat"]))
    told = ["--run", run.l1]
    for column in ROW:
        if row[column] is not None:  # some rows of the legacy have no key
            told += [f"--{column.replace('_', '-')}", str(row[column])]
    for column in ("evtutc0", "evtutc1"):
        if row[column] is not None:
            told += [f"--{column}", f"{row[column]:%Y-%m-%d %H:%M:%S.%f}"]
    return told


def pending(ledger: Ledger) -> list[RunId]:
    """Return the runs of which the MOOT database has not heard yet."""
    same = (RUNS.c.scid == PENDING.c.scid) & (RUNS.c.startedat == PENDING.c.startedat)
    which = select(PENDING.c.startedat).join(RUNS, same).where(IS_PENDING).order_by(PENDING.c.startedat)
    met = ledger.read(lambda connection: connection.execute(which).scalars().all())
    return [RunId.from_met(int(seconds)) for seconds in met]


def send(ledger: Ledger, command: str, output: IO[str], runs: Sequence[RunId] | None = None) -> list[RunId]:
    """Tell the MOOT database of the runs that are pending, each once; return those that are pending still.

    Parameters
    ----------
    ledger
        The ledger.
    command
        `moot.update` of the config. One that hangs or is not there ends it.
    output
        Takes what the command prints.
    runs
        These first, and of the others `CATCH_UP` at most; None, all.
    """
    noted = pending(ledger)
    own = [run for run in noted if runs is None or run in runs]
    left = set(noted)
    for run in list(dict.fromkeys([*own, *noted]))[: len(own) + CATCH_UP]:
        ending = _tell_of(run, ledger, command, output)
        if ending is None:
            left.remove(run)
            continue
        log.warning("run %s (%s): moot.update %s", run, run.l1, ending.how)
        if ending.status is None or ending.late:  # no sense in telling it of other runs
            break
    if left:
        log.warning(
            "the MOOT database did not receive %d runs (%s). They stay noted, and each load tries some of them; "
            "once the cause is mended: halfpipe ledger moot",
            len(left),
            ", ".join(run.l1 for run in sorted(left)[:CATCH_UP]),
        )
    return sorted(left)


def _tell_of(run: RunId, ledger: Ledger, command: str, output: IO[str]) -> Ending | None:
    """Tell of one run what its row says, until that is what was told last; return how the command ended if not well."""
    of_it = PENDING.c.startedat == run.met

    def noted(connection: Connection) -> tuple[Mapping[str, Any], str] | None:
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
        told = update(PENDING).where(of_it).values(told=token)
        ledger.write(partial(Connection.execute, statement=told))
    return None


def note(connection: Connection, row: Mapping[str, Any]) -> None:
    """Note that the MOOT database has not heard of a row; each note has a token of its own."""
    key = {"scid": row["scid"], "startedat": row["startedat"], "token": secrets.token_hex(16)}
    connection.execute(insert(PENDING), [key])
