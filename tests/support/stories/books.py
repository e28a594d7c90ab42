"""The books of a story: what it damaged and repaired, which events must be known and delivered, and the problems.

This is plain Python that looks at the simulated datagrams, the archive as the story left it, and the bytes in the
stage. Of HalfPipe's own files, it reads only those that it checks. For the others, it uses only the names and times (to
see which job has ended).
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

from halfpipe import paths
from halfpipe.decisions import What
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.rows import IN_PROGRESS, INCOMPLETE
from halfpipe.state.deliveries import Deliveries
from tests.support import model
from tests.support.leases import leases
from tests.support.level1_accepts import level_1_takes
from tests.support.model import Delivery, ModelDecision, Rules
from tests.support.stories.world import Hour, Key, NewInput, Of, StagedFile, Version, World

NOTHING = Delivery()


class Where(StrEnum):
    """Where a known event is.

    `DELIVERED`: in a file of the latest delivery of a downlink. `WAITING`: an EPU may still add an event at its place.
    `WITHHELD`: settled, and too few events beside it to make a file. `DUE`: the next delivery of the run contains it.
    `REFUSED`: it is due, and Level-1 would refuse the run. `LATE`: in a span that was delivered without it.
    `CLOSED`: in a span that was delivered with it, and not delivered again.
    """

    DELIVERED = "delivered"
    WAITING = "waiting"
    WITHHELD = "withheld"
    DUE = "due"
    REFUSED = "refused"
    LATE = "late"
    CLOSED = "closed"


class Problem(IntEnum):
    """Severity of a problem. `MAYBE`: status may or may not report it; `NOTE`: it must; `ACTION`: a person must act."""

    MAYBE = 0
    NOTE = 1
    ACTION = 2


Stamps = dict[str, int]


@dataclass
class Downlink:
    begun: bool = False
    handoff: int = 0
    submitted: int = 0
    open: bool = False
    asked: int = 0
    wiped: bool = False
    gone: set[str] = field(
        default_factory=set
    )  # runs that left the stage although Level-1 was not notified of them
    taken: bool = False
    accepted: set[str] = field(default_factory=set)
    seen: set[tuple[str, Key]] = field(default_factory=set)
    latest: dict[str, list[StagedFile]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)


class Books:
    """What a story knows."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.of = {dl: Downlink() for dl in world.downlinks}
        self.rules = Rules(max_events=world.max_events)
        # By chunk: its datagrams when it was decoded, and the hours that were missing then.
        self.content: dict[str, frozenset[Of]] = {}
        self.without: dict[str, frozenset[Hour]] = {}
        # By run and downlink: the datagrams of its chunks at the last merge, and its deliveries.
        self.brought: defaultdict[str, dict[str, Mapping[str, frozenset[Key]]]] = defaultdict(dict)
        self.recorded: defaultdict[str, dict[str, list[Delivery]]] = defaultdict(dict)
        self.ignored: set[str] = set()  # chunks
        self.seen_decoding: set[str] = set()  # chunks whose decoding is already in `content`
        self.findings: list[str] = []  # the story goes on
        # By run: number of events withheld by its last merge; its ledger row, and the events known by then.
        self.withheld: Counter[str] = Counter()
        self.entered: dict[str, tuple[dict[str, Any], set[Key]]] = {}
        self.abandoned: set[str] = set()
        # Other decisions in force, by what and subject: the number that was accepted.
        self.decided: dict[tuple[What, str], int] = {}
        self.sequences = {
            (str(d.run), d.apid, d.number): d
            for chunks in world.chunks.values()
            for c in chunks
            for version in c.versions.values()
            for d in version.datagrams
        }
        self.runs = sorted({run for run, _, _ in self.sequences})

    # The state on disk.

    def stamps(self, dl: str) -> Stamps:
        """Return when each product of a downlink was made."""
        work = self.world.site.work
        names = [chunk.voucher for chunk in self.world.chunks[dl]]
        for run in self.runs:
            names.append(paths.manifest(RunId(run), dl))
        names.append(paths.receipt(dl))
        return {name: (work / name).stat().st_mtime_ns for name in names if (work / name).exists()}

    def is_submitted(self, dl: str) -> bool:
        """Tell whether the current hand-off of a downlink was submitted to Level-1."""
        of = self.of[dl]
        return 0 < of.submitted >= of.handoff and self.world.site.has_receipt(dl)

    def is_lost(self, what: What, subject: str, number: int) -> bool:
        """Tell whether a person decided to do without this number of something."""
        return number <= self.decided.get((what, subject), -1)

    # The expected state.

    def next_version(self, chunk: NewInput) -> Version:
        """Return the version of its RetDef with which a chunk is decoded next."""
        world = self.world
        name = world.version(chunk, world.source(chunk)) or world.staged_version(chunk) or "plain"
        return chunk.versions[name]

    def would_bring(self, version: Version) -> tuple[frozenset[Of], frozenset[Hour]]:
        """Return the datagrams that a decoder would find for a RetDef now, and the missing hours."""
        missing = frozenset(hour for hour in version.hours if not self.world.present(hour))
        whole = self.world.whole(version.datagrams)
        return frozenset((str(d.run), d.apid, d.number) for d in whole), missing

    def keys(self, run: str, dl: str) -> frozenset[Key]:
        """Return the datagrams of a run that other downlinks know from this one."""
        of = self.brought[run].get(dl, {})
        return frozenset().union(*(keys for chunk, keys in of.items() if chunk not in self.ignored))

    def chunk_of(self, run: str, dl: str, keys: Iterable[Key]) -> model.Chunk:
        """Return datagrams of a run as a chunk of the model."""
        datagrams = []
        events = []
        for apid, number in sorted(keys):
            d = self.sequences[run, apid, number]
            opens = d.row.oaction.item().decode()
            closes = d.row.caction.item().decode()
            first, last = (d.sequences[0], d.sequences[-1]) if d.sequences else (0, 0)
            datagrams.append(model.Datagram(apid, number, opens, closes, len(d.sequences), first, last))
            events += [model.Event(sequence, apid, number, 0) for sequence in d.sequences]
        return model.Chunk(dl, tuple(events), tuple(datagrams))

    def arrived(self, run: str) -> dict[str, Sequence[model.Chunk]]:
        """Return what each downlink has brought of a run, as a chunk."""
        return {dl: (self.chunk_of(run, dl, self.keys(run, dl)),) for dl in self.brought[run]}

    def decide(self, run: str, dl: str) -> ModelDecision:
        """Return the rule's decision for a downlink that is processed now."""
        return model.decide(dl, self.arrived(run), self.recorded[run], self.rules, run in self.abandoned)

    def last(self, run: str, dl: str) -> Delivery:
        """Return the latest recorded delivery."""
        return self.recorded[run].get(dl, [NOTHING])[-1]

    def delivered(self, run: str) -> int:
        """Return how many events of a run are in the latest deliveries of downlinks."""
        return sum(len(deliveries[-1].keys) for deliveries in self.recorded[run].values())

    def record(self, run: str, dl: str, delivery: Delivery) -> None:
        """Record a delivery, unless it equals the latest one."""
        before = self.recorded[run].get(dl, [])
        if delivery != self.last(run, dl) and (before or delivery.spans):
            self.recorded[run][dl] = [*before, delivery]

    # After an invocation.

    def processed(self, dls: Sequence[str], before: dict[str, Stamps]) -> None:
        """Record what an invocation for downlinks did, and check it against the rule."""
        after = {dl: self.stamps(dl) for dl in dls}
        fresh = {dl: {n for n, at in after[dl].items() if before[dl].get(n) != at} for dl in dls}
        for dl in dls:
            self.of[dl].begun = True
            self._decoded(dl, fresh[dl], after[dl])
        for run in self.runs:
            made = [dl for dl in dls if paths.manifest(RunId(run), dl) in fresh[dl]]
            gone = [dl for dl in dls if paths.receipt(dl) in fresh[dl] and self._vanished(run, dl)]
            others = [dl for dl in dls if dl not in made]
            self._delivered(run, [dl for dl in made if dl not in gone])
            for dl in gone:
                self._delivered_nothing(run, dl)
            for dl in others:
                if dl not in gone:
                    self._perhaps_delivered(run, dl)
        self.seen_decoding.clear()
        for dl in dls:
            if paths.receipt(dl) in fresh[dl]:
                self._handed_off(dl)
        self.look_at_stage()
        for dl in dls:
            for run in self.runs:
                if paths.receipt(dl) in fresh[dl] and paths.manifest(RunId(run), dl) in fresh[dl]:
                    self._check_staged(run, dl)

    def _check_staged(self, run: str, dl: str) -> None:
        """Check that the stage contains the events of a delivery, and no others."""
        if run in self.of[dl].refused or self.of[dl].taken or self.of[dl].gone:
            return
        there = {key for file in self.world.staged(dl).get(RunId(run).l1, []) for key in file.keys}
        if there != self.last(run, dl).keys:
            missing = self.last(run, dl).keys - there
            more = there - self.last(run, dl).keys
            self.findings.append(
                f"{dl}, run {run}: not staged {sorted(missing)}, staged besides {sorted(more)}"
            )

    def _decoded(self, dl: str, fresh: set[str], there: Stamps) -> None:
        for chunk in self.world.chunks[dl]:
            if chunk.voucher in fresh and chunk.voucher not in self.seen_decoding:
                self.decoded(chunk)
            elif chunk.voucher not in there:
                self.without.pop(chunk.voucher, None)

    def decoded(self, chunk: NewInput) -> None:
        """Record that a chunk was decoded from the archive in its present state."""
        version = chunk.versions[self.world.staged_version(chunk) or "plain"]
        self.content[chunk.voucher], self.without[chunk.voucher] = self.would_bring(version)

    def bring(self, run: str, dl: str) -> dict[str, frozenset[Key]]:
        """Return the datagrams of a run in the decoded chunks of a downlink, by chunk."""
        found = {}
        for chunk in self.world.chunks[dl]:
            of = self.content.get(chunk.voucher, frozenset())
            keys = frozenset((apid, number) for of_run, apid, number in of if of_run == run)
            if keys and chunk.voucher not in self.ignored:
                found[chunk.voucher] = keys
        return found

    def _vanished(self, run: str, dl: str) -> bool:
        """Tell whether a run was in a downlink, and none of the downlink's chunks has it now."""
        return bool(self.brought[run].get(dl) or self.last(run, dl).spans) and not self.bring(run, dl)

    def _delivered_nothing(self, run: str, dl: str) -> None:
        """Check that a downlink from which a run vanished contributes and delivers nothing of the run."""
        old = self.keys(run, dl)
        known = self.known_on_disk(run, dl)
        (spans, _) = self.recorded_on_disk(run, dl)
        staged = self.world.staged(dl).get(RunId(run).l1)
        if known:
            self.findings.append(f"{dl} knows {sorted(known)} of run {run}, expected nothing")
        if spans or staged:
            self.findings.append(f"{dl} delivered {spans} of run {run}, expected nothing")
        kept = self.brought[run].get(dl, {}) if known == old else {}
        self.brought[run][dl] = kept
        self.of[dl].refused.discard(run)
        if spans and spans != self.last(run, dl).spans:
            self.record(run, dl, self.decide(run, dl).delivery)
        elif not spans:
            self.record(run, dl, NOTHING)
            self.of[dl].latest.pop(RunId(run).l1, None)

    def _delivered(self, run: str, dls: Sequence[str]) -> None:
        """Check that the deliveries of a run by downlinks follow the rule in some order."""
        if not dls:
            return
        was = dict(self.brought[run]), dict(self.recorded[run])  # the lists are never changed in place
        complaints: list[str] = []
        for order in itertools.permutations(dls):
            self.brought[run] = dict(was[0])
            self.recorded[run] = dict(was[1])
            complaints = [text for dl in order for text in self._one_delivery(run, dl)]
            if not complaints:
                return
        raise AssertionError(f"the rule, run {run}: {'; '.join(complaints)}")

    def _one_delivery(self, run: str, dl: str) -> Iterable[str]:
        made = Deliveries(self.world.site.work, RunId(run)).latest()[DownlinkId(dl)]
        self.brought[run][dl] = self.bring(run, dl)
        known = self.known_on_disk(run, dl)
        expected = self.keys(run, dl)
        if known != expected:
            yield f"{dl} knows datagrams {sorted(known)}, expected {sorted(expected)}"
        outcome = self.decide(run, dl)
        if not self.bring(run, dl):  # then it delivers nothing, not even due events of other downlinks
            outcome.undelivered += sum(map(len, outcome.files))
            outcome.files = []
            outcome.spans = []
        shrinks = model.shrinks(outcome, self.recorded[run].get(dl, []), self.arrived(run))
        files = [[len(f), f[0][1].sequence, f[-1][1].sequence] for f in outcome.files]
        if made.refused:
            self.of[dl].refused.add(run)
            return
        self.of[dl].refused.discard(run)
        found = [[file.events, *file.sequences] for file in made.files]
        if found != files:
            yield f"{dl} delivered {found}, expected {files}"
        said = (made.books.in_texts, made.books.withheld, made.complete)
        wanted = (outcome.undelivered, outcome.withheld, outcome.complete)
        if said != wanted:
            yield f"{dl} says {said}, expected {wanted} (waiting, withheld, complete)"
        assert not shrinks or run in self.of[dl].accepted, f"{dl} delivered less of run {run} than before"
        self.withheld[run] = outcome.withheld
        self.record(run, dl, outcome.delivery)
        if not files:
            self.of[dl].latest.pop(RunId(run).l1, None)

    def _perhaps_delivered(self, run: str, dl: str) -> None:
        """Record what a job did that failed or was not run: all or nothing."""
        known = self.known_on_disk(run, dl)
        before_it = self.brought[run].get(dl, {})
        now = self.bring(run, dl)
        old = frozenset[Key]().union(*before_it.values())
        new = frozenset[Key]().union(*now.values())
        assert known in {old, new}, f"{dl} knows {sorted(known)} of run {run}, expected {sorted(old)} or more"
        if not known and not old:
            return
        self.brought[run][dl] = now if known == new else before_it
        before = self.last(run, dl)
        outcome = self.decide(run, dl)
        after = outcome.delivery
        # The same spans may have been delivered again with late events in them.
        recorded = self.recorded_on_disk(run, dl)
        possible = {(each.spans, len(each.keys)): each for each in (after, before)}
        assert recorded in possible, f"{dl} recorded {recorded} of run {run}, expected one of {[*possible]}"
        if possible[recorded] != before:
            self.withheld[run] = outcome.withheld
            self.record(run, dl, after)

    def known_on_disk(self, run: str, dl: str) -> frozenset[Key]:
        """Return the datagrams of a run that a downlink has made known."""
        path = self.world.site.work / paths.datagrams(RunId(run), dl)
        lines = path.read_text().splitlines() if path.exists() else []
        return frozenset(
            (int(line.split()[4]), int(line.split()[5])) for line in lines if line.startswith("DGM")
        )

    def recorded_on_disk(self, run: str, dl: str) -> tuple[tuple[tuple[int, int], ...], int]:
        """Return the spans of a downlink's last recorded delivery, and its number of events."""
        latest = Deliveries(self.world.site.work, RunId(run)).latest().get(DownlinkId(dl))
        return (tuple((span.first, span.last) for span in latest.spans), latest.events) if latest else ((), 0)

    def _handed_off(self, dl: str) -> None:
        of = self.of[dl]
        number = self.world.site.receipt(dl).number
        assert number >= of.handoff, f"{dl} has hand-off {number} after {of.handoff}"
        if number != of.handoff:
            of.taken = of.wiped = False
        of.handoff = number

    def look_at_stage(self) -> None:
        """Record what is in the stage, because Level-1 may take it from now on."""
        for dl, of in self.of.items():
            for run, files in self.world.staged(dl).items():
                of.gone.discard(run)
                of.latest[run] = files
                of.seen |= {(run, key) for file in files for key in file.keys}

    # What must hold after every step.

    def check(self) -> None:
        """Check the deliveries of all hand-offs, and the runs that Level-1 may retire."""
        for (one, of), (other, there) in itertools.combinations(self.of.items(), 2):
            twice = of.seen & there.seen
            assert not twice, f"{len(twice)} events twice by {one} and {other}, as {min(twice)}"
        for dl, of in self.of.items():
            for run, files in of.latest.items():
                keys = [key for file in files for key in file.keys]
                assert len(keys) == len(set(keys)), f"events twice by {dl} of run {run}"
        for run in map(RunId, self.runs):
            files = [file for of in self.of.values() for file in of.latest.get(run.l1, [])]
            assert not files or level_1_takes(files), f"Level-1 refuses run {run}: {files}"
        for run_id, row in self.world.in_ledger().items():
            self._check_retired(str(run_id), row)

    def _check_retired(self, run: str, row: dict[str, Any]) -> None:
        """Check that all events of a run were delivered before Level-1 may retire it.

        Level-1's checkRun (ground-chain §6) retires a run if it is Complete or Incomplete in the ledger, and none of
        its downlinks is in progress. Then all settled events must be staged, and all known events if the ledger has all
        known datagrams. If the run is Incomplete, the events that were known when it got this status must be staged,
        too. Events that are missing inside a delivered span are late, which is allowed.
        """
        chunks = [(self.chunk_of(run, dl, self.keys(run, dl)),) for dl in self.brought[run]]
        events = {(e.sequence, e.apid) for (chunk,) in chunks for e in chunk.events}
        if self.entered.get(run, ({}, events))[0] != row:
            self.entered[run] = row, events
        l1_run = RunId(run).l1
        in_progress = any((self.world.site.stage / paths.tokens(l1_run)).glob("haltCleanup-*"))
        # A refused run that is not loaded yet is unknown to the ledger: an unavoidable race (docs/ledger.md).
        refused = any(run in of.refused for of in self.of.values())
        if in_progress or refused or row["status"] == IN_PROGRESS:
            return
        known = model.known_datagrams(chunks)
        places = model.settled(known, self.rules, settle_all=row["ndgms"] == sum(map(len, known.values())))
        wanted = {key for key in events if model.inside(key[0], places)}
        if row["status"] == INCOMPLETE:
            wanted |= self.entered[run][1]
        spans = [span for dl in self.recorded[run] for span in self.last(run, dl).spans]
        staged = {key for of in self.of.values() for l1, key in of.seen if l1 == l1_run}
        left = {key for key in wanted - staged if not model.inside(key[0], spans)}
        assert len(left) <= self.withheld[run], f"run {run} is {row['status']} without {sorted(left)}"

    def problems(self, dl: str) -> dict[str, Problem]:
        of = self.of[dl]
        found = dict[str, Problem]()
        if not of.begun:
            chunks = [c for c in self.world.chunks[dl] if c.voucher not in self.ignored]
            is_there = any(self.world.source(chunk).exists() for chunk in chunks)
            return {"not processed": Problem.NOTE if is_there else Problem.MAYBE}
        for chunk in self.world.chunks[dl]:
            found |= self._problems_of(chunk)
        if not self.world.site.has_receipt(dl):
            found["no receipt"] = Problem.NOTE
        if of.submitted and of.submitted < of.handoff:
            found["a hand-off after the submission"] = Problem.ACTION
        if not of.submitted:
            found["not submitted"] = Problem.MAYBE
        if of.open:
            found["a submission is open"] = Problem.ACTION
        if of.wiped and not of.submitted:
            found["the stage was wiped"] = Problem.ACTION
        if of.gone:
            found["a run left the stage"] = (
                Problem.ACTION if self.world.site.has_receipt(dl) else Problem.MAYBE
            )
        if of.refused:
            found["a run is refused"] = Problem.ACTION
        if not any(self.last(run, dl).keys for run in self.runs):
            found["no event of it is delivered"] = Problem.MAYBE
        if of.accepted:
            found["a loss is accepted"] = Problem.MAYBE
        if any(run in self.abandoned and dl in self.brought[run] for run in self.runs):
            found["a run is abandoned"] = Problem.MAYBE
        if leases(self.world.site.work):
            found["a lease is left"] = Problem.MAYBE
        return found

    def _problems_of(self, chunk: NewInput) -> dict[str, Problem]:
        if chunk.voucher in self.ignored:
            return {"a chunk is ignored": Problem.MAYBE}
        source = self.world.version(chunk, self.world.source(chunk))
        staged = self.world.staged_version(chunk)
        found = dict[str, Problem]()
        if source is not None and staged is None:
            found["a RetDef is not processed"] = Problem.NOTE
        elif source is not None and source != staged:
            found["a RetDef was issued again"] = Problem.NOTE
        subject = f"{chunk.chunk.downlink}/{chunk.chunk.number}"
        if hours := self.without.get(chunk.voucher):
            lost = self.is_lost(What.LEVEL0, subject, len(hours))
            found["decoded without an hour"] = Problem.NOTE if lost else Problem.ACTION
        if staged is None or chunk.voucher not in self.content:
            return found
        now, _ = self.would_bring(chunk.versions[staged])
        content = self.content[chunk.voucher]
        asked = {(str(d.run), d.apid, d.number) for d in chunk.versions[staged].datagrams}
        events = [
            (run, apid, seq) for run, apid, n in content for seq in self.sequences[run, apid, n].sequences
        ]
        if len(set(events)) < len(events):
            lost = self.is_lost(What.EVENTS, subject, len(events) - len(set(events)))
            found["events of an EPU share a sequence"] = Problem.NOTE if lost else Problem.ACTION
        if now - content:
            found["level-0 came after it was decoded"] = Problem.ACTION
        elif asked - content:
            found["it brought less than its RetDef announces"] = Problem.NOTE
        if staged in {"more", "early"}:
            found["its span has a gap, perhaps"] = Problem.MAYBE
        return found

    def where(self, run: str) -> dict[Key, Where]:
        """Return where each known event of a run is."""
        brought = self.arrived(run)
        events = [(event.sequence, event.apid) for _, event in model.known_events("", brought)]
        recorded = self.recorded[run]
        taken = [span for deliveries in recorded.values() for each in deliveries for span in each.spans]
        now = frozenset[Key]().union(*(deliveries[-1].keys for deliveries in recorded.values()))
        ever = frozenset[Key]().union(*(each.keys for deliveries in recorded.values() for each in deliveries))
        places = model.settled(model.known_datagrams(brought.values()), self.rules, run in self.abandoned)
        # An event of a chunk that is left out was delivered from a datagram that is unknown now. If another datagram of
        # the EPU has an event with its sequence, that one was not delivered.
        numbers = defaultdict[Key, set[int]](set)
        for chunks in brought.values():
            for event in model.events_of(chunks):
                numbers[event.sequence, event.apid].add(event.datagram)
        others = {
            key
            for key in ever
            if not any(
                each.counts.get((key[1], number))
                for deliveries in recorded.values()
                for each in deliveries
                if key in each.keys
                for number in numbers[key]
            )
        }
        found = dict[Key, Where]()
        for key in events:
            if key in now - others:
                found[key] = Where.DELIVERED
            elif model.inside(key[0], taken):
                found[key] = Where.CLOSED if key in ever - others else Where.LATE
            else:
                found[key] = Where.DUE if model.inside(key[0], places) else Where.WAITING
        waiting = [sequence for (sequence, _), where in found.items() if where is Where.WAITING]
        due = [("", model.Event(*key, 0, 0)) for key, where in found.items() if where is Where.DUE]
        refused = any(run in of.refused for of in self.of.values())
        for series in model._series(due, model._breaks(places, taken, waiting, [])):
            large = len(series) >= self.rules.min_events
            for _, event in series:
                found[event.sequence, event.apid] = (
                    Where.WITHHELD if not large else Where.REFUSED if refused else Where.DUE
                )
        latest = [span for deliveries in recorded.values() for span in deliveries[-1].spans]
        closed = [("", model.Event(*key, 0, 0)) for key, where in found.items() if where is Where.CLOSED]
        for series in model._series(closed, lambda a, b: any(a < x and y < b for x, y in latest)):
            if len(series) < min(2, self.rules.min_events):  # too few, even if their span is reopened
                found |= {(event.sequence, event.apid): Where.WITHHELD for _, event in series}
        return found

    def readable(self, run: str) -> bool:
        """Tell whether all known events of a run can still be read."""
        for of in self.brought[run].values():
            for voucher, keys in of.items():
                home = (self.world.site.work / voucher).parent
                chunk = voucher.rpartition("/")[2][:5]
                now = {(apid, number) for of_run, apid, number in self.content[voucher] if of_run == run}
                whole = all(any(home.glob(f"*-{run}-*-{chunk}.{kind}")) for kind in ("evt", "idx", "rows"))
                if now != keys or not whole:
                    return False
        return True

    def check_verdict(self, dl: str, row: dict[str, Any]) -> None:
        problems = self.problems(dl)
        worst = max(problems.values(), default=None)
        codes = [cause["code"] for cause in row["causes"]]
        said = f"{dl} is {row['verdict']} ({row['state']}, {codes}), the books say: {', '.join(problems) or 'good'}"
        assert worst is not None or row["verdict"] == "good", said
        assert worst in {None, Problem.MAYBE} or row["verdict"] != "good", said
        # A killed process counts as alive until its lease expires. Until then it may still finish the rest.
        assert worst is not Problem.ACTION or row["verdict"] == "action" or row["state"] == "in progress", (
            said
        )
