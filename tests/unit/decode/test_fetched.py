"""Level-0 that is fetched: whole or not at all, once for all, and removed without a loss for what reads it.

Processes stand for nodes: nothing that they share is known to one of them alone.
"""

import io
import os
import shlex
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from halfpipe.decode import fetched
from halfpipe.decode.archive_look import directories, look
from halfpipe.decode.decode_chunk import decode
from halfpipe.errors import HalfPipeError
from halfpipe.formats.retdef import RetDef, read_retdef
from halfpipe.settings import Decoder, Level0, Paths, Settings
from halfpipe_simulator.scenario import Scenario, Simulation
from tests.support.forks import ended, moments, started
from tests.support.servers import wait_for

# Copies an hour, or what a file beside it says: fail, wait, die half-way, or live on when its job has died.
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
    """A run that passes from an hour into the next one: never changed, only copied."""
    made = Scenario(seed=4).lpa_run(events=1600, rate=2.0).write(tmp_path_factory.mktemp("sim") / "sim")
    assert {len(directories(read_retdef(made.retdef(chunk)))) for chunk in made.chunks} == {2}
    return made


@pytest.fixture
def home(tmp_path: Path, simulation: Simulation) -> Path:
    """A place with an archive, a copy of it, and a command that fetches from the copy."""
    for name in ("archive", "copy"):
        shutil.copytree(simulation.level0, tmp_path / name)
    (tmp_path / "fetch.py").write_text(COMMAND)
    return tmp_path


def second_file(home: Path, retdef: RetDef) -> None:
    """Have a second file in the first hour of the copy: a command can die between the two."""
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
    """Return the names of the files of each hour of an archive that has any."""
    hours = sorted(path for path in root.glob("src*/*/*/*/utc*") if any(path.iterdir()))
    return {str(hour.relative_to(root)): sorted(file.name for file in hour.iterdir()) for hour in hours}


def in_cache(home: Path) -> dict[str, list[str]]:
    """Return the names of the files of each hour in the cache."""
    return {
        path.name.split("~")[0].replace("+", "/"): sorted(file.name for file in path.iterdir())
        for path in sorted((home / "cache").glob("src*"))
    }


def left(home: Path) -> list[str]:
    """Return what lies in the cache beside hours and leases."""
    return [path.name for path in (home / "cache").glob(".*")]


def provided(home: Path, retdef: RetDef, **keys: float) -> dict[str, list[str]] | None:
    """Have the chunk provided for; return which files its decoder gets, None if it gets the archive's."""
    seen = look(home / "archive", retdef)
    with fetched.source(settings(home, **keys), retdef, home / "archive", seen, io.StringIO()) as (
        root,
        read,
    ):
        assert read.by_name.keys() == look(root, retdef).by_name.keys()
        return None if root == home / "archive" else files_of(root)


def of_apid(home: Path, retdef: RetDef) -> dict[str, list[str]]:
    """Return the files of the copy that the chunk needs."""
    apid = f"a{retdef.spans[0].apid:04d}t"
    return {hour: [name for name in files if apid in name] for hour, files in files_of(home / "copy").items()}


def asked_long_ago(home: Path, directory: str, fetched_at: float) -> None:
    """Have an hour in the cache that was fetched then."""
    (place,) = (home / "cache").glob(f"{directory.replace('/', '+')}~*")
    hour, _, token = place.name.split("~")
    place.rename(place.with_name(f"{hour}~{int(fetched_at):011d}~{token}"))


def test_nothing_is_fetched_that_is_in_the_archive(home: Path, retdef: RetDef) -> None:
    assert provided(home, retdef) is None
    assert not (home / "cache").exists()


@pytest.mark.parametrize("gone", ["one hour", "everything"])
def test_what_is_missing_is_fetched_once(home: Path, retdef: RetDef, gone: str) -> None:
    first, second = directories(retdef)
    shutil.rmtree(home / "archive" / (first if gone == "one hour" else "src0077"))
    for _ in range(2):
        assert provided(home, retdef) == of_apid(home, retdef) != {}
    assert calls(home) == [first, second], "a decoder has one root, so it has all hours there"
    assert in_cache(home) == files_of(home / "copy")
    assert left(home) == []


