"""The index: what is known of each downlink, in one file, so that no account is drawn up again in vain.

An account of it counts as long as each file that it was drawn from is what it was: of the same inode, size and times.
A file that was young then may have changed since within one tick of its clock, so what is drawn from such a one is
not believed, nor is what depends on the time, on leases or on files of others. It is a cache: it may be removed, torn
or damaged at any time, and is made again from the files.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import halfpipe
from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink.known_retdefs import YOUNG_SECONDS
from halfpipe.errors import HalfPipeError
from halfpipe.files.durable import remove_file
from halfpipe.ids import DownlinkId
from halfpipe.run.receipt_file import last_number
from halfpipe.status.account import NOT_KNOWN, Account, Downlink, Site, account_of

# These follow from what is looked at here and from nothing else: neither from the time nor from other files.
KEPT_WITH = frozenset(
    {"closed-spans", "events-missing", "late-events", "merged-without", "run-held", "shrunk-accepted"}
)
WAIT_SECONDS = 5.0  # for another process that writes
NOT_NOW = {  # another process writes, nobody may, or the disk is full: what is there is as good as it was
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
}
TABLE = """CREATE TABLE IF NOT EXISTS downlinks (
        dl TEXT PRIMARY KEY, proof BLOB, verdict TEXT, state TEXT, causes TEXT, decoded INTEGER, expected INTEGER,
        last_chunk INTEGER, runs TEXT, events INTEGER, orphans INTEGER, handoff INTEGER, submitted INTEGER,
        handed_off REAL
    ) WITHOUT ROWID"""


class Row(NamedTuple):
    """A downlink in the index.

    `proof` is None if the account does not count, `causes` and `runs` are JSON, `last_chunk` the highest number of a
    chunk; `handed_off` is in Unix seconds.
    """

    dl: str
    proof: bytes | None
    verdict: str
    state: str
    causes: str
    decoded: int
    expected: int
    last_chunk: int
    runs: str
    events: int
    orphans: int
    handoff: int | None
    submitted: int | None
    handed_off: float | None

    @property
    def account(self) -> Account:
        """The account."""
        return Account(
            DownlinkId(self.dl),
            self.state,
            tuple(
                Cause(code, Verdict(verdict), text, do, since, failed)
                for code, verdict, text, do, since, failed in json.loads(self.causes)
            ),
            (self.decoded, self.expected),
            len(json.loads(self.runs)),
            self.events,
            self.orphans,
            self.handoff,
            self.submitted,
            self.handed_off,
        )


class Index:
    """The index of the working directory of a site; what cannot be read of it or written to it is done without."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._path = site.settings.paths.work / paths.index_of_downlinks()

    def look(self) -> None:
        """Look at what is the same for all downlinks, before processes are forked."""
        _ = self._key, self._site.plan.closed, self._site.leased
        with suppress(OSError):
            _ = self._site.lost

    def account(self, downlink: DownlinkId) -> tuple[Account, Row | None]:
        """Return the account of a downlink, as it stands here if that counts, else fresh; then its row, if new."""
        row = self.row(downlink)
        if row and row.proof and self._is_quiet(downlink) and row.proof == self._proof(row, old=False):
            return row.account, None
        of = Downlink(self._site, downlink)
        found = account_of(of)
        if found.state == NOT_KNOWN:
            return found, None
        new = _row(of, found)
        if self._may_count(of, found):
            new = new._replace(proof=self._proof(new, old=True))
        return found, None if new == row else new

    def keep(self, rows: Sequence[Row]) -> None:
        """Write rows down, all or none; a file that is no index, or of another version, is rewritten."""
        for _ in range(2):
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._write(rows)
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in NOT_NOW:
                    return
                with suppress(OSError):
                    remove_file(self._path)
            except OSError:
                return
            else:
                return

    def _write(self, rows: Sequence[Row]) -> None:
        file = sqlite3.connect(self._path, timeout=WAIT_SECONDS)
        try:
            with file:
                file.execute(TABLE)
                marks = ", ".join("?" * len(Row._fields))
                file.executemany(f"INSERT OR REPLACE INTO downlinks VALUES ({marks})", rows)  # noqa: S608
        finally:
            file.close()

    @cached_property
    def _read(self) -> sqlite3.Connection | None:
        with suppress(sqlite3.Error):
            return sqlite3.connect(f"{self._path.as_uri()}?mode=ro", uri=True, timeout=WAIT_SECONDS)
        return None

    def row(self, downlink: DownlinkId) -> Row | None:
        """Return what stands here of a downlink, whether it counts or not; None if nothing does."""
        if self._read is None or self._key is None:
            return None
        try:
            found = self._read.execute("SELECT * FROM downlinks WHERE dl = ?", (downlink,)).fetchone()
            return Row(*found) if found else None
        except (sqlite3.Error, TypeError):
            return None

    @cached_property
    def _key(self) -> bytes | None:
        """What all accounts depend on: program, settings, who asks, places; None if RetDefs may be hidden."""
        settings = self._site.settings
        if self._site.plan.closed:
            return None
        program = [
            (str(path), _state(str(path))) for path in sorted(Path(halfpipe.__file__).parent.rglob("*.py"))
        ]
        work = settings.paths.work
        places = [work, work / paths.runs(), settings.paths.stage, *settings.paths.retdef]
        with suppress(OSError):
            of_places = [(s.st_dev, s.st_ino, s.st_mode, s.st_uid, s.st_gid) for s in map(os.stat, places)]
            halts = _state(str((work / paths.halt("any")).parent))
            all_of_it = (halfpipe.__version__, program, settings.as_json(), os.geteuid(), of_places, halts)
            return hashlib.blake2b(repr(all_of_it).encode()).digest()
        return None

    def _proof(self, row: Row, *, old: bool) -> bytes | None:
        """Return what proves a row: a checksum of it and of all that it depends on.

        With `old` there is none if anything was changed not long before, or after, the site was looked at.
        """
        if self._key is None:
            return None
        states = [_state(path) for path in self._inputs(row)]
        youngest = (self._site.now - YOUNG_SECONDS) * 1e9
        if old and any(state and max(state[2:]) > youngest for state in states):
            return None
        said = repr((states, row._replace(proof=None))).encode()
        return hashlib.blake2b(said, digest_size=16, key=self._key).digest()

    def _inputs(self, row: Row) -> Iterator[str]:
        """Yield what an account is drawn from: of a directory, the names in it."""
        settings, dl = self._site.settings, row.dl
        work = str(settings.paths.work)
        for name in (paths.receipt(dl), dl, paths.receipts(dl), paths.submissions(dl)):
            yield f"{work}/{name}"
        yield f"{work}/{paths.submitted(dl)}"
        if row.submitted is None:
            yield f"{work}/{paths.benchmarks(dl)}"  # jobs after the receipt may fail
        yield f"{settings.paths.stage}/{paths.staged(dl)}"
        for run in json.loads(row.runs):
            manifest = paths.manifest(run, dl)
            for name in (paths.deliveries(run), manifest.rpartition("/")[0], manifest):
                yield f"{work}/{name}"
        retdefs = [paths.retdef(dl, f"{number:05}") for number in range(1, row.last_chunk + 1)]
        for home in map(str, settings.paths.retdef):
            yield f"{home}/{dl}"
            yield from (f"{home}/{name}" for name in retdefs)
        yield from (f"{work}/{name}" for name in retdefs)

    def _is_quiet(self, downlink: DownlinkId) -> bool:
        """Tell whether nobody holds the lease of a downlink."""
        return paths.downlink_lease(downlink).rpartition("/")[2] not in self._site.leased

    def _may_count(self, of: Downlink, found: Account) -> bool:
        """Tell whether an account follows from its inputs alone."""
        if not isinstance(of.receipt, dict) or {cause.code for cause in found.causes} - KEPT_WITH:
            return False
        # What else is read of a downlink is not among the inputs, so it must be as it mostly is.
        try:
            newest = last_number(of.work, of.id)
        except HalfPipeError:
            return False
        return self._is_quiet(of.id) and newest == found.handoff and of.id not in self._site.lost


def _state(path: str) -> tuple[int, int, int, int] | None:
    """Return what a file is now: another content has another one; None if there is none."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - asked of all files of the mission
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _row(of: Downlink, found: Account) -> Row:
    """Return the row of an account; its proof is still to come."""
    receipt = of.receipt if isinstance(of.receipt, dict) else {}
    chunks = {int(chunk) for one in (of.lying.staged, *of.lying.listings) for chunk in one.chunks}
    ignored = {int(chunk) for chunk in of.site.plan.ignored(of.id)}
    return Row(
        str(of.id),
        None,
        str(found.verdict),
        found.state,
        json.dumps([astuple(cause) for cause in found.causes]),
        *found.chunks,
        max(chunks | ignored, default=0),
        json.dumps([run["run"] for run in receipt.get("runs", ())]),
        found.events,
        found.orphans,
        found.handoff,
        found.submitted,
        found.handed_off,
    )
