"""Compare receipts, manifests and files: what should be there and is not, or is something else.

It comes on top of the account, which says how a downlink stands: `examine` gives the causes of both.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink.stage_look import GONE, is_submitted, look, names_files, wrong_with
from halfpipe.downlink.submissions import Record
from halfpipe.errors import NOTHING, HalfPipeError, MissingInputError, Remedy, mend, rerun
from halfpipe.files.json_files import read_json
from halfpipe.files.records import DamagedError, Series
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import Deliveries, EventFile
from halfpipe.run.receipt_file import DAMAGED, EDITED, ReceiptError, read_receipt
from halfpipe.run.run_state import index_damage
from halfpipe.settings import Settings
from halfpipe.status.account import Account, Site, account, with_costs, worst_first

# Of these the account says more.
OF_ACCOUNT = {DAMAGED, EDITED, "record-damaged", "delivery-differs", "stage-gone", "stage-partly-gone"}
RECEIPT_ONLY = {"held", "l1", "named"}  # what a receipt says of a run in words of its own


def examine(site: Site, downlink: DownlinkId, *, checksums: bool = True) -> Account:
    """Draw up the account of a downlink, and add what its files give besides."""
    # Before the account, which reads records too: reading mends them, and says nothing of it.
    of_files = list(check(site.settings, downlink, checksums=checksums))
    found = account(site, downlink)
    known = {cause.code for cause in found.causes} & OF_ACCOUNT
    new = (one for one in of_files if one.code not in known)
    costly = with_costs(new, found.submitted is not None)
    return replace(found, causes=worst_first([*found.causes, *costly]))


def check(settings: Settings, downlink: DownlinkId, *, checksums: bool = True) -> Iterator[Cause]:
    """Compare all that the last hand-off of `downlink` records with the files; without a hand-off there is nothing.

    With `checksums` the files are read and their checksums compared, not only their sizes.
    """
    work = settings.paths.work
    path = work / paths.receipt(downlink)
    records = Series(work, paths.receipts(downlink))
    try:
        yield from _mended(records)
    except DamagedError as error:
        yield Cause("record-damaged", Verdict.ACTION, str(error))
        return
    last = records.records[-1].values if records.records else None
    try:
        receipt: Mapping[str, Any] = read_receipt(work, downlink)
    except MissingInputError:
        if last is None:
            return
        yield _fault("receipt-missing", path, "missing", Remedy(f"snakemake dl={downlink}"))
        receipt = last
    except ReceiptError as error:
        yield _fault(error.code, path, error.what, error.remedy)
        return
    if receipt != last:
        yield _fault("file-differs", path, "it is not the last recorded hand-off", rerun(downlink, "receipt"))
    checker = _Checker(work, settings.paths.stage, downlink, checksums)
    for chunk in receipt["chunks"]:
        yield from checker.chunk(chunk)
    for run in receipt["runs"]:
        yield from checker.run(run)
    with suppress(DamagedError):  # which the account tells
        yield from checker.staged(receipt, Record(work, downlink))


def _fault(code: str, path: Path, what: str, remedy: Remedy = NOTHING) -> Cause:
    return Cause(code, Verdict.ACTION, f"{path}: {what}", remedy)


def _note(code: str, path: Path, what: str, remedy: Remedy = NOTHING) -> Cause:
    return Cause(code, Verdict.NOTE, f"{path}: {what}", remedy)


def _mended(records: Series) -> Iterator[Cause]:
    for copy, what in records.verify():
        yield _note("record-mended", copy, what)


def _cleaned_up(path: Path) -> Cause:
    return _note("file-missing", path, "cleaned up or lost; it is made again when it is needed")


@dataclass(frozen=True)
class _Checker:
    work: Path
    stage: Path
    downlink: DownlinkId
    checksums: bool

    def chunk(self, chunk: Mapping[str, Any]) -> Iterator[Cause]:
        if chunk["files"] == [] and (self.work / paths.taken_over(self.downlink)).exists():
            return  # its products were gone when the downlink was taken over
        retdef = paths.retdef(self.downlink, chunk["chunk"])
        of_chunk = paths.chunk(self.downlink, chunk["chunk"])
        yield from self._file(self.work / retdef, {"sha256": chunk["retdef"]}, rerun(self.downlink, of_chunk))
        yield from self._agrees(self.work / of_chunk, chunk, rerun(self.downlink, of_chunk))
        for file in chunk["files"]:
            path = self.work / paths.chunks(self.downlink) / file["name"]
            yield from (
                self._file(path, file, rerun(self.downlink, of_chunk))
                if path.exists()
                else [_cleaned_up(path)]
            )

    def run(self, run: Mapping[str, Any]) -> Iterator[Cause]:
        if run.get("taken_over", "whole") != "whole":
            return
        run_id = RunId(run["run"])
        manifest = paths.manifest(run_id, self.downlink)
        deliver = rerun(self.downlink, manifest)
        again = mend(self.downlink)
        # If datagrams or manifest are gone, the account tells it.
        of_account = self.work / paths.datagrams(run_id, self.downlink), "missing"
        for path, what in index_damage(self.work, run_id, self.downlink).items():
            if (path, what) != of_account:
                yield _fault("file-missing" if what == "missing" else "file-damaged", path, what, again)
        events = self.work / paths.events(run_id, self.downlink)
        if not events.exists():
            yield _cleaned_up(events)
        expected = {key: value for key, value in run.items() if key not in RECEIPT_ONLY}
        if (self.work / manifest).exists():
            yield from self._agrees(self.work / manifest, expected, deliver)
        records = Series(self.work, paths.deliveries(run_id))
        try:
            yield from _mended(records)
            recorded = Deliveries(self.work, run_id).latest().get(self.downlink)
        except DamagedError as error:
            yield Cause("record-damaged", Verdict.ACTION, str(error))
            return
        files = [EventFile.of(entry) for entry in run["files"]]
        if files and (recorded is None or list(recorded.files) != files):
            what = f"what it records of downlink {self.downlink} is not what the receipt says"
            yield _fault("delivery-differs", records.home, what, deliver)

    def staged(self, receipt: Mapping[str, Any], record: Record) -> Iterator[Cause]:
        home = self.stage / paths.staged(self.downlink)
        for run in receipt["runs"]:
            halt = self.stage / paths.halt_cleanup(self.downlink, run["l1_run"])
            if halt.exists():
                yield _fault(
                    "token-left", halt, "Level-1 cannot retire the run", rerun(self.downlink, "receipt")
                )
        submitted = is_submitted(receipt, record)
        if not home.is_dir():
            if submitted or not names_files(receipt):
                yield _note("file-taken", home, "Level-1 has taken the hand-off")
            else:
                what = f"gone, and hand-off {receipt['handoff']} was never submitted"
                yield _fault("stage-gone", home, what, rerun(self.downlink, "deliver_run"))
            return
        untouched = record.last is None
        for wrong in look(
            self.stage,
            self.downlink,
            receipt,
            checksums=self.checksums,
            untouched=untouched,
            work=self.work if untouched and self.checksums else None,
        ):
            if submitted and wrong.code == GONE:  # what is there and differs, Level-1 takes as it is
                yield _note("file-taken", wrong.path, "Level-1 is taking the hand-off")
            else:
                yield _fault(wrong.code, wrong.path, wrong.what, wrong.remedy)

    def _agrees(self, path: Path, expected: Mapping[str, Any], remedy: Remedy) -> Iterator[Cause]:
        if not path.exists():
            yield _fault("file-missing", path, "missing", remedy)
            return
        try:
            content = read_json(path)
            other = [key for key, value in expected.items() if content[key] != value]
        except (HalfPipeError, KeyError, TypeError) as error:
            yield _fault("file-damaged", path, str(error), remedy)
            return
        if other:
            yield _fault("file-differs", path, f"differs from the receipt: {', '.join(other)}", remedy)

    def _file(self, path: Path, expected: Mapping[str, Any], remedy: Remedy) -> Iterator[Cause]:
        code, what = wrong_with(path, expected, checksums=self.checksums)
        if code:
            yield _fault(code, path, what, remedy)
