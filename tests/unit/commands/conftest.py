"""A site on which an earlier version has processed some downlinks and begun another one."""

from pathlib import Path

import pytest

from tests.support import earlier
from tests.support.in_process import ROOT

PACKED = ROOT / "tests" / "data" / "b484e6b.tar.xz"


def site_at(home: Path) -> Path:
    earlier.lay_out(home)
    earlier.unpack(PACKED, home)
    (home / "profile.v9+.yaml").write_text("configfile: config.yaml\n")  # as the simulator writes one
    with (home / "config.yaml").open("a") as config:
        config.write("retdef: {settle_seconds: 0}\n")  # its RetDefs were unpacked just now
    return home / "config.yaml"


@pytest.fixture
def configfile(tmp_path: Path) -> Path:
    """Return the config of a site of the test's own; `earlier` names its downlinks and runs."""
    return site_at(tmp_path)


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the config of a site that tests only look at."""
    return site_at(tmp_path_factory.mktemp("shared"))
