"""Level-0 hours that are fetched: completely or not at all, once for all jobs, and removed without harm to readers.

Processes stand in for nodes.
"""

import io
import logging
import os
import shlex
import shutil
import signal
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from halfpipe.decode import level0_cache
from halfpipe.decode.archive_listing import directories, list_archive
from halfpipe.decode.decode_chunk import decode
from halfpipe.errors import HalfPipeError
from halfpipe.formats.retdef import RetDef, ids_of, read_retdef
from halfpipe.settings import Decoder, Level0, Paths, Settings
from halfpipe_simulator.scenario import Scenario, Simulation
from tests.support.forks import ended, moments, started
from tests.support.servers import wait_for

# Copies an hour. Files next to it make it fail, wait, die half-way, or continue after its job died.
COMMAND = """
import os, pathlib, shutil, signal, sys, time
home, hour, out = map(pathlib.Path, sys.argv[1:])
with (home / "calls").open("a") as calls:
    calls.write(f"{hour}\\n")
source = home / "copy" / hour
if (home / "down").exists():
    sys.exit("no route to host")
if source.is_dir():
    for number, path in enumerate(sorted(source.iterdir())):
        if number and (home / "dies").exists():
            os.kill(os.getppid() if (home / "dies").read_text() else os.getpid(), signal.SIGKILL)
            while (home / "lives on").exists():
                pathlib.Path(out, str(time.monotonic_ns())).touch()
        shutil.copy(path, out)
    if (home / "slow").exists():
        time.sleep(float((home / "slow").read_text()))
"""


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """A run that extends into the next hour. Tests copy it."""
    made = Scenario(seed=4).lpa_run(events=1600, rate=2.0).write(tmp_path_factory.mktemp("sim") / "sim")
    assert {len(directories(read_retdef(made.retdef(chunk)))) for chunk in made.chunks} == {2}
    return made


@pytest.fixture
def home(tmp_path: Path, simulation: Simulation) -> Path:
    """A directory with an archive, a copy of it, and a command that fetches from the copy."""
    for name in ("archive", "copy"):
        shutil.copytree(simulation.level0, tmp_path / name)
    (tmp_path / "fetch.py").write_text(COMMAND)
    return tmp_path


@pytest.fixture
def empty(home: Path) -> Path:
    shutil.rmtree(home / "archive" / "src0077")
    return home


def second_file(home: Path, retdef: RetDef) -> None:
    """Add a second file to the first hour of the copy, so that a command can die between two files."""
    first = next(iter(directories(retdef)))
    (home / "copy" / first / "s0077a0956t9999999999.9999999999").touch()


@pytest.fixture
def retdef(simulation: Simulation) -> RetDef:
    return read_retdef(simulation.retdef(simulation.chunks[0]))


def settings(home: Path, cache_gb: float = 1.0, seconds: float = 60.0) -> Settings:
    command = f"python {home}/fetch.py {home} {{hour}} {{out}}"
    return Settings(
        Paths(home / "work", home / "stage", level0=home / "archive"),
        level0=Level0(command, home / "cache", cache_gb, seconds),
    )


def calls(home: Path) -> list[str]:
    return (home / "calls").read_text().split() if (home / "calls").exists() else []


def files_of(root: Path) -> dict[str, list[str]]:
    hours = sorted(path for path in root.glob("src*/*/*/*/utc*") if any(path.iterdir()))
    return {str(hour.relative_to(root)): sorted(file.name for file in hour.iterdir()) for hour in hours}


def in_cache(home: Path) -> dict[str, list[str]]:
    return {
        path.name.split("~")[0].replace("+", "/"): sorted(file.name for file in path.iterdir())
        for path in sorted((home / "cache").glob("src*"))
    }


def left(home: Path) -> list[str]:
    """Return the names of other directories in the cache."""
    return [path.name for path in (home / "cache").glob(".*")]


def provided(home: Path, retdef: RetDef, **keys: float) -> dict[str, list[str]] | None:
    """Return the files that a decoder of the chunk gets from the cache; None if it reads the archive."""
    seen = list_archive(home / "archive", retdef)
    source = level0_cache.source(settings(home, **keys), retdef, home / "archive", seen, io.StringIO())
    with source as (root, read):
        assert read.by_name.keys() == list_archive(root, retdef).by_name.keys()
        return None if root == home / "archive" else files_of(root)


