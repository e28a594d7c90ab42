"""Level-0 from a real XRootD server: up, down, hanging, with a wrong checksum, and without an hour."""

import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from halfpipe.decode import fetched_level0
from halfpipe.decode.archive_listing import directories, list_archive
from halfpipe.decode.chunk import Hour
from halfpipe.errors import HalfPipeError
from halfpipe.files.reading import sha256
from halfpipe.formats.retdef import RetDef, read_retdef
from halfpipe.settings import Level0, Paths, Settings
from halfpipe_simulator.scenario import Scenario
from tests.support.private_xrootd import PrivateXrootd, private_xrootd

pytestmark = pytest.mark.xrootd

DL = "230401001"


@pytest.fixture
def server(open_to_all: Path) -> Iterator[PrivateXrootd]:
    """A server with a simulated archive, which is not started yet."""
    with private_xrootd(open_to_all) as made:
        simulation = Scenario(seed=4).lpa_run(events=800, rate=1.0).write(open_to_all / "sim")
        shutil.copytree(simulation.level0, open_to_all / "data" / "level0", dirs_exist_ok=True)
        yield made


@pytest.fixture
def retdef(server: PrivateXrootd) -> RetDef:
    return read_retdef(server.home / "sim" / "downlinks" / DL / f"RetDef-{DL}-00001.xml")


def fetch(server: PrivateXrootd, retdef: RetDef, seconds: float = 60.0) -> tuple[Hour, ...] | None:
    """Fetch all hours, and compare them with the server's; return those that a decoder would miss."""
    home, archive = server.home, server.home / "archive"
    command = f"python scripts/xrootd_hour.py {server.url} {{hour}} {{apids}} {{out}}"
    given = Settings(
        Paths(home / "work", home / "stage", level0=archive), level0=Level0(command, seconds=seconds)
    )
    apids = {f"a{span.apid:04d}t" for span in retdef.spans}
    listed = list_archive(archive, retdef)
    source = fetched_level0.source(given, retdef, archive, listed, home / "fetched", io.StringIO())
    with source as (root, read):
        assert root != archive
        there = content(server.home / "data" / "level0")
        assert content(root) == {
            name: checksum for name, checksum in there.items() if any(apid in name for apid in apids)
        }
        return read.missing


def content(root: Path) -> dict[str, str]:
    """Return the checksums of the files of an archive."""
    return {str(path.relative_to(root)): sha256(path) for path in root.rglob("s0077a*")}


def test_hours_are_fetched(server: PrivateXrootd, retdef: RetDef) -> None:
    server.start()
    assert fetch(server, retdef) == ()


def test_a_server_that_is_down_is_reported_soon(server: PrivateXrootd, retdef: RetDef) -> None:
    begun = time.monotonic()
    with pytest.raises(HalfPipeError, match=r"(?s)cannot be fetched: .*exit status 1.*Connection error"):
        fetch(server, retdef)
    assert time.monotonic() - begun < 30
    assert not (server.home / "fetched").exists()
    server.start()
    fetch(server, retdef)


def test_a_server_that_hangs_is_abandoned(server: PrivateXrootd, retdef: RetDef) -> None:
    server.start()
    server.pause()
    begun = time.monotonic()
    with pytest.raises(HalfPipeError, match="was still running after 5 s and was ended"):
        fetch(server, retdef, seconds=5.0)
    assert time.monotonic() - begun < 30
    assert not (server.home / "fetched").exists()


def test_a_file_with_a_wrong_checksum_is_not_used(server: PrivateXrootd, retdef: RetDef) -> None:
    wrong = server.home / "checksum"
    wrong.write_text("#!/bin/sh\necho 00000001\n")
    wrong.chmod(0o755)
    server.start(str(wrong))
    with pytest.raises(HalfPipeError, match=r"(?s)cannot be fetched: .*CheckSum error"):
        fetch(server, retdef)
    assert not (server.home / "fetched").exists()


def test_a_missing_hour_is_not_a_failure(server: PrivateXrootd, retdef: RetDef) -> None:
    server.start()
    first, *_ = directories(retdef)
    shutil.rmtree(server.home / "data" / "level0" / first)
    assert fetch(server, retdef) == (Hour(first, retdef.spans[0].apid),)
