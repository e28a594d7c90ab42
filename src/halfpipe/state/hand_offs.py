"""The hand-offs of a downlink: a series of records, the receipts. ``dl=<id>`` points to the last one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from halfpipe import paths
from halfpipe.decode.chunk import Chunk
from halfpipe.errors import MissingInputError, Remedy, StateError, rerun
from halfpipe.files.durable import remove_file
from halfpipe.files.pointers import resolves
from halfpipe.files.reading import modified
from halfpipe.files.records import Series, file_of
from halfpipe.files.typed import Stored
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.state.deliveries import Deliveries, Delivery, DeliveryHistory
from halfpipe.state.merged_chunks import File

ReadDeliveries = Callable[[RunId], DeliveryHistory]


class Text(File, frozen=True):
    """A text in the stage."""

    name: str


class NamedRun(Stored, frozen=True):
    """One run of a hand-off: the seal of its delivery, and whether the texts name the run."""

    run: RunId
    delivery: str
    named: bool


class IgnoredChunk(Stored, frozen=True):
    """A chunk that a hand-off left out, and why."""

    chunk: ChunkId
    reason: str


class Receipt(Stored, frozen=True):
    """The record of a hand-off.

    Attributes
    ----------
    downlink, handoff
        The downlink, and the number of the hand-off, from 1.
    software, config
        The version of HalfPipe, and the settings that shape the products (`Settings.provenance`).
    chunks, ignored
        The outcomes of its chunks (`Chunk.outcome`), and the chunks that a decision left out.
    runs, texts
        Its runs, and the texts in the stage.
    simulated, reason, origin
        Whether the data are simulated; why a person processed the downlink again; the system that handed it off, empty
        for HalfPipe.
    """

    downlink: DownlinkId
    handoff: int
    software: str
    config: dict[str, dict[str, str | int | float | bool | None]]
    chunks: tuple[Chunk, ...]
    ignored: tuple[IgnoredChunk, ...]
    runs: tuple[NamedRun, ...]
    texts: tuple[Text, ...]
    simulated: bool = False
    reason: str | None = None
    origin: str = ""


@dataclass(frozen=True)
class HandedRun:
    """A run of a hand-off, with its delivery.

    `named` tells whether the texts name the run, `is_latest` whether the downlink delivered nothing of the run since.
    """

    run: RunId
    delivery: Delivery
    seal: str
    named: bool = False
    is_latest: bool = True

    @property
    def elsewhere(self) -> int:
        """Number of events of the run that other downlinks had delivered; 0 if it is unknown."""
        return 0 if self.delivery.total is None else self.delivery.books.delivered - self.delivery.events


@dataclass(frozen=True)
class HandOff:
    """A hand-off: its receipt, the seal and number of the receipt's record, and the file of its first record."""

    work: Path
    receipt: Receipt
    seal: str
    record: int
    first: Path
    read: ReadDeliveries

    @property
    def number(self) -> int:
        """Its number, from 1."""
        return self.receipt.handoff

    @property
    def named(self) -> tuple[RunId, ...]:
        """The runs that its texts name."""
        return tuple(run.run for run in self.receipt.runs if run.named)

    @property
    def made(self) -> float | None:
        """Time of the first record, Unix seconds; None if it is unknown."""
        return modified(str(self.first))

    @cached_property
    def runs(self) -> tuple[HandedRun, ...]:
        """Its runs, with their deliveries.

        Raises
        ------
        StateError
            If the records of a run lack a delivery of this hand-off, or cannot be read.
        """
        return tuple(self._handed(run) for run in self.receipt.runs)

    def _handed(self, run: NamedRun) -> HandedRun:
        recorded = self.read(run.run)
        downlink = self.receipt.downlink
        delivery = recorded.sealed(run.delivery)
        if delivery is None:
            raise StateError(
                f"hand-off {self.number} of downlink {downlink} contains delivery {run.delivery[:16]} of run "
                f"{run.run}, and {self.work / paths.deliveries(run.run)} lacks it. One of the two series was restored "
                "from a backup, or lost records.",
                rerun(
                    downlink, paths.manifest(run.run, downlink), "Restore a newer backup; if there is none"
                ),
                code="damaged",
            )
        return HandedRun(run.run, delivery, run.delivery, run.named, recorded.seal(downlink) == run.delivery)

    @property
    def names_files(self) -> bool:
        """Whether its texts name runs with event files. Without them there is no magic-7, and Level-1 would fail."""
        return any(run.named and run.delivery.files for run in self.runs)