def of_apid(home: Path, retdef: RetDef) -> dict[str, list[str]]:
    apid = f"a{retdef.spans[0].apid:04d}t"
    return {hour: [name for name in files if apid in name] for hour, files in files_of(home / "copy").items()}


def set_fetch_time(home: Path, directory: str, fetched_at: float) -> None:
    (place,) = (home / "cache").glob(f"{directory.replace('/', '+')}~*")
    hour, _, token = place.name.split("~")
    place.rename(place.with_name(f"{hour}~{int(fetched_at):011d}~{token}"))


def test_hours_in_the_archive_are_not_fetched(home: Path, retdef: RetDef) -> None:
    assert provided(home, retdef) is None
    assert not (home / "cache").exists()


@pytest.mark.parametrize("gone", ["one hour", "everything"])
def test_missing_hours_are_fetched_once(home: Path, retdef: RetDef, gone: str) -> None:
    first, second = directories(retdef)
    shutil.rmtree(home / "archive" / (first if gone == "one hour" else "src0077"))
    for _ in range(2):
        assert provided(home, retdef) == of_apid(home, retdef) != {}
    assert calls(home) == [first, second], "a decoder reads one archive, so it needs all hours there"
    assert in_cache(home) == files_of(home / "copy")
    assert left(home) == []


