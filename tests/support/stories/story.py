"""A story from a seed: drawn, told, and made shorter if it fails."""

import random
import shutil
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.stories import troubles  # noqa: F401 - its steps are among those that are drawn
from tests.support.stories.books import Books, WrongError
from tests.support.stories.steps import Step, Story
from tests.support.stories.world import Shape, World


@dataclass(frozen=True)
class Told:
    """How a story went: what was wrong, None if nothing, and after how many steps."""

    seed: int
    steps: tuple[Step, ...]
    wrong: WrongError | None
    seconds: float

    def __str__(self) -> str:
        if self.wrong is None:
            return f"story {self.seed}: good, {len(self.steps)} steps, {self.seconds:.1f} s"
        return (
            f"story {self.seed}: {self.wrong}\n"
            f'  python -m tests.support.stories {self.seed} --steps "{"; ".join(map(str, self.steps))}"'
        )


def steps_of(rng: random.Random) -> Iterator[Step]:
    """Draw steps without end; the first processes something."""
    yield Step("process", (str(rng.randrange(3)), "plain"))
    while True:
        yield Step.drawn(rng)


def tell(seed: int, home: Path, steps: Iterable[Step] | None = None, *, verdicts: bool = True) -> Told:
    """Tell the story of a seed, with its own steps or others, in the directory `home`, which goes.

    Without `verdicts`, only what is delivered is looked at.
    """
    rng = random.Random(seed)
    shape, length = Shape.drawn(rng), rng.randint(4, 8)
    begin, taken = time.monotonic(), []
    wrong: WrongError | None = None
    shutil.rmtree(home, ignore_errors=True)
    try:
        world = World(home, shape)
        story = Story(world, Books(world), verdicts)
        for step in steps_of(rng) if steps is None else steps:
            taken.append(step)
            if not story.take_step(step):
                taken.pop()
            elif len(taken) == length and steps is None:
                break
    except WrongError as error:
        wrong = error
    except (
        Exception
    ) as error:  # a defect of the harness, or of what it calls in this process, is a finding too
        where = "".join(traceback.format_exception(error)[-3:])
        wrong = WrongError(f"exception {type(error).__name__}", where)
    return Told(seed, tuple(taken), wrong, time.monotonic() - begin)


def shorter(told: Told, home: Path, *, verdicts: bool = True) -> Told:
    """Drop steps as long as the same is wrong."""
    place = len(told.steps) - 2
    while place >= 0:
        fewer = told.steps[:place] + told.steps[place + 1 :]
        again = tell(told.seed, home, fewer, verdicts=verdicts)
        if again.wrong is not None and told.wrong is not None and again.wrong.kind == told.wrong.kind:
            told = again
        place = min(place, len(told.steps)) - 1
    return told
