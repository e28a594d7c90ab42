"""One run of a downlink on both sides: what was delivered, what is known of it, and what a rule gives.

The rules are the legacy's, replayed, and HalfPipe's own, on what some downlinks had brought by then. Which downlinks
were known there is tried, those first that were known here; what the other side has is held against each of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.formats.idx import EVENT
from halfpipe.formats.structured import joined
from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.comparison_sides import (
    OF_A_RUN,
    ROW,
    Here,
    Known,
    LegacyTree,
    Side,
    Work,
    present,
    subset,
    where_in,
)
from halfpipe.legacy.legacy_replay import Merged, lines_that_count, merged, recorded
from halfpipe.merge.decision import decide, holding, in_sources
from halfpipe.merge.intervals import Interval, Ranges
from halfpipe.merge.late import listed
from halfpipe.merge.ordering import in_one, in_order
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.run.datagrams import load_datagrams
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.settings import Merge, Settings

MOST_ORDERS = 5  # other downlinks of a run of which every subset is tried


@dataclass(frozen=True)
class Candidate:
    """What a rule gives.

    Attributes
    ----------
    inputs, others
        What is known here, and the other downlinks that were known.
    known
        The events that were known, in order.
    delivered
        Which of those that were known it delivers; `rows` are these.
    lines
        Of the texts that follow from it, sorted.
    merged
        What the legacy makes of the run; None: it is HalfPipe's own rule.
    left
        Whether it is what an earlier merge left, and the last one refused the run.
    """

    inputs: "Inputs"
    others: frozenset[DownlinkId]
    known: NDArray[np.void]
    delivered: NDArray[np.bool_]
    lines: Mapping[str, Sequence[str]]
    merged: Merged | None = None
    left: bool = False

    def left_by(self, refused: "Candidate") -> "Candidate":
        """Return what is there after another merge that refused the run: the files of this one, the texts of that."""
        return replace(self, lines=refused.lines, left=True)

    @property
    def reordered(self) -> bool:
        """Whether other downlinks were known then than here."""
        return not self.left and self.others != self.inputs.here

    @cached_property
    def written(self) -> NDArray[np.void]:
        """The events that it writes, in order."""
        return subset(self.known, self.delivered)

    @cached_property
    def overwritten(self) -> NDArray[np.void]:
        """The events in files that a later one of the same name replaces."""
        files = self.merged.files if self.merged else ()
        last = {file.number: file for file in files}
        gone = [slice(file.begin, file.end) for file in files if last[file.number] != file]
        return joined([self.written[:0], *(self.written[part] for part in gone)])

    @cached_property
    def rows(self) -> NDArray[np.void]:
        """The events that are left of it, in order."""
        return subset(self.written, ~present(self.written, self.overwritten))

    @cached_property
    def places_by_other_lines(self) -> list[tuple[Interval, ...]]:
        """The legacy's spans if of several lines of a datagram the first one counts as bytes, or the last one."""
        lines = sorted({line for part in self.inputs.parts(self.others) for line in part.lines})
        last = {
            tuple(row): line
            for line in lines
            for row in KnownDatagrams.of([line]).rows[["apid", "datagram"]].tolist()
        }
        if len(lines) == len(last):
            return []
        others = KnownDatagrams.of(lines), KnownDatagrams.of(last.values())
        nothing = np.empty(0, np.uint64)
        return [merged(self.inputs.run, other, nothing, (), self.inputs.limits).places for other in others]

    def off(self, theirs: NDArray[np.void]) -> int:
        """Return by how many events it differs from what is there."""
        return int((~present(theirs, self.rows)).sum() + (~present(self.rows, theirs)).sum())


@dataclass(frozen=True)
class _Recorded:
    """A delivery of another downlink as it was recorded there."""

    spans: tuple[Interval, ...]
    datagrams: Ranges
    counts: None = None
    held: None = None


