"""One run of a downlink on both sides: what was delivered, and what is known of it when reasons are sought."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from halfpipe.ids import DownlinkId, RunId
from halfpipe.legacy.candidates import Candidate, Inputs
from halfpipe.legacy.compared_events import ROW, present
from halfpipe.legacy.comparison_sides import OF_A_RUN, Here, Known, LegacyTree, Side, Work
from halfpipe.legacy.legacy_replay import Merged, recorded
from halfpipe.merge.intervals import Interval
from halfpipe.merge.ordering import in_order
from halfpipe.merge.settle import KnownDatagrams
from halfpipe.run.datagrams import load_datagrams
from halfpipe.run.deliveries import Deliveries
from halfpipe.run.downlinks_of_run import known_downlinks
from halfpipe.settings import Settings


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
