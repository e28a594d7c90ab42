"""Stories of some seeds: a site is made, a few steps are drawn and taken, and all is looked at after each."""

import random
from pathlib import Path

import pytest

from tests.support.stories.books import Books
from tests.support.stories.steps import STEPS, Story, process
from tests.support.stories.world import World

EVERY_DAY, ALL = 3, 301
SEEDS = [pytest.param(seed, marks=[] if seed < EVERY_DAY else pytest.mark.stories) for seed in range(1, ALL)]


@pytest.mark.parametrize("seed", SEEDS)
def test_story(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    world = World(tmp_path / "story", rng)
    story, length, do = Story(world, Books(world), rng), rng.randint(4, 8), process
    try:
        while len(story.taken) < length:
            story.take_step(do)
            (do,) = rng.choices(list(STEPS), list(STEPS.values()))
    except Exception as error:
        error.add_note(f"after {story.taken}")
        raise
