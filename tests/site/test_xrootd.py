"""Level-0 from a real XRootD server: up, down, hanging, with a wrong checksum, and without an hour."""

import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from halfpipe.decode import level0_cache
from halfpipe.decode.archive_listing import directories, list_archive
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


def fetch(server: PrivateXrootd, retdef: RetDef, seconds: float = 60.0) -> list[tuple[str, int]] | None:
    """Fetch all hours; return those that a decoder would miss."""
    home, archive = server.home, server.home / "archive"
    command = f"python scripts/xrootd_hour.py {server.url} {{hour}} {{out}}"
    level0 = Level0(command, home / "cache", cache_gb=1.0, seconds=seconds)
    given = Settings(Paths(home / "work", home / "stage", level0=archive), level0=level0)
    with level0_cache.source(given, retdef, archive, list_archive(archive, retdef), io.StringIO()) as (
        root,
        read,
    ):
        assert root != archive
        return None if read.missing is None else [(each.hour, each.apid) for each in read.missing]


def content(root: Path) -> dict[tuple[str, str], str]:
    """Return the checksums of the files of an archive or a cache, by hour and name."""
    files = [path for path in root.rglob("s0077a*") if path.is_file()]
    hours = [str(path.parent.relative_to(root)).replace("/", "+").split("~")[0] for path in files]
    return {(hour, path.name): sha256(path) for hour, path in zip(hours, files, strict=True)}


def test_hours_are_fetched_into_the_cache(server: PrivateXrootd, retdef: RetDef) -> None:
    server.start()
    assert fetch(server, retdef) == []
    assert content(server.home / "cache") == content(server.home / "data" / "level0") != {}


def test_a_server_that_is_down_is_reported_soon(server: PrivateXrootd, retdef: RetDef) -> None:
    begun = time.monotonic()
    with pytest.raises(HalfPipeError, match=r"(?s)cannot be fetched: .*exit status 1.*Connection error"):
        fetch(server, retdef)
    assert time.monotonic() - begun < 30
    assert content(server.home / "cache") == {}
    server.start()
    fetch(server, retdef)


def test_a_server_that_hangs_is_abandoned(server: PrivateXrootd, retdef: RetDef) -> None:
    server.start()
    server.pause()
    begun = time.monotonic()
    with pytest.raises(HalfPipeError, match="was still running after 5 s and was ended"):
        fetch(server, retdef, seconds=5.0)
    assert time.monotonic() - begun < 30
    assert content(server.home / "cache") == {}


def test_a_file_with_a_wrong_checksum_is_not_used(server: PrivateXrootd, retdef: RetDef) -> None:
    wrong = server.home / "checksum"
    wrong.write_text("#!/bin/sh\necho 00000001\n")
    wrong.chmod(0o755)
    server.start(str(wrong))
    with pytest.raises(HalfPipeError, match=r"(?s)cannot be fetched: .*CheckSum error"):
        fetch(server, retdef)
    assert content(server.home / "cache") == {}


def test_a_missing_hour_is_not_a_failure(server: PrivateXrootd, retdef: RetDef) -> None:
    server.start()
    first, *_ = directories(retdef)
    shutil.rmtree(server.home / "data" / "level0" / first)
    assert fetch(server, retdef) == [(first, retdef.spans[0].apid)]
