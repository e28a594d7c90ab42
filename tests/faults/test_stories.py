"""Random stories: a seed makes a site and some steps, and everything is checked after each step."""

from pathlib import Path

import pytest

from tests.support.stories.steps import tell

EVERY_DAY, ALL = {4, 5, 6}, 1000
SEEDS = [
    pytest.param(seed, marks=[] if seed in EVERY_DAY else pytest.mark.stories) for seed in range(1, ALL + 1)
]


@pytest.mark.parametrize("seed", SEEDS)
def test_story(seed: int, tmp_path: Path) -> None:
    tell(seed, tmp_path / "story")
