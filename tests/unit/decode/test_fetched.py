"""Level-0 that is fetched: whole or not at all, once for all, and removed when it is old and nobody reads it."""

import io
import os
import shutil
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from halfpipe.decode import fetched
from halfpipe.errors import HalfPipeError
from halfpipe.formats.retdef import RetDef, read_retdef
from halfpipe.settings import Level0, Paths, Settings
from halfpipe_simulator.scenario import Scenario, Simulation
from tests.support.forks import ended, started

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
    assert {len(fetched.directories(read_retdef(made.retdef(chunk)))) for chunk in made.chunks} == {2}
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
    first = next(iter(fetched.directories(retdef)))
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


def hours_in(root: Path) -> dict[str, list[str]]:
    """Return the names of the files of each hour."""
    return {
        str(path.relative_to(root)): sorted(file.name for file in path.iterdir())
        for path in sorted(root.glob("src*/*/*/*/utc*"))
    }


def left(home: Path) -> list[str]:
    """Return what lies in the cache beside hours and locks."""
    return [path.name for path in (home / "cache").glob(".*") if path.name != fetched.LOCKS]


def root_of(home: Path, retdef: RetDef, **keys: float) -> tuple[Path, list[dict[str, object]] | None]:
    with fetched.archive(settings(home, **keys), retdef, io.StringIO()) as (root, found):
        return root, found["missing"]


def test_nothing_is_fetched_that_is_in_the_archive(home: Path, retdef: RetDef) -> None:
    assert root_of(home, retdef) == (home / "archive", [])
    assert not (home / "cache").exists()


@pytest.mark.parametrize("gone", ["one hour", "everything"])
def test_what_is_missing_is_fetched_once(home: Path, retdef: RetDef, gone: str) -> None:
    first, second = fetched.directories(retdef)
    shutil.rmtree(home / "archive" / (first if gone == "one hour" else "src0077"))
    for _ in range(2):
        assert root_of(home, retdef) == (home / "cache", [])
    assert calls(home) == [first, second], "a decoder has one root, so it has all hours there"
    assert hours_in(home / "cache") == hours_in(home / "copy") != {}
    assert left(home) == []


def test_what_the_copy_has_not_either_is_told_as_before(home: Path, retdef: RetDef) -> None:
    first, second = fetched.directories(retdef)
    for name in ("archive", "copy"):
        shutil.rmtree(home / name / first)
    root, missing = root_of(home, retdef)
    assert root == home / "archive"
    assert missing is not None
    assert [each["hour"] for each in missing] == [first]
    assert root_of(home, retdef)[0] == home / "archive"
    assert calls(home) == [first, second], "it is not asked for again at once"
    os.utime(home / "cache" / first, (then := time.time() - fetched.ASKED_SECONDS - 1, then))
    assert root_of(home, retdef)[0] == home / "archive"
    assert calls(home) == [first, second, first], "but later, for it may have come"


def test_what_was_fetched_when_it_was_young_is_fetched_again(home: Path, retdef: RetDef) -> None:
    shutil.rmtree(home / "archive" / "src0077")
    root_of(home, retdef)
    (directory, begin), (other, _) = fetched.directories(retdef).items()
    (home / "copy" / directory / "s0077a0957t9999999999.9999999999").write_text("came later")
    os.utime(home / "cache" / directory, (then := begin + 86400, then))
    root_of(home, retdef)
    assert hours_in(home / "cache") == hours_in(home / "copy") != {}
    assert calls(home) == [directory, other, directory]


def test_a_command_that_fails_or_hangs_fails_the_job(home: Path, retdef: RetDef) -> None:
    shutil.rmtree(home / "archive" / "src0077")
    (home / "down").touch()
    with pytest.raises(HalfPipeError, match=r"(?s)cannot be fetched: .* exit status 1: .*no route to host"):
        root_of(home, retdef)
    (home / "down").unlink()
    (home / "slow").write_text("60")
    with pytest.raises(HalfPipeError, match="still running"):
        root_of(home, retdef, seconds=0.5)
    (home / "slow").unlink()
    (home / "dies").touch()
    second_file(home, retdef)
    with pytest.raises(HalfPipeError, match="SIGKILL"):
        root_of(home, retdef)
    assert hours_in(home / "cache") == {}
    assert left(home) == []
    (home / "dies").unlink()
    assert root_of(home, retdef) == (home / "cache", [])


def killed_with_its_job(home: Path, retdef: RetDef) -> None:
    """Leave a fetch whose job was killed in the middle of it."""
    shutil.rmtree(home / "archive" / "src0077")
    (home / "dies").write_text("the job")
    second_file(home, retdef)
    assert ended(started(partial(root_of, home, retdef))) == -signal.SIGKILL
    (home / "dies").unlink()
    assert hours_in(home / "cache") == {}
    assert len(left(home)) == 1


@pytest.mark.parametrize("lives_on", [False, True])
def test_what_a_killed_job_left_is_no_hour_and_its_command_may_still_write(
    home: Path, retdef: RetDef, lives_on: bool
) -> None:
    if lives_on:
        (home / "lives on").touch()
    killed_with_its_job(home, retdef)
    assert root_of(home, retdef) == (home / "cache", [])
    assert hours_in(home / "cache") == hours_in(home / "copy") != {}
    (home / "lives on").unlink(missing_ok=True)
    deadline = time.monotonic() + 60
    while left(home) and time.monotonic() < deadline:
        fetched.make_room(home / "cache", 1e9)
    assert left(home) == []
    assert hours_in(home / "cache") == hours_in(home / "copy")


def test_many_at_once_fetch_each_hour_once(home: Path, retdef: RetDef) -> None:
    shutil.rmtree(home / "archive" / "src0077")
    (home / "slow").write_text("0.3")
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(root_of(home, retdef))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(home / "cache", [])] * 6
    assert sorted(calls(home)) == list(fetched.directories(retdef))


@pytest.fixture
def old(home: Path) -> list[Path]:
    """Three hours of 1 MB that are a day old and more, the oldest first."""
    places = []
    for number in range(3):
        place = home / "cache" / f"src0077/2012/11/307.11.02.Fri/utc{number:02d}"
        place.mkdir(parents=True)
        (place / f"s0077a0956t000000000{number}.0000000000").write_bytes(bytes(10**6))
        os.utime(place, (when := time.time() - 86400 * (4 - number), when))
        places.append(place)
    return places


def test_what_is_read_stays_and_a_full_cache_is_told(home: Path, retdef: RetDef, old: list[Path]) -> None:
    shutil.rmtree(home / "archive" / "src0077")
    with fetched.archive(settings(home, 0.0029), retdef, io.StringIO()) as (root, _):
        assert [place.is_dir() for place in old] == [False, True, True], (
            "the longest unused, and one is enough"
        )
        held = hours_in(root)
        with pytest.raises(HalfPipeError, match=r"cache of level-0 is full, .*level0\.cache_gb"):
            fetched.make_room(home / "cache", 1000)
        assert hours_in(root).items() <= held.items()
        assert set(fetched.directories(retdef)) <= hours_in(root).keys()
    fetched.make_room(home / "cache", 1000)
    assert hours_in(home / "cache") == {}
    assert left(home) == []
