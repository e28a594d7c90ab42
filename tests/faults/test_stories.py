"""Stories of some seeds: a site is made, a few steps are drawn and taken, and all is looked at after each."""

import random
from pathlib import Path

import pytest

from tests.support.stories.books import Books
from tests.support.stories.steps import Step, Story
from tests.support.stories.world import Shape, World

EVERY_DAY, ALL = 3, 301
SEEDS = [pytest.param(seed, marks=[] if seed < EVERY_DAY else pytest.mark.stories) for seed in range(1, ALL)]


@pytest.mark.parametrize("seed", SEEDS)
def test_story(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    shape, length = Shape.drawn(rng), rng.randint(4, 8)
    world = World(tmp_path / "story", shape)
    story, step = Story(world, Books(world)), Step("process", (str(rng.randrange(3)), "plain"))
    taken: list[Step] = []
    try:
        while len(taken) < length:
            if story.take_step(step):
                taken.append(step)
            step = Step.drawn(rng)
    except Exception as error:
        error.add_note(f"after {'; '.join(map(str, taken))}, then {step}")
        raise
