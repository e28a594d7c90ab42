"""What the ledger lacks of what was entered: rows that somebody, or a database, has lost since."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.database import WAITS, Ledger, NoLedgerError
from halfpipe.ledger.load import loaded
from halfpipe.ledger.tables import DOWNLINKS, LINKS, RUNS
from halfpipe.settings import Settings
from halfpipe.storage import paths


def lacks(
    settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any], waits: Sequence[float] = WAITS
) -> str:
    """Say which rows of a hand-off the ledger lacks, that Level-1 looks for; empty if it has them all.

    Parameters
    ----------
    settings, downlink
        The settings, which have a ledger, and the downlink.
    receipt
        Its receipt: each run with event files needs a row.
    waits
        Seconds between the tries, where the database is down.

    Raises
    ------
    ConfigError, LedgerError
        If the ledger cannot be reached or used.
    """
    ledger = Ledger.of(settings, waits)
    runs = [RunId(run["run"]) for run in receipt["runs"] if run["files"]]

    def missing(connection: Connection) -> list[str]:
        of_it = DOWNLINKS.c.id == downlink.number
        handoff = connection.execute(select(DOWNLINKS.c.handoff).where(of_it)).scalar()
        if handoff is None:
            return ["the downlink"]
        found = [f"hand-off {receipt['handoff']}, it has {handoff}"] * (handoff != receipt["handoff"])
        linked = set(
            connection.execute(
                select(LINKS.c.startedat).where(LINKS.c.downlink_id == downlink.number)
            ).scalars()
        )
        if runs and not linked:
            found.append("what the downlink brought")
        for run in runs:
            if connection.execute(select(RUNS.c.scid).where(RUNS.c.startedat == run.met)).first() is None:
                found.append(f"run {run} ({run.l1})")
        return found

    try:
        found = ledger.read(missing)
    except NoLedgerError:
        return f"there is no ledger {ledger.name}"
    return f"the ledger {ledger.name} lacks {', '.join(found)}" if found else ""


def site_troubles(settings: Settings, downlinks: Iterable[DownlinkId]) -> Iterator[Cause]:
    """Find downlinks that were entered and that the ledger has no more: one question for all of them.

    Parameters
    ----------
    settings
        The settings.
    downlinks
        Those that are looked at; what vouches for one that was entered is ``{dl}/ledger.json``.

    Yields
    ------
    Cause
        ``ledger-lacks``, ``ledger-down``: at most one.
    """
    if settings.ledger.url is None:
        return
    work = settings.paths.work
    entered = [dl for dl in downlinks if os.path.exists(f"{work}/{paths.loaded(dl)}")]  # noqa: PTH110 - of them all
    if not entered:
        return
    try:
        ledger = Ledger.of(settings, waits=())
        try:
            known = ledger.read(loaded)
        except NoLedgerError:
            known = set()
    except HalfPipeError as error:
        yield Cause("ledger-down", Verdict.TOLD, str(error), "halfpipe ledger check")
        return
    if lost := sorted(set(entered) - known):
        few = f"downlink {lost[0]}" if len(lost) == 1 else f"{len(lost)} downlinks, {lost[0]} to {lost[-1]}"
        do = f"halfpipe ledger load {lost[0]}" if len(lost) == 1 else "halfpipe ledger rebuild"
        text = f"the ledger {ledger.name} has lost {few}, so Level-1 finds no row of their runs"
        yield Cause("ledger-lacks", Verdict.PERSON, text, do)
