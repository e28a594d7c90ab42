"""Stories of some seeds; a failing one says how to tell it again."""

from pathlib import Path

import pytest

from tests.support.stories.story import tell

EVERY_DAY = range(1, 3)
ALL = range(3, 301)


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
