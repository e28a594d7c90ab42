"""What the ledger lacks of what was entered: rows that somebody, or a database, has lost since."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, select

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, LedgerError, Remedy
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.database import FOREIGN, WAITS, Ledger, NoLedgerError
from halfpipe.ledger.load import loaded
from halfpipe.ledger.rows import last_receipt
from halfpipe.ledger.tables import DOWNLINKS, RUNS, of_downlink
from halfpipe.settings import BUILT_IN, Settings
from halfpipe.words import count

MOST_NAMED = 10  # downlinks that a cause names, the last ones


def lacks(
    settings: Settings, downlink: DownlinkId, receipt: Mapping[str, Any], waits: Sequence[float] = WAITS
) -> Cause | None:
    """Return which rows of a hand-off the ledger lacks, that Level-1 looks for; None if it has them all.

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
        of_it = select(DOWNLINKS.c.handoff).where(of_downlink(DOWNLINKS, downlink))
        has, wanted = connection.execute(of_it).scalar(), receipt["handoff"]
        found = [] if has == wanted else [f"hand-off {wanted}, it has {has or 'none'}"]
        for run in runs:
            if connection.execute(select(RUNS.c.scid).where(RUNS.c.startedat == run.met)).first() is None:
                found.append(f"run {run} ({run.l1})")
        return found

    try:
        found = ledger.read(missing)
    except NoLedgerError:
        found = ["all rows, there is none"]
    if not found:
        return None
    text = f"the ledger {ledger.name} lacks {', '.join(found)}, so Level-1 would fail on downlink {downlink}"
    return Cause("ledger-lacks", Verdict.ACTION, text, Remedy(f"halfpipe ledger load {downlink}"))


def site_troubles(settings: Settings, downlinks: Iterable[DownlinkId]) -> Iterator[Cause]:
    """Find downlinks that were entered and that the ledger has no more: one question for all of them.

    Parameters
    ----------
    settings
        The settings, which have a ledger.
    downlinks
        Those that are looked at; what vouches for one that was entered is ``{dl}/ledger.json``.

    Yields
    ------
    Cause
        ``ledger-lacks``, ``ledger-down``, ``ledger-foreign``, ``work-restored``.
    """
    work = settings.paths.work
    entered = {dl for dl in downlinks if os.path.exists(f"{work}/{paths.loaded(dl)}")}  # noqa: PTH110 - of them all
    if not entered and settings.ledger.url == BUILT_IN:
        return
    try:
        ledger = Ledger.of(settings, waits=())
        known = ledger.read(loaded)
    except NoLedgerError:
        known = {}
    except HalfPipeError as error:
        if error.code == FOREIGN:
            yield Cause(FOREIGN, Verdict.ACTION, error.text, error.remedy)
        else:
            yield Cause("ledger-down", Verdict.NOTE, str(error), Remedy("halfpipe ledger check"))
        return
    if ahead := _ahead(settings, ledger, known, ()):
        yield ahead
    if lost := sorted(entered - known.keys()):
        do = f"halfpipe ledger load {lost[0]}" if len(lost) == 1 else "halfpipe ledger rebuild"
        few = f"{count(len(lost), 'downlink')} ({', '.join(lost[-MOST_NAMED:])})"
        text = f"the ledger {ledger.name} has lost {few}, so Level-1 finds no row of their runs"
        yield Cause("ledger-lacks", Verdict.ACTION, text, Remedy(do))


def refuse_delivery(settings: Settings, downlinks: Iterable[DownlinkId]) -> None:
    """Refuse a ledger that another working directory uses, and a working directory that lacks what the ledger knows.

    A database that is down is passed over, for no hand-off waits for one. Of the built-in ledger, which lies in the
    working directory, nobody asks.

    Parameters
    ----------
    settings
        The settings, which have a ledger that is not the built-in one.
    downlinks
        Those that are about to be processed: of them the numbers of the hand-offs are compared, too.

    Raises
    ------
    LedgerError
        If it is so; nothing was changed.
    """
    ledger = Ledger.of(settings, waits=())
    try:
        known = ledger.read(loaded)
    except LedgerError as error:
        if error.code == FOREIGN:
            raise
        return
    if ahead := _ahead(settings, ledger, known, downlinks):
        raise ahead.refused("Nothing was done.", LedgerError)


def _ahead(
    settings: Settings, ledger: Ledger, known: Mapping[DownlinkId, int], downlinks: Iterable[DownlinkId]
) -> Cause | None:
    """Return that the ledger has hand-offs that the working directory lacks: it was put back from a backup."""
    work = settings.paths.work
    names = set(os.listdir(work))  # noqa: PTH208 - one look for all
    lost = {dl for dl in known if dl not in names and paths.receipt(dl) not in names}
    for dl in known.keys() & set(downlinks):
        with suppress(HalfPipeError):  # whoever reads it says what is wrong
            receipt = last_receipt(work, dl)
            lost |= {dl} if receipt is None or receipt["handoff"] < known[dl] else set()
    if not lost:
        return None
    few = sorted(lost)[-MOST_NAMED:]
    return Cause(
        "work-restored",
        Verdict.ACTION,
        f"the ledger {ledger.name} has hand-offs of {count(len(lost), 'downlink')} that {work} lacks: "
        f"{', '.join(few)}. It was put back from a backup, and what was delivered since would be delivered and "
        "submitted again",
        Remedy(
            f"halfpipe ledger remove {' '.join(few)}",
            first="put a newer backup in its place. If there is none: roll back in Level-1 what it got since then, and "
            "when it has nothing of it any more",
        ),
    )
