"""Compare receipts, manifests and files: what should be there and is not, or is something else.

It comes on top of the account, which says how a downlink stands: `examine` gives the causes of both.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.downlink.stage_look import look
from halfpipe.downlink.stage_state import is_submitted, names_files
from halfpipe.downlink.submissions import Record
from halfpipe.errors import HalfPipeError, MissingInputError
from halfpipe.files.json_files import read_json
from halfpipe.files.reading import sha256
from halfpipe.files.records import DamagedError, Series
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run import receipt_file
from halfpipe.run.chunk_files import load_chunks
from halfpipe.run.datagrams import load_datagrams
from halfpipe.run.deliveries import Deliveries, EventFile
from halfpipe.run.event_table import load_events
from halfpipe.run.receipt_file import DAMAGED, EDITED, ReceiptError, hand_offs, read_receipt
from halfpipe.settings import Settings
from halfpipe.status.account import WORST_FIRST, Site, account

CODES = {
    "missing": "file-missing",
    "differs": "file-differs",
    "damaged": "file-damaged",
    "left behind": "token-left",
    "mended": "record-mended",
    "not in the stage": "file-taken",
}
# Of these the account says more.
OF_ACCOUNT = {DAMAGED, EDITED, "record-damaged", "delivery-differs", "stage-gone", "stage-partly-gone"}
RECEIPT_ONLY = {"held", "l1", "named"}  # what a receipt says of a run in words of its own


@dataclass(frozen=True)
class Finding:
    """Something about one file, and what to `do`; a `note` is worth knowing and no fault.

    `code` is that of its cause; without one it follows from `what`.
    """

    what: str
    path: Path
    detail: str = ""
    note: bool = False
    do: str = ""
    code: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.path}" + (f" ({self.detail})" if self.detail else "")

    @property
    def cause(self) -> Cause:
        """The cause that it is for the downlink."""
        verdict = Verdict.NOTE if self.note else Verdict.ACTION
        return Cause(self.code or CODES[self.what], verdict, str(self), self.do)


def examine(site: Site, downlink: DownlinkId, *, checksums: bool = True) -> list[Cause]:
    """Return the causes of a downlink's account, then what its files give besides, the worst first."""
    # Before the account, which reads records too: reading mends them, and says nothing of it.
    files = [finding.cause for finding in check(site.settings, downlink, checksums=checksums)]
    causes = list(account(site, downlink).causes)
    told = {cause.code for cause in causes}
    causes += [cause for cause in files if cause.code not in told & OF_ACCOUNT]
    return sorted(causes, key=lambda cause: WORST_FIRST.index(cause.verdict))


def check(settings: Settings, downlink: DownlinkId, *, checksums: bool = True) -> list[Finding]:
    """Compare everything that the receipt of `downlink` vouches for with the files.

    With `checksums` the files are read and their checksums compared, not only their sizes.
    """
    work = settings.paths.work
    path = work / paths.receipt(downlink)
    found: list[Finding] = []
    try:
        of_series = receipt_file.series(work, downlink)
        found += (Finding("mended", copy, said, note=True) for copy, said in of_series.verify())
        made = hand_offs(work, downlink)
        receipt: Mapping[str, Any] = read_receipt(work, downlink)
    except DamagedError as error:
        return [Finding("damaged", work / paths.receipts(downlink), str(error), code="record-damaged")]
    except MissingInputError:
        do = f"snakemake dl={downlink}"
        found.append(Finding("missing", path, "the downlink is outstanding", do=do, code="receipt-missing"))
        if not made:
            return found
        receipt = made[-1].receipt
    except ReceiptError as error:
        what = "damaged" if error.code == DAMAGED else "edited"
        return [*found, Finding(what, path, error.what, do=error.do, code=error.code)]
    if not made or made[-1].receipt != receipt:
        do = f"snakemake dl={downlink} -R receipt"
        found.append(Finding("differs", path, "it is not the last recorded hand-off", do=do))
    checker = _Checker(work, settings.paths.stage, downlink, checksums)
    for chunk in receipt["chunks"]:
        found += checker.chunk(chunk)
    for run in receipt["runs"]:
        found += checker.run(run)
    found += checker.staged(receipt)
    return found


def _cleaned_up(path: Path) -> Finding:
    return Finding("missing", path, "cleaned up or lost; it is made again when it is needed", note=True)


def _damage(read: Callable[[], object]) -> str:
    """Say what is wrong with a file that is read; empty if nothing is, or it is not there, which is told elsewhere."""
    try:
        read()
    except (FileNotFoundError, MissingInputError):
        return ""
    except HalfPipeError as error:
        return error.text
    return ""


