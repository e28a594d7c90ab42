"""The books of a story: what it damaged and repaired, which events must be known and delivered, and the problems.

This is plain Python that looks outside of HalfPipe: at the simulated datagrams, the archive as the story left it, and
the bytes in the stage. It uses only names and times of HalfPipe's files (to see which job has ended), except for the
files that it checks.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from halfpipe import paths
from halfpipe.files.json_files import read_json
from halfpipe.ids import DownlinkId, RunId
from halfpipe.ledger.rows import IN_PROGRESS, INCOMPLETE
from halfpipe.run.deliveries import Deliveries
from tests.support import model
from tests.support.leases import leases
from tests.support.level1_accepts import level_1_takes
from tests.support.model import Delivery, Outcome, Rules
from tests.support.stories.world import Hour, Key, NewInput, StagedFile, World, hours_between

NOTHING = Delivery()


class Problem(IntEnum):
    """Severity of a problem. `MAYBE`: status may or may not report it; `NOTE`: it must; `ACTION`: a person must act."""

    MAYBE = 0
    NOTE = 1
    ACTION = 2


Stamps = dict[str, int]


@dataclass
class Downlink:
    """The state of one downlink in a story."""

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
    held: set[str] = field(default_factory=set)
    late: dict[str, int] = field(default_factory=dict)


class Books:
    """What a story knows."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.of = {dl: Downlink() for dl in world.downlinks}
        self.rules = Rules(max_events=world.max_events)
        self.content: dict[
            str, frozenset[Key]
        ] = {}  # by chunk and downlink: its datagrams when it was decoded
        self.without: dict[str, frozenset[Hour]] = {}  # hours that were missing then
        self.brought: defaultdict[str, dict[str, frozenset[Key]]] = defaultdict(dict)
        self.recorded: defaultdict[str, dict[str, list[Delivery]]] = defaultdict(dict)
        # By run: the events that its last merge withheld, and its row in the ledger with the events known when it came.
        self.withheld: Counter[str] = Counter()
        self.entered: dict[str, tuple[dict[str, Any], set[Key]]] = {}
        self.given_up: set[str] = set()
        self.sequences = {
            (str(d.run), d.apid, d.number): d
            for chunks in world.chunks.values()
            for c in chunks
            for d in c.chunk.datagrams
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

    # What must be.

    def would_bring(self, chunk: NewInput) -> tuple[frozenset[Key], frozenset[Hour]]:
        """Return what decoding a chunk brings now, and which hours are missing."""
        version = self.world.staged_version(chunk) or "plain"
        missing = frozenset(hour for hour in chunk.hours_of(version) if not self.world.present(hour))
        whole = [d for d in chunk.datagrams_of(version) if missing.isdisjoint(hours_between(d.apid, *d.span))]
        return frozenset((d.apid, d.number) for d in whole), missing

    def chunk_of(self, run: str, dl: str, keys: Iterable[Key]) -> model.Chunk:
        """Return datagrams of a run as the model has them."""
        datagrams, events = [], []
        for apid, number in sorted(keys):
            d = self.sequences[run, apid, number]
            opens, closes = d.row["oaction"].decode(), d.row["caction"].decode()
            first, last = (d.sequences[0], d.sequences[-1]) if d.sequences else (0, 0)
            datagrams.append(model.Datagram(apid, number, opens, closes, len(d.sequences), first, last))
            events += [model.Event(sequence, apid, number, 0) for sequence in d.sequences]
        return model.Chunk(dl, tuple(events), tuple(datagrams))

    def decide(self, run: str, dl: str) -> Outcome:
        """Return what the rule says of a downlink that is processed now."""
        brought = {other: (self.chunk_of(run, other, keys),) for other, keys in self.brought[run].items()}
        return model.decide(dl, brought, self.recorded[run], self.rules, run in self.given_up)

    def last(self, run: str, dl: str) -> Delivery:
        """Return the latest delivery on record."""
        return self.recorded[run].get(dl, [NOTHING])[-1]

    def record(self, run: str, dl: str, delivery: Delivery) -> None:
        """Put a delivery on record."""
        before = self.recorded[run].get(dl, [])
        if delivery != self.last(run, dl) and (before or delivery.spans):
            self.recorded[run][dl] = [*before, delivery]

    # After an invocation.

    def processed(self, dls: Sequence[str], before: dict[str, Stamps]) -> None:
        """Take in what an invocation of downlinks did, and check it against the rule."""
        after = {dl: self.stamps(dl) for dl in dls}
        fresh = {dl: {n for n, at in after[dl].items() if before[dl].get(n) != at} for dl in dls}
        for dl in dls:
            self.of[dl].begun = True
            self._decoded(dl, fresh[dl], after[dl])
        for run in self.runs:
            made = [dl for dl in dls if paths.manifest(RunId(run), dl) in fresh[dl]]
            others = [dl for dl in dls if dl not in made]
            self._delivered(run, made)
            for dl in others:
                self._perhaps_delivered(run, dl)
        for dl in dls:
            if paths.receipt(dl) in fresh[dl]:
                self._handed_off(dl)
        self.look_at_stage()

    def _decoded(self, dl: str, fresh: set[str], there: Stamps) -> None:
        for chunk in self.world.chunks[dl]:
            if chunk.voucher in fresh:
                self.content[chunk.voucher], self.without[chunk.voucher] = self.would_bring(chunk)
            elif chunk.voucher not in there:
                self.without.pop(chunk.voucher, None)

    def bring(self, run: str, dl: str) -> frozenset[Key]:
        """Return what the decoded chunks of a downlink bring of a run."""
        chunks = [c for c in self.world.chunks[dl] if c.chunk.run == run]
        return frozenset().union(*(self.content.get(c.voucher, frozenset()) for c in chunks))

    def _delivered(self, run: str, dls: Sequence[str]) -> None:
        """Check the deliveries of a run by downlinks, in some order."""
        if not dls:
            return
        was = dict(self.brought[run]), dict(self.recorded[run])  # lists of deliveries are never changed
        complaints: list[str] = []
        for order in itertools.permutations(dls):
            self.brought[run], self.recorded[run] = dict(was[0]), dict(was[1])
            complaints = [text for dl in order for text in self._one_delivery(run, dl)]
            if not complaints:
                return
        raise AssertionError(f"the rule, run {run}: {'; '.join(complaints)}")

    def _one_delivery(self, run: str, dl: str) -> Iterable[str]:
        manifest = read_json(self.world.site.work / paths.manifest(RunId(run), dl))
        self.brought[run][dl] = self.bring(run, dl)
        known = self.known_on_disk(run, dl)
        if known != self.brought[run][dl]:
            yield f"{dl} knows datagrams {sorted(known)}, expected {sorted(self.brought[run][dl])}"
        outcome = self.decide(run, dl)
        shrinks = model.shrinks(outcome, self.recorded[run].get(dl, []))
        files = [[len(f), f[0][1].sequence, f[-1][1].sequence] for f in outcome.files]
        if manifest["held"]:
            self.of[dl].held.add(run)
            return
        self.of[dl].held.discard(run)
        found = [[f["events"], *f["sequences"]] for f in manifest["files"]]
        if found != files:
            yield f"{dl} delivered {found}, expected {files}"
        said = {key: manifest[key] for key in ("orphans", "withheld", "complete")}
        wanted = {"orphans": outcome.orphans, "withheld": outcome.withheld, "complete": outcome.complete}
        if said != wanted:
            yield f"{dl} says {said}, expected {wanted}"
        assert not shrinks or run in self.of[dl].accepted, f"{dl} delivered less of run {run} than before"
        for each in self.of.values():  # a merge counts all late events of its run, from any downlink
            each.late.pop(run, None)
        self.of[dl].late[run] = outcome.late
        self.withheld[run] = outcome.withheld
        self.record(run, dl, outcome.delivery)
        if not files:
            self.of[dl].latest.pop(RunId(run).l1, None)

    def _perhaps_delivered(self, run: str, dl: str) -> None:
        """Take in what a job did that did not end well, or was not run: all or nothing."""
        known = self.known_on_disk(run, dl)
        old = self.brought[run].get(dl, frozenset())
        assert not known or known in {old, self.bring(run, dl)}, (
            f"{dl} knows {sorted(known)} of run {run}, expected {sorted(old)} or more"
        )
        if not known and not old:
            return
        self.brought[run][dl] = known
        before, outcome = self.last(run, dl), self.decide(run, dl)
        spans = self.spans_on_disk(run, dl)
        assert spans in {before.spans, outcome.delivery.spans}, f"{dl} recorded {spans} of run {run}"
        if spans != before.spans:
            self.withheld[run] = outcome.withheld
            self.record(run, dl, outcome.delivery)

    def known_on_disk(self, run: str, dl: str) -> frozenset[Key]:
        """Return which datagrams a downlink has made known of a run."""
        path = self.world.site.work / paths.datagrams(RunId(run), dl)
        lines = path.read_text().splitlines() if path.exists() else []
        return frozenset(
            (int(line.split()[4]), int(line.split()[5])) for line in lines if line.startswith("DGM")
        )

    def spans_on_disk(self, run: str, dl: str) -> tuple[tuple[int, int], ...]:
        """Return the spans that are recorded last of a downlink."""
        latest = Deliveries(self.world.site.work, RunId(run)).latest().get(DownlinkId(dl))
        return tuple((span.first, span.last) for span in latest.spans) if latest else ()

    def _handed_off(self, dl: str) -> None:
        of, receipt = self.of[dl], self.world.site.receipt(dl)
        assert receipt["handoff"] >= of.handoff, f"{dl} has hand-off {receipt['handoff']} after {of.handoff}"
        if receipt["handoff"] != of.handoff:
            of.taken = of.wiped = False
        of.handoff = receipt["handoff"]

    def look_at_stage(self) -> None:
        """Take in what lies in the stage, which Level-1 may take from now on."""
        for dl, of in self.of.items():
            for run, files in self.world.staged(dl).items():
                of.gone.discard(run)
                of.latest[run] = files
                of.seen |= {(run, key) for file in files for key in file.keys}

    # What must hold after every step.

    def check(self) -> None:
        """Check what was delivered by all hand-offs."""
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

        Level-1's checkRun (ground-chain §6) retires a run if the ledger has it as Complete or Incomplete, and no
        downlink of the run is in work. Then all settled events must be staged; for an abandoned run, all events that
        were known when the ledger got this status; and all known events if all of them were loaded. Events inside a
        span are late, because the span is closed.
        """
        chunks = [(self.chunk_of(run, dl, keys),) for dl, keys in self.brought[run].items()]
        events = {(e.sequence, e.apid) for (chunk,) in chunks for e in chunk.events}
        if self.entered.get(run, ({}, events))[0] != row:
            self.entered[run] = row, events
        l1_run = RunId(run).l1
        in_work = any((self.world.site.stage / paths.tokens(l1_run)).glob("haltCleanup-*"))
        # A refused run that is not loaded yet is unknown to the ledger: an unavoidable race (docs/ledger.md).
        held = any(run in of.held for of in self.of.values())
        if in_work or held or row["status"] == IN_PROGRESS:
            return
        known = model.known_datagrams(chunks)
        places = model.settled(known, self.rules, given_up=row["ndgms"] == sum(map(len, known.values())))
        wanted = {key for key in events if model.inside(key[0], places)}
        if row["status"] == INCOMPLETE:
            wanted |= self.entered[run][1]
        spans = [span for dl in self.recorded[run] for span in self.last(run, dl).spans]
        staged = {key for of in self.of.values() for l1, key in of.seen if l1 == l1_run}
        left = {key for key in wanted - staged if not model.inside(key[0], spans)}
        assert len(left) <= self.withheld[run], f"run {run} is {row['status']} without {sorted(left)}"

    def problems(self, dl: str) -> dict[str, Problem]:
        """Return the problems of a downlink."""
        of, found = self.of[dl], dict[str, Problem]()
        if not of.begun:
            return {"not processed": Problem.NOTE}
        for chunk in self.world.chunks[dl]:
            source = self.world.version(chunk, self.world.source(chunk))
            staged = self.world.staged_version(chunk)
            if source is not None and staged is None:
                found["a RetDef is not processed"] = Problem.NOTE
            elif source is not None and source != staged:
                found["a RetDef was issued again"] = Problem.NOTE
            if self.without.get(chunk.voucher):
                found["decoded without an hour"] = Problem.ACTION
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
        if of.held:
            found["a run is refused"] = Problem.ACTION
        if any(of.late.values()):
            found["late events"] = Problem.ACTION
        if of.accepted:
            found["a loss is accepted"] = Problem.MAYBE
        if any(run in self.given_up and dl in self.brought[run] for run in self.runs):
            found["a run is abandoned"] = Problem.MAYBE
        if leases(self.world.site.work):
            found["a lease is left"] = Problem.MAYBE
        return found

    def check_verdict(self, dl: str, row: dict[str, Any]) -> None:
        """Compare a verdict with the books."""
        problems = self.problems(dl)
        worst = max(problems.values(), default=None)
        codes = [cause["code"] for cause in row["causes"]]
        said = f"{dl} is {row['verdict']} ({row['state']}, {codes}), the books say: {', '.join(problems) or 'good'}"
        assert worst is not None or row["verdict"] == "good", said
        assert worst in {None, Problem.MAYBE} or row["verdict"] != "good", said
        # A killed process counts as alive until its lease expires; until then it may still be responsible for the rest.
        assert worst is not Problem.ACTION or row["verdict"] == "action" or row["state"] == "in work", said
