"""Stories of some seeds; a failing one says how to tell it again."""

from pathlib import Path

import pytest

from tests.support.stories.steps import STEPS, Step
from tests.support.stories.story import tell

EVERY_DAY = range(1, 13)
ALL = range(13, 301)


def is_good(seed: int, home: Path) -> None:
    """Tell a story, which must end well."""
    told = tell(seed, home / "story")
    assert told.wrong is None, str(told)


@pytest.mark.parametrize("seed", EVERY_DAY)
def test_story(seed: int, tmp_path: Path) -> None:
    is_good(seed, tmp_path)


@pytest.mark.stories
@pytest.mark.parametrize("seed", ALL)
def test_one_of_many_stories(seed: int, tmp_path: Path) -> None:
    is_good(seed, tmp_path)


def test_steps_are_read_as_they_are_printed() -> None:
    step = Step("process", ("1", "-F"))
    assert Step.of(f" {step}") == step
    assert step.name in STEPS
