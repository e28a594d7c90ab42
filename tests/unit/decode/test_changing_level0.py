"""Level-0 that changes while a decoder runs: the chunk is decoded completely, or the job fails."""

import io
import os
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from halfpipe.decode import archive_listing
from halfpipe.decode.chunk import Chunk, Level0
from halfpipe.decode.decode_chunk import ATTEMPTS, decode
from halfpipe.errors import DecoderError
from halfpipe.formats.retdef import RetDef, ids_of, read_retdef
from halfpipe.settings import Decoder, Paths, Settings
from halfpipe_simulator.packet_reader import read_datagrams
from halfpipe_simulator.scenario import Scenario, Simulation

# Runs the decoder. Before and after, it waits until a file allows it to continue; another file makes it fail.
SLOW = """
import pathlib, runpy, sys, time
home, sys.argv = pathlib.Path(sys.argv[1]), sys.argv[2:]
number = len(list(home.glob("before-?")))
def wait(when):
    (home / f"{when}-{number}").touch()
    while not (home / f"{when}-{number}-go").exists():
        time.sleep(0.01)
wait("before")
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    status = end.code
wait("after")
sys.exit(3 if (home / f"fails-{number}").exists() else status)
"""

Act = Callable[[], object]


@pytest.fixture(scope="module")
def simulation(tmp_path_factory: pytest.TempPathFactory) -> Simulation:
    """A run that extends into the next hour. Tests copy it."""
    return Scenario(seed=4).lpa_run(events=1600, rate=2.0).write(tmp_path_factory.mktemp("sim") / "sim")


