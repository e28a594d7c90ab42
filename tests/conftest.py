"""Fixtures that several test modules share."""

from pathlib import Path

import pytest

from tests.workflow import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site of the test's own."""
    return Site(tmp_path)