@dataclass(frozen=True)
class Inputs:
    """What is known here of a run and could be known on the other side.

    Attributes
    ----------
    run, downlink
        The run, and the downlink that delivers.
    tables, datagrams
        What each downlink brought; of those that are known here.
    then
        The datagrams that were known here.
    done
        What the other side recorded for each of the other downlinks.
    limits
        Of event files, and the number of EPUs.
    """

    run: RunId
    downlink: DownlinkId
    tables: Mapping[DownlinkId, NDArray[np.void]]
    datagrams: Mapping[DownlinkId, KnownDatagrams]
    then: Ranges
    done: Mapping[DownlinkId, tuple[Interval, ...]]
    limits: Merge

    @cached_property
    def everything(self) -> NDArray[np.void]:
        """All events that are known here, in order."""
        tables = [self.tables[dl] for dl in in_sources(self.downlink, self.tables) if dl in self.tables]
        return in_one(tables or [np.empty(0, EVENT)])

    @cached_property
    def here(self) -> frozenset[DownlinkId]:
        """The other downlinks of which something was known here then."""
        return frozenset(dl for dl in self._others if listed(self.datagrams[dl].rows, self.then).any())

    @property
    def _others(self) -> list[DownlinkId]:
        return [dl for dl in self.datagrams if dl != self.downlink]

    def orders(self) -> Iterator[frozenset[DownlinkId]]:
        """Yield sets of other downlinks that may have been known, first those that were known here."""
        yield self.here
        sizes = range(len(self._others) + 1) if len(self._others) <= MOST_ORDERS else (0, len(self._others))
        for size in sizes:
            yield from (
                some for one in combinations(self._others, size) if (some := frozenset(one)) != self.here
            )

    def parts(self, others: frozenset[DownlinkId]) -> tuple[KnownDatagrams, ...]:
        """Return the datagrams that these downlinks made known, those of its own first."""
        found = [self.datagrams[dl] for dl in in_sources(self.downlink, others) if dl in self.datagrams]
        if others == self.here:
            found = [_those(part, listed(part.rows, self.then)) for part in found]
        return tuple(found)

    def delivered_here(self, spans: Sequence[Interval], lines: Mapping[str, Sequence[str]]) -> Candidate:
        """Return what was delivered here: no rule is asked."""
        known = subset(self.everything, listed(self.everything, self.then))
        return Candidate(self, self.here, known, holding(known["sequence"], spans), lines)

    def candidate(self, others: frozenset[DownlinkId], *, legacy: bool) -> Candidate:
        """Return what a rule gives where these other downlinks were known."""
        tables = {dl: self.tables[dl] for dl in in_sources(self.downlink, others) if dl in self.tables}
        if others == self.here:
            tables = {dl: subset(rows, listed(rows, self.then)) for dl, rows in tables.items()}
        known = in_one([*tables.values()]) if tables else self.everything[:0]
        done = {dl: self.done.get(dl, ()) for dl in others}
        if not legacy:
            return Candidate(self, others, known, *self._decided(self.parts(others), tables, done, known))
        spans = [span for of_one in done.values() for span in of_one]
        counted = lines_that_count(self.parts(others))
        found = merged(self.run, counted, known["sequence"], spans, self.limits)
        return Candidate(self, others, known, found.delivered, found.lines(self.run), found)

    def _decided(
        self,
        parts: Sequence[KnownDatagrams],
        tables: Mapping[DownlinkId, NDArray[np.void]],
        done: Mapping[DownlinkId, tuple[Interval, ...]],
        known: NDArray[np.void],
    ) -> tuple[NDArray[np.bool_], dict[str, list[str]]]:
        recorded = {dl: _Recorded(spans, {}) for dl, spans in done.items()}
        found = decide(self.downlink, KnownDatagrams.together(parts), tables, recorded, self.limits)
        delivered = np.zeros(len(known), bool)
        delivered[where_in(found.events, known)] = True
        said = f"{self.run.l1} {len(found.events)} {found.orphans} {found.kind}"
        return delivered, {
            "delivered_events": [said] if found.epus else [],
            "event_gaps": sorted(f"{self.run.l1} {upper} {lower}" for upper, lower in found.gaps),
            "retired_runs": [f"{self.run.l1} COMPLETE"] if found.complete and found.files else [],
        }


def _those(part: KnownDatagrams, which: NDArray[np.bool_]) -> KnownDatagrams:
    numbers = np.flatnonzero(which)
    return KnownDatagrams(tuple(part.lines[n] for n in numbers), part.rows[numbers])


