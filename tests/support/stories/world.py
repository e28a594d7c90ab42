"""The world of a story: simulated downlinks that share runs, the archive, Level-1, and the site that processes them."""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from halfpipe import paths
from halfpipe.formats import evt, level0
from halfpipe.ids import RunId
from halfpipe.ledger.database import Ledger
from halfpipe_simulator.runs import SCID, Datagram
from halfpipe_simulator.scenario import Chunk, Scenario
from tests.support import forks
from tests.support.harness import events_of
from tests.support.ledger_files import run_rows
from tests.support.level1 import commands, submit_commands
from tests.support.workflow import LONG_AGO, Ended, Site

HOUR = 3_600_000_000  # microseconds
DOWNLINKS = ("230401001", "230401002", "230401003")
Key = tuple[int, int]
"""Sequence and APID of an event; or APID and number of a datagram."""
Hour = tuple[int, int]
"""Hours since 1970, and an APID."""


def drawn(rng: random.Random) -> Scenario:
    """Draw what is simulated."""
    downlinks = rng.choice([2, 2, 3])
    odd: dict[str, object] = rng.choice(
        [
            *[{}] * 3,
            {"parts": downlinks - 1, "late_epu": 957},
            {"repeated_datagrams": 1},
            {"lost_datagrams": 1},
            {"orphaned_tail": True},
        ]
    )
    scenario = Scenario(seed=rng.randrange(20), downlinks=DOWNLINKS[:downlinks])
    epus = rng.choice([(956, 957)] * 4 + [(955, 956, 957)])
    scenario.lpa_run(events=90, rate=0.1, per_datagram=8, epus=epus, **{"parts": downlinks, **odd})
    if rng.random() < 0.5:
        scenario.lpa_run(events=30, rate=0.1, per_datagram=8, first=downlinks - 1)
    return scenario


@dataclass(frozen=True)
class NewInput:
    """One chunk: its RetDef's versions, and what it brings."""

    chunk: Chunk
    retdefs: Mapping[str, bytes]
    """The RetDef as it was first (`plain`), with a remark (`comment`), and with the last datagram left out (`less`)."""

    @property
    def voucher(self) -> str:
        """The path of its ``{chunk}.json``, which is its name here."""
        return paths.chunk(self.chunk.downlink, self.chunk.number)

    def datagrams_of(self, version: str) -> tuple[Datagram, ...]:
        """Return what a version asks for."""
        return self.chunk.datagrams[:-1] if version == "less" else self.chunk.datagrams

    def hours_of(self, version: str) -> frozenset[Hour]:
        """Return the hours that a version needs."""
        asked = self.datagrams_of(version)
        return hours_between(self.chunk.apid, asked[0].span[0], asked[-1].span[1])


