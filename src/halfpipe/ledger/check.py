"""Whether the ledger is up to date: the seal in a downlink's row is that of its last receipt.

If it is an earlier one, the ledger lacks a load, which is the repair. If the records lack it, the working directory was
restored from a backup.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, LedgerError, Remedy
from halfpipe.ids import DownlinkId
from halfpipe.ledger.database import FOREIGN, Ledger
from halfpipe.ledger.load import LACKS, RESTORED, Loaded, loaded, restore_or_remove, standing
from halfpipe.ledger.rows import handed_off, is_known
from halfpipe.run.downlinks_of_run import refuse_unknown_downlink
from halfpipe.run.hand_offs import HandOff
from halfpipe.settings import Settings
from halfpipe.words import count

MOST_NAMED = 10  # a cause names at most this many downlinks: the latest ones


def check(ledger: Ledger, settings: Settings, downlinks: Iterable[DownlinkId] = ()) -> list[Cause]:
    """Find downlinks whose rows were not loaded from their last receipt.

    Parameters
    ----------
    ledger, settings
        As for `load`.
    downlinks
        Downlinks to compare. If empty, all downlinks that the files or the ledger contain are compared.

    Returns
    -------
    list
        Causes with the code ``ledger-lacks`` or ``restored``, or the error's code if records cannot be read.

    Raises
    ------
    LedgerError
        If the database cannot be read.
    MissingInputError
        If a downlink is unknown.
    """
    work = settings.paths.work
    found = []
    selected = set(downlinks)
    there = (
        set() if selected else set(handed_off(work))
    )  # before the ledger, because others may load downlinks now
    known = ledger.read(loaded)
    for downlink in sorted(selected or known.keys() | there):
        if downlink not in known:
            refuse_unknown_downlink(settings, downlink)
            if not is_known(work, downlink):
                continue
        try:
            code = standing(work, downlink, known.get(downlink))
        except HalfPipeError as error:
            text = f"downlink {downlink}: {error.text}"
            found.append(Cause(error.code, Verdict.ACTION, text, error.remedy))
            continue
        if code == RESTORED:
            text = f"downlink {downlink}: its records lack the receipt that the ledger was loaded from"
            found.append(Cause(code, Verdict.ACTION, text, restore_or_remove(downlink)))
        elif code == LACKS:
            text = f"downlink {downlink}: its last receipt was not loaded"
            found.append(Cause(code, Verdict.ACTION, text, Remedy(f"halfpipe ledger load {downlink}")))
    return found


def lacks(settings: Settings, handed: HandOff) -> Cause | None:
    """Return a cause if a hand-off must not be submitted now; None if the ledger has its rows.

    Otherwise Level-1 would not find them, or would get events again that were delivered since a backup.

    Raises
    ------
    ConfigError, LedgerError
        If the ledger cannot be reached or used.
    """
    ledger = Ledger.of(settings)
    downlink = handed.receipt.downlink
    known = ledger.read_if_there(loaded, dict[DownlinkId, Loaded]())
    if restored := _restored(settings, ledger, known, [downlink]):
        return restored
    if downlink in known and known[downlink].seal == handed.seal:
        return None
    text = f"the ledger {ledger.name} lacks hand-off {handed.number}, so Level-1 would fail on downlink {downlink}"
    return Cause(LACKS, Verdict.ACTION, text, Remedy(f"halfpipe ledger load {downlink}"))


def site_troubles(
    settings: Settings, at_level1: Mapping[DownlinkId, str], compared: Iterable[DownlinkId] = ()
) -> Iterator[Cause]:
    """Find downlinks whose rows are gone or old, and rows without a record, with one query for all.

    Parameters
    ----------
    settings
        The settings of a site with a ledger.
    at_level1
        The downlinks whose last hand-off Level-1 has, with the seal of its receipt: Level-1 needs their rows.
    compared
        Other downlinks that are about to be processed.

    Yields
    ------
    Cause
        ``ledger-lacks``, ``ledger``, ``ledger-foreign``, ``restored``.
    """
    try:
        ledger = Ledger.of(settings, waits=())
        known = ledger.read_if_there(loaded, dict[DownlinkId, Loaded]())
    except HalfPipeError as error:
        if error.code == FOREIGN:
            yield Cause(FOREIGN, Verdict.ACTION, error.text.rstrip("."), error.remedy)
        else:
            yield Cause("ledger", Verdict.NOTE, error.text.rstrip("."), error.remedy)
        return
    differ = {dl for dl, seal in at_level1.items() if dl not in known or known[dl].seal != seal}
    yield from filter(None, [_restored(settings, ledger, known, differ | set(compared))])
    if lost := _with_standing(LACKS, settings.paths.work, known, differ):
        do = f"halfpipe ledger load {lost[0]}" if len(lost) == 1 else "halfpipe ledger rebuild"
        few = f"{count(len(lost), 'downlink')} ({', '.join(lost[-MOST_NAMED:])})"
        text = f"the ledger {ledger.name} lacks hand-offs of {few}, so Level-1 finds old rows of their runs, or none"
        yield Cause(LACKS, Verdict.ACTION, text, Remedy(do))


def refuse_delivery(settings: Settings, downlinks: Iterable[DownlinkId]) -> None:
    """Refuse to deliver if another working directory uses the ledger, or if this one lacks receipts of the ledger.

    A database that is down is ignored, because no hand-off waits for the ledger. The built-in ledger is in the working
    directory, so a backup usually has both.

    Parameters
    ----------
    settings
        The settings of a site with a ledger other than the built-in one.
    downlinks
        Downlinks that are about to be processed. The seals in their rows are looked for, too.

    Raises
    ------
    LedgerError
        In either case. Nothing was changed.
    """
    for cause in site_troubles(settings, {}, downlinks):
        if cause.verdict is Verdict.ACTION:
            raise cause.refused("Nothing was done.", LedgerError)


def _restored(
    settings: Settings, ledger: Ledger, known: Mapping[DownlinkId, Loaded], downlinks: Iterable[DownlinkId]
) -> Cause | None:
    """Return a cause if the working directory lacks receipts of the ledger, because it was restored from a backup.

    For all downlinks the numbers of the records are looked for, and for `downlinks` also the seals.
    """
    work = settings.paths.work
    look = known.keys() & set(downlinks)
    look |= {dl for dl, (record, _) in known.items() if not _exists(f"{work}/{paths.receipts(dl)}", record)}
    lost = _with_standing(RESTORED, work, known, look)
    if not lost:
        return None
    few = lost[-MOST_NAMED:]
    return Cause(
        RESTORED,
        Verdict.ACTION,
        f"the ledger {ledger.name} was loaded from receipts of {count(len(lost), 'downlink')} that {work} lacks: "
        f"{', '.join(few)}. The directory was restored from a backup. What was delivered since the backup would be "
        "delivered and submitted again",
        Remedy(
            f"halfpipe ledger remove {' '.join(few)}",
            first="Restore a newer backup. If you have none, roll back in Level-1 what it got since this backup, then",
        ),
    )


def _exists(home: str, record: int) -> bool:
    return os.path.exists(f"{home}/{record:06d}.json")  # noqa: PTH110 - thousands of files


def _with_standing(
    code: str, work: Path, known: Mapping[DownlinkId, Loaded], downlinks: Iterable[DownlinkId]
) -> list[DownlinkId]:
    """Return the downlinks with a standing, in order. Others report records that cannot be read."""
    found = []
    for downlink in sorted(downlinks):
        with suppress(HalfPipeError):
            if standing(work, downlink, known.get(downlink)) == code:
                found.append(downlink)
    return found
