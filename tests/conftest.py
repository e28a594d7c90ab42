"""Fixtures that several test modules share, and what holds for all tests."""

import gc
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from halfpipe.downlink import submit
from tests.support.golden_cases import build
from tests.support.level1 import Level1
from tests.support.workflow import Site

# A shell that starts tests in the background has them ignore these, and what they start inherits that.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


# Thousands of files are made and flushed: in memory where there is room for them.
MEMORY, ROOM = Path("/dev/shm"), 4 << 30
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
    disk = os.statvfs(MEMORY)
    if disk.f_bavail * disk.f_frsize > ROOM and not disk.f_flag & os.ST_NOEXEC:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))

# No test depends on time: how fast a machine is says nothing of the code.
hypothesis.settings.register_profile(
    "timeless", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("timeless")

TYPED = ("workflow", "slurm")  # marks of tests whose commands are typed


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Choose before any fixture is made how a site gives its commands."""
    Site.typing = any(item.get_closest_marker(mark) for mark in TYPED)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking again and again at what was imported, which stays until the end."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Have one worker more than there are processors: some tests wait for a lease or a program to end."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that everybody can reach, with what the test makes there: pytest's own are its user's alone."""
    mask = os.umask(0o022)
    try:
        with tempfile.TemporaryDirectory(dir="/tmp") as name:
            Path(name).chmod(0o755)
            yield Path(name)
    finally:
        os.umask(mask)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A site of the test's own."""
    return Site(tmp_path)


@pytest.fixture
def level1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Level1:
    """A downlink that was handed off once and not submitted; nobody waits for the pipeline."""
    monkeypatch.setattr(submit, "ASKED_AGAIN", (0.0, 0.0, 0.0))
    found = Level1(tmp_path)
    found.hand_off()
    return found


@pytest.fixture(scope="session")
def worked_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Site]:
    """Return what makes a site on which downlinks of a golden case were processed: once, and nobody changes it."""

    @cache
    def make(case: str, *downlinks: str) -> Site:
        site = Site(tmp_path_factory.mktemp(case))
        build(case, site, *downlinks)
        return site

    return make


@pytest.fixture
def worked(worked_once: Callable[..., Site], tmp_path: Path) -> Callable[..., Site]:
    """Return what copies such a site for the test, times included: they say what is outstanding."""
    return lambda *of: worked_once(*of).clone(tmp_path / "site")