def test_what_the_copy_has_not_either_is_told_as_before(home: Path, retdef: RetDef) -> None:
    first, second = directories(retdef)
    for name in ("archive", "copy"):
        shutil.rmtree(home / name / first)
    assert provided(home, retdef) is None
    assert provided(home, retdef) is None
    assert calls(home) == [first, second], "it is not asked for again at once"
    asked_long_ago(home, first, time.time() - fetched.ASKED_SECONDS - 1)
    assert provided(home, retdef) is None
    assert calls(home) == [first, second, first], "but later, for it may have come"


def test_what_was_fetched_when_it_was_young_is_fetched_again(home: Path, retdef: RetDef) -> None:
    shutil.rmtree(home / "archive" / "src0077")
    provided(home, retdef)
    (directory, begin), (other, _) = directories(retdef).items()
    (home / "copy" / directory / "s0077a0956t9999999999.9999999999").write_text("came later")
    asked_long_ago(home, directory, begin + 86400)
    assert provided(home, retdef) == of_apid(home, retdef)
    assert in_cache(home) == files_of(home / "copy")
    assert calls(home) == [directory, other, directory]
    assert len(list((home / "cache").glob("src*"))) == 2, "the earlier one is removed"


def test_a_command_that_fails_or_hangs_fails_the_job(home: Path, retdef: RetDef) -> None:
    shutil.rmtree(home / "archive" / "src0077")
    (home / "down").touch()
    with pytest.raises(HalfPipeError, match=r"(?s)cannot be fetched: .* exit status 1: .*no route to host"):
        provided(home, retdef)
    (home / "down").unlink()
    (home / "slow").write_text("60")
    with pytest.raises(HalfPipeError, match="still running"):
        provided(home, retdef, seconds=0.5)
    (home / "slow").unlink()
    (home / "dies").touch()
    second_file(home, retdef)
    with pytest.raises(HalfPipeError, match="SIGKILL"):
        provided(home, retdef)
    assert (in_cache(home), left(home)) == ({}, [])
    (home / "dies").unlink()
    assert provided(home, retdef) == of_apid(home, retdef)


@pytest.mark.parametrize("lives_on", [False, True])
def test_what_a_killed_job_left_is_no_hour_and_its_command_may_still_write(
    home: Path, retdef: RetDef, lives_on: bool
) -> None:
    if lives_on:
        (home / "lives on").touch()
    shutil.rmtree(home / "archive" / "src0077")
    (home / "dies").write_text("the job")
    second_file(home, retdef)
    assert ended(started(partial(provided, home, retdef))) == -signal.SIGKILL
    (home / "dies").unlink()
    assert in_cache(home) == {}
    assert len(left(home)) == 1

    assert provided(home, retdef) == of_apid(home, retdef)
    assert in_cache(home) == files_of(home / "copy") != {}
    (home / "lives on").unlink(missing_ok=True)
    fetched.make_room(home / "cache", 1e9)
    assert len(left(home)) == 1, "nobody can tell that the job is dead"
    deadline = time.monotonic() + 60
    while left(home) and time.monotonic() < deadline:
        for name in left(home):
            os.utime(home / "cache" / name, (1, 1))
        fetched.make_room(home / "cache", 1e9)
    assert left(home) == []
    assert in_cache(home) == files_of(home / "copy")


def test_nodes_that_need_an_hour_at_once_fetch_it_once(home: Path, retdef: RetDef) -> None:
    shutil.rmtree(home / "archive" / "src0077")
    (home / "slow").write_text("0.3")
    nodes = [started(lambda: provided(home, retdef) != of_apid(home, retdef)) for _ in range(4)]
    assert [ended(node) for node in nodes] == [0] * 4
    assert sorted(calls(home)) == list(directories(retdef))


# Reads nothing until a file says so; then it is the simulated decoder.
WAITS = """
import pathlib, subprocess, sys, time
home, command = pathlib.Path(sys.argv[1]), sys.argv[2:]
(home / "reads").touch()
while not (home / "go").exists():
    time.sleep(0.01)
sys.exit(subprocess.call([sys.executable, *command]))
"""


