"""Level-0 hours that are fetched: completely or not at all, for one job, and removed at its end."""

import io
import shutil
from pathlib import Path

import pytest

from halfpipe.decode import fetched_level0
from halfpipe.decode.archive_listing import directories, list_archive
from halfpipe.decode.decode_chunk import decode
from halfpipe.errors import HalfPipeError
from halfpipe.formats.retdef import RetDef, ids_of, read_retdef
from halfpipe.settings import Level0, Paths, Settings
from halfpipe_simulator.scenario import Scenario, Simulation

# Copies the files of some APIDs of an hour. Files next to it make it fail, wait, or die half-way.
COMMAND = """
import os, pathlib, shutil, signal, sys, time
home, hour, out = map(pathlib.Path, sys.argv[1:3] + sys.argv[4:])
apids = tuple(f"s0077a{int(apid):04d}t" for apid in sys.argv[3].split(","))
with (home / "calls").open("a") as calls:
    calls.write(f"{hour}\\n")
source = home / "copy" / hour
if (home / "down").exists():
    sys.exit("no route to host")
if source.is_dir():
    found = sorted(path for path in source.iterdir() if path.name.startswith(apids))
    for number, path in enumerate(found):
        if number and (home / "dies").exists():
            os.kill(os.getpid(), signal.SIGKILL)
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
    first = directories(retdef)[0]
    apid = retdef.spans[0].apid
    (home / "copy" / first / f"s0077a{apid:04d}t9999999999.9999999999").touch()


@pytest.fixture
def retdef(simulation: Simulation) -> RetDef:
    return read_retdef(simulation.retdef(simulation.chunks[0]))


def settings(home: Path, seconds: float = 60.0) -> Settings:
    command = f"python {home}/fetch.py {home} {{hour}} {{apids}} {{out}}"
    return Settings(
        Paths(home / "work", home / "stage", level0=home / "archive"), level0=Level0(command, seconds)
    )


def calls(home: Path) -> list[str]:
    return (home / "calls").read_text().split() if (home / "calls").exists() else []


def files_of(root: Path) -> dict[str, list[str]]:
    hours = sorted(path for path in root.glob("src*/*/*/*/utc*") if any(path.iterdir()))
    return {str(hour.relative_to(root)): sorted(file.name for file in hour.iterdir()) for hour in hours}


def provided(home: Path, retdef: RetDef, seconds: float = 60.0) -> dict[str, list[str]] | None:
    """Return the files that a decoder of the chunk gets from the copy; None if it reads the archive."""
    archive = list_archive(home / "archive", retdef)
    source = fetched_level0.source(
        settings(home, seconds), retdef, home / "archive", archive, home / "fetched", io.StringIO()
    )
    with source as (root, read):
        assert read.by_name.keys() == list_archive(root, retdef).by_name.keys()
        found = None if root == home / "archive" else files_of(root)
    assert not (home / "fetched").exists()
    return found


def of_apid(home: Path, retdef: RetDef) -> dict[str, list[str]]:
    apid = f"a{retdef.spans[0].apid:04d}t"
    return {hour: [name for name in files if apid in name] for hour, files in files_of(home / "copy").items()}


def test_hours_in_the_archive_are_not_fetched(home: Path, retdef: RetDef) -> None:
    assert provided(home, retdef) is None
    assert calls(home) == []


@pytest.mark.parametrize("gone", ["one hour", "everything"])
def test_missing_hours_are_fetched(home: Path, retdef: RetDef, gone: str) -> None:
    first, second = directories(retdef)
    shutil.rmtree(home / "archive" / (first if gone == "one hour" else "src0077"))
    assert provided(home, retdef) == of_apid(home, retdef) != {}
    assert calls(home) == [first, second], "a decoder reads one archive, so it needs all hours there"


@pytest.mark.parametrize("gone", ["src0077", "."])
def test_an_hour_that_the_copy_lacks_is_missing(home: Path, retdef: RetDef, gone: str) -> None:
    """The decoder reads what has more of the hours."""
    first, second = directories(retdef)
    shutil.rmtree(home / "copy" / first)
    shutil.rmtree(home / "archive" / first)
    assert provided(home, retdef) is None
    shutil.rmtree(home / "archive" / gone)
    found = provided(home, retdef)
    assert found is not None
    assert found.keys() == {second}


@pytest.mark.parametrize(
    ("harm", "content", "names"),
    [("down", "", "exit status 1"), ("slow", "60", "running"), ("dies", "", "SIGKILL")],
)
def test_a_bad_command_fails_a_job(empty: Path, retdef: RetDef, harm: str, content: str, names: str) -> None:
    second_file(empty, retdef)
    (empty / harm).write_text(content)
    with pytest.raises(HalfPipeError, match=names) as error:
        provided(empty, retdef, seconds=0.5 if harm == "slow" else 60.0)
    assert directories(retdef)[0] in str(error.value)
    assert f"{empty}/fetch.py" in str(error.value)
    assert not (empty / "fetched").exists()
    (empty / harm).unlink()
    assert provided(empty, retdef) == of_apid(empty, retdef)


def test_a_decoder_reads_fetched_hours(empty: Path, simulation: Simulation) -> None:
    chunk = simulation.chunks[0]
    file = simulation.retdef(chunk)
    made = decode(settings(empty), ids_of(file)[0], file, read_retdef(file), empty / "out", io.StringIO())
    assert sum(product.events for product in made.files) == sum(len(one.sequences) for one in chunk.sound)
    assert (made.gaps, made.missing_hours) == ((), ())
    assert made.read == (), "the files of the archive, not the fetched ones"
    assert [path.name for path in empty.glob("out*")] == ["out"]
