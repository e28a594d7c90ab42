"""The legacy's hand-off of a run in a downlink: its rule, replayed on the datagrams and events that are known here."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from halfpipe import paths
from halfpipe.errors import MissingInputError
from halfpipe.formats import evt
from halfpipe.formats.idx import Events, parse_datagrams
from halfpipe.formats.rows import read_rows
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.moot_file import UNSET
from halfpipe.merge.intervals import Interval
from halfpipe.merge.ordering import in_one
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.settings import Merge
from halfpipe.state.deliveries import Deliveries, MootKey
from halfpipe.state.downlinks_of_run import known_downlinks
from halfpipe.state.merged_index import MergedIndex, events_there
from halfpipe_switchover.legacy_replay import Merged, Part, cut, file_number
from halfpipe_switchover.legacy_tree import handed_off
from halfpipe_switchover.sides import MOOT_KEYS, TIMES, File, Moot, Placed, Side, file_of, home_at, moot_of

# Lines in the legacy's text of MOOT keys for a run that could not be mapped: none, or one without a good key.
UNMAPPED = ("", "{}", "{} 0", "{} 0 ", "{} 4294967295 UNKNOWN")


@dataclass(frozen=True)
class Expected:
    """The hand-off of a run in a downlink, according to a rule.

    Attributes
    ----------
    rows, begins
        The events, in order, and whether an index of the legacy begins with each of them.
    files, tokens
        The event files, and the names of other tokens that may exist.
    lines
        The versions of the lines of each text, all of them right.
    merged
        The legacy's merge; None if this is HalfPipe's delivery.
    elsewhere
        The events that other downlinks deliver.
    """

    rows: Events | Placed
    begins: NDArray[np.bool_]
    files: Sequence[File]
    tokens: frozenset[str]
    lines: Mapping[str, Sequence[Sequence[str]]]
    merged: Merged | None = None
    elsewhere: Events | None = None

    @property
    def by(self) -> str:
        """The system with this rule, for messages."""
        return "the legacy's rule" if self.merged else "HalfPipe"


class Inputs:
    """Everything that HalfPipe knows of a run. Each part is read when it is first needed.

    `key` is the run's MOOT key in the downlink that is compared; None if that does not have the run.
    """

    def __init__(self, work: Path, run: RunId, key: MootKey | None) -> None:
        self.work = work
        self.run = run
        self.key = key
        self.files: dict[Path, int] = {}  # evt files with the events of `parts`, and their numbers

    @cached_property
    def indexes(self) -> Mapping[DownlinkId, MergedIndex]:
        """The merged index of each downlink."""
        return {dl: MergedIndex.read(self.work, self.run, dl) for dl in known_downlinks(self.work, self.run)}

    @cached_property
    def recorded(self) -> Deliveries:
        """The recorded deliveries."""
        return Deliveries(self.work, self.run, only_look=True)

    @cached_property
    def taken_over(self) -> Mapping[DownlinkId, Sequence[Interval]]:
        """The spans of downlinks that were taken over from the legacy."""
        return {dl: one.spans for dl, one in self.recorded.latest().items() if one.origin}

    @cached_property
    def parts(self) -> Mapping[DownlinkId, Part]:
        """The contents of each downlink, with the legacy's spans if it was taken over.

        Raises
        ------
        MissingInputError
            If the events of a downlink were cleaned up.
        """
        nothing = KnownDatagrams.of(()), Events.zeros(0)
        found = {dl: Part(*nothing, spans) for dl, spans in self.taken_over.items()}
        for dl, index in self.indexes.items():
            events = events_there(self.work, self.run, dl, index, self.files)
            if events is None:
                raise MissingInputError(f"the chunk products of downlink {dl} were cleaned up here")
            found[dl] = Part(index.datagrams, events, self.taken_over.get(dl))
        return found

    @cached_property
    def order(self) -> list[DownlinkId]:
        """The downlinks in the order of their hand-offs here, by the times of the records, once per hand-off."""
        every = {*self.indexes, *self.taken_over}
        records = ((path, dl) for dl in every for path in (self.work / paths.receipts(dl)).glob("*.json"))
        return [dl for _, dl in sorted((path.stat().st_mtime_ns, dl) for path, dl in records)]

    def order_there(self, root: Path, downlink: DownlinkId) -> list[DownlinkId]:
        """Return the downlinks below `root` in the order of their hand-offs, by the times of texts there."""
        homes = {dl: home for dl in self.parts if (home := home_at(root, dl))}
        times = {dl: when for dl, home in homes.items() if (when := handed_off(home))}
        return sorted({downlink, *times, *self.taken_over}, key=lambda dl: (times.get(dl, ""), dl))

    def times(self, known: Iterable[DownlinkId]) -> list[str]:
        """Return the legacy's line with the times of a run, Unix UTC seconds, from the indexes of `known` downlinks.

        In each index, the legacy takes the first event time of the first datagram, and the last one of the last.
        """
        firsts = []
        lasts = []
        indexes = ((dl, self.indexes[dl]) for dl in self.indexes.keys() & {*known})
        for dl, chunk in ((dl, chunk) for dl, index in indexes for chunk in index.chunks):
            placed = chunk.place(self.work, dl)
            assert placed is not None  # otherwise `parts` raised an error before
            for name, checksum in chunk.rows():
                path = placed[1] / name
                if lines := read_rows(path, checksum).lines:
                    ends = parse_datagrams((lines[0], lines[-1]), str(path))
                    firsts.append(float(ends.evtutc0[0]))
                    lasts.append(float(ends.evtutc1[1]))
        return [f"{self.run.l1} {min(firsts):f} {max(lasts):f}"] if firsts else []


def expected_of(
    merges: Sequence[tuple[DownlinkId, Merged]],
    downlink: DownlinkId,
    inputs: Inputs,
    there: Side,
    limits: Merge,
) -> Expected:
    """Return the legacy's hand-off of a run in a downlink.

    Parameters
    ----------
    merges
        The legacy's merges of the run (`legacy_replay.replay`). The last merge of the downlink counts, with the data
        that were known then.
    downlink, inputs
        The downlink, and everything known of the run here.
    there
        The other side. Headers get the key in its text of MOOT keys; a tree has indexes instead of files.
    limits
        How events are cut into files.
    """
    run = inputs.run
    latest = dict(merges)
    # A merge without files leaves the files of an older one in the stage.
    staged = {dl: one for dl, one in merges if there.is_tree or one.delivered.any()}
    merged = latest[downlink]
    wrote = staged.get(downlink, latest[downlink])
    files = []
    moot = _environment(there.texts[MOOT_KEYS], str(run.met))
    for begin, end in wrote.series:
        of_index = wrote.events[begin:end]
        for a, b in [(0, end - begin)] if there.is_tree else cut(end - begin, limits):
            first = int(of_index.sequence[a])
            name = paths.event_file(run.l1, first if there.is_tree else file_number(first))
            of_file = None if there.is_tree else _moot([*inputs.files], of_index.file, a, b) or moot
            files.append(file_of(name, of_index[a:b], of_file))
    begins = np.zeros(len(wrote.events), bool)
    begins[[begin for begin, _ in wrote.series]] = True
    mine = [f"{run.l1} {inputs.key.key} {inputs.key.alias}"] if inputs.key else []
    unmapped = [[line.format(run.l1)] if line else [] for line in UNMAPPED]
    order = [dl for dl, _ in merges]
    before = order[: len(order) - order[::-1].index(downlink)]
    others = (one for dl, one in latest.items() if dl != downlink)
    firsts = {  # of all files so far, because the legacy never removes a token
        int(one.events.sequence[begin + a])
        for _, one in merges
        for begin, end in one.series
        for a, _ in cut(end - begin, limits)
    }
    tokens = frozenset(Path(paths.event_file(run.l1, file_number(first))).stem for first in firsts)
    return Expected(
        wrote.events[wrote.delivered],
        begins[wrote.delivered],
        files,
        tokens,
        {
            **{name: [lines] for name, lines in merged.lines(run).items()},
            TIMES: [inputs.times(before)],
            MOOT_KEYS: [mine, *(unmapped if inputs.key == UNSET else [])],
        },
        merged,
        in_one([wrote.events[:0], *(one.events[one.delivered] for one in others)]),
    )


def _environment(lines: Sequence[str], met: str) -> Moot:
    """Return the key and alias that the legacy finds for a run. It uses each line that contains the digits `met`."""
    found = [line.split() for line in lines if met in line]
    keys, aliases = ([words[n] for words in found if len(words) > n] for n in (1, 2))
    key = re.match(r"\d+", keys[0]) if keys else None
    return int(key[0]) if key else 0, "\n".join(aliases).encode("latin-1")[: evt.ALIAS_LENGTH]


def _moot(files: Sequence[Path], chunks: NDArray[np.uint16], begin: int, end: int) -> Moot | None:
    """Return the key and alias of the last chunk that the legacy opens while it writes a file; None if it opens none.

    It opens each of the `chunks` of an index at the chunk's first event. The chunk of a file's first event is opened
    before the file.
    """
    which, firsts = np.unique(chunks, return_index=True)
    opened = np.flatnonzero((begin < firsts) & (firsts < end))
    last = which[opened[firsts[opened].argmax()]] if len(opened) else None
    return None if last is None else moot_of(evt.read_header(files[last]))
