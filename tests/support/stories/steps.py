"""The steps of stories: what people, machines and bad luck do."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from halfpipe import paths
from halfpipe.decisions import What
from halfpipe.decode import decode_chunk
from halfpipe.files.records import numbers
from halfpipe.ids import ChunkId, DownlinkId, RunId
from halfpipe.notify import submit as submission
from halfpipe.process.programs import run as run_program
from tests.support import forks, in_process
from tests.support.stories import screens
from tests.support.stories.books import Books, Downlink
from tests.support.stories.world import NewInput, World
from tests.support.workflow import Ended

Do = Callable[["Story"], bool]
"""Takes a step; False: it made no sense, and nothing was done."""
Choice = TypeVar("Choice")

STEPS: dict[Do, int] = {}
"""All steps, with their relative frequencies."""
UNANNOUNCED = "a run that no RetDef announces"
MOMENTS = range(1, 350)  # when a head may be killed


def step(weight: int) -> Callable[[Do], Do]:

    def take(do: Do) -> Do:
        STEPS[do] = weight
        return do

    return take


@dataclass
class Story:
    """A world, its books, and the steps that were taken, each with its random choices."""

    world: World
    books: Books
    rng: random.Random
    taken: list[list[object]] = field(default_factory=list)

    def one_of(self, choices: Sequence[Choice]) -> Choice:
        choice = self.rng.choice(choices)
        self.taken[-1].append(choice)
        return choice

    def dl(self) -> tuple[str, Downlink]:
        """Draw a downlink; return it with its entry in the books."""
        dl = self.one_of(self.world.downlinks)
        return dl, self.books.of[dl]

    def chunk(self, dl: str) -> NewInput:
        chunks = self.world.chunks[dl]
        return chunks[self.one_of(range(len(chunks)))]

    def file(self, dl: str) -> str:
        """Draw a file of level-0 that a chunk of a downlink needs."""
        hours = sorted(self.books.next_version(self.chunk(dl)).hours)
        return self.one_of([name for hour in hours for name in self.world.files_of(hour)])

    def heard(self, ended: Ended) -> Ended:
        """Check that a command did not print a traceback or report a defect; return its result."""
        for word in ("Traceback (most recent call last)", "defect of the program"):
            assert word not in ended.said, ended.said[-2000:]
        return ended

    def halfpipe(self, *words: str) -> Ended:
        return self.heard(self.world.site.halfpipe(*words))

    @contextmanager
    def processing(self, *dls: str) -> Iterator[None]:
        """Check what a block did to downlinks."""
        before = {dl: self.books.stamps(dl) for dl in dls}
        yield
        self.books.processed(dls, before)

    def snakemake(self, dl: str, *words: str) -> Ended:
        """Process a downlink, and check what was done."""
        with self.processing(dl):
            return self.heard(self.world.site.snakemake(f"dl={dl}", *words))

    def invoke(
        self, dl: str, *words: str, before_job: int = 0, meanwhile: Callable[[], object] | None = None
    ) -> None:
        """Process a downlink, and check the result; `meanwhile` is called before job number `before_job`."""
        obstacles = self.obstacles(dl)
        with self.between_jobs(dl, before_job, meanwhile) if meanwhile else nullcontext():
            ended = self.snakemake(dl, *words)
        if meanwhile:
            obstacles += self.obstacles(dl)
        if ended.status and (meanwhile or UNANNOUNCED in obstacles):  # a rerun includes what was new
            ended = self.snakemake(dl)
        hinders = [why for why in obstacles if why != UNANNOUNCED]
        assert not ended.status or hinders, f"{dl} {' '.join(words)} failed: {ended.said[-3000:]}"
        if ended.status:
            return
        if {*words} & {"-F", "deliver_run", "decode_chunk"}:
            self.books.of[dl].gone.clear()  # all its runs were delivered again
        for chunk in self.world.chunks[dl]:
            if (
                not meanwhile
                and chunk.voucher not in self.books.ignored
                and self.world.source(chunk).exists()
            ):
                assert self.world.staged_version(chunk), (
                    f"{chunk.voucher}: its RetDef came late and is ignored"
                )

    @contextmanager
    def between_jobs(self, dl: str, number: int, act: Callable[[], object]) -> Iterator[None]:
        """Call `act` before job `number` of an invocation, and record each decoding as the archive is then."""
        jobs = 0
        program = in_process.program

        def run(command: str) -> int:
            nonlocal jobs
            jobs += 1
            if jobs == number:
                act()
            before = self.books.stamps(dl)
            status = program(command)
            after = self.books.stamps(dl)
            for chunk in self.world.chunks[dl]:
                if after.get(chunk.voucher) not in {None, before.get(chunk.voucher)}:
                    self.books.decoded(chunk)
                    self.books.seen_decoding.add(chunk.voucher)
            return status

        with patch.object(in_process, "program", run):
            yield

    def load(self, dl: str) -> bool:
        """Load a downlink into the ledger, if it was handed off."""
        if there := self.world.site.has_receipt(dl):
            self.halfpipe("ledger", "load", dl).good()
        return there

    def obstacles(self, dl: str) -> list[str]:
        """Return why processing a downlink may fail."""
        chunks = [chunk for chunks in self.world.chunks.values() for chunk in chunks]
        mine = [self.books.next_version(chunk) for chunk in self.world.chunks[dl]]
        found = {
            "files that left the stage before their hand-off": self.books.of[dl].gone,
            "a RetDef is missing": self.has_hole(dl),
            UNANNOUNCED: self.brings_unannounced(dl),
            "a chunk is ignored": self.books.ignored,
            "a chunk brings nothing": any(not self.books.would_bring(version)[0] for version in mine),
            # Reprocessing may contribute less, and lost products may not be replaceable.
            "less": any(map(self.brings_less, chunks)),
            "decoded without an hour": any(self.books.without.values()),
        }
        return [why for why, so in found.items() if so]

    def brings_less(self, chunk: NewInput) -> bool:
        """Tell whether a chunk would contribute less now than before, or less than it should."""
        version = self.books.next_version(chunk)
        brings, missing = self.books.would_bring(version)
        had = self.books.content.get(chunk.voucher, frozenset())
        less = version == chunk.versions.get("less") or not had <= brings
        names = [name for hour in version.hours for name in self.world.files_of(hour)]
        in_part = any((self.world.away / name).exists() for name in names)
        return bool(missing) or less or in_part or (bool(had) and chunk.voucher in self.books.ignored)

    def brings_unannounced(self, dl: str) -> bool:
        """Tell whether a downlink may contain a run that none of its RetDefs announces."""
        announced = {str(chunk.chunk.run) for chunk in self.world.chunks[dl] if self.is_there(chunk)}
        versions = [self.books.next_version(chunk) for chunk in self.world.chunks[dl]]
        return not announced.issuperset(str(d.run) for version in versions for d in version.datagrams)

    def is_there(self, chunk: NewInput) -> bool:
        return self.world.source(chunk).exists() or self.world.staged_version(chunk) is not None

    def has_hole(self, dl: str) -> bool:
        """Tell whether a RetDef is missing before an existing one, or all are missing."""
        chunks = [chunk for chunk in self.world.chunks[dl] if chunk.voucher not in self.books.ignored]
        there = [self.is_there(chunk) for chunk in chunks]
        return not any(there) or not all(there[: max(n for n, so in enumerate(there) if so)])

    def take_step(self, do: Do) -> None:
        """Take a step, and check everything after it; forget it if it made no sense, and nothing was done."""
        self.taken.append([do.__name__])
        if not do(self):
            self.taken.pop()
            return
        self.books.look_at_stage()
        self.books.check()
        screens.check(self.world, self.books)


def tell(seed: int, home: Path) -> None:
    """Tell a story; fail with the findings and the steps that were taken."""
    rng = random.Random(seed)
    world = World(home, rng)
    story = Story(world, Books(world), rng)
    length = rng.randint(5, 9)
    do = process
    wrong: list[str] = []
    try:
        while len(story.taken) < length:
            story.take_step(do)
            wrong += [f"step {len(story.taken)}: {text}" for text in story.books.findings]
            story.books.findings.clear()
            (do,) = rng.choices(list(STEPS), list(STEPS.values()))
    except Exception as error:
        error.add_note("\n".join([*wrong, f"steps {story.taken}"]))
        raise
    assert not wrong, "\n".join([*wrong, f"steps {story.taken}"])


@step(14)
def process(story: Story) -> bool:
    """Process a downlink, perhaps again, and usually load it into the ledger."""
    dl, _ = story.dl()
    words = [(), (), (), (), ("-F",), ("-R", "deliver_run"), ("-R", "decode_chunk"), ("-R", "receipt")]
    story.invoke(dl, *story.one_of(words))
    if story.one_of([True, True, False]):
        story.load(dl)
    return True


@step(5)
def loaded(story: Story) -> bool:
    """Load a downlink into the ledger, perhaps again."""
    return story.load(story.dl()[0])


@step(4)
def together(story: Story) -> bool:
    """Process two downlinks at once, in two invocations."""
    dls = sorted({story.dl()[0], story.dl()[0]})
    if len(dls) == 1:
        return False
    obstacles = [why for dl in dls for why in story.obstacles(dl)]
    with story.processing(*dls):
        children = [story.world.in_a_child(f"dl={dl}") for dl in dls]
        ended = [story.heard(story.world.wait(child)) for child in children]
    assert obstacles or not any(each.status for each in ended), [each.said[-2000:] for each in ended]
    return True


@step(7)
def killed(story: Story) -> bool:
    """Process a downlink, and kill head and jobs at some moment."""
    dl, _ = story.dl()
    with story.processing(dl):
        child = story.world.in_a_child(f"dl={dl}", *story.one_of([(), ("-F",)]), at=story.one_of(MOMENTS))
        story.heard(story.world.wait(child))
    return True


@step(3)
def two_heads(story: Story) -> bool:
    """Process a downlink with two heads at once; one of them may be killed."""
    dl = story.dl()[0]
    at = story.one_of([-1, -1, *MOMENTS[::20]])
    obstacles = story.obstacles(dl)
    with story.processing(dl):
        children = [story.world.in_a_child(f"dl={dl}", at=each) for each in (at, -1)]
        ended = [story.heard(story.world.wait(child)) for child in children]
    # The second may have left before the first was killed.
    good = at >= 0 or not all(each.status for each in ended)
    assert obstacles or good, [each.said[-2000:] for each in ended]
    return True


@step(4)
def everything(story: Story) -> bool:
    """Process all outstanding downlinks."""
    obstacles = [why for dl in story.world.downlinks for why in story.obstacles(dl)]
    with story.processing(*story.world.downlinks):
        ended = story.heard(story.world.site.snakemake())
    assert obstacles or not ended.status, ended.said[-3000:]
    return True


@step(6)
def meanwhile(story: Story) -> bool:
    """Process a downlink, and let something happen before one of its jobs."""
    dl, _ = story.dl()
    what = story.one_of(["a RetDef comes", "level-0 goes", "level-0 comes", "Level-1 takes"])
    job = story.one_of(range(1, 8))
    other = story.one_of(story.world.downlinks)

    def act() -> None:
        if what == "a RetDef comes":
            for chunk in story.world.chunks[dl]:
                if not story.world.source(chunk).exists():
                    story.world.issue(chunk, "plain")
        elif what == "level-0 goes":
            story.world.take_away(story.file(dl))
        elif what == "level-0 comes":
            for name in story.world.packets:
                story.world.bring_back(name)
        elif story.books.is_submitted(other) and not story.books.of[other].taken:
            story.books.of[other].taken = True
            if other != dl and (story.world.site.stage / other).is_dir():
                story.world.site.take(other)

    story.invoke(dl, *story.one_of([(), ("-F",)]), before_job=job, meanwhile=act)
    return True


@step(4)
def flickers(story: Story) -> bool:
    """Process a downlink while a level-0 file is missing for a moment, or arrives when the decoder has ended."""
    dl, _ = story.dl()
    name = story.file(dl)
    comes = story.one_of([True, False])

    def decoder(*words: Any, **keys: Any) -> Any:
        away = not comes and story.world.take_away(name)
        try:
            return run_program(*words, **keys)
        finally:
            if comes or away:
                story.world.bring_back(name)

    if comes and not story.world.take_away(name, story.one_of([0, len(story.world.packets[name]) // 2])):
        return False
    with patch.object(decode_chunk, "run", decoder):
        if comes:
            story.invoke(dl, "-F")
        else:
            story.snakemake(dl, "-F")
    return True


@step(5)
def late(story: Story) -> bool:
    """Let a missing RetDef arrive."""
    chunk = story.chunk(story.dl()[0])
    if story.world.source(chunk).exists():
        return False
    story.world.issue(chunk, "plain")
    return True


@step(2)
def vanishes(story: Story) -> bool:
    """Remove a RetDef from the search path."""
    chunk = story.chunk(story.dl()[0])
    if not story.world.source(chunk).exists():
        return False
    story.world.source(chunk).unlink()
    return True


@step(5)
def reissue(story: Story) -> bool:
    """Issue another version of a RetDef, which may request more or less."""
    chunk = story.chunk(story.dl()[0])
    version = story.one_of(["plain", "comment", "less", "less", "more", "more", "early"])
    there = story.world.version(chunk, story.world.source(chunk))
    if version not in chunk.versions or there in {None, version}:
        return False
    story.world.issue(chunk, version)
    return True


@step(3)
def ignored(story: Story) -> bool:
    """Leave a chunk out, or take that back."""
    chunk = story.chunk(story.dl()[0])
    is_back = chunk.voucher in story.books.ignored
    story.books.ignored ^= {chunk.voucher}
    subject = f"{chunk.chunk.downlink}/{chunk.chunk.number}"
    story.world.site.decide(subject, What.LEFT_OUT, undone=is_back)
    return True


@step(4)
def hour_away(story: Story) -> bool:
    """Take an hour of level-0 out of the archive."""
    hours = sorted(story.books.next_version(story.chunk(story.dl()[0])).hours)
    names = story.world.files_of(hours[story.one_of([0, -1])])
    return bool([name for name in names if story.world.take_away(name)])


@step(4)
def part_away(story: Story) -> bool:
    """Take a level-0 file out of the archive, or leave only its first packets, like a growing file."""
    name = story.file(story.dl()[0])
    packets = len(story.world.packets[name])
    return story.world.take_away(name, story.one_of([0, *range(1, packets)]))


@step(4)
def hours_back(story: Story) -> bool:
    """Let all missing level-0 arrive."""
    return bool([name for name in story.world.packets if story.world.bring_back(name)])


@step(2)
def reopen(story: Story) -> bool:
    """Reopen what an accepted loss has closed, as if Level-1 had none of it."""
    (dl, of) = story.dl()
    books = story.books
    if of.submitted and of.submitted != of.handoff:
        return False
    done = False
    for run in books.runs:
        before = books.recorded[run].get(dl, [])
        if len(before) > 1:
            ended = story.halfpipe("accept", f"{dl}/{run}", "reopened", "--reason", screens.REASON)
            if not ended.status:
                books.recorded[run][dl] = before[-1:]  # as in `model.release`
                of.seen = {(l1, key) for l1, key in of.seen if l1 != RunId(run).l1 or key in before[-1].keys}
                done = True
    return done


@step(3)
def products_gone(story: Story) -> bool:
    """Delete products that can be made again."""
    work = story.world.site.work
    (dl, _) = story.dl()
    going = list((work / paths.chunks(dl)).glob(story.one_of(["*-*.evt", "*-*.rows", "*-*"])))
    for path in going:
        path.unlink()
    return bool(going)


@step(2)
def cleanup(story: Story) -> bool:
    if not story.world.site.work.is_dir():
        return False
    story.halfpipe("cleanup", "--do")
    return True


@step(6)
def submit(story: Story) -> bool:
    """Submit a downlink; Level-1 may refuse, fail or lie."""
    (dl, of) = story.dl()
    mode = story.one_of(["well", "well", "well", "refuse", "fail", "lie"])
    blocked = story.books.problems(dl).keys() & {"a RetDef is not processed", "the stage was wiped"}
    if not story.world.site.has_receipt(dl) or blocked:
        return False
    if not story.world.site.receipt(dl).names_files:
        return False
    work = story.world.site.work
    modes = story.world.home / "modes.json"
    for path in (work / paths.submitted(dl), log := work / paths.log("submit", dl)):
        path.unlink(missing_ok=True)
    modes.write_text(json.dumps({} if mode == "well" else {"createStream": mode}))
    with patch.object(submission, "ASKED_AGAIN", (0.0,), create=True):
        ended = story.heard(story.world.site.snakemake(f"submit={dl}"))
    modes.unlink()
    asked = log.exists() and "STAND-IN, createStream" in log.read_text()
    made = story.world.streams_of(dl)
    assert ended.status or mode != "well" or made or of.submitted, f"without a stream: {ended.said[-2000:]}"
    assert made <= 1, f"{dl} was submitted twice"
    if of.submitted:
        return True
    if made and ended.status == 0:  # perhaps by an earlier attempt, which a check has settled now
        of.submitted = of.handoff
        of.open = False
    elif asked and mode != "well":
        of.open = True
        of.asked = of.handoff
    return True


@step(3)
def settle(story: Story) -> bool:
    """A person checks whether Level-1 has the stream, and settles the submission."""
    dl, of = story.dl()
    if not of.open:
        return False
    has = bool(story.world.streams_of(dl))
    story.halfpipe("submit", dl, "--settle", "submitted" if has else "not-submitted").good()
    of.open = False
    of.submitted = of.asked if has else 0
    return True


@step(3)
def roll_back(story: Story) -> bool:
    """Roll Level-1 back to the current hand-off."""
    dl, of = story.dl()
    if not (0 < of.submitted < of.handoff and story.world.site.has_receipt(dl)):
        return False
    if story.halfpipe("submit", dl, "--rollback").status == 0:
        of.submitted = of.handoff
        of.taken = False
    return True


@step(4)
def taken(story: Story) -> bool:
    """Level-1 takes what was submitted."""
    dl, of = story.dl()
    if of.taken or not story.books.is_submitted(dl):
        return False
    of.taken = True
    if (story.world.site.stage / dl).is_dir():
        story.world.site.take(dl)
    return True


@step(2)
def wiped(story: Story) -> bool:
    """A person wipes a directory of the stage."""
    dl, of = story.dl()
    if not (story.world.site.stage / dl).is_dir():
        return False
    staged = story.world.staged(dl)
    of.wiped = bool(staged)
    if not story.books.is_submitted(dl):
        of.gone |= staged.keys()
    story.world.site.take(dl)
    return True


@step(2)
def policy(story: Story) -> bool:
    key = story.one_of(["max_events", "min_events"])
    value = story.one_of([2, 3, 5, 125000])
    if (key == "min_events" and value > 3) or getattr(story.books.rules, key) == value:
        return False
    story.world.site.configure(merge={key: value})
    story.books.rules = replace(story.books.rules, **{key: value})
    return True


@step(3)
def abandon(story: Story) -> bool:
    """Abandon a run, or undo that."""
    run = story.one_of(story.books.runs)
    books = story.books
    if run in books.abandoned:
        story.halfpipe("accept", run, "abandoned", "--undo", "--reason", screens.REASON).good()
    elif books.brought[run]:
        story.halfpipe("accept", run, "abandoned", "--reason", screens.REASON).good()
    else:
        return False
    books.abandoned ^= {run}
    return True


@step(3)
def accept(story: Story) -> bool:
    """Accept that a downlink delivers less than before, and process it again."""
    dl, of = story.dl()
    less = {
        run
        for chunk in story.world.chunks[dl]
        if story.brings_less(chunk)
        for run, _, _ in story.books.content.get(chunk.voucher, [])
    }
    if not less - of.accepted or not of.begun:
        return False
    of.accepted |= less
    for run in less:
        story.world.site.decide(f"{dl}/{run}", What.SHRUNK)
    story.invoke(dl, "-F")
    return True


@step(7)
def decide(story: Story) -> bool:
    """Do without what status offers, perhaps by two operators at once, or take such a decision back."""
    (dl, of), site, books = story.dl(), story.world.site, story.books
    if not site.work.is_dir():
        return False
    made = sorted(books.decided)
    is_undone = bool(made) and story.one_of([True, False, False])
    if is_undone:
        key = story.one_of(made)
        story.halfpipe("accept", key[1], key[0], "--undo", "--reason", screens.REASON).good()
        del books.decided[key]
        return True
    offers = sorted({each for cause in site.causes(dl).values() for each in cause.remedy.accept})
    if not offers:
        return False
    subject, decided = story.one_of(offers).split()
    what, _, number = decided.partition("=")
    words = ("accept", subject, decided, "--reason", screens.REASON)
    before = len(numbers(site.work / paths.DECISIONS))
    if story.one_of([True, False]):
        children = [
            forks.started(lambda: site.halfpipe(*words).status, story.world.home, -1) for _ in range(2)
        ]
        assert [forks.ended(child) for child in children] == [0, 0], words
        assert len(numbers(site.work / paths.DECISIONS)) <= before + 1, "twice is the same as once"
    else:
        story.halfpipe(*words).good()
    place = subject.partition("/")[2]
    if what == What.LEFT_OUT:
        books.ignored |= {paths.chunk(DownlinkId(dl), ChunkId(place))}
    elif what == What.SHRUNK:
        of.accepted |= {place}
    else:
        books.decided[What(what), subject] = int(number)
        story.halfpipe("accept", subject, f"{what}={int(number) + 1}", "--reason", screens.REASON).bad()
    return True