def decodes_all(home: Path, simulation: Simulation) -> int:
    """Decode the first chunk with a decoder that waits; return 0 if all of its events are there."""
    (home / "waits.py").write_text(WAITS)
    words = [sys.executable, str(home / "waits.py"), str(home), "scripts/simulated_decoder.py"]
    keys = settings(home)
    given = Settings(
        keys.paths, level0=keys.level0, decoder=Decoder(f"{shlex.join(words)} --level0 {{level0}}")
    )
    chunk = simulation.chunks[0]
    file = simulation.retdef(chunk)
    made = decode(given, file, read_retdef(file), home / "out", io.StringIO())
    events = sum(file.get("events", 0) for file in made["files"])
    return int(
        events != sum(len(datagram.sequences) for datagram in chunk.sound) or made["level0"]["gaps"] != []
    )


@pytest.mark.parametrize("all_of_it", [False, True])
def test_a_decoder_loses_nothing_when_another_node_removes_what_it_reads(
    home: Path, simulation: Simulation, all_of_it: bool
) -> None:
    shutil.rmtree(home / "archive" / "src0077")
    decoder = started(partial(decodes_all, home, simulation))
    wait_for("the decoder", (home / "reads").exists)
    assert in_cache(home) == files_of(home / "copy")
    fetched.make_room(home / "cache", 0)
    assert in_cache(home) == {}
    if all_of_it:  # by hand, while a decoder runs: it cannot be whole, and nothing of it is taken
        shutil.rmtree(home / "cache")
    (home / "reads").unlink()
    (home / "go").touch()
    assert ended(decoder) == 0
    assert len(calls(home)) == (4 if all_of_it else 2), "it noticed, and had them fetched again"
    assert (home / "reads").exists() == all_of_it
    assert left(home) == []


def test_an_hour_that_is_removed_at_any_moment_is_there_for_the_job_that_needs_it(
    home: Path, retdef: RetDef
) -> None:
    shutil.rmtree(home / "archive" / "src0077")
    provided(home, retdef)  # so that it is in the cache, until it is removed

    def lacks() -> bool:
        return provided(home, retdef) != of_apid(home, retdef)

    cache = home / "cache"
    every = moments(lacks, cache)
    assert any(moment.startswith("os.link") for moment in every)
    for at, moment in enumerate(every, 1):
        node = started(lacks, cache, at, do=lambda _: fetched.make_room(cache, 0))
        assert ended(node) == 0, moment
    assert left(home) == []


def test_nodes_that_remove_and_fetch_at_random_never_take_anything_from_a_reader(
    home: Path, retdef: RetDef
) -> None:
    shutil.rmtree(home / "archive" / "src0077")

    def reads() -> int:
        return sum(provided(home, retdef, cache_gb=1e-9) != of_apid(home, retdef) for _ in range(6))

    def removes() -> None:
        while not (home / "stop").exists():
            fetched.make_room(home / "cache", 0)

    remover, readers = started(removes), [started(reads) for _ in range(3)]
    wrong = [ended(reader) for reader in readers]
    (home / "stop").touch()
    assert (wrong, ended(remover), left(home)) == ([0] * 3, 0, [])


@pytest.fixture
def old(home: Path) -> list[Path]:
    """Three hours of 1 MB that were used a day ago and more, the longest unused first."""
    places = []
    for number in range(3):
        place = home / "cache" / f"src0077+2012+11+307.11.02.Fri+utc{number:02d}~01600000000~{number}"
        place.mkdir(parents=True)
        (place / f"s0077a0956t000000000{number}.0000000000").write_bytes(bytes(10**6))
        os.utime(place, (when := time.time() - 86400 * (4 - number), when))
        places.append(place)
    return places


def test_the_longest_unused_go_first_and_no_more_than_need_be(
    home: Path, retdef: RetDef, old: list[Path]
) -> None:
    shutil.rmtree(home / "archive" / "src0077")
    provided(home, retdef, cache_gb=0.0029)
    assert [place.is_dir() for place in old] == [False, True, True]
    assert set(directories(retdef)) <= in_cache(home).keys()
