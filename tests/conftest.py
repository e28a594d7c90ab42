"""Fixtures that several test modules share, and settings of all tests."""

import gc
import os
import secrets
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from halfpipe.notify import submit
from tests.support.golden_cases import build
from tests.support.ledger_files import Database
from tests.support.level1 import Level1
from tests.support.private_postgresql import PrivatePostgresql, private_postgresql
from tests.support.workflow import Site

gc.disable()  # until the tests are collected

# A shell makes background commands ignore these signals, and their children inherit that.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


# Tests make and flush thousands of files, so they use memory where it has enough room.
MEMORY, ROOM = Path("/dev/shm"), 4 << 30
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
    disk = os.statvfs(MEMORY)
    if disk.f_bavail * disk.f_frsize > ROOM and not disk.f_flag & os.ST_NOEXEC:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
        tempfile.tempdir = str(MEMORY)
        vars(os)["sync"] = lambda: None  # of this process alone: it would wait for what others write to disks

# No test depends on the speed of the machine.
hypothesis.settings.register_profile(
    "timeless", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("timeless")

POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.postgresql)
TYPED = ("workflow", "slurm")  # marks of tests that start commands in processes of their own


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Choose how a site starts commands before any fixture is made."""
    Site.typing = any(item.get_closest_marker(mark) for mark in TYPED)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from looking again and again at what was imported, which stays until the end."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Use one worker more than there are processors, because some tests wait."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that all users can read; those of pytest are private."""
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
    """A downlink that was handed off once and not submitted. Checks do not wait between tries."""
    monkeypatch.setattr(submit, "ASKED_AGAIN", (0.0, 0.0, 0.0))
    found = Level1(tmp_path)
    found.hand_off()
    return found


@pytest.fixture(scope="session")
def worked_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Site]:
    """Return a function that processes downlinks of a golden case once. Tests do not change this site."""

    @cache
    def make(case: str, *downlinks: str) -> Site:
        site = Site(tmp_path_factory.mktemp(case))
        build(case, site, *downlinks)
        return site

    return make


@pytest.fixture
def worked(worked_once: Callable[..., Site], tmp_path: Path) -> Callable[..., Site]:
    """Return a function that copies such a site for the test, with the times of files."""
    return lambda *of: worked_once(*of).clone(tmp_path / "site")


@pytest.fixture(scope="session")
def server() -> Iterator[PrivatePostgresql]:
    with private_postgresql() as server:
        yield server


@pytest.fixture(params=["sqlite", POSTGRESQL])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Database]]:
    """Return a function that makes an empty database of one kind."""
    with ExitStack() as held:

        def make() -> Database:
            name = f"ledger_{secrets.token_hex(4)}"
            if request.param == "sqlite":
                return Database(f"sqlite:///{tmp_path / name}.sqlite")
            server: PrivatePostgresql = request.getfixturevalue("server")
            held.callback(server.drop_database, name)
            return Database(server.make_database(name))

        yield make


@pytest.fixture
def database(empty: Callable[[], Database]) -> Database:
    """Return an empty database."""
    return empty()
