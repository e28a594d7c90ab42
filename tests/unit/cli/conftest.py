"""A site on which some downlinks were processed and another one is half-way."""

from pathlib import Path

import pytest

from tests.support.worked_site import WorkedSite


@pytest.fixture(scope="session")
def worked_site(tmp_path_factory: pytest.TempPathFactory) -> WorkedSite:
    """The site of all these tests; `tests.support.worked_site` names its downlinks and runs."""
    return WorkedSite(tmp_path_factory.mktemp("worked-site"))


@pytest.fixture
def configfile(worked_site: WorkedSite) -> Path:
    """Return the config of the site for a test that changes it."""
    return worked_site.configfile(to_change=True)


@pytest.fixture
def shared(worked_site: WorkedSite) -> Path:
    """Return the config of the site for a test that only looks at it."""
    return worked_site.configfile(to_change=False)
