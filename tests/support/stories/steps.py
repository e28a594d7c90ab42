"""The steps of stories: what people, machines and bad luck do."""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar
from unittest.mock import patch

from halfpipe import paths
from halfpipe.downlink import submit as submission
from tests.support.stories.books import Books, Downlink
from tests.support.stories.world import NewInput, World
from tests.support.workflow import Ended

Do = Callable[["Story"], bool]
"""Takes a step; False: it made no sense, and nothing was done."""
Choice = TypeVar("Choice")

STEPS: dict[Do, int] = {}
"""All steps, and how often each is taken beside the others."""
MOMENTS = range(1, 350)  # of a head


def step(weight: int) -> Callable[[Do], Do]:
    """Make a function a step."""

    def take(do: Do) -> Do:
        STEPS[do] = weight
        return do

    return take


@dataclass
class Story:
    """A world, its books, and the steps that were taken, each with what was drawn for it."""

    world: World
    books: Books
    rng: random.Random
    taken: list[list[object]] = field(default_factory=list)

    def one_of(self, choices: Sequence[Choice]) -> Choice:
        """Draw one."""
        choice = self.rng.choice(choices)
        self.taken[-1].append(choice)
        return choice

    def dl(self) -> tuple[str, Downlink]:
        """Draw a downlink; return it with what the books know of it."""
        dl = self.one_of(self.world.downlinks)
        return dl, self.books.of[dl]

    def chunk(self, dl: str) -> NewInput:
        """Draw a chunk of a downlink."""
        chunks = self.world.chunks[dl]
        return chunks[self.one_of(range(len(chunks)))]

    def heard(self, ended: Ended) -> Ended:
        """Listen to a command; none may end as a program that is not finished."""
        for word in ("Traceback (most recent call last)", "defect of the program"):
            assert word not in ended.said, ended.said[-2000:]
        return ended

    def halfpipe(self, *words: str) -> Ended:
        """Give a verb."""
        return self.heard(self.world.site.halfpipe(*words))

    def invoke(self, dl: str, *words: str) -> None:
        """Process a downlink, and check what that did."""
        before = {dl: self.books.stamps(dl)}
        obstacles = self.obstacles(dl)
        ended = self.heard(self.world.site.snakemake(f"dl={dl}", *words))
        self.books.processed([dl], before)
        assert not ended.status or obstacles, f"{dl} {' '.join(words)} failed: {ended.said[-3000:]}"
        if ended.status:
            return
        if words:
            self.books.of[dl].gone.clear()  # all its runs were delivered again
        for chunk in self.world.chunks[dl]:
            source = self.world.source(chunk)
            assert self.world.staged_version(chunk) or not source.exists(), (
                f"{source} came late and is ignored"
            )

    def load(self, dl: str) -> bool:
        """Load a downlink into the ledger, if it was handed off."""
        if there := self.world.site.has_receipt(dl):
            self.halfpipe("ledger", "load", dl).good()
        return there

    def obstacles(self, dl: str) -> list[str]:
        """Return why processing a downlink may fail."""
        found = ["files that left the stage before their hand-off"] if self.books.of[dl].gone else []
        # What is processed again may bring less; what is gone may not be made again.
        if any(self.brings_less(c) for chunks in self.world.chunks.values() for c in chunks):
            found.append("less")
        if any(self.books.without.values()):
            found.append("decoded without an hour")
        return found

    def brings_less(self, chunk: NewInput) -> bool:
        """Tell whether a chunk would bring less now than it was to bring."""
        asked = self.world.version(chunk, self.world.source(chunk))
        return bool(self.books.would_bring(chunk)[1]) or asked == "less"

    def take_step(self, do: Do) -> bool:
        """Take a step, and check everything after it; return False if it made no sense, and nothing was done."""
        self.taken.append([do.__name__])
        if not do(self):
            self.taken.pop()
            return False
        self.books.look_at_stage()
        self.books.check()
        self.verdicts()
        return True

    def verdicts(self) -> None:
        """Hold the verdicts of all downlinks against the books."""
        ended = self.halfpipe("status", *self.world.downlinks, "--json")
        rows = {row["dl"]: row for row in json.loads(ended.said)["downlinks"]}
        assert rows.keys() == set(self.world.downlinks)
        assert ended.status == 1 or not any(row["verdict"] == "action" for row in rows.values())
        for dl, row in rows.items():
            self.books.check_verdict(dl, row)


@step(14)
def process(story: Story) -> bool:
    """Process a downlink, or process it again; mostly it is loaded into the ledger then."""
    dl, _ = story.dl()
    story.invoke(dl, *story.one_of([(), (), (), ("-F",), ("-R", "deliver_run")]))
    if story.one_of([True, True, False]):
        story.load(dl)
    return True


@step(5)
def loaded(story: Story) -> bool:
    """Load a downlink into the ledger, now or again."""
    return story.load(story.dl()[0])


@step(4)
def together(story: Story) -> bool:
    """Process two downlinks at once, in two invocations."""
    dls = sorted({story.dl()[0], story.dl()[0]})
    if len(dls) == 1:
        return False
    before = {dl: story.books.stamps(dl) for dl in dls}
    obstacles = [why for dl in dls for why in story.obstacles(dl)]
    children = [story.world.in_a_child(f"dl={dl}") for dl in dls]
    ended = [story.heard(story.world.wait(child)) for child in children]
    story.books.processed(dls, before)
    assert obstacles or not any(each.status for each in ended), [each.said[-2000:] for each in ended]
    return True


