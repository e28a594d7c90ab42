"""A run's journal rebuilt from what else vouches for deliveries; and a person's release of what stays closed."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from halfpipe.errors import StateError
from halfpipe.ids import DownlinkId, RunId
from halfpipe.merge.intervals import Interval
from halfpipe.runs.datagrams import load_datagrams
from halfpipe.runs.downlinks import known_downlinks
from halfpipe.runs.journal import Delivery, Journal, Release, read_line
from halfpipe.runs.vouchers import Voucher, lacking, vouchers
from halfpipe.storage import leases, paths
from halfpipe.storage.durable import make_directory, write_bytes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Repair:
    """What a journal lacks and what it would be: `lines` are all that it would hold, `kept` those that it has.

    `damaged` are the numbers of lines that cannot be read, a torn last one included.
    """

    path: Path
    missing: tuple[Voucher, ...]
    damaged: tuple[int, ...]
    kept: int
    lines: tuple[Delivery | Release, ...]

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.missing or self.damaged)


def repair(work: Path, run: RunId, *, do: bool) -> Repair:
    """Rebuild the journal of `run` from manifests and receipts, or only find out what that would give.

    What the journal has stays, damaged lines apart. What it lacks is added: receipts in the order of their
    hand-offs, then the manifest. The journal as it was stays beside the new one.

    Raises
    ------
    HalfPipeError
        If it cannot be written.
    """
    with leases.run_lease(work, run, log.warning):
        path = work / paths.journal(run)
        content = path.read_bytes() if path.exists() else b""
        kept, damaged = _readable(content)
        journal = Journal(path, kept)
        missing = lacking(work, run, journal, history=True)
        lines: list[Delivery | Release] = list(kept)
        for downlink, of_downlink in groupby(missing, lambda voucher: voucher.downlink):
            found = [_delivery(work, run, voucher) for voucher in of_downlink]
            # A manifest says more than the receipt that was made of it.
            last = {(delivery.spans, delivery.files): n for n, delivery in enumerate(found)}
            added = [found[n] for n in sorted(last.values())]
            newest = journal.latest().get(downlink)
            # Where only history was missing, the latest line is still the one that counts.
            lines += added if newest is None or _is_newest(work, run, missing, downlink) else [*added, newest]
        made = Repair(path, tuple(missing), tuple(damaged), len(kept), tuple(lines))
        if do and made.needed:
            make_directory(work, paths.run(run))
            if content:
                write_bytes(_beside(path), content)
            write_bytes(
                path, b"".join(json.dumps(x.as_json(), sort_keys=True).encode() + b"\n" for x in lines)
            )
    return made


def release(work: Path, run: RunId, downlink: DownlinkId, reason: str) -> tuple[Interval, ...]:
    """Open to other downlinks what earlier deliveries of `downlink` covered beyond its latest; return that.

    Raises
    ------
    StateError
        If nothing is closed.
    """
    with leases.run_lease(work, run, log.warning):
        journal = Journal(work / paths.journal(run))
        closed = journal.closed(downlink)
        if not closed:
            raise StateError(
                f"run {run} ({run.l1}): nothing that downlink {downlink} delivered before is closed to others, so "
                "nothing was released. What it delivered last is its own, and never released: process it again "
                "with less first (shrink.accept)."
            )
        me = leases.whoami()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        journal.record(Release(downlink, reason, f"{me.user} on {me.host}", now))
    return closed


def _readable(content: bytes) -> tuple[list[Delivery | Release], list[int]]:
    """Return the lines of a journal that can be read, and the numbers of the others."""
    kept: list[Delivery | Release] = []
    damaged = []
    *lines, tail = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        try:
            kept.append(read_line(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            damaged.append(number)
    return kept, [*damaged, len(lines) + 1] if tail else damaged


def _is_newest(work: Path, run: RunId, missing: Sequence[Voucher], downlink: DownlinkId) -> bool:
    """Tell whether the newest that vouches for a downlink is among what is missing."""
    every = vouchers(work, run, downlink, history=True)
    return bool(every) and any(voucher.path == every[-1].path for voucher in missing)


def _delivery(work: Path, run: RunId, voucher: Voucher) -> Delivery:
    """Return what a voucher says; of a receipt, the downlink's own datagrams were known then at least."""
    delivery = voucher.delivery
    if delivery.datagrams or voucher.downlink not in known_downlinks(work, run):
        return delivery
    return replace(delivery, datagrams=load_datagrams(work, run, voucher.downlink).ranges())


def _beside(path: Path) -> Path:
    """Return a new name for the journal as it was."""
    number = 1
    while (beside := path.with_name(f"{path.name}.{number}")).exists():
        number += 1
    return beside
