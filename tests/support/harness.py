"""Faults done to the workflow on purpose, the disk that a crash of the machine leaves, and what must hold then."""

import ctypes
import json
import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from halfpipe.causes import Cause
from halfpipe.formats import evt
from halfpipe.formats.evt_view import check_evt
from halfpipe.formats.retdef import parse_retdef
from halfpipe.ids import DownlinkId, RunId
from halfpipe.run.deliveries import Deliveries
from tests.support.in_process import ROOT
from tests.support.injected.sitecustomize import Shadow
from tests.support.workflow import Ended, Site

INJECTED = ROOT / "tests" / "support" / "injected"
SCRIPTS = ("decode_chunk", "deliver_run", "receipt")
CLONE_NEWNS = 0x20000  # unshare(2): a mount namespace of its own
PATIENCE = 180  # seconds, on a machine that is busy with other tests
TEXT_LINES = {
    "delivered_events": r"r\d{10} \d+ \d+ (LPA|LCI)",
    "retired_runs": r"r\d{10} COMPLETE",
    "event_gaps": r"r\d{10} \d+ \d+",
    "event_times": r"r\d{10} \d+\.\d+ \d+\.\d+",
    "moot_keys": r"r\d{10} \d+ \S+",
    "simulated": "SIMULATED: .*",
}


@dataclass(frozen=True)
class Fault:
    """What happens to which program, at its moment number `at`."""

    script: str
    kind: str
    at: int
    size: int = 0

    def environment(self, site: Site, once: Path, shadow: Path | None = None) -> dict[str, str]:
        """Return the environment that brings it about in what a command of `site` starts."""
        return {
            "PYTHONPATH": str(INJECTED),
            "FAULT_SCRIPT": self.script,
            "FAULT_KIND": self.kind,
            "FAULT_AT": str(self.at),
            "FAULT_SIZE": str(self.size),
            "FAULT_BELOW": str(site.home),
            "FAULT_ONCE": str(once),
            "FAULT_SHADOW": str(shadow) if shadow else "",
        }