def hours_between(apid: int, begin: int, end: int) -> frozenset[Hour]:
    """Return the hours of an APID's packets from times in microseconds since 1970."""
    return frozenset((hour, apid) for hour in range(begin // HOUR, end // HOUR + 1))


class World:
    """A site below `home`, and what is outside it. It only acts, and reads; what is right is the books' business."""

    def __init__(self, home: Path, rng: random.Random) -> None:
        scenario = drawn(rng)
        self.home, self.simulation = home, scenario.write(home / "simulated")
        self.downlinks = [str(downlink) for downlink in scenario.downlinks]
        self.chunks: dict[str, list[NewInput]] = {dl: [] for dl in self.downlinks}
        for chunk in self.simulation.chunks:
            self.chunks[chunk.downlink].append(self._brought(chunk))
        self.archive, self.away = self.simulation.level0, home / "away"
        self.streams, self.max_events = home / "server", rng.choice([125000, 125000, 9])
        self.site = Site(home)
        self.site.configure(
            paths={"level0": str(self.archive)},
            magic7={"command": None},
            merge={"max_events": self.max_events},
            retire={"report_days": 1e6},
            alarm={"silence_hours": None, "late_hours": 1e6},
            cleanup={"retention_days": 0},
            # What a killed command may have done yet is waited for.
            submit={**submit_commands(self.streams), "seconds": 5.0},
        )
        for chunks in self.chunks.values():
            comes_late = len(chunks) > 1 and rng.random() < 0.4  # its last RetDef is held back at first
            for brought in chunks[: -1 if comes_late else None]:
                self.issue(brought, "plain")

    def _brought(self, chunk: Chunk) -> NewInput:
        plain = self.simulation.retdef(chunk).read_bytes()
        retdefs = {"plain": plain, "comment": plain + b"<!-- issued again -->\n"}
        if len(chunk.datagrams) > 1:
            ends = chunk.end, chunk.datagrams[-2].span[1]
            end, earlier = (f"{t // 1_000_000}.{t % 1_000_000:06d}".encode() for t in ends)
            assert plain.count(end) == 1
            retdefs["less"] = plain.replace(end, earlier)
        return NewInput(chunk, retdefs)

    def issue(self, chunk: NewInput, version: str) -> None:
        """Put a RetDef on the search path, old enough to be complete."""
        path = self.source(chunk)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(chunk.retdefs[version])
        os.utime(path, (LONG_AGO, LONG_AGO))

    def source(self, chunk: NewInput) -> Path:
        """Return where its RetDef lies on the search path."""
        return self.site.retdefs / paths.retdef(chunk.chunk.downlink, chunk.chunk.number)

    def version(self, chunk: NewInput, path: Path) -> str | None:
        """Return which version of its RetDef lies at `path`."""
        if not path.exists():
            return None
        content = path.read_bytes()
        return next(name for name, known in chunk.retdefs.items() if known == content)

    def staged_version(self, chunk: NewInput) -> str | None:
        """Return which version of its RetDef is staged."""
        return self.version(chunk, self.site.work / paths.retdef(chunk.chunk.downlink, chunk.chunk.number))

    def files_of(self, hour: Hour, root: Path) -> list[Path]:
        """Return the files of an hour of an APID below `root`."""
        directory = level0.hour_path(root, SCID, hour[0] * 3600)
        return sorted(directory.glob(f"s{SCID:04d}a{hour[1]:04d}t*"))

    def move(self, hour: Hour, source: Path, to: Path) -> bool:
        """Move the files of an hour, if there are some."""
        files = self.files_of(hour, source)
        for path in files:
            there = to / path.relative_to(source)
            there.parent.mkdir(parents=True, exist_ok=True)
            path.rename(there)
        return bool(files)

    def present(self, hour: Hour) -> bool:
        """Tell whether an hour is in the archive."""
        return bool(self.files_of(hour, self.archive))

    def staged(self, downlink: str) -> dict[str, list["StagedFile"]]:
        """Return the staged files by run, as Level-1 names it."""
        found: dict[str, list[StagedFile]] = {}
        for path in sorted((self.site.stage / downlink).glob("r*/*.evt")):
            found.setdefault(path.parent.name, []).append(StagedFile.read(path))
        return found

    def in_ledger(self) -> dict[RunId, dict[str, Any]]:
        """Return the rows that the ledger has of runs."""
        file = self.site.work / paths.LEDGER
        return run_rows(Ledger(f"sqlite:///{file}")) if file.exists() else {}

    def streams_of(self, downlink: str) -> int:
        """Return how often Level-1 got the command to create the stream of a downlink."""
        return commands(self.streams, downlink).count("createStream")

    def in_a_child(self, *words: str, at: int = -1) -> int:
        """Start Snakemake in a fork, which dies at moment number `at`; return its process id."""

        def act() -> int:
            ended = self.site.snakemake(*words)
            (self.home / f"said-{os.getpid()}").write_text(ended.said)
            return ended.status

        return forks.started(act, self.home, at)

    def wait(self, child: int) -> Ended:
        """Wait for a fork, and end what it left."""
        status = forks.ended(child)
        said = self.home / f"said-{child}"
        return Ended(status, said.read_text() if said.exists() else "")


@dataclass(frozen=True)
class StagedFile:
    """An event file: the events in its records, and the times in its header, which Level-1 uses."""

    name: str
    keys: tuple[Key, ...]
    sequences: tuple[int, int]
    seconds: tuple[int, int]

    @property
    def events(self) -> int:
        """How many it holds."""
        return len(self.keys)

    @classmethod
    def read(cls, path: Path) -> "StagedFile":
        """Read one."""
        header, keys = evt.read_header(path), tuple(events_of(path.read_bytes()))
        seconds = int(header["secs_beg"]), int(header["secs_end"])
        return cls(path.name, keys, (keys[0][0], keys[-1][0]), seconds)