@dataclass(frozen=True)
class _Checker:
    work: Path
    stage: Path
    downlink: DownlinkId
    checksums: bool

    def again(self, what: str) -> str:
        """Return the command that makes a product, or what a rule makes, again."""
        return f"snakemake dl={self.downlink} -R {what}"

    def chunk(self, chunk: Mapping[str, Any]) -> Iterator[Finding]:
        if chunk["files"] == [] and (self.work / paths.taken_over(self.downlink)).exists():
            return  # its products were gone when the downlink was taken over
        retdef, vouches = (
            paths.retdef(self.downlink, chunk["chunk"]),
            paths.chunk(self.downlink, chunk["chunk"]),
        )
        yield from self._file(self.work / retdef, {"sha256": chunk["retdef"]}, self.again(retdef))
        yield from self._agrees(self.work / vouches, chunk, self.again(vouches))
        sums = self.work / paths.chunks(self.downlink) / paths.block_checksums(chunk["chunk"])
        if any("announced" in file for file in chunk["files"]):
            unseen = "records are copied without being compared"
            if not sums.exists():
                yield Finding("missing", sums, unseen, note=True, do=self.again(vouches))
            elif damage := _damage(lambda: read_json(sums)):
                yield Finding("damaged", sums, f"{damage}; without it {unseen}", note=True, do=f"rm {sums}")
        for file in chunk["files"]:
            path = self.work / paths.chunks(self.downlink) / file["name"]
            yield from self._file(path, file, self.again(vouches)) if path.exists() else [_cleaned_up(path)]

    def run(self, run: Mapping[str, Any]) -> Iterator[Finding]:
        if run.get("taken_over", "whole") != "whole":
            return
        run_id = RunId(run["run"])
        made = (paths.index, paths.datagrams, paths.chunk_list)
        manifest = paths.manifest(run_id, self.downlink)
        deliver = self.again(manifest)
        yield from self._exist((self.work / path(run_id, self.downlink) for path in made), deliver)
        yield from self._merged(run_id)
        events = self.work / paths.events(run_id, self.downlink)
        if not events.exists():
            yield _cleaned_up(events)
        said = {key: value for key, value in run.items() if key not in RECEIPT_ONLY}
        yield from self._agrees(self.work / manifest, said, deliver)
        series = Series(self.work, paths.deliveries(run_id))
        try:
            for copy, said_of_it in series.verify():
                yield Finding("mended", copy, said_of_it, note=True)
            recorded = Deliveries(self.work, run_id).latest().get(self.downlink)
        except DamagedError as error:
            yield Finding("damaged", series.home, str(error), code="record-damaged")
            return
        files = [EventFile.of(entry) for entry in run["files"]]
        if files and (recorded is None or list(recorded.files) != files):
            what = f"what it records of downlink {self.downlink} is not what the receipt says"
            yield Finding("differs", series.home, what, do=deliver, code="delivery-differs")

    def _merged(self, run: RunId) -> Iterator[Finding]:
        """Read what other downlinks read of the run: a part that is damaged is made again when it is merged."""
        for path, read in (
            (paths.chunk_list, load_chunks),
            (paths.datagrams, load_datagrams),
            (paths.events, load_events),
        ):
            if damage := _damage(partial(read, self.work, run, self.downlink)):
                what = f"{damage}; it is made again when a downlink of the run is merged"
                yield Finding("damaged", self.work / path(run, self.downlink), what, note=True)
                return

    def staged(self, receipt: Mapping[str, Any]) -> Iterator[Finding]:
        home = self.stage / paths.staged(self.downlink)
        for run in receipt["runs"]:
            halt = self.stage / paths.halt_cleanup(self.downlink, run["l1_run"])
            if halt.exists():
                yield Finding("left behind", halt, "Level-1 cannot retire the run", do=self.again("receipt"))
        record = Record(self.work, self.downlink)
        submitted = is_submitted(receipt, record)
        if not home.is_dir():
            if submitted or not names_files(receipt):
                yield Finding("not in the stage", home, "Level-1 has taken the hand-off", note=True)
            else:
                yield Finding(
                    "not in the stage",
                    home,
                    f"and hand-off {receipt['handoff']} was never submitted",
                    do=self.again("deliver_run"),
                    code="stage-gone",
                )
            return
        found = look(
            self.stage, self.downlink, receipt, checksums=self.checksums, untouched=record.last is None
        )
        for wrong in found:
            if submitted and wrong.is_event_file:
                yield Finding("not in the stage", wrong.path, "Level-1 is taking the hand-off", note=True)
            else:
                what = "missing" if wrong.code in {"file-missing", "stage-partly-gone"} else "differs"
                yield Finding(what, wrong.path, wrong.what, do=wrong.do, code=wrong.code)

    def _exist(self, wanted: Iterable[Path], do: str) -> Iterator[Finding]:
        for path in wanted:
            if not path.exists():
                yield Finding("missing", path, do=do)

    def _agrees(self, path: Path, said: Mapping[str, Any], do: str) -> Iterator[Finding]:
        if not path.exists():
            yield Finding("missing", path, do=do)
            return
        try:
            content = read_json(path)
            other = [key for key, value in said.items() if content[key] != value]
        except (HalfPipeError, KeyError, TypeError) as error:
            yield Finding("damaged", path, str(error), do=do)
            return
        if other:
            yield Finding("differs", path, f"from what the receipt says: {', '.join(other)}", do=do)

    def _file(self, path: Path, said: Mapping[str, Any], do: str) -> Iterator[Finding]:
        if not path.exists():
            yield Finding("missing", path, do=do)
        elif "size" in said and path.stat().st_size != said["size"]:
            yield Finding("differs", path, f"{path.stat().st_size} bytes, {said['size']} expected", do=do)
        elif self.checksums and sha256(path) != said["sha256"]:
            yield Finding("differs", path, "checksum mismatch", do=do)