class ComparedRun:
    """One run of a downlink on both sides; all but what was delivered is read when it is asked for.

    Of the delivery here: whether the run was `held` or `given_up`, its `spans`, and where it was `settled`.
    """

    def __init__(self, settings: Settings, here: Here, there: Side, downlink: DownlinkId, run: RunId) -> None:
        self.settings, self.here, self.there, self.downlink, self.run = settings, here, there, downlink, run
        self.legacy = not isinstance(there, Work)
        self.ours = here.delivered(downlink, run)
        self.theirs = there.delivered(downlink, run)
        # What vouches for what was delivered here; empty if nothing does.
        self.manifest: Mapping[str, Any] = here.manifest(downlink, run) or {}
        self.held, self.given_up = (bool(self.manifest.get(key)) for key in ("held", "given_up"))
        self.spans, self.settled = (
            [Interval(*place) for place in self.manifest.get(key, ())] for key in ("spans", "settled")
        )

    @cached_property
    def known(self) -> Known:
        """The events that are known here."""
        return Known(self.here.root, self.run, self.downlink)

    @property
    def recorded(self) -> list[Interval]:
        """The spans that were recorded here for other downlinks."""
        latest = Deliveries(self.here.root, self.run).latest().items()
        return [span for dl, delivery in latest if dl != self.downlink for span in delivery.spans]

    @cached_property
    def others(self) -> list[DownlinkId]:
        """The other downlinks that brought something of the run."""
        return [dl for dl in known_downlinks(self.here.root, self.run) if dl != self.downlink]

    @cached_property
    def here_elsewhere(self) -> NDArray[np.void]:
        """Events that other downlinks delivered here, in order."""
        return self._delivered(self.here, self.others)

    @cached_property
    def there_elsewhere(self) -> NDArray[np.void]:
        """Events that other downlinks delivered there, in order."""
        return self._delivered(self.there, self.others)

    def _delivered(self, side: Side, downlinks: Sequence[DownlinkId]) -> NDArray[np.void]:
        found = [side.delivered(dl, self.run).rows for dl in downlinks if side.has(dl)]
        keys = ["sequence", "apid"]
        return in_order(np.concatenate([np.empty(0, ROW)[keys], *(rows[keys] for rows in found)]))

    @cached_property
    def differed(self) -> bool:
        """Whether other downlinks delivered other events of the run on the two sides."""
        both = [dl for dl in self.others if self.there.has(dl)]
        here, there = self._delivered(self.here, both), self._delivered(self.there, both)
        return len(here) != len(there) or not present(here, there).all()

    def retired_elsewhere(self, side: Side) -> frozenset[str]:
        """Return the lines by which a side retires the run with other downlinks."""
        return frozenset(
            line for dl in self.others if side.has(dl) for line in self._lines(side, dl)["retired_runs"]
        )

    def _lines(self, side: Side, downlink: DownlinkId) -> dict[str, list[str]]:
        """Return the lines of the run in a side's texts."""
        texts = side.texts(downlink)
        return {
            name: sorted(line for line in texts.get(name, ()) if line.startswith(f"{self.run.l1} "))
            for name in OF_A_RUN
        }

    @cached_property
    def inputs(self) -> Inputs:
        """What is known here of the run and could be known there."""
        work = self.here.root
        return Inputs(
            self.run,
            self.downlink,
            self.known.parts,
            {dl: load_datagrams(work, self.run, dl) for dl in known_downlinks(work, self.run)},
            self.here.datagrams(self.downlink, self.run) or {},
            {dl: self._recorded_there(dl) for dl in self.others},
            self.settings.merge,
        )

    def _recorded_there(self, dl: DownlinkId) -> tuple[Interval, ...]:
        """Return the spans that another downlink recorded there, or must have, as far as is known here."""
        if isinstance(self.there, LegacyTree) and (spans := self.there.spans(dl, self.run)) is not None:
            return spans
        side: Side = self.there if self.there.has(dl) else self.here
        delivered = side.delivered(dl, self.run).rows
        known = self.known.then(self.here.datagrams(dl, self.run) or {})
        return recorded(known["sequence"], present(known, delivered))

    @cached_property
    def nearest(self) -> list[Candidate]:
        """What comes nearest to the events there: what was delivered here, or what a rule gives; none if nobody knows.

        That is so where events that are known here were cleaned up.
        """
        if self.known.gone:
            return []
        found = [self.inputs.delivered_here(self.spans, self._lines(self.here, self.downlink))]
        knew = self.there.datagrams(self.downlink, self.run)
        orders = list(self.inputs.orders())
        then = [o for o in orders if knew in (None, KnownDatagrams.together(self.inputs.parts(o)).ranges())]
        then = then or [self.inputs.here]
        if self.legacy:
            merges = {order: self.inputs.candidate(order, legacy=True) for order in orders}
            last = [merges[order] for order in then]
            refused = next((one for one in last if one.merged and one.merged.refused), None)
            found += last
            found += [one.left_by(refused) for one in merges.values() if refused and one.delivered.any()]
        if not isinstance(self.there, LegacyTree):
            found += [self.inputs.candidate(order, legacy=False) for order in then]
        off = [one.off(self.theirs.rows) for one in found]
        return [one for one, events in zip(found, off, strict=True) if events == min(off)]

    @cached_property
    def replayed(self) -> list[tuple[Candidate, Merged]]:
        """Those of the nearest that the legacy's rule gives."""
        return [(one, one.merged) for one in self.nearest if one.merged is not None]