def test_an_hour_that_the_copy_lacks_is_fetched_again_later(
    home: Path, retdef: RetDef, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = directories(retdef)
    for name in ("archive", "copy"):
        shutil.rmtree(home / name / first)
    assert [provided(home, retdef), provided(home, retdef)] == [None, None]
    assert calls(home) == [first, second]
    set_fetch_time(home, first, time.time() - level0_cache.RETRY_SECONDS - 1)
    assert provided(home, retdef) is None
    assert calls(home) == [first, second, first]
    warned = [said for _, level, said in caplog.record_tuples if level == logging.WARNING]
    assert [first in said for said in warned] == [True, True]


def test_an_hour_that_was_fetched_young_is_fetched_again(empty: Path, retdef: RetDef) -> None:
    provided(empty, retdef)
    (directory, begin), (other, _) = directories(retdef).items()
    (empty / "copy" / directory / "s0077a0956t9999999999.9999999999").write_text("arrived later")
    set_fetch_time(empty, directory, begin + 14 * 86400 - 1)
    assert provided(empty, retdef) == of_apid(empty, retdef)
    assert in_cache(empty) == files_of(empty / "copy")
    assert calls(empty) == [directory, other, directory]
    assert len(list((empty / "cache").glob("src*"))) == 2, "the earlier one is removed"
    set_fetch_time(empty, directory, begin + 14 * 86400 + 1)
    provided(empty, retdef)
    assert len(calls(empty)) == 3, "its copy is complete"


@pytest.mark.parametrize(
    ("harm", "content", "names"),
    [("down", "", "exit status 1"), ("slow", "60", "running"), ("dies", "", "SIGKILL")],
)
def test_a_bad_command_fails_a_job(empty: Path, retdef: RetDef, harm: str, content: str, names: str) -> None:
    second_file(empty, retdef)
    (empty / harm).write_text(content)
    with pytest.raises(HalfPipeError, match=names):
        provided(empty, retdef, seconds=0.5 if harm == "slow" else 60.0)
    assert (in_cache(empty), left(empty)) == ({}, [])
    (empty / harm).unlink()
    assert provided(empty, retdef) == of_apid(empty, retdef)


@pytest.mark.parametrize("lives_on", [False, True])
def test_leftovers_of_a_killed_job_are_no_hour_even_if_its_command_still_writes(
    empty: Path, retdef: RetDef, lives_on: bool
) -> None:
    if lives_on:
        (empty / "lives on").touch()
    (empty / "dies").write_text("the job")
    second_file(empty, retdef)
    assert ended(started(partial(provided, empty, retdef))) == -signal.SIGKILL
    (empty / "dies").unlink()
    assert (in_cache(empty), len(left(empty))) == ({}, 1)

    assert provided(empty, retdef) == of_apid(empty, retdef)
    assert in_cache(empty) == files_of(empty / "copy") != {}
    (empty / "lives on").unlink(missing_ok=True)
    (
        empty / "cache" / f"{level0_cache.REMOVING}1"
    ).mkdir()  # of a process that was killed while it removed it
    level0_cache.make_room(empty / "cache", 1e9)
    assert len(left(empty)) == 1, "the job may still be alive"
    deadline = time.monotonic() + 60
    while left(empty) and time.monotonic() < deadline:
        for name in left(empty):
            os.utime(empty / "cache" / name, (1, 1))
        level0_cache.make_room(empty / "cache", 1e9)
    assert left(empty) == []
    assert in_cache(empty) == files_of(empty / "copy")


def test_nodes_that_need_an_hour_at_the_same_time_fetch_it_once(empty: Path, retdef: RetDef) -> None:
    (empty / "slow").write_text("0.2")
    nodes = [started(lambda: provided(empty, retdef) != of_apid(empty, retdef)) for _ in range(3)]
    assert [ended(node) for node in nodes] == [0] * 3
    assert sorted(calls(empty)) == list(directories(retdef))


# Waits for a file, then runs the simulated decoder.
WAITS = """
import pathlib, runpy, sys, time
home, sys.argv = pathlib.Path(sys.argv[1]), sys.argv[2:]
(home / "reads").touch()
while not (home / "go").exists():
    time.sleep(0.01)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def lacks_events(home: Path, simulation: Simulation) -> bool:
    """Decode the first chunk with a decoder that waits; tell whether events are missing."""
    (home / "waits.py").write_text(WAITS)
    words = [sys.executable, str(home / "waits.py"), str(home), "scripts/simulated_decoder.py"]
    decoder = Decoder(f"{shlex.join(words)} --level0 {{level0}}")
    chunk = simulation.chunks[0]
    file = simulation.retdef(chunk)
    given = replace(settings(home), decoder=decoder)
    made = decode(given, ids_of(file)[0], file, read_retdef(file), home / "out", io.StringIO())
    events = sum(product.events for product in made.files)
    return events != sum(len(datagram.sequences) for datagram in chunk.sound) or bool(made.gaps)


@pytest.mark.parametrize("links", [False, True])
def test_a_decoder_keeps_hours_that_are_removed(empty: Path, simulation: Simulation, links: bool) -> None:
    """With its links, which only a person removes, it is run again."""
    decoder = started(partial(lacks_events, empty, simulation))
    wait_for("the decoder", (empty / "reads").exists)
    assert in_cache(empty) == files_of(empty / "copy")
    level0_cache.make_room(empty / "cache", 0)
    assert in_cache(empty) == {}
    if links:
        shutil.rmtree(empty / "cache")
    (empty / "reads").unlink()
    (empty / "go").touch()
    assert ended(decoder) == 0
    assert (len(calls(empty)), (empty / "reads").exists()) == ((4, True) if links else (2, False))
    assert left(empty) == []


def test_an_hour_may_be_removed_at_any_moment(empty: Path, retdef: RetDef) -> None:
    provided(empty, retdef)  # so that it is in the cache until it is removed

    def lacks() -> bool:
        return provided(empty, retdef) != of_apid(empty, retdef)

    cache = empty / "cache"
    every = moments(lacks, cache)
    assert any(moment.startswith("os.link") for moment in every)
    for at, moment in enumerate(every, 1):
        node = started(lacks, cache, at, do=lambda _: level0_cache.make_room(cache, 0))
        assert ended(node) == 0, moment
    assert left(empty) == []


def test_the_longest_unused_hours_are_removed_first(empty: Path, retdef: RetDef) -> None:
    old = []
    for number in range(3):  # 1 MB each
        place = empty / "cache" / f"src0077+2012+11+307.11.02.Fri+utc{number:02d}~01600000000~{number}"
        place.mkdir(parents=True)
        (place / f"s0077a0956t000000000{number}.0000000000").write_bytes(bytes(10**6))
        os.utime(place, (when := time.time() - 86400 * (4 - number), when))
        old.append(place)
    provided(empty, retdef, cache_gb=0.0029)
    assert [place.is_dir() for place in old] == [False, True, True]
    assert set(directories(retdef)) <= in_cache(empty).keys()
