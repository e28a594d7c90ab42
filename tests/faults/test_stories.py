"""Random stories: a seed makes a site and some steps, and everything is checked after each step.

`python -m tests.support.stories --shrink SEED` runs one story, and leaves out the steps that do not matter.
"""

from pathlib import Path

import pytest

from tests.support.stories.steps import tell

EVERY_DAY, ALL = {4, 5, 6}, 1000
SEEDS = [
    pytest.param(seed, marks=[] if seed in EVERY_DAY else pytest.mark.stories) for seed in range(1, ALL + 1)
]


@pytest.mark.parametrize("seed", SEEDS)
def test_story(seed: int, tmp_path: Path) -> None:
    story, wrong = tell(seed, tmp_path / "story")
    assert not wrong, "\n".join([*(f"{kind}: {text}" for kind, text in wrong), f"steps {story.taken}"])
