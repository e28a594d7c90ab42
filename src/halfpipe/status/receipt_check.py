"""Check the files of a downlink: each seal fits, and each file is as its record says.

The account of a downlink includes these findings.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from halfpipe import paths
from halfpipe.causes import Cause, Verdict
from halfpipe.decode.chunk import Chunk, read_chunk
from halfpipe.errors import HalfPipeError, MissingInputError, StateError, rebuild, rerun
from halfpipe.files.advice import put_aside
from halfpipe.files.reading import sha256
from halfpipe.files.records import DamagedError, Series
from halfpipe.ids import DownlinkId, RunId
from halfpipe.notify.submissions import submissions
from halfpipe.settings import Settings
from halfpipe.staging.stage import halt_cleanup_tokens
from halfpipe.staging.stage_look import (
    GONE,
    MISSING,
    difference,
    differences,
    fault,
    is_submitted,
    look,
    tokens_of,
)
from halfpipe.state.attempts import Attempts
from halfpipe.state.deliveries import Deliveries
from halfpipe.state.hand_offs import HandOff, last_hand_off
from halfpipe.state.merged_index import read_published

DAMAGED = "damaged"


@dataclass
class Check:
    """The check of one downlink against its last hand-off; nothing is checked without one.

    Attributes
    ----------
    settings, downlink
        The settings and the downlink.
    checksums
        Whether files are read and their checksums compared, not only their sizes.
    sees_stage
        Whether the stage is mounted; otherwise it is skipped.
    checked
        After `causes`: how many records, products, indexes and staged files were checked.
    """

    settings: Settings
    downlink: DownlinkId
    checksums: bool = True
    sees_stage: bool = True
    checked: Counter[str] = field(default_factory=Counter)

    @property
    def work(self) -> Path:
        """`paths.work`."""
        return self.settings.paths.work

    def causes(self) -> Iterator[Cause]:
        """Yield what is missing or different."""
        try:
            # Before anything else reads these records, and so repairs them.
            yield from self._records(Series(self.work, paths.receipts(self.downlink)))
            last = last_hand_off(self.work, self.downlink)
            if last is None:
                return
            for run in last.receipt.runs:
                yield from self._records(Series(self.work, paths.deliveries(run.run)))
            runs = last.runs
        except StateError as error:
            yield Cause.of(error)
            return
        for chunk in last.receipt.chunks:
            yield from self._chunk(chunk)
        for one in runs:
            yield from self._run(one.run, has_index=bool(one.delivery.index))
        if not self.sees_stage:
            return
        try:
            yield from self._stage(last, submissions(self.work, self.downlink))
        except DamagedError as error:
            yield Cause.of(error)

    def _records(self, records: Series) -> Iterator[Cause]:
        yield from (_note(DAMAGED, copy, what) for copy, what in records.verify())
        self.checked["record"] += len(records.records)

    def _chunk(self, chunk: Chunk) -> Iterator[Cause]:
        path = self.work / paths.chunk(self.downlink, chunk.chunk)
        remedy = rerun(self.downlink, paths.chunk(self.downlink, chunk.chunk))
        if not (chunk.files or chunk.level0):
            return  # its products were gone when the downlink was taken over
        try:
            if read_chunk(self.work, self.downlink, chunk.chunk).outcome != chunk:
                yield fault(DAMAGED, path, "not the chunk that was handed off", remedy)
        except MissingInputError:
            yield fault(DAMAGED, path, MISSING, remedy)
        except HalfPipeError as error:
            yield Cause(DAMAGED, Verdict.ACTION, error.text, remedy)
        retdef = self.work / paths.retdef(self.downlink, chunk.chunk)
        if not retdef.is_file():
            yield fault(DAMAGED, retdef, MISSING, remedy)
        elif self.checksums and sha256(retdef) != chunk.retdef:
            yield fault(DAMAGED, retdef, "checksum mismatch", remedy)
        for file in chunk.files:
            product = self.work / paths.chunks(self.downlink) / file.name
            self.checked["product"] += 1
            if why := difference(product, file, checksums=self.checksums):
                yield (
                    _note("cleaned-up", product, "cleaned up or lost; it is made again when it is needed")
                    if why == MISSING
                    else fault(DAMAGED, product, why, put_aside(product))
                )

    def _run(self, run: RunId, *, has_index: bool) -> Iterator[Cause]:
        if not has_index:
            return
        self.checked["merged index"] += 1
        try:
            read_published(self.work, run, self.downlink, Deliveries(self.work, run))
        except MissingInputError:
            pass  # the account reports a missing index
        except HalfPipeError as error:
            yield Cause(DAMAGED, Verdict.ACTION, error.text, rebuild(self.downlink))

    def _stage(self, last: HandOff, record: Attempts) -> Iterator[Cause]:
        stage = self.settings.paths.stage
        submitted = is_submitted(last, record)
        for halt in sorted(halt_cleanup_tokens(stage, self.downlink)):
            yield fault("token-left", halt, "Level-1 cannot retire the run", rerun(self.downlink, "receipt"))
        home = stage / paths.staged(self.downlink)
        if home.is_dir():
            self.checked["staged file"] += sum(len(one.delivery.files) for one in last.runs if one.named)
            tokens = tokens_of(stage, last) if record.last is None else None
            for wrong in differences(look(stage, self.downlink, checksums=self.checksums), last, tokens):
                if submitted and wrong.code == GONE:  # Level-1 would take a file that differs
                    yield Cause("file-taken", Verdict.NOTE, f"{wrong.text}: Level-1 is taking the hand-off")
                else:
                    yield wrong
        elif submitted or not last.names_files:
            yield _note("file-taken", home, "Level-1 has taken the hand-off")


def _note(code: str, path: Path, what: str) -> Cause:
    return Cause(code, Verdict.NOTE, f"{path}: {what}")
