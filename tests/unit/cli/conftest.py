"""A site on which some downlinks were processed and another one is half-way."""

from pathlib import Path

import pytest

from tests.support import worked_site
from tests.support.workflow import Site


@pytest.fixture(scope="session")
def worked_on(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The site of all these tests; `tests.support.worked_site` names its downlinks and runs."""
    return worked_site.worked_site(tmp_path_factory.mktemp("worked-site"))


@pytest.fixture
def own(worked_on: Site, tmp_path: Path) -> Site:
    """Return a copy of the site for a test that changes it."""
    return worked_on.clone(tmp_path / "site")


@pytest.fixture
def shared(worked_on: Site) -> Site:
    """Return the site for a test that only looks at it."""
    return worked_on