def invoke(site: Site, *arguments: str, env: Mapping[str, str] | None = None) -> Ended:
    """Run Snakemake in a process group of its own; jobs that outlive it are not waited for."""
    said = site.home / "said.txt"
    with said.open("wb") as out:
        process = subprocess.Popen(
            site.command(*arguments),
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(PATIENCE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return Ended(status, said.read_text())


def assert_same(tree: Mapping[str, bytes], expected: Mapping[str, bytes], what: str) -> None:
    """Assert that two trees are the same, file for file and byte for byte."""
    differ = sorted(name for name in {*tree, *expected} if tree.get(name) != expected.get(name))
    assert differ == [], f"{what}: {differ}"


def half_written(site: Site) -> list[str]:
    """Say what is visible under a final name and is not whole."""
    return [f"{path}: {what}" for path, what in [*_in_work(site), *_in_stage(site)]]


def _in_work(site: Site) -> Iterator[tuple[Path, str]]:
    for path in site.work.rglob("*"):
        name = str(path.relative_to(site.work))
        if not path.is_file() or name.startswith((".snakemake/", "logs/", "leases/")) or "/." in f"/{name}":
            continue
        if path.suffix == ".json" or name.startswith("dl="):
            with suppress(ValueError):
                json.loads(path.read_bytes())
                continue
            yield path, "no JSON"
        elif path.suffix == ".xml":
            parse_retdef(path.read_bytes(), path)
        elif path.suffix == ".evt":
            yield from ((path, fault) for fault in check_evt(path).faults)
        elif path.suffix == ".npy" and path.read_bytes()[:6] != b"\x93NUMPY":
            yield path, "no array"


def _in_stage(site: Site) -> Iterator[tuple[Path, str]]:
    for home in site.stage.glob("[0-9]*"):
        delivered = {
            file.name: file.size
            for run in site.work.glob("runs/*")
            for delivery in Deliveries(site.work, RunId(run.name)).of(DownlinkId(home.name))
            for file in delivery.files
        }
        for path in home.iterdir():
            if path.is_dir():
                for file in path.iterdir():
                    if delivered.get(file.name) != file.stat().st_size:
                        yield file, f"{file.stat().st_size} bytes, recorded are {delivered.get(file.name)}"
                    faults = check_evt(file).faults
                    yield from ((file, fault) for fault in faults)
                if not list(path.iterdir()):
                    yield path, "a run without files"
            else:
                line = TEXT_LINES.get(path.name.removesuffix(f"_{home.name}.txt"), "no text")
                if not re.fullmatch(rf"({line}\n)*", path.read_text()):
                    yield path, "a line that Level-1 cannot read"


def everything_flushed(site: Site, shadow: Path) -> Shadow:
    """Begin with a disk that holds everything that is there now; close what is returned after the crash."""
    kept = Shadow(str(shadow))
    for path in [site.work, site.stage, *site.work.rglob("*"), *site.stage.rglob("*")]:
        handle = os.open(path, os.O_RDONLY)
        kept.flush(handle)
        os.close(handle)
    return kept


@dataclass
class Crash:
    """Makes of a tree what the disk of a crashed machine holds.

    `mode` is what it keeps beside what was flushed: "nothing"; "names", but no contents; or "chance":
    of each directory and of each file either, by the throw of a coin, as journals and caches have it.
    """

    shadow: Path
    mode: str
    coin: random.Random

    def happen(self, site: Site) -> None:
        """Replace the directories of `site`."""
        places = {path.stat().st_ino: path for top in (site.work, site.stage) for path in _everything(top)}
        for top in (site.work, site.stage):
            new = top.with_name(f"{top.name}-after-the-crash")
            self._directory(top.stat().st_ino, places, new)
            shutil.rmtree(top)
            new.rename(top)

    def _keeps(self, what: str) -> bool:
        return self.mode == what or (self.mode == "chance" and self.coin.random() < 0.5)

    def _directory(self, inode: int, places: Mapping[int, Path], new: Path) -> None:
        new.mkdir()
        kept = self.shadow / f"{inode}.names"
        names: dict[str, tuple[int, bool]] = json.loads(kept.read_bytes()) if kept.exists() else {}
        if inode in places and self._keeps("names"):
            with os.scandir(places[inode]) as entries:
                names = {entry.name: (entry.inode(), entry.is_dir()) for entry in entries}
        for name, (of, is_directory) in sorted(names.items()):
            if is_directory:
                self._directory(of, places, new / name)
            else:
                self._file(of, places, new / name)

    def _file(self, inode: int, places: Mapping[int, Path], new: Path) -> None:
        kept, now = self.shadow / str(inode), places.get(inode)
        if now is not None and self._keeps("contents"):
            shutil.copy2(now, new)
        elif kept.exists():
            shutil.copy2(kept, new)
        else:
            new.touch()


def _everything(top: Path) -> Iterator[Path]:
    return iter([top, *top.rglob("*")])


@contextmanager
def small_disk(path: Path) -> Iterator[Callable[[str], None]]:
    """Mount a disk of 64 KiB at `path`; yield what changes its options, as in ``size=8m``.

    Only this process and those that it starts see it, so that a killed test leaves no mount behind.
    """

    def mount(*words: str) -> bool:
        return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0

    def change(options: str) -> None:
        assert mount("-o", f"remount,{options}", str(path))

    path.mkdir(parents=True)
    apart = ctypes.CDLL(None).unshare(CLONE_NEWNS) == 0 and mount("--make-rprivate", "/")
    if not apart or not mount("-t", "tmpfs", "-o", "size=64k", "halfpipe-test", str(path)):
        pytest.skip("no permission to mount a small disk")
    try:
        yield change
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def event_records(files: dict[Path, bytes]) -> list[bytes]:
    """Return the event records of event files, sorted."""
    return sorted(record for content in files.values() for record in records_of(content))


def records_of(content: bytes) -> list[bytes]:
    """Return the event records of an event file, in order."""
    offsets = evt.walk(np.frombuffer(content, np.uint8), "").tolist()
    return [content[a:b] for a, b in pairwise([*offsets, len(content)])]


def events_of(content: bytes) -> list[tuple[int, int]]:
    """Return sequence and APID of each event of an event file, in order."""
    data = np.frombuffer(content, np.uint8)
    offsets = evt.walk(data, "an event file")
    columns = (evt.context_column(data, offsets, name) for name in ("scalers_sequence", "ccsds_apid"))
    return list(zip(*(column.tolist() for column in columns), strict=True))


def path_of(cause: Cause) -> Path:
    """Return the file that a cause of `halfpipe.status.checks.check` is about."""
    return Path(cause.text.partition(": ")[0])