class Changing:
    """A chunk that is decoded while its archive changes."""

    def __init__(self, home: Path, simulation: Simulation) -> None:
        self.home, self.archive = home, home / "archive"
        shutil.copytree(simulation.level0, self.archive)
        chunk = simulation.chunks[0]
        self.retdef_file = simulation.retdef(chunk)
        self.retdef: RetDef = read_retdef(self.retdef_file)
        self.events = sum(len(datagram.sequences) for datagram in chunk.sound)
        self.hours = list(archive_listing.directories(self.retdef))
        self.first, self.second = map(self._file, self.hours)
        (home / "slow.py").write_text(SLOW)

    def _file(self, hour: str) -> Path:
        (found,) = (self.archive / hour).glob(f"*a{self.retdef.spans[0].apid:04d}*")
        return found

    @property
    def a_packet(self) -> int:
        """The offset of a packet in the middle of the first file."""
        ((begin, end),) = [(span.begin, span.end) for span in self.retdef.spans]
        packets = read_datagrams(
            self.archive, self.retdef.scid, self.retdef.spans[0].apid, [(begin, end)]
        ).packets
        offsets = sorted(packets["offset"][packets["file"] == 0].tolist())
        return int(offsets[len(offsets) // 2])

    def outcome(self, acts: Mapping[str, Act]) -> tuple[int, int, int]:
        """Decode; return the numbers of decodings, of missing hours, and of events that are missing."""
        made = self.decode(acts)
        events = sum(file.events for file in made.files)
        return self.decodings, len(made.missing_hours), self.events - events

    @property
    def decodings(self) -> int:
        return len(list(self.home.glob("before-?")))

    def decode(self, acts: Mapping[str, Act]) -> Chunk:
        """Decode while running `acts`: ``before-0`` before the first decoding, ``after-0`` after it."""
        ended = threading.Event()

        def act() -> None:
            while not ended.is_set():
                for moment in [*self.home.glob("before-?"), *self.home.glob("after-?")]:
                    go = moment.with_name(f"{moment.name}-go")
                    if not go.exists():
                        try:
                            acts.get(moment.name, lambda: None)()
                        finally:
                            go.touch()
                time.sleep(0.01)

        words = [sys.executable, str(self.home / "slow.py"), str(self.home), "scripts/simulated_decoder.py"]
        at = Paths(self.home / "work", self.home / "stage", level0=self.archive)
        settings = Settings(at, decoder=Decoder(f"{shlex.join(words)} --level0 {{level0}}"))
        thread = threading.Thread(target=act)
        thread.start()
        try:
            return decode(
                settings,
                ids_of(self.retdef_file)[0],
                self.retdef_file,
                self.retdef,
                self.home / "out",
                io.StringIO(),
            )
        finally:
            ended.set()
            thread.join()


@pytest.fixture
def changing(tmp_path: Path, simulation: Simulation) -> Changing:
    return Changing(tmp_path, simulation)


def replaced(file: Path, content: bytes) -> None:
    """Replace a file as ingest does: write another one and rename it."""
    part = file.with_name("part")
    part.write_bytes(content)
    part.rename(file)


ONCE, TWICE = (1, 0, 0), (2, 0, 0)


def test_level0_that_does_not_change_is_decoded_once(changing: Changing) -> None:
    made = changing.decode({})
    assert (changing.decodings, made.level0) == (1, Level0(2, (), ()))
    status = changing.first.stat()
    assert made.read[0].files == {changing.first.name: (status.st_size, int(status.st_mtime))}


@pytest.mark.parametrize("how", ["replaced", "in place", "second file"])
def test_a_file_that_grows_is_decoded_again(changing: Changing, how: str) -> None:
    whole, cut = changing.first.read_bytes(), changing.a_packet
    changing.first.write_bytes(whole[:cut])
    second = changing.first.with_name(f"{changing.first.name[:-1]}9")
    acts: Mapping[str, Act] = {
        "replaced": lambda: replaced(changing.first, whole),
        "in place": lambda: changing.first.write_bytes(whole),
        "second file": lambda: second.write_bytes(whole[cut:]),
    }
    assert changing.outcome({"after-0": acts[how]}) == TWICE


def test_a_file_that_is_absent_only_while_the_decoder_reads(changing: Changing) -> None:
    away, before = changing.home / "away", changing.first.stat()
    acts = {"before-0": lambda: changing.first.rename(away), "after-0": lambda: away.rename(changing.first)}
    assert changing.outcome(acts) == TWICE
    now = changing.first.stat()
    same = (before.st_ino, before.st_size, before.st_mtime_ns) == (now.st_ino, now.st_size, now.st_mtime_ns)
    assert same, "only the ctime shows that it was absent"


def test_a_file_that_is_absent_when_the_decoder_ends_is_waited_for(changing: Changing) -> None:
    away = changing.home / "away"

    def back_soon() -> None:
        threading.Timer(0.3, lambda: away.rename(changing.first)).start()

    assert changing.outcome({"before-0": lambda: changing.first.rename(away), "after-0": back_soon}) == TWICE


def test_a_file_that_does_not_return_is_missing(changing: Changing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_listing, "AWAY_SECONDS", 0.1)
    made = changing.decode({"before-0": changing.first.unlink})
    assert changing.decodings == 2
    assert [each.hour for each in made.missing_hours] == changing.hours[:1]


def test_a_decoder_that_failed_while_level0_changed_runs_again(changing: Changing) -> None:
    (changing.home / "fails-0").touch()
    acts = {"after-0": lambda: replaced(changing.first, changing.first.read_bytes())}
    assert changing.outcome(acts) == TWICE


def test_a_decoder_that_failed_without_changes_does_not_run_again(changing: Changing) -> None:
    (changing.home / "fails-0").touch()
    with pytest.raises(DecoderError, match="exit status 3"):
        changing.decode({})
    assert changing.decodings == 1


def test_level0_that_changes_each_time_fails_the_job(changing: Changing) -> None:
    def touched() -> None:
        os.utime(changing.second, (0, time.time()))

    acts = {f"after-{number}": touched for number in range(ATTEMPTS)}
    with pytest.raises(DecoderError) as caught:
        changing.decode(acts)
    assert (changing.decodings, caught.value.code) == (ATTEMPTS, "level0-changes")
    assert changing.second.name in caught.value.text


def test_another_apid_of_the_hour_may_change(changing: Changing) -> None:
    (other,) = changing.first.parent.glob("*a0957*")
    assert changing.outcome({"after-0": lambda: replaced(other, b"")}) == ONCE