@step(7)
def killed(story: Story) -> bool:
    """Process a downlink, and kill head and jobs at some moment."""
    dl, _ = story.dl()
    before = {dl: story.books.stamps(dl)}
    child = story.world.in_a_child(f"dl={dl}", *story.one_of([(), ("-F",)]), at=story.one_of(MOMENTS))
    story.heard(story.world.wait(child))
    story.books.processed([dl], before)
    return True


@step(5)
def late(story: Story) -> bool:
    """Let the RetDef arrive that was held back."""
    chunk = story.world.chunks[story.dl()[0]][-1]
    if story.world.source(chunk).exists():
        return False
    story.world.issue(chunk, "plain")
    return True


@step(4)
def reissue(story: Story) -> bool:
    """Issue a RetDef again."""
    chunk, version = story.chunk(story.dl()[0]), story.one_of(["plain", "comment", "less", "less"])
    there = story.world.version(chunk, story.world.source(chunk))
    if version not in chunk.retdefs or there in {None, version}:
        return False
    story.world.issue(chunk, version)
    return True


@step(4)
def hour_away(story: Story) -> bool:
    """Take an hour of level-0 out of the archive."""
    hours = sorted(story.chunk(story.dl()[0]).hours_of("plain"))
    return story.world.move(hours[story.one_of([0, -1])], story.world.archive, story.world.away)


@step(4)
def hours_back(story: Story) -> bool:
    """Let all hours arrive."""
    chunks = [chunk for chunks in story.world.chunks.values() for chunk in chunks]
    hours = {hour for chunk in chunks for hour in chunk.hours_of("plain")}
    moved = [story.world.move(hour, story.world.away, story.world.archive) for hour in hours]
    return any(moved)


@step(3)
def products_gone(story: Story) -> bool:
    """Delete products that can be made again."""
    work, (dl, _) = story.world.site.work, story.dl()
    going = list((work / paths.chunks(dl)).glob(story.one_of(["*-*.evt", "*-*.rows", "*-*"])))
    for path in going:
        path.unlink()
    return bool(going)


@step(2)
def cleanup(story: Story) -> bool:
    """Clean up."""
    if not story.world.site.work.is_dir():
        return False
    story.halfpipe("cleanup", "--remove")
    return True


@step(6)
def submit(story: Story) -> bool:
    """Submit a downlink; Level-1 may answer wrongly."""
    (dl, of), mode = story.dl(), story.one_of(["well", "well", "well", "refuse", "fail", "lie"])
    blocked = story.books.problems(dl).keys() & {"a RetDef is not processed", "the stage was wiped"}
    if not story.world.site.has_receipt(dl) or blocked:
        return False
    if not any(run["named"] and run["files"] for run in story.world.site.receipt(dl)["runs"]):
        return False
    work, modes = story.world.site.work, story.world.home / "modes.json"
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
    if made and ended.status == 0:  # perhaps of an attempt before, which a check has settled now
        of.submitted, of.open = of.handoff, False
    elif asked and mode != "well":
        of.open, of.asked = True, of.handoff
    return True


@step(3)
def settle(story: Story) -> bool:
    """A person checks whether Level-1 has the stream, and confirms it."""
    dl, of = story.dl()
    if not of.open:
        return False
    has = bool(story.world.streams_of(dl))
    story.halfpipe("submit", dl, "--settle", "submitted" if has else "not-submitted").good()
    of.open, of.submitted = False, of.asked if has else 0
    return True


@step(3)
def roll_back(story: Story) -> bool:
    """Roll Level-1 back to the present hand-off."""
    dl, of = story.dl()
    if not (0 < of.submitted < of.handoff and story.world.site.has_receipt(dl)):
        return False
    if story.halfpipe("submit", dl, "--rollback").status == 0:
        of.submitted, of.taken = of.handoff, False
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
    """Change the policy."""
    key, value = story.one_of(["max_events", "min_events"]), story.one_of([2, 3, 5, 125000])
    if (key == "min_events" and value > 3) or getattr(story.books.rules, key) == value:
        return False
    story.world.site.configure(merge={key: value})
    story.books.rules = replace(story.books.rules, **{key: value})
    return True


@step(3)
def give_up(story: Story) -> bool:
    """Give a run up, or take that back."""
    run, books = story.one_of(story.books.runs), story.books
    if run in books.given_up:
        story.halfpipe("force", run, "--take-back").good()
    elif books.brought[run]:
        story.halfpipe("force", run, "--reason", "a story").good()
    else:
        return False
    books.given_up ^= {run}
    return True


@step(3)
def accept(story: Story) -> bool:
    """Accept that a downlink delivers less than before, and process it again."""
    dl, of = story.dl()
    less = {str(chunk.chunk.run) for chunk in story.world.chunks[dl] if story.brings_less(chunk)}
    if not less or of.accepted or not of.begun:
        return False
    of.accepted |= less
    every = [(d, run) for d, each in story.books.of.items() for run in each.accepted]
    story.world.site.configure(
        shrink={"accept": [{"dl": d, "run": run, "reason": "a story"} for d, run in every]}
    )
    story.invoke(dl, "-F")
    return True
