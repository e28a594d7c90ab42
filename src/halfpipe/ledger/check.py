"""Whether the ledger is up to date: the seal in a downlink's row is that of its last receipt.

If it is an earlier one, the ledger lacks a load, which is the repair. If the records lack it, the working directory was
restored from a backup.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.errors import HalfPipeError, LedgerError, Remedy
from halfpipe.ids import DownlinkId
from halfpipe.ledger.database import FOREIGN, Ledger
from halfpipe.ledger.load import LACKS, RESTORED, Loaded, loaded, restore_or_remove, standing
from halfpipe.ledger.rows import handed_off, is_known
from halfpipe.settings import Settings
from halfpipe.state.downlinks_of_run import refuse_unknown_downlink
from halfpipe.state.hand_offs import HandOff
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
    selected = set(downlinks)
    # Before the ledger, because others may load downlinks now.
    there = {dl for dl in selected if is_known(work, dl)} if selected else set(handed_off(work))
    known = ledger.read(loaded)
    for downlink in selected - known.keys():
        refuse_unknown_downlink(settings, downlink)
    if selected:
        known = {downlink: row for downlink, row in known.items() if downlink in selected}
    wanted = dict.fromkeys(there | known.keys(), "")
    return list(_differences(ledger, settings, known, wanted, ()))


def lacks(settings: Settings, handed: HandOff) -> Cause | None:
    """Return a cause if a hand-off must not be submitted now; None if the ledger has its rows.

    Otherwise Level-1 would not find them, or would get events again that were delivered since a backup.

    Raises
    ------
    ConfigError, LedgerError
        If the ledger cannot be reached or used.
    """
    ledger = Ledger.of(settings)
    known = ledger.read_if_there(loaded, dict[DownlinkId, Loaded]())
    downlink = handed.receipt.downlink
    return next(_differences(ledger, settings, known, {downlink: handed.seal}, [downlink]), None)


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
        is_foreign = error.code == FOREIGN
        verdict = Verdict.ACTION if is_foreign else Verdict.NOTE
        yield Cause(FOREIGN if is_foreign else "ledger", verdict, error.text.rstrip("."), error.remedy)
        return
    yield from _differences(ledger, settings, known, at_level1, compared)


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


def _differences(
    ledger: Ledger,
    settings: Settings,
    known: Mapping[DownlinkId, Loaded],
    wanted: Mapping[DownlinkId, str],
    compared: Iterable[DownlinkId],
) -> Iterator[Cause]:
    """Yield the causes of all differences between the ledger and the records.

    For all `known` downlinks the ledger's record must exist. For those that are `compared` or `wanted`, the records
    must also contain the seal in the ledger, and for `wanted` ones this must be the seal of the last receipt. Only
    records of `wanted` downlinks are reported if they cannot be read; others have been reported elsewhere.
    """
    work = settings.paths.work
    look = {dl for dl, seal in wanted.items() if dl not in known or known[dl].seal != seal}
    look |= known.keys() & set(compared)
    look |= {dl for dl, (record, _) in known.items() if not _exists(f"{work}/{paths.receipts(dl)}", record)}
    found: defaultdict[str, list[DownlinkId]] = defaultdict(list)
    for downlink in sorted(look):
        try:
            found[standing(work, downlink, known.get(downlink))].append(downlink)
        except HalfPipeError as error:
            if downlink in wanted:
                text = f"downlink {downlink}: {error.text}"
                yield Cause(error.code, Verdict.ACTION, text, error.remedy)
    if lost := found[RESTORED]:
        latest = lost[-MOST_NAMED:]
        yield Cause(
            RESTORED,
            Verdict.ACTION,
            f"the ledger {ledger.name} was loaded from receipts of {count(len(lost), 'downlink')} that {work} lacks: "
            f"{', '.join(latest)}. The directory was restored from a backup. What was delivered since the backup would "
            "be delivered and submitted again",
            restore_or_remove(*latest),
        )
    if old := [downlink for downlink in found[LACKS] if downlink in wanted]:
        do = f"halfpipe ledger load {old[0]}" if len(old) == 1 else "halfpipe ledger rebuild"
        few = f"{count(len(old), 'downlink')} ({', '.join(old[-MOST_NAMED:])})"
        text = f"the ledger {ledger.name} lacks hand-offs of {few}, so Level-1 finds old rows of their runs, or none"
        yield Cause(LACKS, Verdict.ACTION, text, Remedy(do))


def _exists(home: str, record: int) -> bool:
    return os.path.exists(f"{home}/{record:06d}.json")  # noqa: PTH110 - thousands of files
