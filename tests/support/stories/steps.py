"""The steps of stories: what people, machines and bad luck do."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from unittest.mock import patch

from halfpipe import paths
from halfpipe.downlink import submit as submission
from halfpipe.ids import RunId
from tests.support import model
from tests.support.stories.books import Books, WrongError
from tests.support.stories.world import NewInput, World, job_that_dies
from tests.support.workflow import Ended

Do = Callable[["Story", "Arguments"], bool]
"""Takes a step; False: it made no sense, and nothing was done."""

STEPS: dict[str, Do] = {}
WEIGHTS: dict[str, int] = {}
ARGUMENTS: dict[str, tuple[Sequence[str], ...]] = {}
DL = ("0", "1", "2")
PLACE = ("0", "1", "2", "3")
MOMENT = tuple(map(str, range(1, 350)))


@dataclass(frozen=True)
class Step:
    """One step with its words."""

    name: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.name, *self.words))

    @classmethod
    def drawn(cls, rng: random.Random) -> "Step":
        """Draw one."""
        (name,) = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))
        return cls(name, tuple(rng.choice(choices) for choices in ARGUMENTS[name]))


@dataclass(frozen=True)
class Arguments:
    """The words of a step."""

    world: World
    words: tuple[str, ...]

    def dl(self, place: int = 0) -> str:
        """Return the downlink that a word means."""
        return self.world.downlinks[int(self.words[place]) % len(self.world.downlinks)]

    def chunk(self, place: int = 1) -> NewInput:
        """Return the chunk that a word means, of the downlink of the first word."""
        chunks = self.world.chunks[self.dl()]
        return chunks[int(self.words[place]) % len(chunks)]


def step(weight: int, *arguments: Sequence[str]) -> Callable[[Do], Do]:
    """Make a function a step."""

    def take(do: Do) -> Do:
        name = do.__name__.replace("_", "-")
        STEPS[name], WEIGHTS[name], ARGUMENTS[name] = do, weight, arguments
        return do

    return take


@dataclass
class Story:
    """A world, its books, and what was said by the last command."""

    world: World
    books: Books
    said: str = ""

    def heard(self, ended: Ended) -> Ended:
        """Keep what a command said; none may end as a program that is not finished."""
        self.said = ended.said
        for word in ("Traceback (most recent call last)", "defect of the program"):
            if word in ended.said:
                raise WrongError(word, ended.said[-2000:])
        return ended

    def invoke(self, dl: str, *words: str) -> None:
        """Process a downlink, and check what that did."""
        before = {dl: self.books.stamps(dl)}
        obstacles = self.obstacles(dl)
        ended = self.heard(self.world.site.snakemake(*words))
        self.books.processed([dl], before)
        if ended.status and not obstacles:
            raise WrongError("failed", f"{' '.join(words)}: {ended.said[-3000:]}")
        if not ended.status and len(words) > 1:
            self.books.of[dl].gone.clear()  # all its runs were delivered again
        for chunk in self.world.chunks[dl]:
            if (
                not ended.status
                and self.world.source(chunk).exists()
                and not self.world.staged_version(chunk)
            ):
                raise WrongError("ignored", f"a RetDef that came late: {self.world.source(chunk)}")

    def obstacles(self, dl: str) -> list[str]:
        """Return why processing a downlink may fail."""
        books, found = self.books, []
        if books.of[dl].gone:
            found.append("files that left the stage before their hand-off")
        # What is processed again may bring less; what is gone may not be made again.
        if any(
            books.would_bring(c)[1] or self.world.version(c, self.world.source(c)) == "less"
            for c in self.chunks()
        ):
            found.append("less")
        if any(books.without.values()):
            found.append("decoded without an hour")
        return found

    def chunks(self) -> list[NewInput]:
        """Return all chunks."""
        return [chunk for chunks in self.world.chunks.values() for chunk in chunks]

    def take_step(self, step: Step) -> bool:
        """Take a step, and check everything after it; return False if it made no sense, and nothing was done."""
        if not STEPS[step.name](self, Arguments(self.world, step.words)):
            return False
        self.books.look_at_stage()
        self.books.check()
        self.verdicts()
        return True

    def verdicts(self) -> None:
        """Hold the verdicts of all downlinks against the books."""
        ended = self.heard(self.world.site.halfpipe("status", *self.world.downlinks, "--json"))
        try:
            rows = {row["dl"]: row for row in json.loads(ended.said)["downlinks"]}
        except (ValueError, KeyError) as error:
            raise WrongError("status", ended.said) from error
        if rows.keys() != set(self.world.downlinks):
            raise WrongError("status", f"it tells of {sorted(rows)} only")
        wants = any(row["verdict"] == "action" for row in rows.values())
        if wants and ended.status != 1:
            raise WrongError("status", f"it ends with {ended.status}, and action is needed")
        for dl, row in rows.items():
            self.books.check_verdict(dl, row)


@step(14, DL, ("plain", "plain", "plain", "-F", "-R"))
def process(story: Story, given: Arguments) -> bool:
    """Process a downlink, or process it again."""
    dl = given.dl()
    story.invoke(dl, f"dl={dl}", *{"plain": [], "-F": ["-F"], "-R": ["-R", "deliver_run"]}[given.words[1]])
    return True


@step(4, DL, DL)
def together(story: Story, given: Arguments) -> bool:
    """Process two downlinks at once, in two invocations."""
    dls = sorted({given.dl(0), given.dl(1)})
    if len(dls) == 1:
        return False
    before = {dl: story.books.stamps(dl) for dl in dls}
    obstacles = [why for dl in dls for why in story.obstacles(dl)]
    children = [story.world.in_a_child(f"dl={dl}") for dl in dls]
    ended = [story.world.wait(child) for child in children]
    for each in ended:
        story.heard(each)
    story.books.processed(dls, before)
    if any(each.status for each in ended) and not obstacles:
        raise WrongError("failed", "\n".join(each.said[-2000:] for each in ended))
    return True


@step(4, DL, ("plain", "-F"), MOMENT)
def killed(story: Story, given: Arguments) -> bool:
    """Process a downlink, and kill head and jobs at some moment."""
    dl = given.dl()
    before = {dl: story.books.stamps(dl)}
    words = ["-F"] if given.words[1] == "-F" else []
    ended = story.world.wait(story.world.in_a_child(f"dl={dl}", *words, at=int(given.words[2])))
    story.heard(ended)
    story.books.processed([dl], before)
    return True


@step(3, DL, ("plain", "-F"), tuple("123456789"), tuple(map(str, range(1, 60))))
def job_killed(story: Story, given: Arguments) -> bool:
    """Process a downlink, and kill one job at some moment."""
    dl = given.dl()
    before = {dl: story.books.stamps(dl)}
    words = ["-F"] if given.words[1] == "-F" else []
    with job_that_dies(story.world.home, int(given.words[2]), int(given.words[3])):
        story.heard(story.world.site.snakemake(f"dl={dl}", *words))
    story.books.processed([dl], before)
    return True


@step(5, DL)
def late(story: Story, given: Arguments) -> bool:
    """Let the RetDef arrive that was held back."""
    chunk = story.world.chunks[given.dl()][-1]
    if story.world.source(chunk).exists():
        return False
    story.world.issue(chunk, "plain")
    return True


@step(4, DL, PLACE, ("plain", "comment", "less", "less"))
def reissue(story: Story, given: Arguments) -> bool:
    """Issue a RetDef again."""
    chunk, version = given.chunk(), given.words[2]
    if version not in chunk.retdefs or story.world.version(chunk, story.world.source(chunk)) in {
        None,
        version,
    }:
        return False
    story.world.issue(chunk, version)
    return True


@step(4, DL, PLACE, ("first", "last"))
def hour_away(story: Story, given: Arguments) -> bool:
    """Take an hour of level-0 out of the archive."""
    hours = sorted(given.chunk().hours_of("plain"))
    return story.world.move(
        hours[0 if given.words[2] == "first" else -1], story.world.archive, story.world.away
    )


@step(4)
def hours_back(story: Story, given: Arguments) -> bool:
    """Let all hours arrive."""
    hours = {hour for chunk in story.chunks() for hour in chunk.hours_of("plain")}
    moved = [story.world.move(hour, story.world.away, story.world.archive) for hour in hours]
    return any(moved)


@step(3, DL, ("events", "chunks", "both"))
def products_gone(story: Story, given: Arguments) -> bool:
    """Delete products that can be made again."""
    work, dl = story.world.site.work, given.dl()
    events = [work / paths.events(RunId(run), dl) for run in story.books.runs]
    chunks = [*(work / paths.chunks(dl)).glob("*.evt"), *(work / paths.chunks(dl)).glob("*.idx")]
    going = {"events": events, "chunks": chunks, "both": [*events, *chunks]}[given.words[1]]
    going = [path for path in going if path.exists()]
    for path in going:
        path.unlink()
    return bool(going)


@step(2)
def cleanup(story: Story, given: Arguments) -> bool:
    """Clean up."""
    if not story.world.site.work.is_dir():
        return False
    story.heard(story.world.site.halfpipe("cleanup", "--remove"))
    return True


@step(6, DL, ("well", "well", "well", "refuse", "fail", "lie"))
def submit(story: Story, given: Arguments) -> bool:
    """Submit a downlink; Level-1 may answer wrongly."""
    dl, mode = given.dl(), given.words[1]
    of = story.books.of[dl]
    if not story.books.has_receipt(dl) or story.books.amiss(dl).keys() & {
        "a RetDef is not processed",
        "the stage was wiped",
    }:
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
    if ended.status == 0 and mode == "well" and not made and not of.submitted:
        raise WrongError(
            "submit", f"{dl} counts as submitted, and Level-1 has no stream: {ended.said[-2000:]}"
        )
    if made > 1:
        raise WrongError("submit", f"{dl} was submitted twice")
    if of.submitted:
        return True
    if made and ended.status == 0:  # perhaps of an attempt before, which a check has settled now
        of.submitted, of.open = of.handoff, False
    elif asked and mode != "well":
        of.open, of.asked = True, of.handoff
    return True


@step(3, DL)
def settle(story: Story, given: Arguments) -> bool:
    """Somebody looks whether Level-1 has the stream, and says so."""
    dl = given.dl()
    of = story.books.of[dl]
    if not of.open:
        return False
    has = bool(story.world.streams_of(dl))
    story.heard(
        story.world.site.halfpipe("submit", dl, "--settle", "submitted" if has else "not-submitted").good()
    )
    of.open = False
    of.submitted = of.asked if has else 0
    return True


@step(3, DL)
def roll_back(story: Story, given: Arguments) -> bool:
    """Roll Level-1 back to the present hand-off."""
    dl = given.dl()
    of = story.books.of[dl]
    if not (of.submitted and of.submitted < of.handoff and story.books.has_receipt(dl)):
        return False
    ended = story.heard(story.world.site.halfpipe("submit", dl, "--rollback"))
    if ended.status == 0:
        of.submitted, of.taken = of.handoff, False
    return True


@step(4, DL)
def taken(story: Story, given: Arguments) -> bool:
    """Level-1 takes what was submitted."""
    of = story.books.of[given.dl()]
    if of.taken or not of.submitted or of.submitted < of.handoff or not story.books.has_receipt(given.dl()):
        return False
    of.taken = True
    _empty(story, given.dl())
    return True


@step(2, DL)
def wiped(story: Story, given: Arguments) -> bool:
    """Somebody wipes a directory of the stage."""
    of = story.books.of[given.dl()]
    if not (story.world.site.stage / given.dl()).is_dir():
        return False
    staged = story.world.staged(given.dl())
    of.wiped = bool(staged)
    if not of.submitted or of.submitted < of.handoff or not story.books.has_receipt(given.dl()):
        of.gone |= staged.keys()
    _empty(story, given.dl())
    return True


def _empty(story: Story, dl: str) -> None:
    stage = story.world.site.stage
    for run, files in story.world.staged(dl).items():
        for file in files:
            (stage / "chunktokens" / run / file.name.removesuffix(".evt")).unlink(missing_ok=True)
    shutil.rmtree(stage / dl, ignore_errors=True)


@step(2, ("max_events", "min_events"), ("2", "3", "5", "125000"))
def policy(story: Story, given: Arguments) -> bool:
    """Change the policy."""
    key, value = given.words[0], int(given.words[1])
    if (key == "min_events" and value > 3) or getattr(story.books.rules, key) == value:
        return False
    story.world.site.configure(merge={key: value})
    story.books.with_rules(**{key: value})
    return True


@step(2, ("0", "1"))
def give_up(story: Story, given: Arguments) -> bool:
    """Give a run up."""
    run = story.books.runs[int(given.words[0]) % len(story.books.runs)]
    if run in story.books.given_up or not story.books.brought[run]:
        return False
    story.heard(story.world.site.halfpipe("force", run, "--reason", "a story").good())
    story.books.given_up.add(run)
    return True


@step(1, ("0", "1"))
def take_back(story: Story, given: Arguments) -> bool:
    """Take that back."""
    run = story.books.runs[int(given.words[0]) % len(story.books.runs)]
    if run not in story.books.given_up:
        return False
    story.heard(story.world.site.halfpipe("force", run, "--take-back").good())
    story.books.given_up.discard(run)
    return True


@step(3, DL)
def accept(story: Story, given: Arguments) -> bool:
    """Accept that a downlink delivers less than before, and process it again."""
    dl = given.dl()
    less = [
        chunk
        for chunk in story.world.chunks[dl]
        if story.books.would_bring(chunk)[1]
        or story.world.version(chunk, story.world.source(chunk)) == "less"
    ]
    if not less or story.books.of[dl].accepted or not story.books.of[dl].begun:
        return False
    story.books.of[dl].accepted |= {str(c.chunk.run) for c in less}
    runs = [
        {"dl": d, "run": run, "reason": "a story"} for d, of in story.books.of.items() for run in of.accepted
    ]
    story.world.site.configure(shrink={"accept": runs})
    story.invoke(dl, f"dl={dl}", "-F")
    return True


@step(2, DL)
def release(story: Story, given: Arguments) -> bool:
    """Level-1 was rolled back, so what an accepted loss left out is open to others."""
    dl, books = given.dl(), story.books
    of = books.of[dl]
    closed = [run for run in of.accepted if len(books.recorded[run].get(dl, [])) > 1]
    if not closed or not books.has_receipt(dl) or of.submitted not in {0, of.handoff}:
        return False
    for run in closed:
        if (
            story.heard(story.world.site.halfpipe("force", run, "--reopen", dl, "--reason", "a story")).status
            == 0
        ):
            books.recorded[run][dl] = model.release(books.recorded[run][dl])
            l1 = RunId(run).l1
            latest = {(l1, key) for file in of.latest.get(l1, []) for key in file.keys}
            of.seen = {(name, key) for name, key in of.seen if name != l1} | latest
    return True


def needs_action(story: Story, what: str, dl: str) -> None:
    """Ask status, which has to need action of the downlink."""
    ended = story.heard(story.world.site.halfpipe("status", dl, "--json"))
    if not ended.status or json.loads(ended.said)["downlinks"][0]["verdict"] != "action":
        raise WrongError(f"good, {what}", ended.said[-2000:])


@step(3, DL)
def silent(story: Story, given: Arguments) -> bool:
    """The decoder ends well and writes nothing, though RetDefs announce data; later it works."""
    dl, site = given.dl(), story.world.site
    there = [chunk for chunk in story.world.chunks[dl] if story.world.source(chunk).exists()]
    if not any(chunk.datagrams and not story.books.would_bring(chunk)[1] for chunk in there):
        return False  # of what is missing an hour all says so already
    before = {dl: story.books.stamps(dl)}
    decoder = dict(site.config.get("decoder", {}))
    site.configure(decoder={"command": "true"})
    ended = story.heard(site.snakemake(f"dl={dl}", "-F"))
    if not ended.status:
        raise WrongError("not refused, a silent decoder", ended.said[-2000:])
    needs_action(story, "a silent decoder", dl)
    site.config["decoder"] = decoder
    site.configure()
    story.books.processed([dl], before)
    story.invoke(dl, f"dl={dl}", "-F")
    return True


@step(3, DL, PLACE)
def growing(story: Story, given: Arguments) -> bool:
    """An hour of level-0 is decoded while it is still being copied, and is whole later."""
    dl, world = given.dl(), story.world
    hours = sorted(given.chunk().hours_of("plain"))
    files = world.files_of(hours[-1], world.archive)
    if not files or not world.source(given.chunk()).exists():
        return False
    content = {path: path.read_bytes() for path in files}
    for path in files:
        path.write_bytes(b"")
    before = story.books.stamps(dl)
    story.invoke(dl, f"dl={dl}", "-F")
    decoded = story.books.voucher(given.chunk())
    again = story.books.stamps(dl).get(decoded) not in {None, before.get(decoded)}
    for path, whole in content.items():
        path.write_bytes(whole)
    if again:
        needs_action(story, "level-0 that grew", dl)
    story.invoke(dl, f"dl={dl}", "-F")
    return True