def series(work: Path, downlink: DownlinkId, *, only_look: bool = False) -> Series:
    """Read the records of the hand-offs of `downlink`; `only_look` as for `Series`.

    Raises
    ------
    DamagedError
        If both copies of a record are gone or damaged.
    """
    found = Series(work, paths.receipts(downlink), only_look=only_look)
    found.read()
    return found


def hand_offs(
    work: Path, downlink: DownlinkId, *, only_look: bool = False, read: ReadDeliveries | None = None
) -> list[HandOff]:
    """Return the hand-offs of `downlink` in order, each with its latest receipt.

    Parameters
    ----------
    work, downlink
        `paths.work`, and the downlink.
    only_look
        As for `Series`.
    read
        Reads the deliveries of a run; None: from its records.

    Raises
    ------
    DamagedError
        If both copies of a record are gone or damaged, also that of the only hand-off.
    """
    has_receipt = (work / paths.receipt(downlink)).is_file()  # first, because it appears after its record
    recorded = series(work, downlink, only_look=only_look)
    if has_receipt and not recorded.records:
        raise recorded.damaged(1)
    found: dict[int, HandOff] = {}
    for record in recorded.records:
        receipt = recorded.typed(record, Receipt)
        before = found.get(receipt.handoff)
        first = before.first if before else file_of(recorded.home, record.number)
        read = read or partial(Deliveries, work, only_look=only_look)
        found[receipt.handoff] = HandOff(work, receipt, record.seal, record.number, first, read)
    return [found[number] for number in sorted(found)]


def last_hand_off(
    work: Path, downlink: DownlinkId, *, only_look: bool = False, read: ReadDeliveries | None = None
) -> HandOff | None:
    """Return the last hand-off, None before the first; arguments and errors as for `hand_offs`."""
    made = hand_offs(work, downlink, only_look=only_look, read=read)
    return made[-1] if made else None


def next_number(work: Path, downlink: DownlinkId, deliveries: DeliveryHistory) -> int:
    """Return the number for the hand-off in progress: one more than the highest number that was used.

    `deliveries` are the deliveries of one of its runs. Level-1 must never get the same number twice.
    """
    submitted = Series(work, paths.submissions(downlink)).read()
    used = [handoff.number for handoff in hand_offs(work, downlink)]
    used += [int(record.values.get("handoff", 0)) for record in submitted]
    delivered = [delivery.handoff for delivery in deliveries.of(downlink)]
    return max(max(used, default=0) + 1, *delivered, 1)


def is_handed_off(work: Path, downlink: DownlinkId) -> bool:
    """Tell whether the pointer to the receipt is there: it is handed off, and no product of it was made since."""
    return (work / paths.receipt(downlink)).is_file()


def current(work: Path, downlink: DownlinkId) -> HandOff:
    """Return the hand-off of a downlink that is handed off.

    Raises
    ------
    MissingInputError
        If the downlink was not handed off, or is in progress again.
    DamagedError
        As `last_hand_off`.
    """
    last = last_hand_off(work, downlink)
    if last is None or not resolves(work / paths.receipt(downlink), last.seal):
        remedy = Remedy(f"snakemake dl={downlink}", first="Process the downlink first")
        raise MissingInputError(f"downlink {downlink} is not handed off, or it is in progress again.", remedy)
    return last


def runs_of(last: HandOff | None) -> Sequence[RunId]:
    """Return the runs of a hand-off; none without one."""
    return [run.run for run in last.receipt.runs] if last else []


def withdraw(work: Path, downlink: DownlinkId) -> None:
    """Remove the pointer to the receipt of `downlink` before the products that it lists change; the records stay.

    The removal is flushed, because after a crash of the machine the pointer must not reappear without these products.
    The pointer of the submission is removed too: for a hand-off without files nothing was submitted, and the next
    hand-off may have files.
    """
    for path in (work / paths.submitted(downlink), work / paths.receipt(downlink)):
        remove_file(path)
